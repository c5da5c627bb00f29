# SPDX-License-Identifier: Apache-2.0
"""Put the operations of a plan together, in the order of the reference."""

from __future__ import annotations

from .._discover.tables import PROC_DIRECTORY
from ..plan import (
    BindMount,
    Directory,
    Env,
    LoaderCache,
    Plan,
    Symlink,
    Tmpfs,
    WriteFile,
)
from .checks import check_inventory, check_request
from .compat import compat_directory
from .devices import device_operations
from .operations import LOADER_CACHE, found_as, unique
from .policy import (
    EXTRA_LINKS,
    GRAPHICS_LINKS,
    application_profile,
    granting_capability,
    ipc_capability,
    is_granted,
    missing_parts,
    shows_pictures,
)
from .select import check_mig_control, select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..model import Gpu, Inventory, Library, Request
    from ..plan import Operation

_PROFILES = "/etc/nvidia/nvidia-application-profiles-rc.d"


def make_plan(inventory: Inventory, request: Request) -> Plan:
    """Return what gives a container the requested GPUs and capabilities.

    Pure: no I/O, and the same arguments give the same plan, byte for byte. Nothing is granted
    that was not asked for; only firmware, the control devices and /proc/driver/nvidia come
    along unasked.

    Raises:
        UnknownDeviceError: a selector names no device.
        MissingDeviceError: the host has no node of a device.
        MigConfigError, MigMonitorError: MIG devices were selected one by one.
        RequirementError: a requirement does not hold.
        RequestError: an unknown capability or mode, or a directory that is no plain absolute path.
        DiscoveryError: the inventory holds a path with control characters.
    """
    check_request(request)
    check_inventory(inventory)
    selection = select(inventory, request.devices)
    check_mig_control(selection, config=request.mig_config, monitor=request.mig_monitor)
    if request.requirements:
        from .requirements import check_requirements

        check_requirements(
            request.requirements,
            cuda=inventory.cuda_version,
            driver=inventory.driver_version,
            gpus=[(gpu.arch, gpu.brand) for gpu in selection.gpus],
        )
    libraries = _granted(inventory, request)
    operations = (
        *_proc_files(inventory),
        *_application_profile(request, selection.gpus),
        *_binaries(inventory, request),
        *_libraries(inventory, request, libraries),
        *_links(request, libraries),
        *_host_links(inventory, request),
        *_graphics(inventory, request),
        *_firmware(inventory, request),
        *_ipcs(inventory, request),
        *device_operations(inventory, request, selection),
        *_loader_cache(inventory, request, libraries),
        *_environment(inventory, request),
    )
    return Plan(
        operations=unique(operations),
        warnings=(*inventory.warnings, *_warnings(inventory, request)),
        dependencies=inventory.dependencies,
        driver_version=inventory.driver_version,
    )


def _granted(inventory: Inventory, request: Request) -> list[Library]:
    if request.layout.mirrors_host and inventory.extras is not None:
        return list(inventory.extras.libraries)
    granted = [lib for lib in inventory.libraries if is_granted(lib, request.capabilities)]
    return [*granted, *_not_in(granted, _graphics_libraries(inventory, request))]


def _graphics_libraries(inventory: Inventory, request: Request) -> tuple[Library, ...]:
    if inventory.graphics is None or not shows_pictures(request.capabilities):
        return ()
    return inventory.graphics.libraries


def _not_in(others: Iterable[Library], libraries: Iterable[Library]) -> list[Library]:
    paths = {library.path for library in others}
    return [library for library in libraries if library.path not in paths]


def _proc_files(inventory: Inventory) -> Iterator[Operation]:
    """Hide the host's GPUs, and tell the driver inside to leave device nodes alone."""
    yield Tmpfs(origin="proc", path=PROC_DIRECTORY, mode=0o555, fallback="/proc/driver")
    for file in inventory.proc_files:
        content = file.content
        if file.name == "params":
            content = content.replace(b"ModifyDeviceFiles: 1", b"ModifyDeviceFiles: 0", 1)
        yield WriteFile(
            origin="proc", path=f"{PROC_DIRECTORY}/{file.name}", content=content, mode=file.mode
        )


def _application_profile(request: Request, gpus: tuple[Gpu, ...]) -> Iterator[Operation]:
    """Tell EGL inside which GPUs it may show: the bits of a mask are minors."""
    if not shows_pictures(request.capabilities):
        return
    yield Directory(origin="egl-profile", path=_parent(_PROFILES))
    yield Tmpfs(origin="egl-profile", path=_PROFILES, mode=0o555)
    if gpus:
        content = application_profile(gpu.minor for gpu in gpus) + "\n"
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
            origin=_library_origin(request, library),
            path=_join(_library_directory(request, library), _basename(library.path)),
            source=inventory.root + library.path,
        )


def _library_origin(request: Request, library: Library) -> str:
    capability = granting_capability(library.path, request.capabilities)
    if capability:
        return f"capability:{capability}"
    return "driver" if request.layout.mirrors_host else "graphics"


def _library_directory(request: Request, library: Library) -> str:
    if request.layout.mirrors_host:
        return _parent(library.path)
    return request.layout.libs32_dir if library.bits == 32 else request.layout.libs_dir


def _links(request: Request, libraries: list[Library]) -> Iterator[Operation]:
    """Link SONAMEs to the mounted files: the loader cache lists the links."""
    for library in libraries:
        directory = _library_directory(request, library)
        name = _basename(library.path)
        if found_as(library) != name:
            yield Symlink(
                origin="soname",
                path=_join(directory, found_as(library)),
                target=name,
                overwrite=True,
            )
        for prefix, link, target in EXTRA_LINKS:
            if name.startswith(prefix):
                yield Symlink(origin="link", path=_join(directory, link), target=target or name)


def _host_links(inventory: Inventory, request: Request) -> Iterator[Operation]:
    """Yield links that the host has, too, for a container that is not known yet."""
    if request.layout.mirrors_host and inventory.extras is not None:
        for link in inventory.extras.links:
            yield Symlink(origin="link", path=link.path, target=link.target)


def _graphics(inventory: Inventory, request: Request) -> Iterator[Operation]:
    """Yield what programs with displays load or read; manifests lie where they are looked for."""
    graphics = inventory.graphics
    if graphics is None or not shows_pictures(request.capabilities):
        return
    if request.layout.mirrors_host:  # else they are mounted like all others
        known = inventory.extras.libraries if inventory.extras is not None else ()
        for library in _not_in(known, graphics.libraries):
            source = inventory.root + library.path
            yield BindMount(origin="graphics", path=library.path, source=source)
    for file in graphics.files:
        yield BindMount(origin="graphics", path=file.target, source=inventory.root + file.path)
    for library in graphics.libraries:
        name = _basename(library.path)
        for prefix, place, target in GRAPHICS_LINKS:
            if name.startswith(prefix):
                path = _join(_library_directory(request, library), place)
                yield Symlink(origin="graphics", path=path, target=target or name)
    for link in graphics.links:
        yield Symlink(origin="graphics", path=link.path, target=link.target)


def _environment(inventory: Inventory, request: Request) -> Iterator[Operation]:
    """Tell where the libraries are, and an older hook that there is nothing left to do."""
    if not request.layout.mirrors_host:
        return
    if inventory.extras is not None:
        places = ":".join(inventory.extras.directories)
        yield Env(origin="driver", path="", name="NVIDIA_CTK_LIBCUDA_DIR", value=places)
    yield Env(origin="driver", path="", name="NVIDIA_VISIBLE_DEVICES", value="void")


def _firmware(inventory: Inventory, request: Request) -> Iterator[Operation]:
    files = inventory.firmware
    if request.layout.mirrors_host and inventory.extras is not None:
        files = (*inventory.extras.firmware, *files)
    for file in files:
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


def _loader_cache(
    inventory: Inventory, request: Request, libraries: list[Library]
) -> Iterator[Operation]:
    """Yield the loader cache, also where no library comes: the reference makes one, too."""
    if not request.loader_cache:
        return
    compat, _ = compat_directory(inventory, request)
    yield LoaderCache(
        origin="loader-cache",
        path=LOADER_CACHE,
        libraries=tuple(
            (name, _join(_library_directory(request, library), name), library.bits)
            for library in libraries
            for name in (found_as(library),)
        ),
        directories=(compat,) if compat else (),
    )


def _warnings(inventory: Inventory, request: Request) -> list[str]:
    _, compat_warning = compat_directory(inventory, request)
    capabilities = request.capabilities
    if request.layout.mirrors_host:  # it gets what there is: many drivers have no graphics
        capabilities = tuple(name for name in capabilities if name in ("utility", "compute"))
    missing = missing_parts(
        {
            *(library.name for library in inventory.libraries if library.bits == 64),
            *(_basename(file.path) for file in inventory.binaries),
        },
        {device.path for device in inventory.control},
        capabilities,
        has_32bit=any(library.bits == 32 for library in inventory.libraries),
    )
    return [*missing, *filter(None, (compat_warning,))]


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _basename(path: str) -> str:
    return path.rpartition("/")[2]


def _join(directory: str, name: str) -> str:
    return f"{directory.rstrip('/')}/{name}"
