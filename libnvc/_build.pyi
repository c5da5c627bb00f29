# SPDX-License-Identifier: Apache-2.0
"""How this copy was built: written by setup.py into what is installed."""

VERSION: str  # of the distribution
DATE: int  # seconds since the epoch
REVISION: str  # commit, "" if it was not built from a clone
COMPILER: str
FLAGS: str  # of the C core
