# SPDX-License-Identifier: Apache-2.0
"""`nvidia-cdi-hook` in containers of runc and crun, with the hooks that CDI generators write."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from libnvc._native import ldcache
from libnvc.sim.elfwriter import write_library
from libnvc.sim.machine import this_machine
from libnvc.testing import (
    MAPPED,
    ContainerFailedError,
    NamespaceContainer,
    OciContainer,
    make_rhel_like,
    make_rootfs,
    mounts,
    on_host,
    tree,
)
from libnvc.testing.host import open_ways

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    CompileC = Callable[..., Path]

pytestmark = pytest.mark.root

NAME = "nvidia-cdi-hook"
MACHINE = this_machine()
LIBS = MACHINE.libs_dir
VERSION = "580.95.05"
#: file, SONAME and directory of the host's driver
DRIVER = (
    (f"libcuda.so.{VERSION}", "libcuda.so.1", LIBS),
    (f"libnvidia-ml.so.{VERSION}", "libnvidia-ml.so.1", LIBS),
    (f"libGLX_nvidia.so.{VERSION}", "libGLX_nvidia.so.0", LIBS),
    (f"libvdpau_nvidia.so.{VERSION}", "libvdpau_nvidia.so.1", f"{LIBS}/vdpau"),
)
LINKS = (
    f"libcuda.so.{VERSION}::{LIBS}/libcuda.so.1",
    f"libcuda.so.1::{LIBS}/libcuda.so",
    f"libnvidia-ml.so.{VERSION}::{LIBS}/libnvidia-ml.so.1",
    f"libGLX_nvidia.so.{VERSION}::{LIBS}/libGLX_nvidia.so.0",
    f"libGLX_nvidia.so.{VERSION}::{LIBS}/libGLX_indirect.so.0",
)
UPDATE = ("update-ldcache", "--folder", LIBS, "--folder", f"{LIBS}/vdpau")
COMPAT = ("enable-cuda-compat", f"--host-driver-version={VERSION}")
#: As the reference's generator writes them, in its order.
GENERATED = (
    ("create-symlinks", "--link", f"../libnvidia-allocator.so.1::{LIBS}/gbm/nvidia-drm_gbm.so"),
    ("create-symlinks", *(word for link in LINKS for word in ("--link", link))),
    COMPAT,
    UPDATE,
    ("disable-device-node-modification",),
    ("update-application-profile",),
)
#: As libnvc's generator writes them, for its own program.
SEQUENCE = (
    ("sequence", *GENERATED[0], *(word for call in GENERATED[1:] for word in ("then", *call))),
)

#: Whether a file on a file system of its own, which is mounted nowhere, can be mounted.
CAN_COVER = (
    tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 15) and "NVC_DENIED" not in os.environ
)

#: Where mounts cannot be cloned the image's file stays.
CAN_CLONE = "NVC_DENIED" not in os.environ


def library(soname: str) -> bytes:
    return write_library(bits=64, machine=MACHINE.elf, soname=soname, needed=("libc.so.6",))


class Site:
    """A driver's files, an image, and bundles with hooks."""

    def __init__(self, directory: Path, commands: Path) -> None:
        self.directory = directory
        self.hook = commands / NAME
        self.rootfs = make_rootfs(directory / "rootfs")
        self.driver = directory / "driver"
        for name, soname, folder in DRIVER:
            path = self.driver / folder[1:] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(library(soname))

    def put(self, path: str, soname: str) -> Path:
        """Put a library into the image."""
        at = self.rootfs / path[1:]
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_bytes(library(soname))
        return at

    def edit(
        self, hooks: Sequence[Sequence[str]], nodes: Sequence[int] = (), env: Any = "NAMED"
    ) -> Callable[[dict[str, Any]], None]:
        """Return what an engine makes of a CDI file."""

        def change(document: dict[str, Any]) -> None:
            document["mounts"] += [
                {
                    "destination": f"{folder}/{name}",
                    "source": f"{self.driver}{folder}/{name}",
                    "options": ["ro", "nosuid", "nodev", "rbind", "rprivate"],
                }
                for name, _, folder in DRIVER
            ]
            document["linux"]["devices"] = [
                {"path": f"/dev/nvidia{minor}", "type": "c", "major": 195, "minor": minor}
                for minor in nodes
            ]
            document["hooks"]["createContainer"] = [
                {
                    "path": str(self.hook),
                    "args": [NAME, *words],
                    **({"env": ["NVIDIA_CTK_DEBUG=false"]} if env == "NAMED" else {}),
                }
                for words in hooks
            ]

        return change

    def container(
        self,
        *hooks: Sequence[str],
        nodes: Sequence[int] = (),
        name: str = "container",
        env: Any = "NAMED",
        **options: Any,
    ) -> OciContainer:
        change = self.edit(hooks, nodes, env)
        # No crun runs where both versions are mounted.
        options = {"cgroup": "v1", **options}
        return OciContainer(self.directory / name, self.rootfs, change=change, **options)

    def found(self) -> dict[str, str]:
        """Return what the image's loader finds: real paths by name, the first of each."""
        return look_ups(self.rootfs)


def look_ups(rootfs: Path) -> dict[str, str]:
    entries = ldcache.parse((rootfs / "etc/ld.so.cache").read_bytes(), "cache")
    found: dict[str, str] = {}
    for entry in entries:
        at = rootfs / entry.path[1:]  # its directory may be a link
        path = at.parent.resolve().relative_to(rootfs) / at.name
        found.setdefault(entry.soname, f"/{path}")
    return found


@pytest.fixture
def site(commands: Path) -> Iterator[Site]:
    """Return a site that everybody may enter, as those of engines."""
    with tempfile.TemporaryDirectory(prefix="libnvc-") as directory:
        Path(directory).chmod(0o755)
        yield Site(Path(directory), commands)


def give(rootfs: Path) -> None:
    """Give a root file system to the root of a user namespace."""
    subprocess.run(["chown", "-R", "-h", f"{MAPPED}:{MAPPED}", rootfs], check=True)


def reachable_by_others(site: Site, runtime: str) -> str:
    """Return the runtime where others may reach the commands and their interpreter."""
    script = site.directory / "reaching"
    prefixes = dict.fromkeys((sys.prefix, sys.base_prefix))
    ways = open_ways([Path(prefix).resolve() for prefix in prefixes])
    script.write_text(f'#!/bin/sh\nset -e\n{ways}exec "{runtime}" "$@"\n')
    script.chmod(0o755)
    return str(script)


def names(rootfs: Path) -> set[str]:
    return set(tree(rootfs))


def assert_no_leftovers(rootfs: Path, before: set[str]) -> None:
    """See that hooks left what belongs to a driver, and nothing else."""
    mine = re.compile(
        rf"usr/lib/[^/]+(/vdpau|/gbm)?(/(lib[^/]*|nvidia-drm_gbm\.so))?|etc/nvidia(/.*)?"
        rf"|{LIBS[1:]}/vdpau"
    )
    assert [path for path in names(rootfs) - before if not mine.fullmatch(path)] == []


# --- the whole file -----------------------------------------------------------------------------


def check_covered(site: Site, first: dict[str, str], listed: str) -> None:
    """Check a container that has the new cache mounted over the old; no link can be made."""
    for name, soname, folder in DRIVER:
        assert not (site.rootfs / f"{folder[1:]}/{soname}").is_symlink()
        assert (f"{soname} (libc6,x86-64) => " in listed and f"/{name}\n" in listed) == CAN_COVER
    assert all(f"\t{name} (" in listed for name in first)
    assert site.found() == first


@pytest.mark.parametrize("user_namespace", [False, True], ids=["root", "userns"])
@pytest.mark.parametrize("readonly", [False, True], ids=["writable", "readonly"])
@pytest.mark.parametrize("calls", [GENERATED, SEQUENCE], ids=["hooks", "sequence"])
def test_generated_hooks(
    site: Site,
    runtime: str,
    readonly: bool,
    user_namespace: bool,
    calls: tuple[tuple[str, ...], ...],
) -> None:
    site.put("/opt/own/libown.so.1", "libown.so.1")  # known to the cache alone
    subprocess.run(["ldconfig", "-r", site.rootfs, "/opt/own"], check=True)
    before, first = names(site.rootfs), site.found()
    if user_namespace:
        give(site.rootfs)
    command = reachable_by_others(site, runtime) if user_namespace else runtime
    nodes = () if user_namespace else (0, 3)
    with site.container(
        *calls,
        nodes=nodes,
        runtime=command,
        readonly=readonly,
        user_namespace=user_namespace,
    ) as container:
        profile = container.exec(
            "cat", "/etc/nvidia/nvidia-application-profiles-rc.d/10-container.conf"
        )
        listed = container.exec("ldconfig", "-p").stdout
        inside = mounts(container.pid)
    assert not [mount for mount in inside if mount.tags]
    if readonly and runtime != "runc":  # the root is read-only before crun calls hooks
        check_covered(site, first, listed)
        return
    found = site.found()
    for name, soname, folder in DRIVER:
        assert found.pop(soname) == f"{folder}/{soname}"
        assert os.readlink(site.rootfs / f"{folder[1:]}/{soname}") == name
        assert f"{soname} (libc6,x86-64) => " in listed
    assert found.pop("libcuda.so") == f"{LIBS}/libcuda.so"
    assert found.pop("libGLX_indirect.so.0", "") in ("", f"{LIBS}/libGLX_indirect.so.0")
    assert found == first
    assert os.readlink(site.rootfs / LIBS[1:] / "gbm/nvidia-drm_gbm.so") == (
        "../libnvidia-allocator.so.1"
    )
    if nodes:
        assert profile.stdout == (
            '{"profiles":[{"name":"_container_","settings":["EGLVisibleDGPUDevices",0x9]}],'
            '"rules":[{"pattern":[],"profile":"_container_"}]}'
        )
    else:
        assert profile.returncode == 1
    assert_no_leftovers(site.rootfs, before)
    owner = MAPPED if user_namespace else 0
    assert (site.rootfs / "etc/ld.so.cache").stat().st_uid == owner


def test_once_more_changes_nothing(site: Site, runtime: str) -> None:
    with site.container(*GENERATED, name="first", runtime=runtime):
        pass
    before = tree(site.rootfs)
    with site.container(*GENERATED, name="second", runtime=runtime):
        pass
    assert tree(site.rootfs) == before


# --- the loader cache ---------------------------------------------------------------------------


def run_ldconfig(site: Site, folders: Sequence[str]) -> dict[str, str]:
    """Have glibc's own update a copy of the image, as the reference does."""
    copy = site.directory / "copy"
    subprocess.run(["cp", "-a", site.rootfs, copy], check=True)
    subprocess.run(["cp", "-a", f"{site.driver}/.", copy], check=True)
    files = (copy / "etc/ld.so.conf.d").glob("*.conf")
    configured = [line for file in files for line in file.read_text().split("\n")]
    new = [folder for folder in folders if folder not in configured]
    (copy / "etc/ld.so.conf.d/00-nvcr-1.conf").write_text("".join(f"{line}\n" for line in new))
    subprocess.run(["ldconfig", "-r", copy], check=True)
    return look_ups(copy)


def test_look_ups_are_those_of_ldconfig(site: Site, runtime: str) -> None:
    (site.rootfs / "etc/ld.so.conf.d/zz.conf").write_text("/opt/late\n")
    site.put("/usr/local/lib/libcuda.so.1", "libcuda.so.1")  # comes first
    site.put("/opt/late/libnvidia-ml.so.1", "libnvidia-ml.so.1")  # comes last
    site.put("/opt/late/libnew.so.1", "libnew.so.1")  # ldconfig was not run since
    site.put(f"{LIBS}/libnvidia-ml.so.470.1", "libnvidia-ml.so.1")  # older
    expected = run_ldconfig(site, (LIBS, f"{LIBS}/vdpau"))
    with site.container(UPDATE, runtime=runtime):
        pass
    assert site.found() == expected
    assert expected["libcuda.so.1"] == "/usr/local/lib/libcuda.so.1"
    assert expected["libnvidia-ml.so.1"] == f"{LIBS}/libnvidia-ml.so.1"


def test_folder_that_is_not_configured_comes_first(site: Site, runtime: str) -> None:
    """Also in an image of another distribution, whose libraries are elsewhere."""
    make_rhel_like(site.rootfs)
    for path in (site.rootfs / LIBS[1:]).iterdir():
        path.rename(site.rootfs / "usr/lib64" / path.name)
    (site.rootfs / LIBS[1:]).rmdir()
    (site.rootfs / "etc/ld.so.conf.d" / f"{Path(LIBS).name}.conf").unlink()
    site.put("/usr/lib64/libcuda.so.1", "libcuda.so.1")
    (site.rootfs / "etc/ld.so.cache").unlink()
    with site.container(UPDATE, runtime=runtime) as container:
        assert container.exec("true").returncode == 0
    found = site.found()
    assert found["libcuda.so.1"] == f"{LIBS}/libcuda.so.1"
    assert found["libc.so.6"] == "/usr/lib64/libc.so.6"


def test_link_to_an_older_version_is_replaced(site: Site) -> None:
    """One of an earlier start, whose mount points are empty files by now."""
    for path in (f"{LIBS}/libcuda.so.535.1", f"{LIBS}/libnvidia-ml.so.535.1"):
        (site.rootfs / path[1:]).touch()
    (site.rootfs / LIBS[1:] / "libcuda.so.1").symlink_to("libcuda.so.535.1")
    (site.rootfs / LIBS[1:] / "libnvidia-ml.so.1").symlink_to("libnvidia-ml.so.470.1")
    site.put(f"{LIBS}/libnvidia-ml.so.470.1", "libnvidia-ml.so.1")
    subprocess.run(["ldconfig", "-r", site.rootfs], check=True, capture_output=True)
    with site.container(UPDATE):
        pass
    for stem in ("libcuda", "libnvidia-ml"):
        assert os.readlink(site.rootfs / LIBS[1:] / f"{stem}.so.1") == f"{stem}.so.{VERSION}"
        assert site.found()[f"{stem}.so.1"] == f"{LIBS}/{stem}.so.1"


def test_without_etc(site: Site, runtime: str) -> None:
    shutil.rmtree(site.rootfs / "etc")
    with site.container(*GENERATED, runtime=runtime):
        pass
    assert not (site.rootfs / "etc").exists()
    for name, soname, folder in DRIVER:  # by these the loader finds them where it looks anyway
        assert os.readlink(site.rootfs / f"{folder[1:]}/{soname}") == name


def test_musl(site: Site, runtime: str) -> None:
    (site.rootfs / "etc/ld.so.cache").unlink()
    for path in ("lib64", "usr/lib64"):
        at = site.rootfs / path
        at.unlink() if at.is_symlink() else shutil.rmtree(at)
    (site.rootfs / "usr/lib/ld-musl-x86_64.so.1").touch()
    change = site.edit([UPDATE])
    container = OciContainer(
        site.directory / "c", site.rootfs, runtime=runtime, change=change, cgroup="v1"
    )
    container.create()  # its program has no loader
    container.delete()
    lines = (site.rootfs / "etc/ld-musl-x86_64.path").read_text().split("\n")
    assert lines == ["/lib:/usr/local/lib:/usr/lib", LIBS, f"{LIBS}/vdpau"]
    assert not (site.rootfs / "etc/ld.so.cache").exists()


def test_unreadable_cache(site: Site) -> None:
    (site.rootfs / "etc/ld.so.cache").write_bytes(b"glibc-ld.so.cache1.1" + b"\xff" * 100)
    with site.container(UPDATE):
        pass
    assert site.found()["libcuda.so.1"] == f"{LIBS}/libcuda.so.1"
    assert "libc.so.6" in site.found()


# --- CUDA compatibility -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "words", "used"),
    [
        ("590.10", COMPAT, True),
        ("580.10", COMPAT, False),
        ("590.10", ("enable-cuda-compat",), False),
        ("590.10", ("enable-cuda-compat", "--host-cuda-version=12.0"), False),
        ("590.10", (*COMPAT, "--cuda-compat-container-root=/opt/none"), False),
    ],
)
@pytest.mark.parametrize("configured", [False, True], ids=["new", "configured"])
def test_cuda_compatibility(
    site: Site, version: str, words: tuple[str, ...], used: bool, configured: bool
) -> None:
    site.put(f"/usr/local/cuda-13/compat/libcuda.so.{version}", "libcuda.so.1")
    (site.rootfs / "usr/local/cuda").symlink_to("cuda-13")
    if configured:
        (site.rootfs / "etc/ld.so.conf.d/zz.conf").write_text("/usr/local/cuda/compat\n")
        subprocess.run(["ldconfig", "-r", site.rootfs], check=True)
    with site.container(words, UPDATE):
        pass
    first = site.found()["libcuda.so.1"].rpartition("/")[0]
    compat = {"/usr/local/cuda-13/compat", "/usr/local/cuda/compat"}
    assert first in (compat if used else {LIBS})
    assert not list((site.rootfs / "etc/ld.so.conf.d").glob("00-*"))


# --- links --------------------------------------------------------------------------------------


def test_links_stay_in_the_root(site: Site, runtime: str) -> None:
    outside = site.directory / "outside"
    outside.mkdir()
    (site.rootfs / "abs").symlink_to(outside)
    (site.rootfs / "usr/deep").symlink_to("/srv")
    (site.rootfs / "tmp/old").symlink_to("elsewhere")
    links = ("a::/abs/one", "/b::/usr/deep/two", "../c::/tmp/old", "d::/usr/../srv/three")
    hook = ("create-symlinks", *(f"--link={link}" for link in links))
    with site.container(hook, runtime=runtime):
        pass
    assert list(outside.iterdir()) == []
    assert os.readlink(site.rootfs / str(outside)[1:] / "one") == "a"
    assert os.readlink(site.rootfs / "srv/two") == "/b"
    assert os.readlink(site.rootfs / "tmp/old") == "../c"
    assert os.readlink(site.rootfs / "srv/three") == "d"


def test_link_out_of_the_root_stops_the_container(site: Site, runtime: str) -> None:
    (site.rootfs / "up").symlink_to("../" * 20)
    before = tree(site.rootfs)
    hook = ("create-symlinks", "--link", "a::/srv/one", "--link", "b::/up/two")
    container = site.container(hook, runtime=runtime)
    try:
        with pytest.raises(ContainerFailedError):
            container.create()
    finally:
        container.delete()
    after = {path: facts for path, facts in tree(site.rootfs).items() if path in before}
    assert after == before
    assert not (site.rootfs / "srv").exists()


def test_file_of_the_image_where_a_link_belongs(site: Site, runtime: str) -> None:
    """The driver's is mounted over it, if that is beside it; anything else stays."""
    old = site.put(f"{LIBS}/libcuda.so.1", "libcuda.so.1")
    old.write_bytes(old.read_bytes() + b"of the image")
    (site.rootfs / "srv").mkdir(exist_ok=True)
    (site.rootfs / "srv/file").write_text("mine\n")
    (site.rootfs / "srv/target").write_text("image's\n")
    before = old.read_bytes()
    links = (LINKS[0], "target::/srv/file", f"{LIBS}/libcuda.so.{VERSION}::/srv/target")
    hook = ("create-symlinks", *(f"--link={link}" for link in links))
    with site.container(hook, UPDATE, runtime=runtime) as container:
        inside = [mount.path for mount in mounts(container.pid)]
        same = container.exec("sh", "-c", f"cd {LIBS}; [ libcuda.so.1 -ef libcuda.so.{VERSION} ]")
        assert (same.returncode == 0) is CAN_CLONE
        assert container.exec("cat", "/srv/file", "/srv/target").stdout == "mine\nimage's\n"
    assert (f"{LIBS}/libcuda.so.1" in inside) is CAN_CLONE
    assert old.read_bytes() == before


# --- modes and profiles -------------------------------------------------------------------------


def test_chmod(site: Site, runtime: str) -> None:
    outside = site.directory / "outside"
    outside.mkdir(mode=0o755)
    for name in ("one", "two"):
        (site.rootfs / "srv").mkdir(exist_ok=True)
        (site.rootfs / "srv" / name).touch(mode=0o600)
    (site.rootfs / "srv/link").symlink_to("/srv/two")
    (site.rootfs / "srv/out").symlink_to(outside)
    paths = ("/srv/one", "/srv/link", "/srv/out", "/srv/missing", "/dev/nvidia0")
    hook = ("chmod", "--mode", "751", *(f"--path={path}" for path in paths))
    with site.container(hook, nodes=(0,), runtime=runtime) as container:
        listed = container.exec("ls", "-l", "/dev/nvidia0").stdout
    assert listed.startswith("crwxr-x--x")
    assert stat.S_IMODE((site.rootfs / "srv/one").stat().st_mode) == 0o751
    assert stat.S_IMODE((site.rootfs / "srv/two").stat().st_mode) == 0o751
    assert stat.S_IMODE(outside.stat().st_mode) == 0o755


def test_profile_counts_devices_only(site: Site) -> None:
    (site.rootfs / "dev/nvidia7").touch()  # covered by the runtime
    hook = ("update-application-profile",)
    with site.container(hook, nodes=(1, 70)) as container:
        profile = container.exec(
            "cat", "/etc/nvidia/nvidia-application-profiles-rc.d/10-container.conf"
        ).stdout
    assert f"0x{1 << 1 | 1 << 70:x}" in profile


def test_device_node_modification(site: Site, dgx_a100: Path) -> None:
    """On a machine with a driver; this kernel has none, so the container's procfs neither."""
    script = site.directory / "runc"
    command = json.dumps([*on_host(dgx_a100), "runc"])
    script.write_text(
        "#!/usr/bin/env python3\nimport os, sys\n"
        f"words = {command}\nos.execvp(words[0], words + sys.argv[1:])\n"
    )
    script.chmod(0o755)
    hook = ("disable-device-node-modification",)
    with site.container(hook, hook, runtime=str(script)) as container:
        params = container.exec("cat", "/proc/driver/nvidia/params").stdout
        listed = container.exec("ls", "/proc/driver/nvidia").stdout.split()
        version = container.exec("cat", "/proc/driver/nvidia/version").stdout
        inside = [m for m in mounts(container.pid) if m.path == "/proc/driver"]
    assert "ModifyDeviceFiles: 0\n" in params
    assert params == (dgx_a100 / "proc/driver/nvidia/params").read_text().replace(
        "ModifyDeviceFiles: 1", "ModifyDeviceFiles: 0"
    )
    assert version == (dgx_a100 / "proc/driver/nvidia/version").read_text()
    assert set(listed) == {path.name for path in (dgx_a100 / "proc/driver/nvidia").iterdir()}
    assert len(inside) == 1  # the second time there was nothing to do


# --- hostile ------------------------------------------------------------------------------------


def test_environment_of_the_image(site: Site, runtime: str, compile_c: CompileC) -> None:
    """Old runtimes gave it to such hooks, with the image's root as working directory."""
    mark = site.directory / "ran"
    source = site.directory / "evil.c"
    source.write_text(
        "#include <fcntl.h>\n#include <unistd.h>\n"
        "__attribute__((constructor)) static void evil(void)\n"
        f'{{ (void)!open("{mark}", O_CREAT | O_WRONLY, 0600); }}\n'
    )
    evil = compile_c(site.rootfs / "evil.so", source)
    for path in ("sitecustomize.py", "os.py", "libnvc/__init__.py"):
        at = site.rootfs / path
        at.parent.mkdir(exist_ok=True)
        at.write_text(f"open({str(mark)!r}, 'w')\n")
    environment = [
        *(f"LD_PRELOAD=/proc/self/cwd/{evil.name}", "LD_LIBRARY_PATH=."),
        *("PYTHONPATH=.", "PYTHONHOME=.", "PYTHONSTARTUP=os.py", "NVIDIA_CTK_DEBUG=true"),
    ]
    change = site.edit(GENERATED)

    def hostile(document: dict[str, Any]) -> None:
        change(document)
        for hook in document["hooks"]["createContainer"]:
            hook["env"] = [*environment, "PATH=."]

    options: dict[str, Any] = {"runtime": runtime, "change": hostile, "cgroup": "v1"}
    with OciContainer(site.directory / "c", site.rootfs, **options):
        pass
    assert not mark.exists()
    assert site.found()["libcuda.so.1"] == f"{LIBS}/libcuda.so.1"


def test_links_of_the_image_lead_nowhere_outside(site: Site, runtime: str) -> None:
    """Everything that the hooks write to is a link out of the root; names are unusual."""
    outside = site.directory / "outside"
    outside.mkdir()
    victim = outside / "victim"
    victim.write_text("mine\n")
    before = tree(outside)
    (site.rootfs / "etc/.ld.so.cache.libnvc").symlink_to(victim)
    (site.rootfs / "etc/nvidia").symlink_to(outside)
    (site.rootfs / LIBS[1:] / "gbm").symlink_to(outside)
    (site.rootfs / LIBS[1:] / "libcuda.so.1").symlink_to(victim)
    (site.rootfs / LIBS[1:] / "libnvidia-ml.so.1").symlink_to("../../../../../../victim")
    site.put(f"{LIBS}/libnew\nline.so.1", "libodd\n.so.1")
    (site.rootfs / LIBS[1:] / "libfifo.so.1").unlink(missing_ok=True)
    os.mkfifo(site.rootfs / LIBS[1:] / "libfifo.so.1")
    with site.container(*GENERATED, nodes=(0,), runtime=runtime):
        pass
    assert tree(outside) == before
    assert site.found()["libcuda.so.1"] == f"{LIBS}/libcuda.so.1"


def test_cache_that_is_a_link_stops_the_container(site: Site) -> None:
    victim = site.directory / "victim"
    victim.write_text("mine\n")
    cache = site.rootfs / "etc/ld.so.cache"
    cache.unlink()
    cache.symlink_to(victim)
    container = site.container(UPDATE)
    try:
        with pytest.raises(ContainerFailedError, match=f"{NAME}: open failed: {cache}: invalid"):
            container.create()
    finally:
        container.delete()
    assert victim.read_text() == "mine\n"
    assert cache.is_symlink()


class Inside:
    """Runs the hook where a createContainer hook runs, and sees what it changed."""

    def __init__(self, site: Site, container: NamespaceContainer) -> None:
        self.site = site
        self.container = container
        self.tree = tree(site.rootfs)

    def __call__(self, *words: str, state: bytes | None = None) -> tuple[int, str]:
        if state is None:
            state = json.dumps({"root": str(self.site.rootfs), "bundle": "/"}).encode()
        enter = ["nsenter", f"--target={self.container.pid}", "--mount"]
        done = subprocess.run(
            [*enter, self.site.hook, *words],
            input=state,
            env={},
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.stdout == b""
        return done.returncode, os.fsdecode(done.stderr)

    def assert_untouched(self) -> None:
        assert tree(self.site.rootfs) == self.tree


@pytest.fixture
def inside(site: Site) -> Iterator[Inside]:
    with NamespaceContainer(site.rootfs) as container:
        yield Inside(site, container)


DECODE = "failed to load container state: failed to decode container state: "


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (b"", f"{DECODE}EOF"),
        (b'{"bundle": "/x"', f"{DECODE}expecting ',' delimiter (line 1, column 16)"),
        (b'{"bundle": "\xff"}', f"{DECODE}not UTF-8 (byte 12)"),
        (b"[1]", f"{DECODE}not an object"),
        (b" " * (16 << 20) + b"{}", f"{DECODE}larger than 16777216 bytes"),
        (b"{}", "container state: bundle: missing, or not a path"),
        (b'{"bundle": 1}', "container state: bundle: missing, or not a path"),
        (b'{"bundle": "x"}', "container state: bundle: missing, or not a path"),
        (b'{"bundle": "/nowhere"}', "/nowhere/config.json: no such file or directory"),
        (b'{"root": "/"}', "container state: the container's root is that of the host"),
        (b'{"root": "/./"}', "container state: the container's root is that of the host"),
        (b'{"root": "/a\\nb"}', "container state: /a\\nb: not a usable path"),
        (b'{"root": "/a\\u0000b"}', "container state: /a\\x00b: not a usable path"),
        (b'{"root": "/nowhere"}', "open failed: /nowhere: no such file or directory"),
    ],
)
@pytest.mark.parametrize(
    "words", [("create-symlinks", "--link=a::/b"), UPDATE], ids=["symlinks", "ldcache"]
)
def test_hostile_state(inside: Inside, words: tuple[str, ...], state: bytes, message: str) -> None:
    assert inside(*words, state=state) == (1, f"{NAME}: {message}\n")
    inside.assert_untouched()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("create-symlinks", "--link", "a"), "invalid symlink specification a"),
        (("create-symlinks", "--link", "a::b::c"), "invalid symlink specification a::b::c"),
        (("create-symlinks", "--link", "::/b"), "invalid symlink specification ::/b"),
        (("create-symlinks", "--link", "a::/"), "invalid symlink specification a::/"),
        (
            ("create-symlinks", "--link=a::/ok", "--link=a\nb::/c"),
            "invalid path: 'a\\nb': it contains a newline",
        ),
        (("chmod", "--mode=8", "--path=/etc"), "invalid mode '8': not an octal number up to 7777"),
        (("chmod", "--path=/etc"), "invalid mode '': not an octal number up to 7777"),
        (
            ("chmod", "--mode=700", "--path=/etc/passwd", "--path=/leave"),
            "path error: /leave resolves outside of",
        ),
    ],
)
def test_refusals(site: Site, words: tuple[str, ...], message: str) -> None:
    (site.rootfs / "leave").symlink_to("../x")
    with NamespaceContainer(site.rootfs) as container:
        inside = Inside(site, container)
        status, said = inside(*words)
        assert status == 1
        assert said.count("\n") == 1
        assert message in said.replace("\\\\", "\\")
        inside.assert_untouched()


@pytest.mark.parametrize(
    "words", [("create-symlinks", "--link=a::/b"), UPDATE, ("chmod", "--mode=700", "--path=/etc")]
)
def test_not_on_the_host(site: Site, words: tuple[str, ...]) -> None:
    before = tree(site.rootfs)
    state = json.dumps({"root": str(site.rootfs)})
    done = subprocess.run(
        [site.hook, *words], input=state, capture_output=True, text=True, check=False, env={}
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{NAME}: ")
    assert "the caller is in the host's mount namespace" in done.stderr
    assert tree(site.rootfs) == before


def test_starts_at_once_with_one_root(site: Site) -> None:
    """Containers that share their files are changed one at a time."""
    state = json.dumps({"root": str(site.rootfs)})
    with NamespaceContainer(site.rootfs) as container:
        enter = ["nsenter", f"--target={container.pid}", "--mount", str(site.hook)]
        running = [
            subprocess.Popen(
                [*enter, "update-ldcache", f"--folder=/opt/{number}"],
                stdin=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={},
            )
            for number in range(6)
        ]
        for process in running:
            assert process.communicate(state)[1] == ""
            assert process.returncode == 0
    assert "libc.so.6" in site.found()
    assert not (site.rootfs / "etc/.ld.so.cache.libnvc").exists()
