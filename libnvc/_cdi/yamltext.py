# SPDX-License-Identifier: Apache-2.0
"""Read YAML as far as CDI files need it: no tags, and no more than a bounded number of values.

Plain words stay text: what is a number and what a name is for those to say who know which of them
is expected. (To YAML 1.1 the device names 0:1 and no are a number and a truth value.)
"""

from __future__ import annotations

import yaml

from ..errors import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, NoReturn

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_VALUES = 100_000  # with those that anchors repeat
_MAX_DEPTH = 50
_NULL = ("", "~", "null", "Null", "NULL")
_TAG = "tag:yaml.org,2002:"
_TAGS = {
    yaml.ScalarEvent: (f"{_TAG}str", f"{_TAG}int", f"{_TAG}bool", f"{_TAG}null"),
    yaml.SequenceStartEvent: (f"{_TAG}seq",),
    yaml.MappingStartEvent: (f"{_TAG}map",),
}


class Plain(str):
    """A word without quotes: text, a number, true or false."""

    __slots__ = ()


def parse(data: bytes) -> dict[str, Any]:
    """Return the one mapping of a document; plain words in it are `Plain`, or None for null.

    Raises:
        ValueError: it is not UTF-8, not YAML, no mapping, has a key twice or a key that is no text,
            more than one document, a tag, or too many values; the line is named.
    """
    try:
        value = _Reader(yaml.parse(data.decode(), Loader=_LOADER)).document()
    except yaml.YAMLError as error:
        raise ValueError(_reason(error)) from None
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


class _Reader:
    """Builds values from events: what the library builds by itself knows no limits."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self._values = 0
        self._anchors: dict[str, tuple[Any, int]] = {}

    def document(self) -> Any:
        next(self._events)  # the stream
        if isinstance(next(self._events), yaml.StreamEndEvent):
            raise ValueError("empty")
        value = self._value(next(self._events), 0)
        next(self._events)  # the document's end
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            _fail(event, "more than one document")
        return value

    def _value(self, event: Any, depth: int) -> Any:
        before = self._values
        self._count(event, 1)
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                _fail(event, f"{shown(str(event.anchor))} is not an anchor before here")
            value, count = self._anchors[event.anchor]
            self._count(event, count)
            return value
        if event.tag not in (None, "!", *_TAGS[type(event)]):
            _fail(event, f"the tag {shown(event.tag)} has no meaning here")
        if depth == _MAX_DEPTH:
            _fail(event, "nested too deeply")
        value = self._read(event, depth + 1)
        if event.anchor:
            self._anchors[event.anchor] = value, self._values - before
        return value

    def _read(self, event: Any, depth: int) -> Any:
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event)
        if isinstance(event, yaml.SequenceStartEvent):
            return [self._value(item, depth) for item in self._until(yaml.SequenceEndEvent)]
        members: dict[str, Any] = {}
        for key in self._until(yaml.MappingEndEvent):
            name = self._value(key, depth)
            if not isinstance(name, str):
                _fail(key, "the key is not text")
            if name in members:
                _fail(key, f"{shown(name)} is given twice")
            members[str(name)] = self._value(next(self._events), depth)
        return members

    def _until(self, end: type) -> Iterator[Any]:
        while not isinstance(event := next(self._events), end):
            yield event

    def _count(self, event: Any, count: int) -> None:
        self._values += count
        if self._values > _MAX_VALUES:
            _fail(event, f"more than {_MAX_VALUES} values")


def _scalar(event: Any) -> Any:
    text: str = event.value
    is_quoted = event.style in ("'", '"', "|", ">") and event.tag in (None, "!")
    if is_quoted or event.tag == f"{_TAG}str":
        return text
    return None if text in _NULL else Plain(text)


def _fail(event: Any, why: str) -> NoReturn:
    mark = event.start_mark
    raise ValueError(f"{why} (line {mark.line + 1}, column {mark.column + 1})")


def _reason(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    why = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
    place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
    return f"{shown(str(why))}{place}"
