# SPDX-License-Identifier: Apache-2.0
"""The sink that changes a container directly."""
