# SPDX-License-Identifier: Apache-2.0
"""`config.toml`: where it is, what it says."""
