# SPDX-License-Identifier: Apache-2.0
"""`nvidia-container-runtime` in front of runc and crun: all that changes is what is asked for."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libnvc
import libnvc.sim
from libnvc.sim.elfwriter import write_library
from libnvc.sim.machine import this_machine
from libnvc.testing import (
    MAPPED,
    ContainerFailedError,
    OciContainer,
    make_rhel_like,
    make_rootfs,
    mounts,
    tree,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Configure = Callable[..., Path]
    CompileC = Callable[..., Path]

pytestmark = pytest.mark.root

ALLOWED, DENIED = "No such device or address", "Operation not permitted"
ASK = ("NVIDIA_VISIBLE_DEVICES=1,6", "NVIDIA_DRIVER_CAPABILITIES=compute,utility")
DRIVER = "535.261.03"


@pytest.fixture
def configure(
    tmp_path: Path, dgx_a100: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """Return a writer of the configuration: top-level lines, and lines of the runtime's section."""
    path = tmp_path / "config.toml"
    monkeypatch.setenv("NVIDIA_CTK_CONFIG_FILE_PATH", str(path))

    def write(*lines: str, top: str = "", root: Path = dgx_a100) -> Path:
        text = f'{top}\n[nvidia-container-cli]\nroot = "{root}"\nload-kmods = false\n'
        path.write_text(text + "\n".join(["[nvidia-container-runtime]", *lines]) + "\n")
        return path

    write()
    return write


@pytest.fixture
def nvidia(commands: Path) -> str:
    return str(commands / "nvidia-container-runtime")


@pytest.fixture
def reachable() -> Iterator[Path]:
    """Return a directory that everybody may enter, as those of engines."""
    with tempfile.TemporaryDirectory(prefix="libnvc-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def uuids(root: Path, *indices: int) -> list[str]:
    gpus = libnvc.discover(str(root)).gpus
    return [gpus[index].uuid for index in indices]


def listed(container: OciContainer) -> list[str]:
    done = container.exec("nvidia-smi", "-L")
    assert (done.returncode, done.stderr) == (0, "")
    return re.findall(r"GPU-[0-9a-f-]{36}", done.stdout)


def allowed(container: OciContainer, directory: str = "/nodes") -> list[int]:
    """Return the minors of the GPUs that a container may open, by nodes made by hand."""
    found = []
    for minor in range(8):
        answer = container.exec("cat", f"{directory}/{minor}").stderr.rpartition(": ")[2].strip()
        assert answer in (ALLOWED, DENIED)
        found += [minor] if answer == ALLOWED else []
    return found


def make_nodes(rootfs: Path) -> None:
    """Make nodes of all GPUs by hand: nobody in a user namespace can."""
    (rootfs / "nodes").mkdir()
    for minor in range(8):
        os.mknod(rootfs / f"nodes/{minor}", 0o666 | stat.S_IFCHR, os.makedev(195, minor))


def document(container: OciContainer) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((container.bundle / "config.json").read_text())
    return found


@pytest.mark.parametrize(
    ("mode", "readonly", "user_namespace"),
    [
        ("auto", False, False),
        ("auto", True, False),
        ("auto", False, True),
        ("auto", True, True),
        ("legacy", False, False),
        ("legacy", True, True),
    ],
    ids=["auto", "auto-readonly", "auto-userns", "auto-readonly-userns", "legacy", "legacy-both"],
)
def test_a_container_gets_exactly_the_gpus_it_asks_for(
    configure: Configure,
    nvidia: str,
    dgx_a100: Path,
    reachable: Path,
    runtime: str,
    cgroup: str,
    readonly: bool,
    user_namespace: bool,
    mode: str,
) -> None:
    configure(f'runtimes = ["{runtime}"]', f'mode = "{mode}"')
    rootfs = make_rootfs(reachable / "rootfs")
    make_nodes(rootfs)
    if user_namespace:
        subprocess.run(["chown", "-R", f"{MAPPED}:{MAPPED}", rootfs], check=True)
    container = OciContainer(
        reachable / "c",
        rootfs,
        runtime=nvidia,
        cgroup=cgroup,
        readonly=readonly,
        user_namespace=user_namespace,
        environment=ASK,
    )
    with container:
        assert listed(container) == uuids(dgx_a100, 1, 6)
        for index in (1, 6):
            answer = container.exec("cat", f"/dev/nvidia{index}").stderr
            assert answer == f"cat: /dev/nvidia{index}: {ALLOWED}\n"
        assert allowed(container) == [1, 6]
        cache = container.exec("ldconfig", "-p").stdout
    assert "libcuda.so.1 " in cache
    assert "libnvidia-ml.so.1 " in cache


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_none_means_the_driver_without_a_gpu(
    tmp_path: Path, configure: Configure, nvidia: str, rootfs: Path, mode: str
) -> None:
    configure(f'mode = "{mode}"')
    make_nodes(rootfs)
    ask = ["NVIDIA_VISIBLE_DEVICES=none"]
    with OciContainer(tmp_path / "c", rootfs, runtime=nvidia, environment=ask) as container:
        assert container.exec("nvidia-smi", "-L").stdout == "No devices were found\n"
        assert allowed(container) == []


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize(
    ("capabilities", "has_cuda", "has_32_bit"),
    [("utility", False, False), ("compute,compat32", True, True), ("compute", True, False)],
)
def test_capabilities_choose_the_libraries(
    tmp_path: Path,
    configure: Configure,
    nvidia: str,
    rootfs: Path,
    mode: str,
    capabilities: str,
    has_cuda: bool,
    has_32_bit: bool,
) -> None:
    driver = tmp_path / "driver"
    libnvc.sim.create("workstation", driver)
    configure(f'mode = "{mode}"', root=driver)
    ask = ["NVIDIA_VISIBLE_DEVICES=0", f"NVIDIA_DRIVER_CAPABILITIES={capabilities}"]
    with OciContainer(tmp_path / "c", rootfs, runtime=nvidia, environment=ask) as container:
        inside = [mount.path for mount in mounts(container.pid)]
        cache = container.exec("ldconfig", "-p").stdout
    assert ("libcuda.so.1 " in cache) is has_cuda
    assert any("libcuda.so" in path for path in inside) is has_cuda
    assert any("/i386-linux-gnu/libcuda.so" in path for path in inside) is has_32_bit


def test_libraries_lie_where_the_image_keeps_libraries(
    tmp_path: Path, configure: Configure, nvidia: str, rootfs: Path
) -> None:
    """Not where the host keeps them: programs open absolute paths."""
    make_rhel_like(rootfs)
    ask = ["NVIDIA_VISIBLE_DEVICES=0"]
    with OciContainer(tmp_path / "c", rootfs, runtime=nvidia, environment=ask) as container:
        inside = [mount.path for mount in mounts(container.pid)]
        assert listed(container) != []
    assert f"/usr/lib64/libnvidia-ml.so.{DRIVER}" in inside
    assert not [path for path in inside if "x86_64-linux-gnu" in path]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_what_shows_pictures(
    tmp_path: Path, configure: Configure, nvidia: str, workstation: Path, rootfs: Path, mode: str
) -> None:
    """Nodes of DRM, and what lets loaders find the driver's EGL and Vulkan."""
    configure(f'mode = "{mode}"', root=workstation)
    make_rhel_like(rootfs)
    ask = ["NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=graphics"]
    with OciContainer(tmp_path / "c", rootfs, runtime=nvidia, environment=ask) as container:
        for name in ("card0", "renderD128"):
            answer = container.exec("cat", f"/dev/dri/{name}").stderr
            assert not answer.endswith(f": {DENIED}\n")
            shown = container.exec("ls", "-ln", f"/dev/dri/{name}").stdout.split()
            assert (shown[0], shown[3]) == ("crw-rw----", "44")
        link = container.exec("readlink", "-f", "/dev/dri/by-path/pci-0000:01:00.0-render")
        assert link.stdout == "/dev/dri/renderD128\n"
        for path in (
            "/etc/vulkan/icd.d/nvidia_icd.json",
            "/usr/share/glvnd/egl_vendor.d/10_nvidia.json",
            "/usr/share/egl/egl_external_platform.d/15_nvidia_gbm.json",
        ):
            assert container.exec("cat", path).stdout == (workstation / path[1:]).read_text()
        cache = container.exec("ldconfig", "-p").stdout
        assert "libnvidia-egl-gbm.so.1 (libc6,x86-64) => /usr/lib64/libnvidia-egl-gbm.so.1" in cache
        backend = container.exec("readlink", "-f", "/usr/lib64/gbm/nvidia-drm_gbm.so")
        assert backend.stdout == "/usr/lib64/libnvidia-allocator.so.550.90.07\n"
    assert not (rootfs / "dev/dri").exists()


def test_a_gpu_that_shows_nothing_brings_no_nodes(
    tmp_path: Path, configure: Configure, nvidia: str, workstation: Path, rootfs: Path
) -> None:
    configure(root=workstation)
    ask = ["NVIDIA_VISIBLE_DEVICES=0"]
    with OciContainer(tmp_path / "c", rootfs, runtime=nvidia, environment=ask) as container:
        assert container.exec("ls", "/dev/dri").returncode != 0
        assert container.exec("ls", "/usr/share/glvnd").returncode != 0


def test_newer_cuda_libraries_of_the_image_come_first(
    tmp_path: Path, configure: Configure, nvidia: str, rootfs: Path
) -> None:
    compat = rootfs / "usr/local/cuda/compat"
    compat.mkdir(parents=True)
    library = write_library(
        bits=64, machine=this_machine().elf, soname="libcuda.so.1", needed=("libc.so.6",)
    )
    (compat / "libcuda.so.575.10").write_bytes(library)
    (compat / "libcuda.so.1").symlink_to("libcuda.so.575.10")
    ask = ["NVIDIA_VISIBLE_DEVICES=0"]
    with OciContainer(tmp_path / "c", rootfs, runtime=nvidia, environment=ask) as container:
        cache = container.exec("ldconfig", "-p").stdout
    found = re.findall(r"^\tlibcuda\.so\.1 \(.*\) => (\S+)$", cache, re.MULTILINE)
    assert found[0] == "/usr/local/cuda/compat/libcuda.so.1"


def test_nothing_of_a_container_without_a_request_changes(
    tmp_path: Path, configure: Configure, nvidia: str, rootfs: Path
) -> None:
    before = tree(rootfs)
    container = OciContainer(tmp_path / "c", rootfs, runtime=nvidia)
    config = container.bundle / "config.json"
    written, found = config.read_bytes(), config.stat().st_ctime_ns
    with container:
        plain = mounts(container.pid)
    assert (config.read_bytes(), config.stat().st_ctime_ns) == (written, found)
    assert not [mount for mount in plain if "nvidia" in mount.path]
    assert tree(rootfs) == before
    assert not (container.bundle / "nvidia-container.plan").exists()


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_an_ordinary_user_in_a_group_of_systemd(
    tmp_path: Path, configure: Configure, nvidia: str, dgx_a100: Path, rootfs: Path, mode: str
) -> None:
    """Neither the user, nor its lack of capabilities, nor the name of the group matters."""
    configure(f'mode = "{mode}"')
    make_nodes(rootfs)

    def change(specification: dict[str, Any]) -> None:
        process, linux = specification["process"], specification["linux"]
        process.update(user={"uid": 1000, "gid": 1000}, capabilities={}, noNewPrivileges=True)
        linux["cgroupsPath"] = f"system.slice:libnvc:{tmp_path.name}"

    container = OciContainer(tmp_path / "c", rootfs, runtime=nvidia, environment=ASK, change=change)
    with container:
        assert listed(container) == uuids(dgx_a100, 1, 6)
        assert allowed(container) == [1, 6]


def test_the_low_level_runtime_gets_what_the_engine_gave(
    tmp_path: Path, configure: Configure, nvidia: str, rootfs: Path
) -> None:
    """Python ignores signals and sets variables, and all that comes after would inherit that."""
    low = tmp_path / "low"
    show = "tr '\\0' '\\n' </proc/$$/environ"
    low.write_text(f"#!/bin/sh\ngrep SigIgn /proc/self/status\n{show}\n")
    low.chmod(0o755)
    path = configure(f'runtimes = ["{low}"]')
    bundle = OciContainer(tmp_path / "c", rootfs, environment=ASK).bundle
    environment = {"A": "1", "NVIDIA_CTK_CONFIG_FILE_PATH": str(path)}
    create = ["create", "--bundle", str(bundle), "c"]
    said = [
        subprocess.run(
            [program, *create], env=environment, capture_output=True, text=True, check=True
        ).stdout.splitlines()
        for program in (str(low), nvidia)
    ]
    assert (bundle / "nvidia-container.plan").exists()
    assert said[1][0] == said[0][0]
    assert sorted(said[1]) == sorted(said[0])
    assert "A=1" in said[1]


@pytest.mark.parametrize(
    ("lines", "words", "text"),
    [
        (["mode = 1"], "create c", 'nvidia-container-runtime.mode: expected a string, not 1"'),
        (["["], "create c", "config.toml: "),
        (
            ['runtimes = ["nowhere"]'],
            "create c",
            "failed to create NVIDIA Container Runtime: error constructing low-level runtime: "
            "error locating runtime: no runtime binary found from candidate list: [nowhere] "
            '(install runc or crun, or name one in nvidia-container-runtime.runtimes)"',
        ),
        ([], "create --bundle", 'bundle option requires an argument"'),
        ([], "create --bundle /nowhere c", 'config.json: no such file or directory"'),
    ],
)
@pytest.mark.parametrize("kind", ["text", "json"])
def test_what_failed_stands_where_the_engine_looks(
    tmp_path: Path,
    configure: Configure,
    nvidia: str,
    lines: list[str],
    words: str,
    text: str,
    kind: str,
) -> None:
    configure(*lines)
    log = tmp_path / "log"
    command = [nvidia, "--log", str(log), "--log-format", kind, *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert text in done.stderr
    assert "level=error" in done.stderr
    assert done.stderr.count("\n") == 1
    written = log.read_text()
    assert written.count("\n") == 1
    assert text.rstrip('"') in (json.loads(written)["msg"] if kind == "json" else written)


def test_an_environment_may_not_ask_where_that_is_forbidden(
    tmp_path: Path, configure: Configure, nvidia: str, rootfs: Path
) -> None:
    configure(top="accept-nvidia-visible-devices-envvar-when-unprivileged = false")
    container = OciContainer(tmp_path / "c", rootfs, runtime=nvidia, environment=ASK)
    config = container.bundle / "config.json"
    written = config.read_bytes()
    with container:
        assert not [mount for mount in mounts(container.pid) if "nvidia" in mount.path]
    assert config.read_bytes() == written


def reapply(container: OciContainer) -> None:
    """Apply the list of devices in the configuration anew, as engines do on an update."""
    lines = Path(f"/proc/{container.pid}/cgroup").read_text().splitlines()
    place = next(line.split(":", 2)[2] for line in lines if ":devices:" in line)
    mounted = Path("/proc/mounts").read_text()
    root = re.search(r"^\S+ (\S+) cgroup \S*\bdevices\b", mounted, re.MULTILINE)
    assert root is not None
    group = Path(root[1] + place)
    (group / "devices.deny").write_text("a")
    for rule in document(container)["linux"]["resources"]["devices"]:
        if rule["allow"]:
            text = f"{rule['type']} {rule['major']}:{rule['minor']} {rule['access']}"
            (group / "devices.allow").write_text(text)


@pytest.mark.parametrize(("mode", "kept"), [("auto", [1, 6]), ("legacy", [])])
def test_an_engine_applies_its_list_of_devices_anew(
    tmp_path: Path, configure: Configure, nvidia: str, rootfs: Path, mode: str, kept: list[int]
) -> None:
    """Docker does so on every update, and systemd on every reload of its units."""
    configure(f'mode = "{mode}"')
    make_nodes(rootfs)
    container = OciContainer(tmp_path / "c", rootfs, runtime=nvidia, cgroup="v1", environment=ASK)
    with container:
        assert allowed(container) == [1, 6]
        reapply(container)
        assert allowed(container) == kept


EVIL = """
#include <fcntl.h>
#include <unistd.h>

__attribute__((constructor)) static void run(void)
{
	(void)close(open("@MARK@", O_CREAT | O_WRONLY, 0666));
}
"""


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_nothing_of_the_image_runs_outside(
    tmp_path: Path,
    configure: Configure,
    nvidia: str,
    rootfs: Path,
    runtime: str,
    mode: str,
    compile_c: CompileC,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Hooks have run with the image's environment, in its root, as root of the host."""
    configure(f'runtimes = ["{runtime}"]', f'mode = "{mode}"')
    mark = tmp_path / "mark"
    source = tmp_path / "evil.c"
    source.write_text(EVIL.replace("@MARK@", str(mark)))
    compile_c(rootfs / "evil.so", source)
    python = f"open({str(mark)!r}, 'w').close()\n"
    names = ("sitecustomize", "usercustomize", "json", "os", "gc", "libnvc", "_json", "cffi")
    for name in names:
        (rootfs / f"{name}.py").write_text(python)
    for name in ("python3", "nvidia-container-cli", "nvidia-container-runtime-hook", "ldconfig"):
        program = rootfs / "usr/local/bin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f"#!/bin/sh\ntouch {mark}\n")
        program.chmod(0o755)
    shutil.copytree(rootfs / "usr/local/bin", rootfs / "evil-bin")
    monkeypatch.chdir(rootfs)
    environment = [
        *ASK,
        "LD_PRELOAD=/evil.so ./evil.so",
        "LD_AUDIT=./evil.so",
        "LD_LIBRARY_PATH=.",
        "PATH=./usr/local/bin:./evil-bin:.:/bin:/usr/bin",
        "PYTHONPATH=.:/",
        "PYTHONSTARTUP=./os.py",
        "PYTHONHOME=.",
        "PYTHONINSPECT=1",
        "NVIDIA_CTK_CONFIG_FILE_PATH=./config.toml",
        f"XDG_CONFIG_HOME={rootfs}",
    ]
    (rootfs / "config.toml").write_text("no TOML")
    cgroup = "v1"  # crun refuses to run where both are mounted

    def ends_at_once(specification: dict[str, Any]) -> None:
        specification["process"]["args"] = ["/bin/true"]

    container = OciContainer(
        tmp_path / "c",
        rootfs,
        runtime=nvidia,
        cgroup=cgroup,
        environment=environment,
        change=ends_at_once,
    )
    try:
        container.create()
        inside = [mount.path for mount in mounts(container.pid)]
    finally:
        container.delete()
    assert [path for path in inside if path.endswith("/dev/nvidiactl")] != [] or mode == "auto"
    assert [path for path in inside if "libnvidia-ml.so" in path] != []
    assert not mark.exists()


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_what_a_variable_switches_on_comes_beside_the_gpus(
    tmp_path: Path, configure: Configure, nvidia: str, runtime: str, mode: str
) -> None:
    """Nothing is kept of it: the second container is asked about the host's nodes again."""
    driver = tmp_path / "driver"
    libnvc.sim.create("mx150", driver)
    os.mknod(driver / "dev/gdrdrv", 0o666 | stat.S_IFCHR, os.makedev(195, 77))
    configure(f'mode = "{mode}"', f'runtimes = ["{runtime}"]', root=driver)
    ask = ["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_GDRCOPY=enabled"]

    def start(name: str) -> OciContainer:
        rootfs = make_rootfs(tmp_path / f"rootfs-{name}")
        return OciContainer(tmp_path / name, rootfs, runtime=nvidia, cgroup="v1", environment=ask)

    for name in ("a", "b"):
        with start(name) as container:
            assert listed(container) == uuids(driver, 0)
            said = container.exec("cat", "/dev/gdrdrv").stderr
            assert said == f"cat: /dev/gdrdrv: {ALLOWED}\n"
    (driver / "dev/gdrdrv").unlink()
    with pytest.raises(ContainerFailedError, match="NVIDIA_GDRCOPY=enabled: "), start("c"):
        pass
