# SPDX-License-Identifier: Apache-2.0
"""Write CDI files: YAML in the reference's style, or JSON on one line."""

from __future__ import annotations

import os
from _json import encode_basestring

from .._engines.files import Change, commit, read_file, resolved
from ..errors import ConfigError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORMATS = ("yaml", "json")

_INDENT = 4
_FIRST = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz/._")
_SAFE = _FIRST | frozenset("0123456789=+@-:")
#: What YAML, in one version or another, takes for something else than text.
_WORDS = frozenset(
    ("true", "false", "yes", "no", "on", "off", "y", "n", "null", ".inf", ".nan", "", "<<", "=")
)


def to_text(document: dict[str, Any], form: str, comments: tuple[str, ...] = ()) -> str:
    """Return a document of objects, lists, text and numbers as the text of a file.

    Args:
        document: the document.
        form: one of `FORMATS`.
        comments: lines that only people and `nvidia-ctk` read; JSON cannot have any.
    """
    if form == "json":
        import json

        return json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n"
    head = "".join(f"# {line}\n" for line in comments)
    return f"---\n{head}" + "\n".join(_Yaml().object(document, "")) + "\n"


class _Yaml:
    """Lines of one document. Most words are in it more than once."""

    def __init__(self) -> None:
        self._words: dict[str, str] = {}

    def object(self, members: dict[str, Any], indent: str) -> list[str]:
        lines = []
        for name, value in members.items():
            key = f"{indent}{self._word(name)}:"
            if isinstance(value, dict) and value:
                lines += [key, *self.object(value, _deeper(indent))]
            elif isinstance(value, list) and value:
                lines += [key, *self._list(value, _deeper(indent))]
            else:
                lines.append(f"{key} {self._word(value)}")
        return lines

    def _list(self, items: list[Any], indent: str) -> list[str]:
        lines = []
        for item in items:
            if isinstance(item, dict) and item:
                first, *rest = self.object(item, f"{indent}  ")
                lines += [f"{indent}- {first.lstrip()}", *rest]
            else:
                lines.append(f"{indent}- {self._word(item)}")
        return lines

    def _word(self, value: Any) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        text = str(value)
        if not isinstance(value, str):
            return text  # a number, or an object or list with nothing in it
        word = self._words.get(text)
        if word is None:
            word = self._words[text] = _plain_or_quoted(text)
        return word


def _deeper(indent: str) -> str:
    """Return the next multiple of the indentation, as Go's library has it."""
    return " " * ((len(indent) // _INDENT + 1) * _INDENT)


def _plain_or_quoted(text: str) -> str:
    if text.count(".") == 2 and text.replace(".", "").isdigit():
        return text  # a version, which no YAML takes for a number
    start = text[2:3] if text.startswith("--") else text[:1]
    is_plain = start in _FIRST and start != "" and _SAFE.issuperset(text)
    is_number = text[:1] == "." and text[1:2].isdigit()
    if is_plain and not text.endswith(":") and text.lower() not in _WORDS and not is_number:
        return text
    return _quoted(text)


def _quoted(text: str) -> str:
    quoted = encode_basestring(text)
    # JSON leaves alone what YAML wants escaped in double quotes.
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted)


def output_path(path: str, form: str) -> tuple[str, str]:
    """Return where a file is written, and its format, for what the flags say.

    A name that readers of CDI files would not look at gets an ending.

    Args:
        path: of the file, "" for standard output.
        form: "yaml", "json", or "" for what the name says.
    """
    ending = os.path.splitext(path)[1]
    by_name = {".json": "json", ".yaml": "yaml", ".yml": "yaml"}.get(ending, "")
    form = form or by_name or "yaml"
    if not path or ending in (".json", ".yaml", ".yml"):
        return path, form
    return f"{path}.{form}", form


def write_file(path: str, text: str) -> bool:
    """Write a CDI file in one step, for everybody to read; return whether it was needed.

    Several may write the same file at once: one after the other does, and the last one holds.

    Raises:
        ConfigError: it cannot be written; the old file is as it was.
    """
    path = resolved(path)
    try:
        _make_directory(os.path.dirname(path))
        is_new = _replace(path, text.encode())
        if os.stat(path).st_mode & 0o777 != 0o644:  # engines of ordinary users read it, too
            os.chmod(path, 0o644)
    except OSError as error:
        why = (error.strerror or "").lower()
        raise ConfigError(
            f"{shown(path)}: cannot write: {why}", errno=error.errno or 0, path=path, step="write"
        ) from None
    return is_new


def _replace(path: str, data: bytes) -> bool:
    while True:
        before = read_file(path)
        try:
            return bool(commit([Change(path=path, before=before, after=data)]))
        except ConfigError:
            if read_file(path) == before:
                raise


def _make_directory(path: str) -> None:
    if path and not os.path.isdir(path):
        _make_directory(os.path.dirname(path))
        try:
            os.mkdir(path)
        except FileExistsError:
            return
        os.chmod(path, 0o755)  # noqa: S103 (engines of ordinary users look into it)
