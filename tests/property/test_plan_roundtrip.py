# SPDX-License-Identifier: Apache-2.0
"""Any plan survives its JSON form unchanged, and any text is read or refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import libnvc
from libnvc import plan as ops
from libnvc._render.text import plan_to_text
from libnvc.model import Identity

if TYPE_CHECKING:
    from libnvc._record import Record

# Paths may hold any byte but NUL: surrogates stand for what is not UTF-8.
TEXT = st.text(st.characters(codec=None))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "str": TEXT,
    "int": st.integers(-(2**63), 2**64),
    "bool": st.booleans(),
    "bytes": st.binary(),
    "tuple[str, ...]": st.lists(TEXT, max_size=3).map(tuple),
    "tuple[tuple[str, str, int], ...]": st.lists(
        st.tuples(TEXT, TEXT, st.integers(-(2**63), 2**64)), max_size=3
    ).map(tuple),
}


def records(cls: type[Record]) -> st.SearchStrategy[Any]:
    """Return records of a class, each field drawn by its annotation."""
    types = {
        name: kind
        for base in cls.__mro__[::-1]
        for name, kind in getattr(base, "__annotations__", {}).items()
        if name in cls._fields
    }
    assert set(types) == set(cls._fields)
    return st.builds(cls, **{name: VALUES[kind] for name, kind in types.items()})


PLANS = st.builds(
    ops.Plan,
    operations=st.lists(st.one_of(*map(records, ops.KINDS.values())), max_size=6).map(tuple),
    warnings=VALUES["tuple[str, ...]"],
    dependencies=st.lists(records(Identity), max_size=3).map(tuple),
    driver_version=TEXT,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(PLANS)
def test_round_trip(plan: ops.Plan) -> None:
    text = plan.to_json()
    assert text.isascii()
    again = ops.Plan.from_json(text)
    assert again == plan
    assert again.to_json() == text


@given(st.text() | JSON.map(json.dumps))
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(libnvc.MalformedFileError) as failure:
        ops.Plan.from_json(text)
    assert len(str(failure.value).splitlines()) == 1


@given(PLANS, st.data())
def test_changed_plan_is_read_or_refused(plan: ops.Plan, data: st.DataObject) -> None:
    """Replacing any part by any JSON value raises nothing but MalformedFileError."""
    tree = json.loads(plan.to_json())
    node: Any = tree
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = data.draw(st.sampled_from(keys))
        if isinstance(node[key], dict | list) and node[key] and data.draw(st.booleans()):
            node = node[key]
        else:
            break
    node[key] = data.draw(JSON)
    try:
        changed = ops.Plan.from_json(json.dumps(tree))
    except libnvc.MalformedFileError:
        return
    assert ops.Plan.from_json(changed.to_json()) == changed


@given(PLANS)
def test_text_has_one_line_per_operation(plan: ops.Plan) -> None:
    lines = plan_to_text(plan).splitlines()
    blank = 1 if plan.warnings else 0
    assert len(lines) == 3 + len(plan.operations) + blank + len(plan.warnings)
