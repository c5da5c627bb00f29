# SPDX-License-Identifier: Apache-2.0
"""What the hooks of CDI files do to a container, as small plans. Pure."""

from __future__ import annotations

from .._discover.tables import PROC_DIRECTORY
from ..errors import RequestError
from ..plan import BindMount, LoaderCache, Plan, Symlink, Tmpfs, WriteFile
from .policy import application_profile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_LOADER_CACHE = "/etc/ld.so.cache"
_PROFILES = "/etc/nvidia/nvidia-application-profiles-rc.d"
_PARAMS = "params"
_MODIFY, _DO_NOT = b"ModifyDeviceFiles: 1\n", b"ModifyDeviceFiles: 0\n"
_DIGITS = 9  # of a number in a version; more are none


def inside(path: str) -> str:
    """Return a path of the container in its simplest form: absolute, without "." and ".."."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def plan_links(links: Sequence[str]) -> Plan:
    """Return the plan that makes links, or gives them other targets.

    Args:
        links: "TARGET::LINK" each.

    Raises:
        RequestError: one has another form.
    """
    operations = []
    for link in dict.fromkeys(links):
        target, colons, path = link.partition("::")
        if not colons or "::" in path or not target or inside(path) == "/":
            raise RequestError(f"invalid symlink specification {link}")
        operations.append(
            Symlink(origin="create-symlinks", path=inside(path), target=target, overwrite=True)
        )
    return Plan(operations=tuple(operations))


def plan_folders(folders: Sequence[str]) -> Plan:
    """Return the plan that has the loader find what directories hold."""
    directories = tuple(dict.fromkeys(inside(folder) for folder in folders))
    return _plan_cache("update-ldcache", directories, in_place=True)


def plan_compat(directory: str) -> Plan:
    """Return the plan that has the loader look into a directory of the image first."""
    return _plan_cache("enable-cuda-compat", (directory,), in_place=False)


def _plan_cache(origin: str, directories: tuple[str, ...], *, in_place: bool) -> Plan:
    cache = LoaderCache(
        origin=origin, path=_LOADER_CACHE, directories=directories, in_place=in_place
    )
    return Plan(operations=(cache,))


def plan_profile(minors: Iterable[int]) -> Plan:
    """Return the plan that tells EGL in the container which GPUs it may show."""
    origin = "update-application-profile"
    return Plan(
        operations=(
            Tmpfs(origin=origin, path=_PROFILES, mode=0o755),
            WriteFile(
                origin=origin,
                path=f"{_PROFILES}/10-container.conf",
                content=application_profile(minors).encode(),
                mode=0o444,
            ),
        )
    )


def may_modify(params: bytes) -> bool:
    """Tell whether the module's parameters let its libraries make device nodes."""
    return _MODIFY in params + b"\n"


def plan_params(params: bytes, entries: Mapping[str, str]) -> Plan:
    """Return the plan that shows the module's files as they are, but for the parameters.

    Args:
        params: the host's parameters.
        entries: what else the host has there: name and type, "file" or "directory".
    """
    origin = "disable-device-node-modification"
    if not params.endswith(b"\n"):
        params += b"\n"
    others = (
        BindMount(
            origin=origin,
            path=f"{PROC_DIRECTORY}/{name}",
            source=f"{PROC_DIRECTORY}/{name}",
            file_type=entries[name],
            options=("ro", "nodev", "nosuid", "noexec"),
        )
        for name in sorted(entries)
        if name != _PARAMS
    )
    return Plan(
        operations=(
            Tmpfs(origin=origin, path=PROC_DIRECTORY, mode=0o555, fallback="/proc/driver"),
            WriteFile(
                origin=origin,
                path=f"{PROC_DIRECTORY}/{_PARAMS}",
                content=params.replace(_MODIFY, _DO_NOT),
                mode=0o444,
            ),
            *others,
        )
    )


def prefers_compat(
    note: Mapping[str, object] | None, version: str, host_driver: str, host_cuda: str
) -> bool:
    """Decide whether CUDA compatibility libraries are used instead of the driver's.

    Args:
        note: what the library says of itself, None if it says nothing.
        version: of the library, by its file's name.
        host_driver: version of the host's driver, "" where not known.
        host_cuda: version of CUDA that it is for, "" where not known.
    """
    if note is None:
        ours, theirs = _numbers(host_driver), _numbers(version)
        return not host_cuda and bool(ours and theirs) and ours[0] < theirs[0]
    if host_driver:
        ours, theirs = _numbers(host_driver), _numbers(version)
        majors = note.get("Driver")
        return bool(ours) and isinstance(majors, list) and ours[0] in majors and theirs > ours
    ours, theirs = _numbers(host_cuda), _numbers(str(note.get("CUDA Version", "")))
    return bool(ours) and theirs > ours


def _numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of "580.95.05"; () for what is no version."""
    parts = version.split(".")
    if not all(part.isascii() and part.isdigit() and len(part) <= _DIGITS for part in parts):
        return ()
    return tuple(map(int, parts))
