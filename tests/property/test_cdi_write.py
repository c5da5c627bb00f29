# SPDX-License-Identifier: Apache-2.0
"""What is written as a CDI file is read as the same by others' parsers."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
import yaml
from hypothesis import example, given

from libnvc._cdi.options import Options, option_words, read_stamp, stamp
from libnvc._cdi.write import to_text
from libnvc._cdi.yamltext import parse

#: All that YAML can hold: UTF-8 without most control characters is its own affair, we escape them.
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
WORDS = st.sampled_from(
    [
        *("0", "0:1", "1:20:30", "no", "Yes", "~", "null", "1e3", ".5", ".inf", "0x1f", "017", "-"),
        *("---", "--link", "a: b", "a #b", "a:", "- a", "=", "<<", "2026-11-25", "0.5.0", "1.5"),
        *("!x", "&x", "*x", "@x", "`x", "%x", "{}", "[]", "\u2028", "\x85", "\ufeff", "\x7f"),
    ]
)
#: A list in a list is in no CDI file.
LISTS = st.lists(TEXT | WORDS | st.dictionaries(TEXT, TEXT | WORDS))
DOCUMENTS = st.dictionaries(
    TEXT | WORDS,
    TEXT | WORDS | st.integers(0, 1 << 63) | LISTS | st.dictionaries(TEXT, LISTS),
    min_size=1,
)


def texts(value: Any) -> Any:
    """Return a value as our own reader has it: plain words stay text."""
    if isinstance(value, dict):
        return {str(key): texts(item) for key, item in value.items()}
    if isinstance(value, list):
        return [texts(item) for item in value]
    return str(value)


@given(DOCUMENTS)
@example({"a": ["\u2028", "\x85", "\ufeff"]})
def test_yaml(document: dict[str, Any]) -> None:
    text = to_text(document, "yaml", ("a comment",))
    assert yaml.safe_load(text) == document
    assert texts(parse(text.encode())) == texts(document)


@given(DOCUMENTS)
def test_json(document: dict[str, Any]) -> None:
    text = to_text(document, "json")
    assert json.loads(text) == document
    assert text.count("\n") == 1


@given(TEXT, st.tuples(TEXT), st.booleans())
def test_stamps(root: str, devices: tuple[str, ...], flag: bool) -> None:
    """What somebody calls a directory cannot become a part of the document."""
    options = Options(driver_root=root, device_id=devices, no_all_device=flag)
    lines = stamp(options, "1.2")
    text = to_text({"kind": "a"}, "yaml", lines)
    assert yaml.safe_load(text) == {"kind": "a"}
    if lines:
        assert read_stamp(text) == (option_words(options), "1.2")
