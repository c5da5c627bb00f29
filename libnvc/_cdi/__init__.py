# SPDX-License-Identifier: Apache-2.0
"""The Container Device Interface: files that say what devices mean, found by name and applied."""
