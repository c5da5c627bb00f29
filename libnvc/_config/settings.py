# SPDX-License-Identifier: Apache-2.0
"""What `config.toml` says, over the defaults; docs/configuration.md describes every key."""

from __future__ import annotations

import os
import stat

from .._record import Record
from ..errors import ConfigError, shown
from .plain import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any, NoReturn

DEFAULT_PATH = "/etc/nvidia-container-runtime/config.toml"

_CAPABILITIES = ("compat32", "compute", "display", "graphics", "ngx", "utility", "video")
_LDCACHE_MODES = ("native", "exec")
_MAX_SIZE = 1 << 20  # bytes


class CliSettings(Record):
    """Section `[nvidia-container-cli]`.

    Attributes:
        root: driver root, "" for "/".
        path: the command to run, "" to search for it.
        environment: "NAME=VALUE" each, for the command.
        debug: its log file, or "".
        ldcache: the host's loader cache, "" for the driver root's own.
        ldconfig: the host's ldconfig after "@".
        load_kmods: whether kernel modules are loaded and device nodes made.
        no_pivot: whether the change of root is avoided.
        no_cgroups: whether device rules are left out.
        user: "USER[:GROUP]" that asks NVML, or "".
    """

    root: str = ""
    path: str = ""
    environment: tuple[str, ...] = ()
    debug: str = ""
    ldcache: str = ""
    ldconfig: str = "@/sbin/ldconfig"
    load_kmods: bool = True
    no_pivot: bool = False
    no_cgroups: bool = False
    user: str = ""


class RuntimeSettings(Record):
    """Section `[nvidia-container-runtime]`.

    Attributes:
        debug: log file, or "".
        log_level: "info".
        runtimes: candidates for the low-level runtime, names or paths.
        mode: "auto", "legacy", "csv", "cdi" or "jit-cdi"; not checked here.
        annotation_prefixes: of the annotations that name CDI devices.
        default_kind: "VENDOR/CLASS" of devices without one.
        spec_dirs: directories of CDI files, later ones win.
        csv_path: directory of CSV files.
        csv_compat_root: directory of CUDA compatibility libraries on Jetson, or "".
        cuda_compat_mode: "ldconfig", "mount", "hook" or "disabled"; not checked here.
    """

    debug: str = ""
    log_level: str = "info"
    runtimes: tuple[str, ...] = ("runc", "crun")
    mode: str = "auto"
    annotation_prefixes: tuple[str, ...] = ("cdi.k8s.io/",)
    default_kind: str = "nvidia.com/gpu"
    spec_dirs: tuple[str, ...] = ("/etc/cdi", "/var/run/cdi")
    csv_path: str = "/etc/nvidia-container-runtime/host-files-for-container.d"
    csv_compat_root: str = ""
    cuda_compat_mode: str = "ldconfig"


class HookSettings(Record):
    """Section `[nvidia-container-runtime-hook]`.

    Attributes:
        path: the hook, a name or an absolute path.
        skip_mode_detection: whether the hook works in every mode.
    """

    path: str = "nvidia-container-runtime-hook"
    skip_mode_detection: bool = False


class Config(Record):
    """One `config.toml`, over the defaults.

    Attributes:
        path: of the file that was read, or "".
        disable_require: whether requirements of images are ignored.
        swarm_resource: names of environment variables, separated by commas, that are preferred to
            NVIDIA_VISIBLE_DEVICES.
        accept_envvar_when_unprivileged: whether a container without CAP_SYS_ADMIN may ask for
            devices by its environment.
        accept_volume_mounts: whether mounts may ask for devices.
        supported_capabilities: names, sorted, separated by commas; never "all".
        ldcache: who writes the loader cache: "native", libnvc; "exec", the host's ldconfig,
            confined.
        cache: whether plans are kept for later containers.
        features: names of those that are true.
        unknown: keys with dots between, in the file's order; a table without its keys.
    """

    path: str = ""
    disable_require: bool = False
    swarm_resource: str = ""
    accept_envvar_when_unprivileged: bool = True
    accept_volume_mounts: bool = False
    supported_capabilities: str = ",".join(_CAPABILITIES)
    ldcache: str = "native"
    cache: bool = True
    cli: CliSettings = CliSettings()
    runtime: RuntimeSettings = RuntimeSettings()
    hook: HookSettings = HookSettings()
    features: frozenset[str] = frozenset()
    unknown: tuple[str, ...] = ()


#: key -> table of keys, or type and field ("" where a key is accepted without effect)
_KEYS: dict[str, Any] = {
    "disable-require": (bool, "disable_require"),
    "swarm-resource": (str, "swarm_resource"),
    "accept-nvidia-visible-devices-envvar-when-unprivileged": (
        bool,
        "accept_envvar_when_unprivileged",
    ),
    "accept-nvidia-visible-devices-as-volume-mounts": (bool, "accept_volume_mounts"),
    "supported-driver-capabilities": (str, "supported_capabilities"),
    "ldcache": (str, "ldcache"),
    "cache": (bool, "cache"),
    "nvidia-container-cli": {
        "root": (str, "cli.root"),
        "path": (str, "cli.path"),
        "environment": (list, "cli.environment"),
        "debug": (str, "cli.debug"),
        "ldcache": (str, "cli.ldcache"),
        "ldconfig": (str, "cli.ldconfig"),
        "load-kmods": (bool, "cli.load_kmods"),
        "no-pivot": (bool, "cli.no_pivot"),
        "no-cgroups": (bool, "cli.no_cgroups"),
        "user": (str, "cli.user"),
    },
    "nvidia-container-runtime": {
        "debug": (str, "runtime.debug"),
        "log-level": (str, "runtime.log_level"),
        "runtimes": (list, "runtime.runtimes"),
        "mode": (str, "runtime.mode"),
        "modes": {
            "cdi": {
                "annotation-prefixes": (list, "runtime.annotation_prefixes"),
                "default-kind": (str, "runtime.default_kind"),
                "spec-dirs": (list, "runtime.spec_dirs"),
            },
            "csv": {
                "mount-spec-path": (str, "runtime.csv_path"),
                "compat-container-root": (str, "runtime.csv_compat_root"),
            },
            "jit-cdi": {
                "nvcdi-feature-flags": (list, ""),
                "nvcdi-disable-hooks": (list, ""),
            },
            "legacy": {"cuda-compat-mode": (str, "runtime.cuda_compat_mode")},
        },
    },
    "nvidia-container-runtime-hook": {
        "path": (str, "hook.path"),
        "skip-mode-detection": (bool, "hook.skip_mode_detection"),
    },
    "nvidia-ctk": {"path": (str, "")},
    "features": {
        name: (bool, f"features.{name}")
        for name in (
            "allow-cuda-compat-libs-from-container",
            "allow-ldconfig-from-container",
            "allow-unknown-oci-spec-fields",
            "disable-cuda-compat-lib-hook",
            "disable-imex-channel-creation",
            "ignore-imex-channel-requests",
            "no-additional-gids-for-device-nodes",
        )
    },
}
_EXPECTED = {bool: "true or false", str: "a string", list: "a list of strings"}


def find_config(environment: Mapping[str, str]) -> str:
    """Return where the configuration is, there or not, for a caller with this environment."""
    path = environment.get("NVIDIA_CTK_CONFIG_FILE_PATH", "")
    home = environment.get("XDG_CONFIG_HOME", "")
    if path:
        return path
    return f"{home}/nvidia-container-runtime/config.toml" if home else DEFAULT_PATH


def load_config(path: str, *, required: bool) -> Config:
    """Read a configuration; without a file the defaults hold, unless it is required.

    Raises:
        ConfigError: it is required and missing, cannot be read, is not TOML, or a value is of the
            wrong type or not allowed. The file is named, then line and column or key and value.
    """
    text = _read(path, required=required)
    if text is None:
        return check_document("", {})
    document = parse(text)
    if document is None:
        document = _parse_fully(path, text)
    return check_document(path, document)


def check_document(path: str, document: dict[str, Any]) -> Config:
    """Return what a parsed configuration says, over the defaults.

    Raises:
        ConfigError: a value is of the wrong type or not allowed; file, key and value are named.
    """
    found: dict[str, Any] = {"": {}, "cli": {}, "runtime": {}, "hook": {}, "features": {}}
    unknown: list[str] = []
    for key, known, value in _walk(path, document, _KEYS):
        if known is None:
            unknown.append(key)
            continue
        kind, target = known
        section, _, field = target.rpartition(".")
        checked = _checked(path, key, kind, value)
        if field:
            found[section][field] = checked
    return _build(path, found, tuple(unknown))


def known_type(keys: tuple[str, ...]) -> type | str | None:
    """Return bool, str or list for a key that is known, None for a table, else the unknown part."""
    known: Any = _KEYS
    for key in keys:
        known = known.get(key) if isinstance(known, dict) else None
        if known is None:
            return key
    kind: type | None = None if isinstance(known, dict) else known[0]
    return kind


def _read(path: str, *, required: bool) -> str | None:
    what = "required configuration file" if required else "configuration file"
    try:
        # What is no regular file could keep us waiting for ever.
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                _fail(path, "not a regular file")
            data = file.read(_MAX_SIZE + 1)
        if len(data) > _MAX_SIZE:
            _fail(path, f"larger than {_MAX_SIZE} bytes")
        return data.decode()
    except FileNotFoundError as error:
        if not required:
            return None
        raise _unreadable(what, path, error) from error
    except OSError as error:
        raise _unreadable(what, path, error) from error
    except UnicodeDecodeError:
        _fail(path, "not UTF-8")


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _unreadable(what: str, path: str, error: OSError) -> ConfigError:
    why = os.strerror(error.errno or 0).lower()
    message = f"couldn't open {what}: {shown(path)}: {why}"
    return ConfigError(message, errno=error.errno or 0, path=path, step="open")


def _parse_fully(path: str, text: str) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(text)
    except RecursionError:
        _fail(path, "nested too deeply", step="parse")
    except ValueError as error:
        _fail(path, str(error), step="parse")


def _walk(
    path: str, table: dict[str, Any], keys: dict[str, Any], where: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Yield each key with dots, what `_KEYS` says of it (None if nothing), and its value."""
    for name, value in table.items():
        here = f"{where}{name}"
        known = keys.get(name)
        if not isinstance(known, dict):
            yield here, known, value
        elif isinstance(value, dict):
            yield from _walk(path, value, known, f"{here}.")
        else:
            _fail_at(path, here, "expected a table", value)


def _checked(path: str, key: str, kind: type, value: Any) -> Any:
    items = value if type(value) is list else ()
    if type(value) is not kind or not all(type(item) is str for item in items):
        _fail_at(path, key, f"expected {_EXPECTED[kind]}", value)
    return tuple(items) if kind is list else value


def _build(path: str, found: dict[str, Any], unknown: tuple[str, ...]) -> Config:
    values = found[""]
    features = frozenset(name for name, value in found["features"].items() if value)
    if "supported_capabilities" in values:
        values["supported_capabilities"] = _capabilities(path, values["supported_capabilities"])
    mode = values.get("ldcache", "native")
    if mode not in _LDCACHE_MODES:
        _fail_at(path, "ldcache", f"expected one of {', '.join(_LDCACHE_MODES)}", mode)
    cli = CliSettings(**found["cli"])
    for entry in cli.environment:
        if entry.find("=") < 1 or "\0" in entry:
            _fail_at(path, "nvidia-container-cli.environment", "expected NAME=VALUE", entry)
    if not cli.ldconfig.startswith("@") and "allow-ldconfig-from-container" not in features:
        value = f'nvidia-container-cli.ldconfig value "{shown(cli.ldconfig)}"'
        _fail(path, f"{value} is not host-relative (does not start with a '@')")
    return Config(
        path=path,
        cli=cli.replace(ldconfig=_real_ldconfig(cli.ldconfig)),
        runtime=RuntimeSettings(**found["runtime"]),
        hook=HookSettings(**found["hook"]),
        features=features,
        unknown=unknown,
        **values,
    )


def _capabilities(path: str, text: str) -> str:
    names = {name.strip() for name in text.split(",")} - {""}
    for name in sorted(names - {"all", *_CAPABILITIES}):
        known = ", ".join(_CAPABILITIES)
        why = f"unsupported capability {shown(name)} (known are {known} and all)"
        _fail_at(path, "supported-driver-capabilities", why, text)
    return ",".join(_CAPABILITIES if "all" in names else sorted(names))


def _real_ldconfig(value: str) -> str:
    # On Ubuntu ldconfig is a script around ldconfig.real.
    is_wrapped = value.startswith("@") and os.path.exists(f"{value[1:]}.real")
    return f"{value}.real" if is_wrapped else value


def _fail_at(path: str, key: str, why: str, value: object) -> NoReturn:
    written = str(value).lower() if isinstance(value, bool) else shown(str(value))
    if isinstance(value, str):
        written = f'"{written}"'
    _fail(path, f"{shown(key)}: {why}, not {written}")


def _fail(path: str, why: str, *, step: str = "") -> NoReturn:
    raise ConfigError(f"{shown(path)}: {why}", path=path, step=step)
