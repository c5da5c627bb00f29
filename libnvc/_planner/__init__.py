# SPDX-License-Identifier: Apache-2.0
"""Turn what was found and what is asked for into a plan: no I/O, same input, same plan."""
