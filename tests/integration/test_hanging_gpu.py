# SPDX-License-Identifier: Apache-2.0
"""GPUs whose device node nobody can open without hanging, and an NVML that hangs.

`hang` (tests/tools) runs a command on such a machine. Whoever waits for one of them waits forever:
that a command ends is the proof that it did not.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

import libnvc.sim
from libnvc.testing import NamespaceContainer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..conftest import CompileC

    Done = subprocess.CompletedProcess[str]

pytestmark = pytest.mark.root

SOURCE = Path(__file__).parent.parent / "tools/hang.c"
NVIDIA = "195"  # the major number of GPUs and control devices
HOW = ("--utility", "--compute", "--no-cgroups")
OWN_RUN = 'mount -t tmpfs -o mode=755 run /run; eval "$1"; shift; exec "$@"'
ASK = """
import sys, libnvc
try:
    libnvc.probe(libnvc.discover(sys.argv[1]), timeout=float(sys.argv[2]), fresh=True)
except libnvc.ProbeError as error:
    print(error, error.code, error.step, error.path, error.hint, sep="\\n")
"""


class Hang(Protocol):
    """Run a command where opening devices hangs; return it, and how many opens hung.

    It has a /run of its own. `first` is shell that runs there before, and hangs nowhere.
    """

    def __call__(
        self, devices: str, *command: str | Path, first: str = ":"
    ) -> tuple[Done, int]: ...


@pytest.fixture(scope="module")
def hang(compile_c: CompileC, tmp_path_factory: pytest.TempPathFactory) -> Hang:
    tool = compile_c(tmp_path_factory.mktemp("hang") / "hang", SOURCE)

    def run(devices: str, *command: str | Path, first: str = ":") -> tuple[Done, int]:
        done = subprocess.run(
            [
                *("unshare", "--mount", "--propagation", "private"),
                *("sh", "-ec", OWN_RUN, "sh", first, tool, devices, "--", *command),
            ],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        done.stderr, _, count = done.stderr.rpartition("hang: ")
        return done, int(count)

    return run


@pytest.fixture(scope="module")
def hanging_nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a host whose NVML hangs, shared: do not change it."""
    root = tmp_path_factory.mktemp("nvml") / "root"
    libnvc.sim.create("dgx-a100", root, fault="nvml-hang")
    return root


@pytest.fixture
def container(rootfs: Path) -> Iterator[NamespaceContainer]:
    with NamespaceContainer(rootfs) as made:
        yield made


def mounts(container: NamespaceContainer) -> str:
    return Path(f"/proc/{container.pid}/mountinfo").read_text()


def nodes(container: NamespaceContainer) -> set[str]:
    """Return the numbers of the GPUs whose nodes are mounted in a container."""
    return set(re.findall(rf" {container.rootfs}/dev/nvidia(\d+) ", mounts(container)))


@pytest.mark.parametrize(
    ("device", "node"), [("195:3", "nvidia3"), ("195:0", "nvidia0"), ("195:255", "nvidiactl")]
)
def test_probe_names_the_device_and_the_call(
    hang: Hang, dgx_a100: Path, device: str, node: str
) -> None:
    done, hung = hang(device, sys.executable, "-P", "-c", ASK, dgx_a100, "0.5")
    path = f"{dgx_a100}/dev/{node}"
    assert done.stdout.splitlines() == [
        "driver rpc error: timed out",
        "nvml-timeout",
        "nvmlInit_v2",
        path,
        f"nvmlInit_v2 ({path}) did not return before the deadline: a GPU hangs (see dmesg for "
        "Xid), or takes long to start (run nvidia-persistenced)",
    ]
    assert (done.returncode, hung) == (0, 1)


@pytest.mark.parametrize(
    "more",
    [(), ("--require=cuda>=12.2 brand=tesla,driver>=470,driver<471",), ("--graphics", "--video")],
    ids=["plain", "requirement", "graphics"],
)
def test_start_beside_a_gpu_that_hangs(
    hang: Hang,
    commands: Path,
    container: NamespaceContainer,
    hanging_nvml: Path,
    more: tuple[str, ...],
) -> None:
    """Every device and NVML hang: none of them is touched, not even those that are given."""
    done, hung = hang(
        NVIDIA,
        commands / "nvidia-container-cli",
        *(f"--root={hanging_nvml}", "configure", "--device=1", *HOW, *more),
        *(f"--pid={container.pid}", container.rootfs),
    )
    assert (done.returncode, done.stderr, hung) == (0, "", 0)
    assert nodes(container) == {"1"}


@pytest.mark.parametrize(
    "wish",
    [
        ("--device=0:1",),
        ("--device=MIG-a0000000-0000-4000-8000-000002000000",),
        ("--device=0:1", "--require=brand=nvidia,arch>=8"),
    ],
    ids=["index", "uuid", "requirement"],
)
def test_start_where_nvml_has_answered_before(
    hang: Hang,
    commands: Path,
    container: NamespaceContainer,
    dgx_a100_mig: Path,
    wish: tuple[str, ...],
) -> None:
    cli = commands / "nvidia-container-cli"
    done, hung = hang(
        NVIDIA,
        cli,
        *(f"--root={dgx_a100_mig}", "configure", *wish, *HOW),
        *(f"--pid={container.pid}", container.rootfs),
        first=f"{cli} --root={dgx_a100_mig} info >/dev/null",
    )
    assert (done.returncode, done.stderr, hung) == (0, "", 0)
    assert nodes(container) == {"0"}
    assert f" {container.rootfs}/dev/nvidia-caps/nvidia-cap21 " in mounts(container)
