# SPDX-License-Identifier: Apache-2.0
"""Prepare a host: kernel modules and device nodes of the driver."""
