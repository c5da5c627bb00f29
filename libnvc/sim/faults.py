# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a simulated driver."""

from __future__ import annotations

from ..errors import RequestError

#: Faults by name; of "nvml-error=N", N is the number that nvmlInit returns.
FAULTS = ("nvml-hang", "nvml-crash", "nvml-crash-query", "nvml-error=N")

#: Their numbers in csrc/sim/sim_config.h.
_NUMBERS = {"": 0, "nvml-hang": 1, "nvml-crash": 2, "nvml-crash-query": 3}
_ERROR = 4
_ERROR_PREFIX = "nvml-error="


def parse_fault(fault: str) -> tuple[int, int]:
    """Return the number of a fault and the code that goes with it.

    Raises:
        RequestError: there is no such fault.
    """
    code = fault.removeprefix(_ERROR_PREFIX)
    if fault in _NUMBERS:
        return _NUMBERS[fault], 0
    if code != fault and code.isascii() and code.isdigit() and 0 < int(code) < 1000:
        return _ERROR, int(code)
    raise RequestError(f"{fault}: unknown fault; known: {', '.join(FAULTS)} (N from 1 to 999)")
