# SPDX-License-Identifier: Apache-2.0
"""Write `config.toml`: the default one, and changes to one that is there."""

from __future__ import annotations

import os
import re

from .._engines import toml
from .._engines.backup import find, give_back, put
from .settings import check_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping
    from typing import Any

    from .settings import Config

    Keys = tuple[str, ...]

_CLI = "nvidia-container-cli"
_RUNTIME = "nvidia-container-runtime"
_HOOK = "nvidia-container-runtime-hook"

#: what the default file shows as a comment: examples, save for the booleans
_COMMENTED: dict[Keys, Any] = {
    ("accept-nvidia-visible-devices-as-volume-mounts",): False,
    ("accept-nvidia-visible-devices-envvar-when-unprivileged",): True,
    ("swarm-resource",): "DOCKER_RESOURCE_GPU",
    (_CLI, "debug"): "/var/log/nvidia-container-toolkit.log",
    (_CLI, "ldcache"): "/etc/ld.so.cache",
    (_CLI, "no-cgroups"): False,
    (_CLI, "path"): "/usr/bin/nvidia-container-cli",
    (_CLI, "root"): "/run/nvidia/driver",
    (_CLI, "user"): "root:video",
    (_RUNTIME, "debug"): "/var/log/nvidia-container-runtime.log",
}
_SHOWN: dict[Keys, Any] = {
    ("disable-require",): False,
    ("supported-driver-capabilities",): "compat32,compute,display,graphics,ngx,utility,video",
    (_CLI, "environment"): [],
    (_CLI, "ldconfig"): "@/sbin/ldconfig",
    (_CLI, "load-kmods"): True,
    (_RUNTIME, "log-level"): "info",
    (_RUNTIME, "mode"): "auto",
    (_RUNTIME, "runtimes"): ["runc", "crun"],
    (_RUNTIME, "modes", "cdi", "annotation-prefixes"): ["cdi.k8s.io/"],
    (_RUNTIME, "modes", "cdi", "default-kind"): "nvidia.com/gpu",
    (_RUNTIME, "modes", "cdi", "spec-dirs"): ["/etc/cdi", "/var/run/cdi"],
    (
        _RUNTIME,
        "modes",
        "csv",
        "mount-spec-path",
    ): "/etc/nvidia-container-runtime/host-files-for-container.d",
    (_RUNTIME, "modes", "legacy", "cuda-compat-mode"): "ldconfig",
    (_HOOK, "path"): "nvidia-container-runtime-hook",
    (_HOOK, "skip-mode-detection"): False,
    ("nvidia-ctk", "path"): "nvidia-ctk",
}


class Host:
    """What the default file depends on.

    Attributes:
        has_real_ldconfig: whether `/sbin/ldconfig.real` exists.
        is_suse: whether the distribution is SUSE's or like it.
    """

    def __init__(self, root: str = "/") -> None:
        self.has_real_ldconfig = os.path.exists(os.path.join(root, "sbin/ldconfig.real"))
        self.is_suse = False
        try:
            with open(os.path.join(root, "etc/os-release"), encoding="utf-8") as file:
                text = file.read(1 << 16)
        except (OSError, ValueError):
            return
        like = re.search(r"^ID_LIKE=(.*)$", text, re.MULTILINE)
        words = like[1].strip("\"'").split() if like else []
        self.is_suse = bool({"suse", "opensuse"} & set(words))


def default_text(host: Host, values: Mapping[Keys, Any] | None = None) -> str:
    """Return the default file, with some values set."""
    values = {**_shown(host), **(values or {})}
    document: dict[str, Any] = {}
    for keys, value in {**_COMMENTED, **values}.items():
        put(document, keys, value)
    hidden = frozenset(".".join(keys) for keys in _COMMENTED.keys() - values.keys())
    return toml.write(document, indent="", hidden=hidden)


def _shown(host: Host) -> dict[Keys, Any]:
    values = dict(_SHOWN)
    if host.has_real_ldconfig:
        values[_CLI, "ldconfig"] = "@/sbin/ldconfig.real"
    if host.is_suse:
        values[_CLI, "user"] = "root:video"
    return values


def changed_text(path: str, data: bytes, host: Host, values: Mapping[Keys, Any]) -> bytes:
    """Return a file with some values set, and the defaults that it does not have added.

    Comments, order and layout of the rest stay. A line that the default file shows as a comment
    becomes the value.

    Args:
        path: the file, for messages.
        data: its bytes.
        host: for the defaults.
        values: by key; None removes it.

    Raises:
        ConfigError: the file cannot be parsed, or not be changed without losing something.
    """
    if not data.strip():
        return default_text(host, _without_none(values)).encode()
    document = toml.parse(path, data)
    more = {k: v for k, v in _shown(host).items() if find(document, k) is None and k not in values}
    return _add_all(path, data, document, {**more, **values})


def _without_none(values: Mapping[Keys, Any]) -> dict[Keys, Any]:
    return {keys: value for keys, value in values.items() if value is not None}


def _add_all(path: str, data: bytes, document: dict[str, Any], values: Mapping[Keys, Any]) -> bytes:
    # Tables in order, as new ones go to the end; in each from the last key to the first, as each is
    # put before the others.
    order = sorted(values, reverse=True)
    for keys in sorted(order, key=lambda keys: keys[:-1]):
        value = values[keys]
        if find(document, keys) == value:
            continue
        data = _with(path, data, document, keys, value)
        document = toml.parse(path, data)
    return data


def _with(path: str, data: bytes, document: dict[str, Any], keys: Keys, value: Any) -> bytes:
    def change(document: MutableMapping[str, Any]) -> None:
        if value is None:
            give_back(document, keys, {})
        else:
            put(document, keys, value)

    if value is not None and find(document, keys) is None:
        change(document)
        new = _uncommented(data.decode(), keys, value)
        if new is not None and toml.says(new.encode(), document):
            return new.encode()
    return toml.edit(path, data, change)


def _uncommented(text: str, keys: Keys, value: Any) -> str | None:
    lines = toml.lines_of(text)
    section = toml.find_section(lines, keys[:-1])
    for index in range(*section) if section else ():
        if re.match(rf"[ \t]*#[ \t]*{re.escape(keys[-1])}[ \t]*=", lines[index]):
            end = lines[index][len(lines[index].rstrip("\r\n")) :]
            lines[index] = f"{keys[-1]} = {toml.value_text(value)}{end}"
            return "".join(lines)
    return None


def check(path: str, data: bytes) -> Config:
    """Return what a file says, in which `ldconfig` may be anything.

    Raises:
        ConfigError: a value is of the wrong type or not allowed.
    """
    document = toml.parse(path, data)
    features = dict(table) if isinstance(table := document.get("features"), dict) else None
    if features is not None or "features" not in document:
        document["features"] = {**(features or {}), "allow-ldconfig-from-container": True}
    return check_document(path, document)
