# SPDX-License-Identifier: Apache-2.0
"""Sinks that show a plan without doing it. They hold no policy."""
