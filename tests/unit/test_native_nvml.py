# SPDX-License-Identifier: Apache-2.0
"""The NVML probe, on libraries made to behave and to misbehave (tests/c/fake_nvml.c)."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from libnvc._native import nvml
from libnvc.errors import NvcError, ProbeError, RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOURCE = Path(__file__).parent.parent / "c/fake_nvml.c"
MISSING = (
    "load library failed: libnvidia-ml.so.1: "
    "cannot open shared object file: no such file or directory"
)
NOBODY = 65534
CLONE_NEWUSER = 0x10000000
PR_SET_DUMPABLE = 4
#: how each library is compiled
LIBRARIES = {
    "works": (),
    "witness": ("-DWITNESS", "-DGPU_COUNT=6"),
    "hangs": ("-DHANG",),
    "crashes": ("-DCRASH",),
    "hangs_open": ('-DHANG_OPEN="/fifo"',),
    "hangs_open_nowhere": ('-DHANG_OPEN="fifo"',),
    "hangs_name": ("-DHANG_NAME",),
    "crashes_name": ("-DCRASH_NAME",),
    "exits": ("-DEXIT",),
    "not_loaded": ("-DINIT_STATUS=9",),
    "mismatch": ("-DINIT_STATUS=18",),
    "lost": ("-DLOST",),
    "minimal": ("-DMINIMAL",),
    "empty": ("-DGPU_COUNT=0",),
    "full": ("-DGPU_COUNT=128",),
    "too_many": ("-DGPU_COUNT=129",),
    "new_brand": ("-DBRAND=16",),
    "unterminated": ("-DUNTERMINATED", "-DMIG_COUNT=7"),
    "mig": ("-DMIG_COUNT=7",),
    "mig_full": ("-DMIG_COUNT=16",),
    "mig_too_many": ("-DMIG_COUNT=17",),
    "mig_broken": ("-DMIG_COUNT=7", "-DMIG_ERROR=15"),
    "no_init": ("-DnvmlInit_v2=nvmlInit_v1",),
    "no_symbol": ("-Wl,-z,now", "-Wl,--wrap=pause", "-DHANG"),
}


@pytest.fixture(scope="session")
def root(compile_c: Callable[..., Path]) -> Iterator[Path]:
    """Return a driver root that anybody may enter, with the fake libraries and nothing else."""
    with tempfile.TemporaryDirectory(prefix="nvc-nvml-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        for library, flags in LIBRARIES.items():
            compile_c(directory / f"{library}.so", SOURCE, flags=flags)
        (directory / "text.so").write_text("not a library\n")
        (directory / "marker").touch()
        os.mkfifo(directory / "fifo")
        yield directory


def ask(root: Path, library: str, timeout: float = 60.0) -> nvml.NvmlFacts:
    """Ask a fake library with the root as driver root."""
    return nvml.probe(str(root), f"/{library}.so", uid=None, gid=None, timeout=timeout)


def fail(root: Path, library: str, timeout: float = 60.0) -> str:
    """Return how the probe of a fake library fails."""
    with pytest.raises(ProbeError) as caught:
        ask(root, library, timeout)
    return str(caught.value)


def as_user(uid: int, job: Callable[[], object]) -> object:
    """Return what `job` returns, or its error's message, when an ordinary user runs it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            result = job()
        except NvcError as error:
            result = str(error)
        except BaseException as error:
            result = f"unexpected: {error!r}"
        os.write(writer, json.dumps(result).encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        data = pipe.read()
    assert os.waitpid(pid, 0)[1] == 0
    return json.loads(data)


# --- answers -------------------------------------------------------------------------------------


def test_facts(root: Path) -> None:
    assert ask(root, "works") == nvml.NvmlFacts(
        driver_version="535.261.03",
        cuda_version="12.2",
        gpus=(
            nvml.NvmlGpu(
                index=0,
                minor=7,
                uuid="GPU-00000000-0000-0000-0000-000000000000",
                pci="00000001:ab:10.0",
                name="Fake GPU 0",
                brand="GeForce",
                arch="8.0",
                mig_capable=True,
                mig_enabled=True,
            ),
            nvml.NvmlGpu(
                index=1,
                minor=6,
                uuid="GPU-00000001-0000-0000-0000-000000000000",
                pci="00000001:ab:11.0",
                name="Fake GPU 1",
                brand="TITAN",
                arch="8.1",
                mig_capable=False,
                mig_enabled=False,
            ),
        ),
    )


def test_mig_devices(root: Path) -> None:
    """The first instance's device is gone: a hole in the list."""
    divided, plain = ask(root, "mig").gpus
    assert divided.mig_devices == tuple(
        nvml.NvmlMig(
            index=index,
            gpu_instance=10 + index,
            compute_instance=index,
            uuid=f"GPU-{100 + index:08x}-0000-0000-0000-000000000000",
        )
        for index in (1, 3, 5)
    )
    assert plain.mig_devices == ()
    assert len(ask(root, "mig_full").gpus[0].mig_devices) == 8


def test_mig_failures(root: Path) -> None:
    assert fail(root, "mig_too_many") == "too many mig devices"
    assert fail(root, "mig_broken") == "nvml error: gpu is lost"


def test_a_driver_without_the_newer_functions(root: Path) -> None:
    gpu = ask(root, "minimal").gpus[0]
    assert (gpu.brand, gpu.arch, gpu.mig_capable) == ("Unknown", "", False)
    assert gpu.name == "Fake GPU 0"


def test_a_brand_newer_than_the_table(root: Path) -> None:
    assert [gpu.brand for gpu in ask(root, "new_brand").gpus] == ["TitanRTX", "Unknown"]


def test_no_gpu(root: Path) -> None:
    assert ask(root, "empty").gpus == ()


def test_as_many_gpus_as_there_may_be(root: Path) -> None:
    assert [gpu.index for gpu in ask(root, "full").gpus] == list(range(128))


def test_strings_without_end_are_cut(root: Path) -> None:
    facts = ask(root, "unterminated")
    assert facts.driver_version == "v" * 79
    assert (facts.gpus[1].name, facts.gpus[1].uuid) == ("n" * 95, "u" * 95)


# --- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("library", "message"),
    [
        ("missing", MISSING),
        ("text", "load library failed: /text.so: file too short"),
        ("not_loaded", "nvml error: driver not loaded"),
        ("mismatch", "nvml error: driver/library version mismatch"),
        ("lost", "nvml error: gpu is lost"),
        ("no_init", "nvml error: function not found"),
        ("too_many", "too many devices"),
        ("crashes", "driver rpc error: failed to process request"),
        ("exits", "driver rpc error: failed to process request"),
    ],
)
def test_failure(root: Path, library: str, message: str) -> None:
    assert fail(root, library) == message


def test_undefined_symbol(root: Path) -> None:
    message = fail(root, "no_symbol")
    assert message == "load library failed: /no_symbol.so: undefined symbol: __wrap_pause"


def test_hanging_library_is_killed_at_the_deadline(root: Path) -> None:
    before = time.monotonic()
    assert fail(root, "hangs", timeout=0.2) == "driver rpc error: timed out"
    assert 0.2 <= time.monotonic() - before < 30
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.parametrize(
    ("library", "step", "path"),
    [
        ("hangs", "nvmlInit_v2", ""),
        ("hangs_open", "nvmlInit_v2", "{root}/fifo"),
        ("hangs_open_nowhere", "nvmlInit_v2", ""),  # a path that is not absolute
        ("hangs_name", "nvmlDeviceGetName", "/dev/nvidia5"),
        ("crashes", "nvmlInit_v2", ""),
        ("crashes_name", "nvmlDeviceGetName", "/dev/nvidia5"),
        ("exits", "nvmlInit_v2", ""),
        ("lost", "nvmlDeviceGetHandleByIndex_v2", "/dev/nvidia5"),
    ],
)
def test_the_call_and_the_device_are_named(root: Path, library: str, step: str, path: str) -> None:
    devices = ("/dev/nvidia4", "/dev/nvidia5")
    timeout = 0.2 if library.startswith("hangs") else 60.0
    with pytest.raises(ProbeError) as caught:
        nvml.probe(
            str(root), f"/{library}.so", uid=None, gid=None, timeout=timeout, devices=devices
        )
    assert (caught.value.step, caught.value.path) == (step, path.format(root=root))


def test_missing_root() -> None:
    assert fail(Path("/nonexistent"), "works") == (
        "change root failed: /nonexistent: no such file or directory"
    )


def test_missing_library_says_where_it_was_looked_for(root: Path) -> None:
    with pytest.raises(ProbeError) as caught:
        ask(root, "missing")
    assert (caught.value.path, caught.value.step) == ("/missing.so", "dlopen")


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("nan"), float("inf"), 1e9])
def test_timeout_out_of_range(root: Path, timeout: float) -> None:
    with pytest.raises(RequestError, match=r"^invalid timeout: .*: not between 0 and 86400 s$"):
        ask(root, "works", timeout)


@pytest.mark.parametrize("uid", [-1, 2**32 - 1, 2**40])
def test_user_out_of_range(root: Path, uid: int) -> None:
    with pytest.raises(RequestError, match=f"^invalid user or group: {uid}$"):
        nvml.probe(str(root), "/works.so", uid=uid, gid=0)


def test_relative_library(root: Path) -> None:
    with pytest.raises(RequestError, match=r"^library path is not absolute: works\.so$"):
        nvml.probe(str(root), "works.so", uid=None, gid=None)


# --- the child -----------------------------------------------------------------------------------


def witness(root: str, library: str, uid: int | None = None, gid: int | None = None) -> list[str]:
    """Return what the library saw of its process."""
    facts = nvml.probe(root, library, uid=uid, gid=gid, timeout=60)
    return [gpu.name for gpu in facts.gpus]


@pytest.mark.root
def test_child_of_root(root: Path) -> None:
    assert witness(str(root), "/witness.so")[:5] == [
        f"uid {NOBODY} {NOBODY} gid {NOBODY} {NOBODY} groups 1",
        f"no_new_privs 1 pdeathsig {int(signal.SIGKILL)}",
        "cwd / marker 0",
        "files 0",
        "handler 0 blocked 0 core 0",
    ]


@pytest.mark.root
def test_child_of_root_without_driver_root(root: Path) -> None:
    names = witness("/", f"{root}/witness.so")
    assert names[0] == f"uid {NOBODY} {NOBODY} gid {NOBODY} {NOBODY} groups 1"
    assert names[2] == "cwd / marker -1"
    assert names[5] == "capabilities 0"


@pytest.mark.root
def test_child_with_a_user_of_the_callers_choice(root: Path) -> None:
    assert (
        witness(str(root), "/witness.so", 1234, 2345)[0] == "uid 1234 1234 gid 2345 2345 groups 1"
    )


@pytest.mark.root
def test_child_that_stays_root_has_no_capabilities(root: Path) -> None:
    names = witness("/", f"{root}/witness.so", 0, 0)
    assert names[0].startswith("uid 0 0 gid 0 0 ")
    assert names[5] == "capabilities 0"


@pytest.mark.root
@pytest.mark.parametrize("driver_root", [True, False])
def test_ordinary_user(root: Path, driver_root: bool) -> None:
    """A driver root other than "/" is entered through a user namespace."""
    where = (str(root), "/witness.so") if driver_root else ("/", f"{root}/witness.so")
    names = as_user(1000, lambda: witness(*where))
    assert isinstance(names, list), names
    inside = NOBODY if driver_root else 1000  # no identity is mapped into the namespace
    assert names[0].startswith(f"uid {inside} {inside} gid {inside} {inside} ")
    assert names[2] == f"cwd / marker {0 if driver_root else -1}"


@pytest.mark.root
def test_ordinary_user_may_name_itself(root: Path) -> None:
    names = as_user(1000, lambda: witness("/", f"{root}/witness.so", 1000, 1000))
    assert isinstance(names, list), names
    assert names[0] == "uid 1000 1000 gid 1000 1000 groups 0"


@pytest.mark.root
def test_ordinary_user_may_not_name_another(root: Path) -> None:
    message = as_user(1000, lambda: witness("/", f"{root}/witness.so", 1001, 1001))
    assert message == "privilege change failed: operation not permitted"


@pytest.mark.root
def test_root_of_a_user_namespace_without_nobody(root: Path) -> None:
    """There the overflow user does not exist: by default the child stays who it is."""

    def inside(uid: int | None) -> list[str]:
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.unshare(CLONE_NEWUSER) == 0, ctypes.get_errno()
        assert libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0  # or /proc/self stays root's
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text("0 1000 1")
        Path("/proc/self/gid_map").write_text("0 1000 1")
        return witness(str(root), "/witness.so", uid, uid)

    names = as_user(1000, lambda: inside(None))
    assert isinstance(names, list), names
    assert names[0].startswith("uid 0 0 gid 0 0 ")
    assert as_user(1000, lambda: inside(NOBODY)) == "privilege change failed: invalid argument"


# --- the caller ----------------------------------------------------------------------------------


def test_other_threads_go_on(root: Path) -> None:
    stop = threading.Event()
    counts = [0]

    def count() -> None:
        while not stop.is_set():
            counts[0] += 1

    thread = threading.Thread(target=count)
    thread.start()
    try:
        before = counts[0]
        assert fail(root, "hangs", timeout=0.3) == "driver rpc error: timed out"
        assert counts[0] > before
        assert len(ask(root, "works").gpus) == 2
    finally:
        stop.set()
        thread.join()


def test_exit_handlers_run_once(root: Path, tmp_path: Path) -> None:
    """The child leaves without running what Python has registered."""
    log = tmp_path / "log"
    pid = os.fork()
    if pid == 0:
        import atexit

        atexit.register(lambda: log.open("a").write("end\n"))
        ask(root, "works")
        atexit._run_exitfuncs()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert log.read_text() == "end\n"
