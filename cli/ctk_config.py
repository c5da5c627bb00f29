# SPDX-License-Identifier: Apache-2.0
"""`nvidia-ctk config`: show `config.toml` with all its defaults, or change it."""

from __future__ import annotations

import os

from libnvc._config.settings import find_config, known_type
from libnvc._config.template import Host, changed_text, check, default_text
from libnvc._engines.files import Change, commit, read_file, resolved
from libnvc.errors import ConfigError, RequestError, shown

from ._flags import Flag, parse_bool
from .output import put

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .ctk import Log

    Keys = tuple[str, ...]

OUTPUT = Flag(name="output", aliases=("o",), doc="Write to this file")
FLAGS = (
    Flag(name="config-file", aliases=("config", "c"), doc="The configuration file"),
    Flag(
        name="set",
        kind=list,
        is_split=False,
        doc="Set a key: KEY=VALUE, KEY for true; values of a list are separated by colons",
    ),
    Flag(name="set-list-separator", default=":", is_hidden=True),
    Flag(name="in-place", aliases=("i",), kind=bool, doc="Write to the configuration file"),
    OUTPUT,
)
_ALLOWED = {
    ("nvidia-container-runtime", "mode"): ("auto", "legacy", "csv", "cdi", "jit-cdi"),
    ("nvidia-container-runtime", "modes", "legacy", "cuda-compat-mode"): (
        "ldconfig",
        "mount",
        "hook",
        "disabled",
    ),
}


def run(values: dict[str, Any], log: Log) -> None:
    """Run the command.

    Raises:
        RequestError: both `--in-place` and `--output` are given, or the separator is empty.
        ConfigError: a file cannot be read, understood or written, or a `--set` is not valid.
    """
    if values["in-place"] and values["output"]:
        raise RequestError("--in-place and --output cannot be given together")
    separator = values["set-list-separator"]
    if not separator:
        raise RequestError("--set-list-separator is empty")
    path = values["config-file"] or values["config"] or find_config(os.environ)
    wanted = dict(_parse_set(text, separator) for text in values["set"])
    for keys, value in wanted.items():
        if isinstance(value, list) and any("," in item for item in value):
            log.warning(f"{'.'.join(keys)}: a comma does not separate values, {separator} does")
    host = Host()
    data = read_file(path)
    if data is None:
        set_values = {keys: value for keys, value in wanted.items() if value is not None}
        new = default_text(host, set_values).encode()
    else:
        for key in check(path, data).unknown:
            log.warning(f"{path}: unknown key {key}")
        new = changed_text(path, data, host, wanted)
    config = check(path, new)
    if not config.cli.ldconfig.startswith("@"):
        log.warning("nvidia-container-cli.ldconfig does not start with @: no program accepts this")
    write_config(new, path if values["in-place"] else values["output"], log)


def write_config(data: bytes, path: str, log: Log) -> None:
    """Write a configuration into a file, or to standard output if no path is given.

    Raises:
        ConfigError: the file cannot be written.
    """
    if path in ("", "/dev/stdout"):
        put(data.decode())
        return
    path = resolved(path)
    made = commit([Change(path=path, before=read_file(path), after=data)])
    log.debug(f"{'Wrote' if made else 'Nothing to change in'} {path}")


def _parse_set(text: str, separator: str) -> tuple[Keys, Any]:
    """Read the value of `--set`: "key=value", "key" for a boolean, "features.NAME=nil" to remove.

    Raises:
        ConfigError: there is no such key, or the value is not of its type or not allowed.
    """
    name, equals, value = text.partition("=")
    keys = tuple(name.split("."))
    try:
        return keys, _value(keys, text, value if equals else None, separator)
    except ValueError as error:
        raise ConfigError(f"invalid --set option {shown(text)}: {error}") from None


def _value(keys: Keys, text: str, value: str | None, separator: str) -> Any:
    kind = known_type(keys)
    if isinstance(kind, str):
        raise ValueError(f'invalid config option: undefined field: "{shown(kind)}"')
    if kind is None:
        raise ValueError(f"invalid config option: {'.'.join(keys)} is a table")
    if kind is bool:
        if keys[0] == "features" and value == "nil":
            return None
        try:
            return parse_bool("true" if value is None else value)
        except ValueError as error:
            raise ValueError(f"invalid format: {error}") from None
    if value is None:
        raise ValueError(f"invalid format: expected key=value; got {shown(text)}")
    allowed = _ALLOWED.get(keys)
    if allowed and value not in allowed:
        raise ValueError(f"expected one of {', '.join(allowed)}")
    return value.split(separator) if kind is list else value
