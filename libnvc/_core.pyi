# SPDX-License-Identifier: Apache-2.0
"""The compiled C core. What `lib` holds is declared in csrc/nvc_*.cdef."""

from typing import Any  # noqa: TID253  only type checkers read this file

ffi: Any
lib: Any
