# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a simulated driver."""

from __future__ import annotations

from ..errors import RequestError
from .records import Profile

#: Faults by name. N is the number that nvmlInit returns, or a GPU's place in the profile.
FAULTS = ("nvml-hang", "nvml-crash", "nvml-crash-query", "nvml-error=N", "gpu-lost=N")

#: Their numbers in csrc/sim/sim_config.h.
_PLAIN = {"": 0, "nvml-hang": 1, "nvml-crash": 2, "nvml-crash-query": 3}
_NUMBERED = {"nvml-error": 4, "gpu-lost": 5}

_CODES = range(1, 1000)
_MEANING = "N of nvml-error from 1 to 999, of gpu-lost a GPU's index"


def parse_fault(fault: str, profile: Profile) -> tuple[int, int]:
    """Return the number of a fault and the code that goes with it.

    Raises:
        RequestError: there is no such fault, or no such GPU in the profile.
    """
    if fault in _PLAIN:
        return _PLAIN[fault], 0
    name, _, digits = fault.partition("=")
    code = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else -1
    known = name in _NUMBERED and code >= 0
    if not known or (name == "nvml-error" and code not in _CODES):
        raise RequestError(f"{fault}: unknown fault; known: {', '.join(FAULTS)} ({_MEANING})")
    if name == "gpu-lost" and code >= len(profile.gpus):
        last = len(profile.gpus) - 1
        raise RequestError(f"{fault}: no such GPU; the last one of {profile.name} is {last}")
    return _NUMBERED[name], code
