# SPDX-License-Identifier: Apache-2.0
"""What libnvc costs, measured: `make bench`. docs/performance.md has results and targets."""
