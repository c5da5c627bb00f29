# SPDX-License-Identifier: Apache-2.0
"""OCI documents: read and written, and what a container asks for in one."""
