# SPDX-License-Identifier: Apache-2.0
"""Why what is kept is not used, in words."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from libnvc import _build, _kept, _kept_state
from libnvc._discover.root import digest
from libnvc._kept_state import objection
from libnvc.model import Identity

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def identity(path: Path) -> Identity:
    found = path.lstat()
    return Identity(
        path=str(path),
        dev=found.st_dev,
        ino=found.st_ino,
        size=found.st_size,
        mtime_ns=found.st_mtime_ns,
        ctime_ns=found.st_ctime_ns,
    )


def content(path: Path, data: bytes) -> Identity:
    return identity(path).replace(digest=digest(data))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory with what a kept result rests on; it is kept in another."""
    run = tmp_path / "run"
    for module in (_kept, _kept_state):
        monkeypatch.setattr(module, "PLANS", f"{run}/plans")
    monkeypatch.setattr(_kept, "DIRECTORY", str(run))
    monkeypatch.setattr(_kept, "_TICK_NS", 0)
    host = tmp_path / "host"
    (host / "names").mkdir(parents=True)
    for name in ("file", "text", "names/a"):
        (host / name).write_text(name)
    missing = Identity(path=f"{host}/new", dev=0, ino=0, size=0, mtime_ns=0, ctime_ns=0)
    rests_on = [
        identity(host / "file"),
        missing,
        content(host / "text", b"text"),
        content(host / "names", b"a"),
    ]
    assert _kept.keep(b"the key", rests_on, b"a result")
    return host


def said() -> str:
    (entry,) = _kept.entries()
    return objection(entry)


def test_nothing_changed(host: Path) -> None:
    assert said() == ""
    (host / "other").touch()
    assert said() == ""


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda host: (host / "file").unlink(), "file: is gone"),
        (lambda host: (host / "file").write_text("longer"), "file: other size"),
        (lambda host: (host / "file").chmod(0o600), "file: other change time"),
        (lambda host: os.utime(host / "file", ns=(0, 1)), "file: other modification time"),
        (lambda host: (host / "new").touch(), "new: is there now"),
        (lambda host: (host / "text").write_text("TEXT"), "text: other content"),
        (lambda host: (host / "text").chmod(0o600), "text: other mode"),
        (lambda host: (host / "text").unlink(), "text: is gone"),
        (lambda host: (host / "names/b").touch(), "names: other names in it"),
    ],
)
def test_a_change_is_named(host: Path, change: Callable[[Path], object], why: str) -> None:
    change(host)
    assert said() == f"{host}/{why}"


def test_a_file_that_is_another(host: Path) -> None:
    (entry,) = _kept.entries()
    path = host.parent / "run/plans" / entry.name
    path.rename(path.with_name("0" * 16))
    assert said() == "has the name of another"


def test_another_version(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_build, "VERSION", "0.0.0")
    assert said() == "of another version"


def test_damage(host: Path) -> None:
    (entry,) = _kept.entries()
    path = host.parent / "run/plans" / entry.name
    text = path.read_bytes()
    for size in range(len(text)):
        path.write_bytes(text[:size])
        assert said() == "damaged"
