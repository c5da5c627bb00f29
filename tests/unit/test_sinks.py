# SPDX-License-Identifier: Apache-2.0
"""Each kind of operation and each sink: the sink takes it, or refuses it by name."""

from __future__ import annotations

import pytest

from libnvc import RequestError, plan_to_text
from libnvc import plan as ops
from libnvc._native.flat import encode
from libnvc._render.cdi import HookProgram, cdi_edits
from libnvc._render.oci import edit_oci

EXAMPLES: dict[str, ops.Operation] = {
    "Tmpfs": ops.Tmpfs(origin="o", path="/a"),
    "Directory": ops.Directory(origin="o", path="/a"),
    "WriteFile": ops.WriteFile(origin="o", path="/a", content=b"c"),
    "BindMount": ops.BindMount(origin="o", path="/a", source="/b"),
    "DeviceNode": ops.DeviceNode(origin="o", path="/a", major=1, minor=3),
    "DeviceAccess": ops.DeviceAccess(origin="o", path="", major=1, minor=3),
    "Symlink": ops.Symlink(origin="o", path="/a", target="b"),
    "LoaderCache": ops.LoaderCache(
        origin="o", path="/a", libraries=(("libc.so.1", "/b/libc.so.1", 64),), directories=("/b",)
    ),
    "Env": ops.Env(origin="o", path="", name="N", value="v"),
    "Group": ops.Group(origin="o", path="", gid=1),
}
REFUSED_BY_APPLY = {"Env", "Group"}
#: What CDI has no word for; a directory that a hook makes, and what is in it, is another matter.
REFUSED_BY_CDI = {"Tmpfs", "Directory", "WriteFile", "DeviceAccess", "LoaderCache"}
IN_A_DOCUMENT = {"DeviceNode", "DeviceAccess", "Env", "Group"}


@pytest.mark.parametrize("kind", ops.KINDS)
def test_apply_takes_or_refuses_by_name(kind: str) -> None:
    plan = ops.Plan(operations=(EXAMPLES[kind],))
    if kind not in REFUSED_BY_APPLY:
        assert encode(plan).startswith(b"nvcplan\0")
        return
    with pytest.raises(RequestError) as caught:
        encode(plan)
    assert str(caught.value) == (
        f"{kind} (o): cannot be applied to a process that exists; "
        "it belongs into the container's configuration"
    )
    assert (caught.value.operation, caught.value.origin) == (0, "o")


@pytest.mark.parametrize("kind", ops.KINDS)
def test_a_document_takes_it_or_leaves_it_for_the_hook(kind: str) -> None:
    plan = ops.Plan(operations=(EXAMPLES[kind],))
    document, left = edit_oci({}, plan)
    if kind in IN_A_DOCUMENT:
        assert document != {}
        assert left.operations == ()
    else:
        assert document == {}
        assert left == plan
        assert encode(left).startswith(b"nvcplan\0")


@pytest.mark.parametrize("kind", ops.KINDS)
def test_cdi_takes_or_refuses_by_name(kind: str) -> None:
    plan = ops.Plan(operations=(EXAMPLES[kind],))
    if kind not in REFUSED_BY_CDI:
        assert cdi_edits(plan, HookProgram()) != {}
        return
    with pytest.raises(RequestError) as caught:
        cdi_edits(plan, HookProgram())
    assert str(caught.value) == f"{kind} (o): cannot be said in a CDI file"


@pytest.mark.parametrize("kind", ops.KINDS)
def test_text_and_json_take_every_kind(kind: str) -> None:
    plan = ops.Plan(operations=(EXAMPLES[kind],))
    assert plan_to_text(plan) != plan_to_text(ops.Plan(operations=()))
    assert ops.Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    "operation",
    [
        ops.BindMount(origin="o", path="/a", source="/b", options=("rw",)),
        ops.BindMount(origin="o", path="/a", source="/b", file_type="pipe"),
        ops.DeviceAccess(origin="o", path="", major=1, minor=3, access="x"),
    ],
)
def test_an_unknown_word_is_refused(operation: ops.Operation) -> None:
    with pytest.raises(RequestError, match=f"is not an option of {type(operation).__name__}$"):
        encode(ops.Plan(operations=(operation,)))
