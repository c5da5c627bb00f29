# SPDX-License-Identifier: Apache-2.0
"""Bad input: the reference's one line, exit status 1, and nothing changed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import libnvc
from libnvc.testing import NamespaceContainer, mounts, tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.root


@pytest.fixture
def sandbox(rootfs: Path) -> Iterator[NamespaceContainer]:
    """Give a container that has not started yet, as a runtime's hook finds it."""
    with NamespaceContainer(rootfs) as container:
        yield container


@pytest.fixture
def own_sim(tmp_path: Path, dgx_a100: Path) -> Path:
    """Copy the simulated driver, to be broken."""
    copy = tmp_path / "sim"
    subprocess.run(["cp", "-a", dgx_a100, copy], check=True)
    return copy


@pytest.fixture
def refused(
    sandbox: NamespaceContainer, container_cli: Callable[..., subprocess.CompletedProcess[str]]
) -> Callable[..., str]:
    """Give a function that runs `configure`, expects it to refuse, and returns its message.

    It is one line; a hint follows where that line must have the words of the reference.

    Neither the container's files and mounts nor the host's mounts may have changed by it.
    """

    def run(
        sim: Path,
        *,
        device: str = "0",
        pid: int = sandbox.pid,
        rootfs: str = "",
        hint: bool = False,
    ) -> str:
        before = tree(sandbox.rootfs), mounts(sandbox.pid), mounts()
        done = container_cli(
            f"--root={sim}",
            "configure",
            f"--device={device}",
            "--utility",
            "--compute",
            "--no-cgroups",
            f"--pid={pid}",
            rootfs or str(sandbox.rootfs),
        )
        assert (done.returncode, done.stdout) == (1, "")
        line, *hints = done.stderr.splitlines()
        assert all(text.startswith("nvidia-container-cli: hint: ") for text in hints)
        assert len(hints) == hint
        assert (tree(sandbox.rootfs), mounts(sandbox.pid), mounts()) == before
        prefix, _, message = line.partition(": ")
        assert prefix == "nvidia-container-cli"
        return message

    return run


def test_the_sandbox_itself_is_good(
    sandbox: NamespaceContainer,
    dgx_a100: Path,
    container_cli: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """Otherwise every refusal below would prove nothing."""
    done = container_cli(
        f"--root={dgx_a100}",
        "configure",
        "--device=0",
        "--utility",
        "--no-cgroups",
        f"--pid={sandbox.pid}",
        str(sandbox.rootfs),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    inside = {mount.path for mount in mounts(sandbox.pid)}
    assert f"{sandbox.rootfs}/usr/bin/nvidia-smi" in inside


@pytest.mark.parametrize(
    "device",
    ["8", "GPU-00000000-0000-0000-0000-000000000000", "0000:ff:00.0", "none", "-1", "0,8", "a b"],
)
def test_unknown_device(refused: Callable[..., str], dgx_a100: Path, device: str) -> None:
    unknown = device.rpartition(",")[2]
    assert refused(dgx_a100, device=device, hint=True) == f"device error: {unknown}: unknown device"


@pytest.mark.parametrize("directory", ["relative/rootfs", "/", "."])
def test_rootfs_that_cannot_be_one(
    refused: Callable[..., str], dgx_a100: Path, directory: str
) -> None:
    assert refused(dgx_a100, rootfs=directory) == "input error: invalid rootfs directory"


def test_rootfs_that_is_missing(
    refused: Callable[..., str], dgx_a100: Path, sandbox: NamespaceContainer
) -> None:
    assert refused(dgx_a100, rootfs="/no/such") == (
        f"container error: open failed: /proc/{sandbox.pid}/root/no/such: no such file or directory"
    )


def test_rootfs_with_a_newline(refused: Callable[..., str], dgx_a100: Path) -> None:
    """The message stays one line, so that logs cannot be forged."""
    assert refused(dgx_a100, rootfs="/no\nsuch") == (
        "input error: invalid rootfs directory: newline in the path: /no\\nsuch"
    )


def test_newline_in_a_device(refused: Callable[..., str], dgx_a100: Path) -> None:
    assert refused(dgx_a100, device="0\n1", hint=True) == "device error: 0\\n1: unknown device"


def test_nul_in_a_path(sandbox: NamespaceContainer, dgx_a100: Path) -> None:
    """Only the API can be asked this: an argument vector has no NUL."""
    before = tree(sandbox.rootfs), mounts(sandbox.pid)
    request = libnvc.Request(devices=("0",), capabilities=("utility",), device_rules=False)
    plan = libnvc.make_plan(libnvc.discover(str(dgx_a100)), request)
    with pytest.raises(libnvc.NvcError, match="NUL"):
        libnvc.apply(plan, libnvc.Target(pid=sandbox.pid, rootfs=f"{sandbox.rootfs}\0/x"))
    with pytest.raises(libnvc.NvcError, match="NUL"):
        libnvc.discover(f"{dgx_a100}\0")
    assert (tree(sandbox.rootfs), mounts(sandbox.pid)) == before


def test_pid_that_does_not_exist(refused: Callable[..., str], dgx_a100: Path) -> None:
    pid = int(Path("/proc/sys/kernel/pid_max").read_text()) + 1
    assert refused(dgx_a100, pid=pid) == (
        f"container error: stat failed: /proc/{pid}: no such file or directory"
    )


@pytest.mark.parametrize("exists", [True, False])
def test_no_driver_under_the_root(
    refused: Callable[..., str], tmp_path: Path, exists: bool
) -> None:
    root = tmp_path / "bare"
    if exists:
        (root / "etc").mkdir(parents=True)
    message = refused(root, hint=True)
    assert message == (
        "initialization error: load library failed: libnvidia-ml.so.1: "
        "cannot open shared object file: no such file or directory"
    )


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 48, b"glibc-ld.so.cache1.1" + b"\xff" * 4096, b"ld.so-1.7.0\0\xff"]
)
def test_corrupt_loader_cache(refused: Callable[..., str], own_sim: Path, content: bytes) -> None:
    (own_sim / "etc/ld.so.cache").write_bytes(content)
    assert refused(own_sim, hint=True) == (
        f"detection error: unsupported file format: {own_sim}/etc/ld.so.cache"
    )


def test_loader_cache_that_cannot_be_read(refused: Callable[..., str], own_sim: Path) -> None:
    cache = own_sim / "etc/ld.so.cache"
    cache.unlink()
    cache.mkdir()
    assert refused(own_sim, hint=True).startswith("detection error: ")


@pytest.fixture(scope="module")
def fuzzed_sim(tmp_path_factory: pytest.TempPathFactory, dgx_a100: Path) -> Path:
    copy = tmp_path_factory.mktemp("fuzzed") / "sim"
    subprocess.run(["cp", "-a", dgx_a100, copy], check=True)
    return copy


@given(head=st.binary(max_size=64), keep=st.integers(0, 4096), tail=st.binary(max_size=512))
@example(head=b"", keep=0, tail=b"")
def test_any_bytes_as_loader_cache(
    dgx_a100: Path, fuzzed_sim: Path, head: bytes, keep: int, tail: bytes
) -> None:
    """Discovery reads them or refuses in one line; it never crashes."""
    good = (dgx_a100 / "etc/ld.so.cache").read_bytes()
    (fuzzed_sim / "etc/ld.so.cache").write_bytes(head + good[len(head) : keep] + tail)
    try:
        inventory = libnvc.discover(str(fuzzed_sim))
    except libnvc.DiscoveryError as error:
        assert "\n" not in str(error)
        assert str(fuzzed_sim) in str(error) or "libnvidia-ml.so.1" in str(error)
    else:
        assert all((fuzzed_sim / lib.path[1:]).is_file() for lib in inventory.libraries)


@pytest.mark.parametrize(("kind", "minor"), [("c", "7"), ("b", "0"), ("p", "")])
def test_device_node_that_is_another(
    refused: Callable[..., str], own_sim: Path, kind: str, minor: str
) -> None:
    node = own_sim / "dev/nvidia0"
    node.unlink()
    subprocess.run(["mknod", node, kind, *(["195", minor] if minor else [])], check=True)
    assert refused(own_sim) == f"mount error: invalid device node: {node}"


def test_library_directory_that_leads_outside(
    refused: Callable[..., str], dgx_a100: Path, sandbox: NamespaceContainer, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.rmtree(sandbox.rootfs / "usr/lib")
    (sandbox.rootfs / "usr/lib").symlink_to("../" * 40 + str(outside)[1:])
    message = refused(dgx_a100)
    assert message.startswith("mount error: path error: ")
    assert message.endswith(f" resolves outside of {sandbox.rootfs}")
    assert os.listdir(outside) == []


def test_nvml_that_crashes(
    own_sim: Path, container_cli: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    replace_nvml(own_sim, "abort();")
    done = container_cli(f"--root={own_sim}", "info")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "nvidia-container-cli: initialization error: driver rpc error: failed to process request\n"
        "nvidia-container-cli: hint: nvmlInit_v2 crashed: see dmesg, "
        "and install the driver's libraries anew\n"
    )


def test_nvml_that_hangs(
    own_sim: Path, container_cli: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    replace_nvml(own_sim, "for (;;) pause();")
    with pytest.raises(libnvc.ProbeError, match="timed out"):
        libnvc.probe(libnvc.discover(str(own_sim)), timeout=0.2)
    done = container_cli(f"--root={own_sim}", "info")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "nvidia-container-cli: initialization error: driver rpc error: timed out\n"
        "nvidia-container-cli: hint: nvmlInit_v2 did not return before the deadline: a GPU "
        "hangs (see dmesg for Xid), or takes long to start (run nvidia-persistenced)\n"
    )
    assert children() == set()


def test_configure_needs_no_nvml(
    own_sim: Path,
    sandbox: NamespaceContainer,
    container_cli: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """A driver whose NVML hangs does not keep a container from starting."""
    replace_nvml(own_sim, "for (;;) pause();")
    done = container_cli(
        f"--root={own_sim}",
        "configure",
        "--device=0",
        "--utility",
        "--no-cgroups",
        f"--pid={sandbox.pid}",
        str(sandbox.rootfs),
    )
    assert (done.returncode, done.stderr) == (0, "")


def replace_nvml(sim: Path, body: str) -> None:
    """Put an NVML there whose initialisation runs the given C statements."""
    library = next((sim / "usr/lib").glob("*/libnvidia-ml.so.535.261.03"))
    library.unlink()
    source = (
        f"#include <stdlib.h>\n#include <unistd.h>\nint nvmlInit_v2(void) {{ {body} return 0; }}"
    )
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1", "-xc", "-", "-o", library],
        input=source,
        text=True,
        check=True,
    )


def children() -> set[int]:
    """List the processes that this one has not reaped."""
    listing = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return {int(pid) for pid in re.findall(r"\d+", listing)}
