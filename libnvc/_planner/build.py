# SPDX-License-Identifier: Apache-2.0
"""Put the operations of a plan together, in the order of the reference."""

from __future__ import annotations

from ..plan import (
    BindMount,
    DeviceAccess,
    DeviceNode,
    Directory,
    LoaderCache,
    Plan,
    Symlink,
    Tmpfs,
    WriteFile,
)
from .checks import check_inventory, check_request
from .policy import (
    EXTRA_LINKS,
    granting_capability,
    hides_other_gpus_from_egl,
    ipc_capability,
    missing_parts,
    needs_control,
)
from .select import select_devices

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..model import DeviceFile, Gpu, Inventory, Library, Request
    from ..plan import Operation

_PROC = "/proc/driver/nvidia"
_LOADER_CACHE = "/etc/ld.so.cache"
_PROFILES = "/etc/nvidia/nvidia-application-profiles-rc.d"


def make_plan(inventory: Inventory, request: Request) -> Plan:
    """Return what gives a container the requested GPUs and capabilities.

    Pure: no I/O, and the same arguments give the same plan, byte for byte. Nothing is granted
    that was not asked for; only firmware, the control devices and /proc/driver/nvidia come
    along unasked.

    Raises:
        UnknownDeviceError: a selector names no GPU.
        RequirementError: a requirement does not hold.
        RequestError: an unknown capability, or a directory that is no plain absolute path.
        DiscoveryError: the inventory holds a path with control characters.
    """
    check_request(request)
    check_inventory(inventory)
    gpus = select_devices(inventory, request.devices)
    if request.requirements:
        from .requirements import check_requirements

        check_requirements(inventory, gpus, request.requirements)
    libraries = [
        library
        for library in inventory.libraries
        if granting_capability(library.path, request.capabilities)
    ]
    operations = (
        *_proc_files(inventory),
        *_application_profile(request, gpus),
        *_binaries(inventory, request),
        *_libraries(inventory, request, libraries),
        *_links(request, libraries),
        *_firmware(inventory),
        *_ipcs(inventory, request),
        *_control(inventory, request),
        *(operation for gpu in gpus for operation in _gpu(inventory, request, gpu)),
        *_loader_cache(request, libraries),
    )
    return Plan(
        operations=_unique(operations),
        warnings=(*inventory.warnings, *_warnings(inventory, request)),
        dependencies=inventory.dependencies,
        driver_version=inventory.driver_version,
    )


def _unique(operations: tuple[Operation, ...]) -> tuple[Operation, ...]:
    """Keep the first operation for each place; rules and the like have no place."""
    taken: dict[str, Operation] = {}
    return tuple(
        operation
        for operation in operations
        if not operation.path or taken.setdefault(operation.path, operation) is operation
    )


def _proc_files(inventory: Inventory) -> Iterator[Operation]:
    """Hide the host's GPUs, and tell the driver inside to leave device nodes alone."""
    yield Tmpfs(origin="proc", path=_PROC, mode=0o555, fallback="/proc/driver")
    for file in inventory.proc_files:
        content = file.content
        if file.name == "params":
            content = content.replace(b"ModifyDeviceFiles: 1", b"ModifyDeviceFiles: 0", 1)
        yield WriteFile(origin="proc", path=f"{_PROC}/{file.name}", content=content, mode=file.mode)


def _application_profile(request: Request, gpus: tuple[Gpu, ...]) -> Iterator[Operation]:
    """Tell EGL inside which GPUs it may show: the bits of a mask are minors."""
    if not hides_other_gpus_from_egl(request.capabilities):
        return
    yield Directory(origin="egl-profile", path=_parent(_PROFILES))
    yield Tmpfs(origin="egl-profile", path=_PROFILES, mode=0o555)
    if gpus:
        mask = sum(1 << gpu.minor for gpu in gpus)
        content = (
            '{"profiles":[{"name":"_container_",'
            f'"settings":["EGLVisibleDGPUDevices",{mask:#x}]}}],'
            '"rules":[{"pattern":[],"profile":"_container_"}]}\n'
        )
        yield WriteFile(
            origin="egl-profile",
            path=f"{_PROFILES}/10-container.conf",
            content=content.encode(),
            mode=0o555,
        )


def _binaries(inventory: Inventory, request: Request) -> Iterator[Operation]:
    for file in inventory.binaries:
        capability = granting_capability(file.path, request.capabilities)
        if capability:
            yield BindMount(
                origin=f"capability:{capability}",
                path=_join(request.layout.bins_dir, _basename(file.path)),
                source=inventory.root + file.path,
            )


def _libraries(
    inventory: Inventory, request: Request, libraries: list[Library]
) -> Iterator[Operation]:
    for library in libraries:
        yield BindMount(
            origin=f"capability:{granting_capability(library.path, request.capabilities)}",
            path=_join(request.layout.libs_dir, _basename(library.path)),
            source=inventory.root + library.path,
        )


def _links(request: Request, libraries: list[Library]) -> Iterator[Operation]:
    """Link SONAMEs to the mounted files: programs find them even where no cache is written."""
    directory = request.layout.libs_dir
    for library in libraries:
        name = _basename(library.path)
        soname = library.soname
        if soname not in ("", ".", "..", name) and "/" not in soname:
            yield Symlink(
                origin="soname", path=_join(directory, soname), target=name, overwrite=True
            )
        for prefix, link, target in EXTRA_LINKS:
            if name.startswith(prefix):
                yield Symlink(origin="link", path=_join(directory, link), target=target or name)


def _firmware(inventory: Inventory) -> Iterator[Operation]:
    for file in inventory.firmware:
        yield BindMount(origin="firmware", path=file.target, source=inventory.root + file.path)


def _ipcs(inventory: Inventory, request: Request) -> Iterator[Operation]:
    for file in inventory.ipcs:
        capability = ipc_capability(file)
        if capability in request.capabilities:
            yield BindMount(
                origin=f"capability:{capability}",
                path=file.target,
                source=inventory.root + file.path,
                file_type=file.file_type,
                options=("nodev", "nosuid", "noexec"),
            )


def _control(inventory: Inventory, request: Request) -> Iterator[Operation]:
    for device in inventory.control:
        if needs_control(device, request.capabilities):
            if request.device_nodes:
                yield _node("control", inventory, device)
            if request.device_rules:
                yield _rule("control", device)


def _gpu(inventory: Inventory, request: Request, gpu: Gpu) -> Iterator[Operation]:
    origin = f"gpu:{gpu.index}"
    if request.device_nodes:
        yield _node(origin, inventory, gpu.device)
    if gpu.proc_dir:
        yield BindMount(
            origin=origin,
            path=f"{_PROC}/gpus/{gpu.proc_dir}",
            source=f"{inventory.proc}/gpus/{gpu.proc_dir}",
            file_type="directory",
            options=("ro", "nodev", "nosuid", "noexec"),
        )
    if request.device_rules:
        yield _rule(origin, gpu.device)


def _loader_cache(request: Request, libraries: list[Library]) -> Iterator[Operation]:
    if libraries and request.loader_cache:
        yield LoaderCache(
            origin="loader-cache", path=_LOADER_CACHE, directories=(request.layout.libs_dir,)
        )


def _node(origin: str, inventory: Inventory, device: DeviceFile) -> DeviceNode:
    return DeviceNode(
        origin=origin,
        path=device.path,
        major=device.major,
        minor=device.minor,
        source=inventory.root + device.path if device.present else "",
    )


def _rule(origin: str, device: DeviceFile) -> DeviceAccess:
    return DeviceAccess(origin=origin, path="", major=device.major, minor=device.minor)


def _warnings(inventory: Inventory, request: Request) -> list[str]:
    return missing_parts(
        {library.name for library in inventory.libraries},
        {device.path for device in inventory.control},
        request.capabilities,
    )


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _basename(path: str) -> str:
    return path.rpartition("/")[2]


def _join(directory: str, name: str) -> str:
    return f"{directory.rstrip('/')}/{name}"
