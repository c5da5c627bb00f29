# SPDX-License-Identifier: Apache-2.0
"""The quick reader of configuration files never differs from `tomllib`."""

from __future__ import annotations

import tomllib

from hypothesis import example, given
from hypothesis import strategies as st

from libnvc._config.plain import parse

PIECES = (
    *("[", "]", "[[", "]]", ".", ",", "=", " = ", '"', "'", '"""', "'''", "#", "\n", " ", "\t"),
    *(
        "a",
        "b",
        "a.b",
        "a-b_0",
        "true",
        "false",
        "truest",
        "0",
        "1",
        "01",
        "-1",
        "+1",
        "1_0",
        "1.5",
    ),
    *("1e3", "0x1", "inf", "1979-05-27", "07:32:00", "\\n", "\\", "{", "}", "ä", "\r", "\r\n"),
    *("\0", "\x7f", "9" * 19, '["x"]', "['x', \n# c\n \"y\",]", '"x"', "[a]\n", "[a.b]\n", "a=1\n"),
)
blanks = st.sampled_from(["", " ", "\t", "  "])
comments = st.sampled_from(["", "#", '# a "comment" [with] = all'])
plain_text = st.text(st.sampled_from("ab01-_ .=#[],\t/@{}"), max_size=6)
strings = st.one_of(plain_text.map('"{}"'.format), plain_text.map("'{}'".format))
bare = st.text(st.sampled_from("abAB01-_"), min_size=1, max_size=3)
lists = st.builds(
    lambda items, gap, end: f"[{gap}{f',{gap}'.join(items)}{end if items else ''}{gap}]",
    st.lists(strings, max_size=3),
    st.sampled_from(["", " ", "\n", " # c\n\t"]),
    st.sampled_from(["", ",", " ,"]),
)
values = st.one_of(strings, lists, st.sampled_from(["true", "false", "0", "7", "120"]))
tables = st.dictionaries(bare, values, max_size=4)


@st.composite
def documents(draw: st.DrawFn) -> str:
    """Plain documents as people write them: no name twice."""
    sections = draw(st.lists(st.tuples(bare, tables), max_size=3, unique_by=lambda x: x[0]))
    lines = []
    for name, table in [("", draw(tables)), *sections]:
        if name:
            inner = draw(st.sampled_from(["", ".inner", ' . "in.ner"', ".'x'.y"]))
            lines.append(f"[{draw(blanks)}T{name}{inner}{draw(blanks)}]")
        lines += [f"{key}{draw(blanks)}={draw(blanks)}{value}" for key, value in table.items()]
    return "\n".join(f"{draw(blanks)}{line}{draw(blanks)}{draw(comments)}" for line in lines)


def check(text: str) -> None:
    found = parse(text)
    if found is not None:
        assert repr(found) == repr(tomllib.loads(text))  # True == 1, but not in a repr


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
@example("[a.b]\n[a]\nb=1")
@example("[a]\nb=1\n[a.b]")
@example("[a]\n[a.b]\n[a]")
@example("[a.b]\n[a]\nc=1")
@example('a=""""""')
@example('a=""" """')
@example('a="\n"')
@example("a=1979-05-27 07:32:00")
@example("a=0 1")
@example("a=[,]")
@example("a=['x',,]")
@example("a=['x' 'y']")
@example("a=['x'")
@example("a=1 # \x7f")
@example("[[a]]\n")
@example("a")
@example("[a")
@example('"a.b"=1\na.b=2')
def test_fragments(text: str) -> None:
    check(text)


@given(st.text())
def test_any_text(text: str) -> None:
    check(text)


@given(documents())
def test_plain_documents_are_read(text: str) -> None:
    assert parse(text) is not None
    check(text)


@given(documents(), st.data())
def test_one_character_away_from_plain(text: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(text)))
    check(
        text[:at] + data.draw(st.sampled_from(PIECES)) + text[at + data.draw(st.integers(0, 1)) :]
    )
