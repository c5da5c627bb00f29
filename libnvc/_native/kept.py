# SPDX-License-Identifier: Apache-2.0
"""What the launcher does with a kept plan, done by the same code (csrc/nvc_kept.h)."""

from __future__ import annotations

import os

from libnvc._core import ffi, lib

from .._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


class Edit(Record):
    """What is put into a container's configuration.

    Attributes:
        nodes, rules: elements of lists, as JSON with commas between.
        node_paths: of the nodes.
        majors: of the rules, in decimal.
        hook_head, hook_tail: the JSON of a hook before and behind its two strings for one
            container: where its plan is, and its root. Without a plan both together are the hook.
    """

    nodes: bytes
    rules: bytes
    node_paths: tuple[str, ...]
    majors: tuple[str, ...]
    hook_head: bytes
    hook_tail: bytes


class Document:
    """The configuration of a container, which is plain enough for the launcher."""

    def __init__(self, text: bytes) -> None:
        """Take the text.

        Raises:
            ValueError: it is not plain.
        """
        self._text = ffi.from_buffer(text)
        self._document = ffi.new("struct nvc_document *")
        if not lib.nvc_document_read(self._text, len(text), self._document):
            raise ValueError("not plain")

    def key(self, header: bytes, asks: Sequence[str], rootfs: str) -> bytes:
        """Return all that a plan for this container rests on beside the host.

        Args:
            header: what the caller adds.
            asks: strings that mark what of the document asks for GPUs.
            rootfs: path of the container's root on the host.

        Raises:
            ValueError: something of it is not plain.
        """
        words, root = strings(asks), os.fsencode(rootfs)
        at = [ffi.from_buffer(data) for data in (header, words)]
        out = ffi.new("struct nvc_bytes *")
        good = lib.nvc_kept_key(
            self._document, (at[0], len(header)), (at[1], len(words)), root, out
        )
        return _take(good, out)

    def edit(self, edit: Edit, plan: str, rootfs: str) -> bytes:
        """Return the configuration with an edit.

        Args:
            edit: what is put into it.
            plan: where the plan of its hook is, which runs first at createRuntime; "": it has none,
                and runs last at prestart.
            rootfs: the container's root.

        Raises:
            ValueError: that cannot be done by inserting text.
        """
        texts = {
            name: strings(value) if isinstance(value, tuple) else value
            for name, value in edit.__iter_fields__()
        }
        held: dict[str, Any] = {name: ffi.from_buffer(text) for name, text in texts.items()}
        paths = [ffi.new("char[]", os.fsencode(path)) for path in (plan, rootfs)]
        given = ffi.new("struct nvc_edit *", {"rootfs": paths[1]})
        if plan:
            given.plan = paths[0]
        for name, at in held.items():
            part = getattr(given, name)
            part.at = at
            if name in ("node_paths", "majors"):
                part.len = len(texts[name])
            else:
                part.end = at + len(texts[name])
        out = ffi.new("struct nvc_bytes *")
        return _take(lib.nvc_kept_edit(self._document, given, out), out)


def image_key(rootfs: str) -> bytes:
    """Return what of an image decides what a container is given.

    Args:
        rootfs: path of the container's root on the host.

    Raises:
        ValueError: something of it is not plain.
    """
    out = ffi.new("struct nvc_bytes *")
    return _take(lib.nvc_kept_image(os.fsencode(rootfs), out), out)


def hook_key(rootfs: str, hook: str) -> bytes:
    """Return what of a container's root decides what a hook of a CDI file does there.

    Args:
        rootfs: the container's root, by its path on the host.
        hook: its name.

    Raises:
        ValueError: nothing is kept for it, or something of it is not plain.
    """
    out = ffi.new("struct nvc_bytes *")
    return _take(lib.nvc_kept_hook(os.fsencode(rootfs), hook.encode(), out), out)


def strings(texts: Sequence[str]) -> bytes:
    """Return strings with a NUL behind each."""
    return b"".join(os.fsencode(text) + b"\0" for text in texts)


def kept_hash(data: bytes) -> int:
    """Return the 64 bits that tell damage and name files: as csrc/nvc_kept.h has them."""
    return int(lib.nvc_kept_hash(data, len(data)))


def _take(good: bool, out: Any) -> bytes:
    if not good:
        raise ValueError("not plain")
    try:
        return bytes(ffi.buffer(out.data, out.len))
    finally:
        lib.nvc_bytes_free(out)
