# SPDX-License-Identifier: Apache-2.0
"""containerd's `config.toml`, versions 1 to 3, and the drop-in file for it."""

from __future__ import annotations

import copy
import os

from ..errors import ConfigError, shown
from . import toml
from .backup import backup_of, drop, find, keep, put
from .files import Change, read_file, resolved
from .runtime import Format, Places, change_file, copied, restore_file, set_runtime, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .backup import Document
    from .runtime import Runtime

CONFIG = "/etc/containerd/config.toml"
DROP_IN = "/etc/containerd/conf.d/99-nvidia.toml"
#: what prints its configuration
DUMP = (("containerd", "config", "dump"),)

_PLUGINS = {1: "cri", 2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.runtime"}
_SHIM = "io.containerd.runc.v2"
_BUILT_IN = "runc"
_LOST = (
    "containerd before 2.1 has no runtime runc any more: run `containerd config default` into the "
    "main file first, or use --nvidia-set-as-default"
)
_OLD = (
    "containerd 2 reads nothing of plugins.cri: with version = 2 at the file's top its name is "
    f'plugins."{_PLUGINS[2]}"'
)
#: for want of a runtime to copy from
_PLAIN = {
    "privileged_without_host_devices": False,
    "runtime_engine": "",
    "runtime_root": "",
    "runtime_type": _SHIM,
}


def _is_same(one: bytes, other: bytes) -> bool:
    return toml.comments(one) == toml.comments(other)


_FORM = Format(parse=toml.parse, edit=toml.edit, is_same=_is_same)


def version_of(path: str, document: dict[str, Any]) -> int:
    """Return the version of a configuration: 2 if it is empty, 1 if it does not say.

    Raises:
        ConfigError: it says something that is none.
    """
    version = document.get("version", 1 if document else 2)
    if type(version) is not int or version < 1:
        why = f"version: expected a whole number from 1, not {shown(str(version))}"
        raise ConfigError(f"{shown(path)}: {why}", path=path, step="parse")
    return version


def configure(
    path: str, drop_in: str, runtime: Runtime, source: dict[str, Any] | None = None
) -> tuple[list[Change], list[str]]:
    """Return what gives containerd a runtime, and warnings.

    Args:
        path: the main file; missing and empty mean an empty one of version 2.
        drop_in: the file that gets the runtime; not used in version 1, which has none.
        runtime: the new one.
        source: the configuration in effect; the main file's if None.

    Raises:
        ConfigError: a file cannot be read or changed, or is not what containerd takes.
    """
    path, drop_in = resolved(path), resolved(drop_in)
    main = toml.parse(path, read_file(path) or b"")
    source = main if source is None else source
    version = version_of(path, source)
    keys = _places(version, runtime.name)
    others = _lost(path, source, keys)
    warnings = []
    if others and not source.keys() - {"imports", "version"}:
        others = {}  # as the reference has it
        if not runtime.is_default:
            warnings.append(_LOST)
    runtimes = {**table(path, source, keys.entry[:-1]), **others}
    entry = copied(runtimes, find(source, keys.default))
    if entry is None:
        warnings.append("Could not infer options from runtimes [runc crun]")
    entry = _entry(path, entry or dict(_PLAIN), version, runtime)
    if version == 1:
        warnings.append(_OLD)
        table(path, main, keys.entry[:-1])

        def change(document: Document) -> None:
            set_runtime(document, runtime, keys, entry)
            for name, other in others.items():
                put(document, (*keys.entry[:-1], name), other)

        return change_file(path, _FORM, change, keys.entry), warnings
    new, before = _drop_in(drop_in, source, version)
    if find(new, keys.default) == runtime.name:
        del table(path, new, keys.default[:-1])[keys.default[-1]]
    set_runtime(new, runtime, keys, entry)
    for name, other in others.items():
        put(new, (*keys.entry[:-1], name), other)
    changes = [Change(path=drop_in, before=before, after=toml.write(new).encode())]
    return [*changes, *_with_import(path, drop_in, version)], warnings


def unset(path: str, drop_in: str, name: str) -> list[Change]:
    """Return what takes a runtime from containerd.

    Raises:
        ConfigError: a file cannot be read, parsed or changed.
    """
    path, drop_in = resolved(path), resolved(drop_in)
    main = toml.parse(path, read_file(path) or b"")
    before = read_file(drop_in)
    now = toml.parse(drop_in, before or b"")
    # The drop-in may be of another version: that of the configuration in effect.
    version = version_of(drop_in, now)
    keys = _places(version, name)
    if before is None or version == 1 or find(now, keys.entry) is None:
        version = version_of(path, main)
        if version == 1:
            return restore_file(path, _FORM, name, _places(version, name))
        return [Change(path=drop_in, before=before, after=before)]
    new, _ = _drop_in(drop_in, main, version)
    runtimes = table(drop_in, new, keys.entry[:-1])
    runtimes.pop(name, None)
    own = table(path, main, keys.entry[:-1])
    if runtimes.keys() - own.keys() - {_BUILT_IN}:
        return [Change(path=drop_in, before=before, after=toml.write(new).encode())]
    # First nobody asks for it any more, then it goes.
    return [
        *_without_import(path, drop_in),
        Change(path=drop_in, before=before, after=None),
    ]


def _places(version: int, name: str) -> Places:
    plugin = ("plugins", _PLUGINS.get(version, _PLUGINS[3]))
    top = (*plugin, "containerd")
    return Places(
        entry=(*top, "runtimes", name),
        default=(*top, "default_runtime_name"),
        cdi=(*(top if version == 1 else plugin), "enable_cdi"),
        also=(*top, "runtimes", _BUILT_IN) if version == 1 else (),
    )


def _lost(path: str, source: dict[str, Any], keys: Places) -> dict[str, Any]:
    """Return what containerd has by itself and, before 2.1, loses once a runtime is configured."""
    is_needed = find(source, keys.default) in (None, "", _BUILT_IN)
    if table(path, source, keys.entry[:-1]) or not is_needed:
        return {}
    return {_BUILT_IN: {"runtime_type": _SHIM}}


def _entry(path: str, entry: dict[str, Any], version: int, runtime: Runtime) -> dict[str, Any]:
    entry["runtime_type"] = entry.get("runtime_type") or _SHIM
    options = entry.setdefault("options", {})
    if not isinstance(options, dict):
        raise ConfigError(f"{shown(path)}: options: expected a table", path=path, step="parse")
    options["BinaryName"] = runtime.path
    if version == 1:
        options["Runtime"] = runtime.path
    return entry


def _drop_in(
    path: str, source: dict[str, Any], version: int
) -> tuple[dict[str, Any], bytes | None]:
    """Return a drop-in without a new runtime, and its bytes now.

    containerd before 2.1 replaces the plugin's table by it, so all of that is in it, and runtimes
    that only the drop-in has stay.
    """
    before = read_file(path)
    now = toml.parse(path, before or b"")
    keys = _places(version, "")
    plugin, runtimes = keys.entry[:2], keys.entry[:-1]
    plugins = table(path, now, ("plugins",))
    others = [*(now.keys() - {"version", "plugins"}), *(plugins.keys() - {plugin[1]})]
    if others:
        why = f"{shown(others[0])} is not of this command: name another file by --drop-in-config"
        raise ConfigError(f"{shown(path)}: {why}", path=path, step="parse")
    new: dict[str, Any] = {"version": version}
    new["plugins"] = {plugin[1]: copy.deepcopy(table(path, source, plugin))}
    here = new["plugins"][plugin[1]]
    for key in runtimes[2:]:
        here = here.setdefault(key, {})
    for name, entry in table(path, now, runtimes).items():
        here.setdefault(name, entry)
    return new, before


def _pattern(drop_in: str) -> str:
    return f"{os.path.dirname(drop_in)}/*.toml"


def _imports(path: str, document: dict[str, Any]) -> list[str]:
    imports = document.get("imports", [])
    if not isinstance(imports, list) or not all(isinstance(item, str) for item in imports):
        why = "imports: expected a list of strings"
        raise ConfigError(f"{shown(path)}: {why}", path=path, step="parse")
    return imports


def _with_import(path: str, drop_in: str, version: int) -> list[Change]:
    pattern = _pattern(drop_in)
    before = read_file(path)
    document = toml.parse(path, before or b"")
    if pattern in _imports(path, document):
        return [Change(path=path, before=before, after=before)]
    if "imports" in document:

        def change(document: Document) -> None:
            document["imports"].append(pattern)

        after = toml.edit(path, before or b"", change)
    else:
        new: dict[str, Any] = {"imports": [pattern]}
        if not document:
            new["version"] = version
        after = toml.write(new).encode() + (before or b"")
    return [
        *keep(path, before, is_ours=False),
        Change(path=path, before=before, after=after),
    ]


def _without_import(path: str, drop_in: str) -> list[Change]:
    pattern = _pattern(drop_in)
    before = read_file(path)
    document = toml.parse(path, before or b"")
    if before is None or pattern not in _imports(path, document) or _has_others(drop_in):
        return [Change(path=path, before=before, after=before)]
    kept = read_file(backup_of(path))
    if kept is None:
        # Only a file that this command made is known to have had no such line.
        is_made = document.keys() <= {"version", "imports"} and document["imports"] == [pattern]
        return [Change(path=path, before=before, after=None if is_made else before)]
    original = toml.parse(backup_of(path), kept)
    if pattern in _imports(backup_of(path), original):
        return [Change(path=path, before=before, after=before)]

    def change(document: Document) -> None:
        document["imports"].remove(pattern)
        if not document["imports"] and "imports" not in original:
            del document["imports"]
        if not original and document.keys() <= {"version"}:
            document.pop("version", None)

    wanted = copy.deepcopy(document)
    change(wanted)
    after = toml.edit(path, before, change)
    if wanted == original and _is_same(after, kept):
        return [Change(path=path, before=before, after=kept), *drop(path)]
    return [Change(path=path, before=before, after=after)]


def _has_others(drop_in: str) -> bool:
    names = os.listdir(os.path.dirname(drop_in))
    return any(n.endswith(".toml") and n != os.path.basename(drop_in) for n in names)
