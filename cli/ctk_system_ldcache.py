# SPDX-License-Identifier: Apache-2.0
"""`nvidia-ctk system print-ldcache`: what a loader cache lists."""

from __future__ import annotations

from libnvc._discover.root import DriverRoot, read_file
from libnvc._native import ldcache
from libnvc.errors import DiscoveryError

from ._flags import Flag
from .output import put

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .ctk import Log

_CACHE = "/etc/ld.so.cache"
FLAGS = (
    Flag(
        name="driver-root",
        doc="The root whose loader cache is read",
        default="/",
        variable="NVIDIA_DRIVER_ROOT",
    ),
)


def run(values: dict[str, Any], log: Log) -> None:
    """Run the command: a line an entry, name and path, in the order of the cache."""
    root = DriverRoot(values["driver-root"])
    found = root.find(_CACHE, denied_is_missing=False)
    path = root.host(_CACHE if found is None else found.path)
    if found is None:
        raise DiscoveryError(
            f"{path}: no such file", path=path, hint=f"run ldconfig -r {root.prefix or '/'}"
        )
    entries = ldcache.parse(read_file(path), path)
    log.info(f"Found {len(entries)} libraries in {path}")
    put("".join(f"{entry.soname} => {entry.path}\n" for entry in entries))
