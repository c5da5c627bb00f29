# SPDX-License-Identifier: Apache-2.0
"""The commands: `nvidia-container-cli` and `nvc`."""
