# SPDX-License-Identifier: Apache-2.0
"""Which CUDA version a driver supports: told by its branch, so that NVML need not be asked.

A branch keeps its CUDA version for all its releases. Left out are those that did not (430 began
with 10.2 and went back to 10.1) and those of which too little is known (387, 435); NVML is asked
about them, as about branches newer than this table. tests/data/cuda-versions.txt has the releases
that the table is held against, and their sources.
"""

from __future__ import annotations

#: By the number before the first dot of the driver's version.
BRANCHES = {
    "384": "9.0",
    "390": "9.1",
    "396": "9.2",
    "410": "10.0",
    "415": "10.0",
    "418": "10.1",
    "440": "10.2",
    "450": "11.0",
    "455": "11.1",
    "460": "11.2",
    "465": "11.3",
    "470": "11.4",
    "495": "11.5",
    "510": "11.6",
    "515": "11.7",
    "520": "11.8",
    "525": "12.0",
    "530": "12.1",
    "535": "12.2",
    "545": "12.3",
    "550": "12.4",
    "555": "12.5",
    "560": "12.6",
    "565": "12.7",
    "570": "12.8",
    "575": "12.9",
    "580": "13.0",
    "590": "13.1",
    "595": "13.2",
    "610": "13.3",
    "615": "13.4",
}


def cuda_version(driver_version: str) -> str:
    """Return the CUDA version of a driver, "12.2" for "535.261.03"; "" if it is not known."""
    return BRANCHES.get(driver_version.partition(".")[0], "")
