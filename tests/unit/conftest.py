# SPDX-License-Identifier: Apache-2.0
"""Driver roots made by hand, and bundles as `nvidia-container-runtime create` gets them.

The roots have a few libraries, a loader cache, and a kernel module's version file.
"""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import jsonschema
import pytest
import referencing
from libnvc.cli import ctk
from libnvc.cli.container_common import CommandError
from libnvc.cli.runtime_args import Call
from libnvc.cli.runtime_create import create
from libnvc.cli.runtime_errors import describe
from libnvc.cli.runtime_front import Origin
from libnvc.cli.runtime_log import RuntimeLog
from referencing.jsonschema import DRAFT7

import libnvc
from libnvc._config.settings import Config, load_config

if TYPE_CHECKING:
    from collections.abc import Callable

VERSION = "535.261.03"
ORIGIN = Origin(
    program="/opt/nvc/bin/nvidia-container-runtime",
    name="nvidia-container-runtime",
    config="",
    environment={},
    container="c1",
)
CDI_SCHEMAS = Path(__file__).parent.parent / "data/schemas/cdi"
ELF32 = {3, 40}  # e_machine of i386 and ARM


@pytest.fixture(scope="session")
def validate_cdi() -> Callable[[object], None]:
    """Check a document by the schema of CDI."""
    files = {
        name: json.loads((CDI_SCHEMAS / name).read_text()) for name in ("schema.json", "defs.json")
    }
    defs = DRAFT7.create_resource(files["defs.json"])
    registry: Any = referencing.Registry().with_resource("defs.json", defs)
    validator = jsonschema.Draft7Validator(files["schema.json"], registry=registry)

    def check(document: object) -> None:
        validator.validate(document)

    return check


@pytest.fixture
def tree(tmp_path: Path, dgx_a100: Path) -> Path:
    """Return an own copy of a simulated DGX A100."""
    subprocess.run(["cp", "-a", dgx_a100, tmp_path / "driver"], check=True)
    return tmp_path / "driver"


@pytest.fixture(scope="session")
def write_cache() -> Callable[..., None]:
    """Write a loader cache of SONAME, path and flags, in this order."""

    def write(root: Path, *entries: tuple[str, str, int]) -> None:
        table, strings = b"", b""
        start = 48 + 24 * len(entries)
        for soname, path, flags in entries:
            key = start + len(strings)
            strings += soname.encode() + b"\0"
            value = start + len(strings)
            strings += path.encode() + b"\0"
            table += struct.pack("=iIIIQ", flags, key, value, 0, 0)
        head = b"glibc-ld.so.cache1.1" + struct.pack("=II5I", len(entries), len(strings), *[0] * 5)
        (root / "etc").mkdir(parents=True, exist_ok=True)
        (root / "etc/ld.so.cache").write_bytes(head + table + strings)

    return write


@pytest.fixture(scope="session")
def plant() -> Callable[..., str]:
    """Put libraries of a driver into a directory, with links by SONAME; return the first's path.

    An existing directory is added to.
    """

    def put(
        root: Path, directory: str, *names: str, version: str = VERSION, machine: int = 62
    ) -> str:
        place = root / directory.lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        for name in names:
            content = shared_object(machine, f"{name}.1")
            (place / f"{name}.{version}").write_bytes(content)
            link = place / f"{name}.1"
            if not link.is_symlink():
                link.symlink_to(f"{name}.{version}")
        return f"{directory}/{names[0]}.{version}"

    return put


@pytest.fixture
def show_module(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let a root show a loaded kernel module; the machine is an x86-64 then, as `plant` has it."""
    this = os.uname()
    x86_64 = os.uname_result((this.sysname, this.nodename, this.release, this.version, "x86_64"))
    monkeypatch.setattr(os, "uname", lambda: x86_64)

    def show(root: Path, version: str = VERSION) -> None:
        directory = root / "proc/driver/nvidia"
        directory.mkdir(parents=True, exist_ok=True)
        line = f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}  Tue Jun 24\n"
        (directory / "version").write_text(line)

    return show


def shared_object(machine: int, soname: str) -> bytes:
    """Return a little-endian shared object of the class that the machine has: DT_SONAME alone."""
    wide = machine not in ELF32
    word, header_size, segment_size = ("Q", 64, 56) if wide else ("I", 52, 32)
    names = (b"\0" + soname.encode() + b"\0").ljust(64, b"\0")
    start = header_size + 2 * segment_size
    place = start + len(names)
    dynamic = struct.pack(f"<8{word}", 14, 1, 5, start, 10, len(names), 0, 0)
    segments = b""
    for kind, offset, size in ((1, 0, place + len(dynamic)), (2, place, len(dynamic))):
        numbers = (offset, offset, offset, size, size)
        fields = (kind, 4, *numbers, 8) if wide else (kind, *numbers, 4, 8)
        segments += struct.pack("<2I6Q" if wide else "<8I", *fields)
    magic = (b"\x7fELF" + bytes([1 + wide, 1, 1])).ljust(16, b"\0")
    head = (3, machine, 1, 0, header_size, 0, 0, header_size, segment_size, 2, 0, 0, 0)
    return struct.pack(f"<16sHHI3{word}I6H", magic, *head) + segments + names + dynamic


@pytest.fixture
def config(
    tmp_path: Path, dgx_a100: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Config]:
    """Return a reader of configurations for the simulated driver."""
    monkeypatch.setenv("PATH", "/usr/sbin:/usr/bin")

    def load(runtime: str = "", top: str = "") -> Config:
        path = tmp_path / "config.toml"
        cli = f'[nvidia-container-cli]\nroot = "{dgx_a100}"\nload-kmods = false\n'
        path.write_text(f"cache = false\n{top}\n{cli}[nvidia-container-runtime]\n{runtime}\n")
        return load_config(str(path), required=True)

    return load


class Bundle:
    def __init__(self, directory: Path) -> None:
        self.path = directory / "bundle"
        self.file = self.path / "config.json"
        self.plan = self.path / "nvidia-container.plan"
        self.log = directory / "log"
        (self.path / "rootfs").mkdir(parents=True)

    def write(self, *env: str, **members: Any) -> str:
        document = {"ociVersion": "1.0.2", "process": {"env": ["PATH=/bin", *env]}, **members}
        document.setdefault("root", {"path": "rootfs"})
        text = json.dumps(document, indent=3)
        self.file.write_text(text)
        return text

    def read(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.file.read_text())
        return document

    def create(self, config: Config) -> dict[str, Any]:
        call = Call(is_create=True, bundle=str(self.path), container="c1")
        with RuntimeLog([(str(self.log), False)], "info") as log:
            create(config, call, ORIGIN, log)
        return self.read()

    def refuses(self, config: Config) -> str:
        before = self.file.read_bytes() if self.file.exists() else None
        with pytest.raises((CommandError, libnvc.NvcError)) as caught:
            self.create(config)
        assert (self.file.read_bytes() if self.file.exists() else None) == before
        assert not self.plan.exists()
        return describe(caught.value)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle(tmp_path)


class CtkDone(NamedTuple):
    """What a call of `nvidia-ctk` did.

    Attributes:
        status: exit status.
        out: standard output.
        err: standard error.
    """

    status: int
    out: str
    err: str

    @property
    def messages(self) -> list[str]:
        """Lines of the log: level and message."""
        found = re.findall(r'^time="[^"]*" level=(\w+) msg=(".*")$', self.err, re.MULTILINE)
        return [f"{level} {json.loads(text)}" for level, text in found]


class Ctk(Protocol):
    """Run `nvidia-ctk` in this process."""

    def __call__(self, *words: str | Path) -> CtkDone: ...


@pytest.fixture
def run_ctk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Ctk:
    """Give what runs `nvidia-ctk`; backups go into `state` of the test's directory."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("NVIDIA_CTK_CONFIG", "NVIDIA_CTK_CONFIG_FILE_PATH", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: str | Path) -> CtkDone:
        capfd.readouterr()
        status = ctk.main(["nvidia-ctk", *map(str, words)])
        return CtkDone(status, *capfd.readouterr())

    return run
