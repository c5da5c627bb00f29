# SPDX-License-Identifier: Apache-2.0
"""Find the driver's control devices."""

from __future__ import annotations

import os
from stat import S_ISCHR

from ..model import DeviceFile
from .procfs import read_major
from .root import DriverRoot
from .tables import MODESET, NVIDIA_MAJOR, NVIDIACTL, UVM, UVM_MODULE


def find_control(root: DriverRoot, proc: str) -> tuple[DeviceFile, ...]:
    """Return nvidiactl, uvm, uvm-tools and modeset.

    The numbers are the expected ones; whether a node has them is checked when a plan is applied.
    nvidiactl and modeset are listed even if the host lacks the node.
    """
    return (
        _fixed(root, *NVIDIACTL),
        *_find_uvm(root, proc),
        _fixed(root, *MODESET),
    )


def _fixed(root: DriverRoot, path: str, minor: int) -> DeviceFile:
    present = root.note(root.device(path)) is not None
    return DeviceFile(path=path, major=NVIDIA_MAJOR, minor=minor, present=present)


def _find_uvm(root: DriverRoot, proc: str) -> list[DeviceFile]:
    """Return the nvidia-uvm nodes that are there, or whose number is known so one can be made.

    The kernel's word on the major number comes before that of a node, which may be left over
    from an earlier load of the module; only where it says nothing the node is believed.
    """
    major = read_major(root, proc, UVM_MODULE)
    found = []
    for path, minor in UVM:
        status = root.note(root.device(path))
        if major is not None:
            found.append(
                DeviceFile(path=path, major=major, minor=minor, present=status is not None)
            )
        elif status is not None and S_ISCHR(status.st_mode):
            number = status.st_rdev
            found.append(DeviceFile(path=path, major=os.major(number), minor=os.minor(number)))
        else:
            root.warn(f"missing device {path}")
    return found
