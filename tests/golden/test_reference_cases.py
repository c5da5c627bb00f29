# SPDX-License-Identifier: Apache-2.0
"""Do what the recorded cases of the reference do, and compare what can be seen afterwards.

Every case is run, or stands in `LATER` with what it waits for. What differs stands in
`DIFFERENCES` with its reason.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libnvc.sim
from libnvc.testing import Mount, NamespaceContainer, make_rootfs, mounts, tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.root

DATA = Path(__file__).parent.parent / "data/reference/cli.json"
CASES: dict[str, dict[str, Any]] = {case["name"]: case for case in json.loads(DATA.read_text())}

#: Cases that are not there yet, and what they wait for.
LATER = {
    **dict.fromkeys(("help-main", "help-info", "usage-list"), "the options that are not there yet"),
    **dict.fromkeys(("info-mig", "list-mig-dev"), "MIG"),
    **dict.fromkeys(("mig-index", "mig-uuid", "mig-config", "mig-bad"), "MIG"),
    "imex-0": "IMEX channels",
    "cap-all": "--compat32",
    "img-cuda": "CUDA compatibility libraries",
    "nonroot-info": "a place that others may read: tests/unit/test_container_cli.py has it",
}

#: Aspects that differ, by case, and why (docs/compatibility.md has each).
NOTHING_LEFT = "a failure leaves nothing"
NODE_MADE = "the node's number is known: it is made in the container"
LISTS_LINK = "the confined ldconfig makes no links, and so also lists the driver's link for linkers"
DIFFERENCES = {
    **{("err-ldconfig-host", a): NOTHING_LEFT for a in ("mounts", "tree", "devices", "cgroup")},
    **{
        ("err-node-missing", a): NODE_MADE
        for a in ("rc", "stderr", "mounts", "tree", "devices", "cgroup", "ldcache")
    },
    ("cap-none", "tree"): "no library comes: the loader cache is left alone",
    **{
        (name, "ldcache"): LISTS_LINK
        for name, case in CASES.items()
        if (name not in LATER and "--compute" in " ".join(case["cmd"])) or name == "cap-video"
    },
}

#: SONAMEs that only a driver brings: the recordings have no others of the loader cache.
DRIVER = re.compile(r"lib(nv|cuda|GLX_nv|EGL_nv|GLES.*_nv)")

ASPECTS = ("rc", "stdout", "stderr", "mounts", "tree", "devices", "cgroup", "ldcache")


class Host:
    """A simulated host with the driver of the recordings, and a container on it."""

    def __init__(
        self, sim: Path, mode: str, rootfs: Path, container: NamespaceContainer, group: Path
    ) -> None:
        self.sim = sim
        # A driver root has device nodes of its own; the host's are not the driver's.
        self.places = [("/proc/driver/", "PROC/"), ("/run/", "RUN/"), ("/", "DRV/")]
        if mode != "root":
            self.places.insert(0, ("/dev/", "DEV/"))
        self.rootfs = rootfs
        self.container = container
        self.group = group
        self.tree = tree(rootfs)
        self.known = {mount.identity for mount in mounts(container.pid)}
        self.rules = group.joinpath("devices.list").read_text().splitlines()
        self.nodes = self._nodes()
        self.cache = self._cache()

    def command(self, words: list[str], cli: str) -> list[str]:
        """Return a recorded command line for this host and container."""
        text = words[2] if words[:2] == ["sh", "-c"] else shlex.join(words)
        text = text.replace("-d /dev/stderr ", "").replace("--root=/run/nvidia/driver ", "")
        text = text.replace("@PID@", str(self.container.pid))
        text = text.replace("@ROOTFS@", str(self.rootfs)).replace("rm /dev/", f"rm {self.sim}/dev/")
        return ["sh", "-c", text.replace("nvidia-container-cli", f"{cli} --root={self.sim}")]

    def effects(self) -> dict[str, list[str]]:
        """Return what has changed since, as the recordings have it."""
        now = mounts(self.container.pid)
        after = tree(self.rootfs)
        return {
            "mounts": [self._mount(mount) for mount in now if mount.identity not in self.known],
            "tree": [
                line
                for path, facts in after.items()
                if self.tree.get(path) != facts
                for line in self._tree_line(path, facts)
            ],
            "devices": sorted(self._nodes() - self.nodes),
            "cgroup": [
                rule
                for rule in self.group.joinpath("devices.list").read_text().splitlines()
                if rule not in self.rules
            ],
            "ldcache": sorted(self._cache() - self.cache),
        }

    def _mount(self, mount: Mount) -> str:
        path = mount.path.removeprefix(str(self.rootfs))
        flags = [f for f in ("ro", "rw", "nosuid", "nodev", "noexec") if f in mount.options]
        source = mount.root.removeprefix(str(self.sim))
        if mount.fstype == "tmpfs" and mount.root == "/":
            source = "tmpfs:/:mode=555"
            # The recorded kernel has /proc/driver/nvidia, this one must make it.
            path = path.replace("/proc/driver", "/proc/driver/nvidia")
        else:
            for place, name in self.places:
                if source.startswith(place):
                    source = name + source.removeprefix(place)
                    break
        return f"{path} <- {source} [{','.join(flags)}]"

    def _tree_line(self, path: str, facts: tuple[object, ...]) -> Iterator[str]:
        mode, uid, gid, *rest = facts
        if str(path).split("/")[0] in {"dev", "proc"} or path == ".":
            return
        if str(mode).startswith("l"):
            yield f"l /{path} -> {rest[0]}"
        elif path not in self.tree or not str(mode).startswith("d"):
            letter = "f" if str(mode).startswith("-") else str(mode)[0]
            permissions = (self.rootfs / path).lstat().st_mode & 0o7777
            yield f"{letter} {permissions:o} {uid}:{gid} /{path}"

    def _nodes(self) -> set[str]:
        found = set()
        directory = Path(f"/proc/{self.container.pid}/root{self.rootfs}/dev")
        for node in directory.iterdir():
            status = node.lstat()
            if node.is_char_device():
                number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
                permissions = status.st_mode & 0o7777
                found.add(f"/{node.name} {number} {permissions:o} character special file")
        return found

    def _cache(self) -> set[str]:
        cache = self.rootfs / "etc/ld.so.cache"
        if not cache.exists():
            return set()
        listing = ["/sbin/ldconfig", "-p", "-C", str(cache)]
        text = subprocess.run(listing, check=True, capture_output=True, text=True).stdout
        entries = re.findall(r"^\t(\S+) .* => (\S+)$", text, re.MULTILINE)
        return {f"{name} => {path}" for name, path in entries if DRIVER.match(name)}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rootfs(tmp_path_factory.mktemp("image") / "rootfs")


def make_rhel(rootfs: Path) -> None:
    (rootfs / "etc/debian_version").unlink()


def make_busybox(rootfs: Path) -> None:
    """Leave what a static busybox comes with; nothing is run in it."""
    for path in rootfs.iterdir():
        if path.name not in {"dev", "etc", "proc", "run", "tmp"}:
            path.unlink() if path.is_symlink() else shutil.rmtree(path)
    for path in rootfs.glob("etc/*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (rootfs / "bin").mkdir()


#: How other images differ from the template.
CHANGES = {"rhel": make_rhel, "busybox": make_busybox}


def make_sim(root: Path, mode: str, environment: dict[str, str]) -> Path:
    """Make the host that a case was recorded on."""
    if mode == "bare":
        root.mkdir()
        return root
    profile = next(p for p in libnvc.sim.profiles() if p.name == "dgx-a100")
    profile = profile.replace(gpus=profile.gpus[: int(environment.get("NGPU", "8"))])
    error = environment.get("MOCKC_FAIL_INIT")
    libnvc.sim.create(profile, root, fault=f"nvml-error={error}" if error else "")
    if "SOCKETS" not in environment:
        for socket in root.glob("run/*/socket"):
            socket.unlink()
    return root


@pytest.fixture
def host(tmp_path: Path, template: Path, request: pytest.FixtureRequest) -> Iterator[Host]:
    case = CASES[request.node.callspec.params["name"]]
    environment = case.get("env", {})
    sim = make_sim(tmp_path / "sim", case.get("mode", ""), environment)
    rootfs = tmp_path / "rootfs"
    subprocess.run(["cp", "-a", template, rootfs], check=True)
    if case.get("image") in CHANGES:
        CHANGES[case["image"]](rootfs)
    line = next(
        line
        for line in Path("/proc/self/cgroup").read_text().splitlines()
        if "devices" in line.split(":")[1].split(",")
    )
    parent = Path(f"/sys/fs/cgroup/devices{line.split(':')[2].rstrip('/')}")
    group = parent / f"libnvc-reference-{os.getpid()}"
    group.mkdir()
    for name, rule in (("deny", "a"), ("allow", "c 1:3 rwm"), ("allow", "c 1:5 rwm")):
        (group / f"devices.{name}").write_text(rule)
    (group / "devices.allow").write_text("c *:* m")
    try:
        with NamespaceContainer(rootfs) as container:
            (group / "cgroup.procs").write_text(str(container.pid))
            try:
                yield Host(sim, case.get("mode", ""), rootfs, container, group)
            finally:
                (parent / "cgroup.procs").write_text(str(container.pid))
    finally:
        group.rmdir()


def seen(host: Host, case: dict[str, Any], cli: str) -> dict[str, list[str]]:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    done = subprocess.run(
        host.command(case["cmd"], cli),
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd="/",
    )
    said = done.stderr.replace(str(host.container.pid), "@PID@").replace(str(host.sim), "")
    said = re.sub("^nvidia-container-cli( configure)?: ", "", said.strip())
    compares_output = case.get("stdout") != "none" and "stdout" in case["expect"]
    # Paths of the listing are below the driver root: the recorded host's was "/".
    output = done.stdout.splitlines() if compares_output else []
    return {
        "rc": [str(done.returncode)],
        "stdout": output,
        "stderr": said.splitlines()[:1] if done.returncode else [],
        **host.effects(),
    }


def expected(case: dict[str, Any]) -> dict[str, list[str]]:
    wanted = case["expect"]
    lines = {aspect: wanted.get(aspect, []) for aspect in ASPECTS}
    return {
        k: [str(line) for line in (v if isinstance(v, list) else [v])] for k, v in lines.items()
    }


def test_every_case_is_run_or_waits_for_something() -> None:
    assert set(LATER) <= set(CASES)
    assert {name for name, _ in DIFFERENCES} <= set(CASES) - set(LATER)


@pytest.mark.parametrize("name", sorted(set(CASES) - set(LATER)))
def test_case(name: str, host: Host, commands: Path) -> None:
    case = CASES[name]
    now, then = seen(host, case, str(commands / "nvidia-container-cli")), expected(case)
    order: Callable[[list[str]], list[str]] = sorted
    different = {a for a in ASPECTS if order(now[a]) != order(then[a])}
    listed = {aspect for case_name, aspect in DIFFERENCES if case_name == name}
    for aspect in different - listed:
        assert order(now[aspect]) == order(then[aspect])
    assert different == listed
