# SPDX-License-Identifier: Apache-2.0
"""What a container asks for: by annotations, by mounts, and by its environment.

Whoever made the image chose the environment, unless the engine's user changed it. It asks; the
configuration decides.
"""

from __future__ import annotations

from os.path import normpath

from .._record import Record
from ..errors import MalformedFileError, RequestError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from .._config.settings import Config

_MOUNTS = "/var/run/nvidia-container-devices"
_DEFAULT_CAPABILITIES = frozenset(("compute", "utility"))
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_EXPECTED: dict[type, str] = {dict: "an object", list: "a list", str: "a string"}
_ALNUM = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")


class Container(Record):
    """What is read of an OCI configuration.

    Attributes:
        environment: names and values; of a name given twice the last value.
        annotations: names and values, sorted.
        mounts: sources and destinations, as written.
        privileged: whether CAP_SYS_ADMIN is in its bounding set.
        rootfs: path of its root, as written, or "".
        user_namespace: whether it gets a user namespace.
    """

    environment: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    mounts: tuple[tuple[str, str], ...] = ()
    privileged: bool = False
    rootfs: str = ""
    user_namespace: bool = False


class Wanted(Record):
    """What a container shall get. Devices and channels are names, not looked up yet.

    Attributes:
        devices: selectors or CDI names in order, perhaps "all"; () for the driver's files alone;
            None for a container that is not to be touched: then all else is empty.
        capabilities: names, sorted.
        requirements: expressions, by name of their variables.
        mig_config, mig_monitor: selectors as written, or "".
        imex_channels: as written.
        source: what asked for the devices: "annotation", "mount", "environment" or "".
        refused: what was asked for and is not granted, and why; one line each.
    """

    devices: tuple[str, ...] | None = None
    capabilities: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    mig_config: str = ""
    mig_monitor: str = ""
    imex_channels: tuple[str, ...] = ()
    source: str = ""
    refused: tuple[str, ...] = ()


def check_complete(document: Mapping[str, Any]) -> None:
    """Refuse a configuration without the members that a hook cannot do without.

    Raises:
        MalformedFileError: the member is named.
    """
    for member, name in (("ociVersion", "Version"), ("process", "Process"), ("root", "Root")):
        if document.get(member) in (None, ""):
            raise MalformedFileError(f"{name} is empty in OCI spec")


def read_container(document: Mapping[str, Any]) -> Container:
    """Return what is needed of an OCI configuration; members that are missing or null are empty.

    Raises:
        MalformedFileError: a member is of the wrong type, or an entry of the environment is no
            variable.
    """
    process = _member(document, "process", dict, "")
    root = _member(document, "root", dict, "")
    return Container(
        environment=tuple(_variables(process)),
        annotations=tuple(sorted(_annotations(document))),
        mounts=tuple(_mount_points(document)),
        privileged=_is_privileged(document, process),
        rootfs=_member(root, "path", str, "root."),
        user_namespace="user" in _namespaces(document),
    )


def decode(container: Container, config: Config, *, annotations: bool) -> Wanted:
    """Return what a container shall get of what it asks for.

    Args:
        container: what is known of it.
        config: what is allowed.
        annotations: whether annotations may name devices.

    Raises:
        RequestError: it asks for capabilities that are not supported, for MIG without being
            privileged, or its CUDA_VERSION is none.
    """
    env = dict(container.environment)
    refused: list[str] = []
    devices, source = _devices(container, config, env, refused, annotations=annotations)
    if devices is None:
        return Wanted(refused=tuple(refused))
    return Wanted(
        devices=devices,
        source=source,
        mig_config=_mig(container, env, "MIG_CONFIG_DEVICES"),
        mig_monitor=_mig(container, env, "MIG_MONITOR_DEVICES"),
        imex_channels=_imex_channels(container, config, env, refused),
        capabilities=_capabilities(config, env),
        requirements=_requirements(config, env),
        refused=tuple(refused),
    )


def decode_devices(container: Container, config: Config) -> Wanted:
    """Return the devices alone that a container names, by annotations too.

    Nothing else that it asks for is looked at, so that nothing else can be wrong.
    """
    refused: list[str] = []
    env = dict(container.environment)
    devices, source = _devices(container, config, env, refused, annotations=True)
    return Wanted(devices=devices, source=source, refused=tuple(refused))


def is_cdi_name(name: str) -> bool:
    """Tell whether a device is named in full: VENDOR/CLASS=DEVICE."""
    kind, equals, device = name.partition("=")
    return bool(equals) and is_cdi_kind(kind) and is_cdi_device(device)


def is_cdi_kind(kind: str) -> bool:
    """Tell whether a text is the kind of a device: VENDOR/CLASS."""
    vendor, _, device_class = kind.partition("/")
    return all(_is_word(word, "_-.") and word[0].isalpha() for word in (vendor, device_class))


def is_cdi_device(name: str) -> bool:
    """Tell whether a text is the name of a device within its kind."""
    return _is_word(name, "_-.:")


def _is_word(text: str, inside: str) -> bool:
    ends = text[:1], text[-1:]
    return all(c in _ALNUM for c in ends) and all(c in _ALNUM or c in inside for c in text)


# --- the document ---------------------------------------------------------------------------------


def _member(table: Mapping[str, Any], name: str, kind: type, where: str) -> Any:
    value = table.get(name)
    if value is None:
        return kind()
    return _check(value, kind, f"{where}{name}")


def _check(value: Any, kind: type, where: str) -> Any:
    if type(value) is not kind:
        raise MalformedFileError(f"{where}: not {_EXPECTED[kind]}")
    return value


def _variables(process: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    values: dict[str, str] = {}
    for index, entry in enumerate(_member(process, "env", list, "process.")):
        name, equals, value = _check(entry, str, f"process.env[{index}]").partition("=")
        if not equals:
            raise MalformedFileError(f"invalid environment variable: {shown(entry)}")
        values[name] = value
    yield from values.items()


def _annotations(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in _member(document, "annotations", dict, "").items():
        yield name, _check(value, str, f"annotations: {shown(name)}")


def _mount_points(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for index, mount in enumerate(_member(document, "mounts", list, "")):
        where = f"mounts[{index}]"
        _check(mount, dict, where)
        source = _member(mount, "source", str, f"{where}.")
        yield source, _member(mount, "destination", str, f"{where}.")


def _namespaces(document: Mapping[str, Any]) -> Iterator[str]:
    linux = _member(document, "linux", dict, "")
    for index, namespace in enumerate(_member(linux, "namespaces", list, "linux.")):
        where = f"linux.namespaces[{index}]"
        yield _member(_check(namespace, dict, where), "type", str, f"{where}.")


def _is_privileged(document: Mapping[str, Any], process: Mapping[str, Any]) -> bool:
    version = _member(document, "ociVersion", str, "")
    if version.startswith("1.0.0-") and "rc1" <= version[6:] < "rc5":
        return "CAP_SYS_ADMIN" in _member(process, "capabilities", list, "process.")
    capabilities = _member(process, "capabilities", dict, "process.")
    return "CAP_SYS_ADMIN" in _member(capabilities, "bounding", list, "process.capabilities.")


# --- devices --------------------------------------------------------------------------------------


def _devices(
    container: Container,
    config: Config,
    env: Mapping[str, str],
    refused: list[str],
    *,
    annotations: bool,
) -> tuple[tuple[str, ...] | None, str]:
    """Return the devices and what asked for them: the first source that names any."""
    if annotations:
        named = _annotated(container, config)
        if named:
            return (() if named == [""] else tuple(named)), "annotation"
    mounted = _mounted_devices(container, config, refused)
    if mounted:
        return tuple(mounted), "mount"
    swarm = [name.strip() for name in config.swarm_resource.split(",")]
    names = [name for name in swarm if name in env] or ["NVIDIA_VISIBLE_DEVICES"]
    asked = _listed(env, names)
    if asked is None:
        return None, ""
    if not _may_ask(container, config):
        refused.append(
            "Ignoring devices requested by environment variable(s) in unprivileged container: "
            f"[{' '.join(names)}]"
        )
        return None, ""
    return asked, "environment"


def _may_ask(container: Container, config: Config) -> bool:
    return container.privileged or config.accept_envvar_when_unprivileged


def _annotated(container: Container, config: Config) -> list[str]:
    prefixes = config.runtime.annotation_prefixes
    return [
        device
        for name, value in container.annotations
        if name.startswith(prefixes)
        for device in value.split(",")
    ]


def _listed(env: Mapping[str, str], names: Sequence[str]) -> tuple[str, ...] | None:
    """Return the elements of variables: () for "none", None where nothing is asked for."""
    values = [env[name] for name in names if name in env]
    if not values and _is_legacy(env):
        return ("all",)
    items = [item.strip() for value in values for item in value.split(",")]
    items = [item for item in items if item]
    if not items or "void" in items:
        return None
    for item in items:
        if item == "all":
            return ("all",)
        if item == "none":
            return ()
    return tuple(items)


def _mounted(container: Container) -> Iterator[str]:
    """Yield what the paths of mounts name, each path once."""
    seen = set()
    for source, destination in container.mounts:
        if _clean(source) == "/dev/null":
            path = _clean(destination)
            if path.startswith(f"{_MOUNTS}/") and path not in seen:
                seen.add(path)
                yield path[len(_MOUNTS) + 1 :]


def _clean(path: str) -> str:
    # POSIX lets two slashes at the start mean something else, Linux does not.
    return f"/{normpath(path).lstrip('/')}" if path.startswith("/") else normpath(path)


def _mounted_devices(container: Container, config: Config, refused: list[str]) -> list[str]:
    devices = []
    for name in _mounted(container):
        if not config.accept_volume_mounts:
            refused.append(
                f"Ignoring devices requested by volume mounts: {shown(name)}: "
                "accept-nvidia-visible-devices-as-volume-mounts is false"
            )
        elif name.startswith("cdi/"):
            full = _cdi_name(name[len("cdi/") :])
            if full:
                devices.append(full)
            else:
                refused.append(f"Ignoring invalid mount request for CDI device {shown(name)}")
        elif not name.startswith("imex/"):
            devices.append(name)
    return devices


def _cdi_name(path: str) -> str:
    if is_cdi_name(path):
        return path
    kind, _, device = path.rpartition("/")
    full = f"{kind}={device}"
    return full if is_cdi_name(full) else ""


# --- all else -------------------------------------------------------------------------------------


def _mig(container: Container, env: Mapping[str, str], name: str) -> str:
    value = env.get(f"NVIDIA_{name}", "")
    if value and not container.privileged:
        raise RequestError(f"cannot set {name} in non privileged container")
    return value


def _imex_channels(
    container: Container, config: Config, env: Mapping[str, str], refused: list[str]
) -> tuple[str, ...]:
    mounted: tuple[str, ...] = ()
    if config.accept_volume_mounts:
        names = _mounted(container)
        mounted = tuple(name[len("imex/") :] for name in names if name.startswith("imex/"))
    asked = _listed(env, ["NVIDIA_IMEX_CHANNELS"]) or ()
    if asked == ("all",):  # also what a legacy image gets without asking
        if "NVIDIA_IMEX_CHANNELS" in env:
            refused.append("Ignoring NVIDIA_IMEX_CHANNELS=all: channels are named by number")
        asked = ()
    if not mounted and not asked:
        return ()
    if "ignore-imex-channel-requests" in config.features:
        refused.append("Ignoring requested IMEX channels: features.ignore-imex-channel-requests")
        return ()
    if mounted:
        return mounted
    if not _may_ask(container, config):
        refused.append(
            "Ignoring IMEX channels requested by environment variable(s) in unprivileged "
            "container: [NVIDIA_IMEX_CHANNELS]"
        )
        return ()
    return asked


def _capabilities(config: Config, env: Mapping[str, str]) -> tuple[str, ...]:
    supported = set(config.supported_capabilities.split(",")) - {""}
    value = env.get("NVIDIA_DRIVER_CAPABILITIES")
    if value is None and _is_legacy(env):
        return tuple(sorted(supported))
    if not value:
        return tuple(sorted(supported & _DEFAULT_CAPABILITIES))
    asked = {name.strip() for name in value.split(",")} - {""}
    if "all" in asked:
        return tuple(sorted(supported))
    granted = sorted(supported & asked)
    if len(granted) < len(asked):
        raise RequestError(
            f"unsupported capabilities found in '{shown(','.join(sorted(asked)))}' "
            f"(allowed '{','.join(granted)}')"
        )
    return tuple(granted)


def _requirements(config: Config, env: Mapping[str, str]) -> tuple[str, ...]:
    if config.disable_require or env.get("NVIDIA_DISABLE_REQUIRE") in _TRUE:
        return ()
    found = {
        name: value
        for name, value in env.items()
        if name.startswith("NVIDIA_REQUIRE_") and not name.startswith("NVIDIA_REQUIRE_JETPACK")
    }
    if _is_legacy(env):
        found["NVIDIA_REQUIRE_CUDA"] = f"cuda>={_major_minor(env['CUDA_VERSION'])}"
    return tuple(value for _, value in sorted(found.items()) if value)


def _is_legacy(env: Mapping[str, str]) -> bool:
    """Tell whether an image is from before NVIDIA_VISIBLE_DEVICES: it says its CUDA version."""
    return bool(env.get("CUDA_VERSION")) and not env.get("NVIDIA_REQUIRE_CUDA")


def _major_minor(version: str) -> str:
    parts = version.removeprefix("v").split(".")
    if len(parts) > 3 or not all(part.isascii() and part.isdigit() for part in parts):
        raise RequestError(f"CUDA_VERSION: {shown(version)} is not a version")
    return ".".join([*parts, "0"][:2])
