# SPDX-License-Identifier: Apache-2.0
"""A container that is like one before it gets the same, and no interpreter is started for it."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration.kept_host import RUNTIME, KeptHost, write_in_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ALL = "NVIDIA_VISIBLE_DEVICES=all"

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, commands: Path) -> Iterator[KeptHost]:
    """Return a host; whoever changes it changes it back."""
    with KeptHost(tmp_path_factory.mktemp("kept"), commands, "dgx-a100-mig") as host:
        yield host


@pytest.fixture
def host(shared: KeptHost) -> KeptHost:
    """Return the host with nothing kept."""
    shared.forget()
    return shared


PRIVILEGED = {"process": {"env": [ALL], "capabilities": {"bounding": ["CAP_SYS_ADMIN"]}}}


@pytest.mark.parametrize(
    ("env", "members"),
    [
        ((ALL,), {}),
        (("NVIDIA_VISIBLE_DEVICES=0,3", "NVIDIA_DRIVER_CAPABILITIES=all"), {}),
        (("NVIDIA_VISIBLE_DEVICES=none", "HOSTNAME=a\\b\u00e9"), {}),
        (("CUDA_VERSION=11.0",), {}),
        (("NVIDIA_VISIBLE_DEVICES=0:0",), {}),
        (("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_IMEX_CHANNELS=all"), {}),
        ((), PRIVILEGED),
        ((ALL,), {"linux": {"namespaces": [], "devices": [{"path": "/dev/fuse"}]}}),
        ((ALL,), {"hooks": {"createRuntime": [{"path": "/bin/a"}], "poststop": []}}),
    ],
)
def test_the_native_program_does_the_same(
    host: KeptHost, env: tuple[str, ...], members: dict[str, Any]
) -> None:
    first = host.settle(*env) if env else None
    found = [host.create(*env, members=members) for _ in range(3)]
    assert [created.is_native for created in found[1:]] == [True, True]
    assert found[0].result() == found[1].result() == found[2].result()
    assert found[0].status == 0
    assert found[0].plan.startswith(b"nvcplan\0")
    if first is not None and not members:
        assert first.result() == found[0].result()


def test_what_is_new_each_time_needs_no_interpreter(host: KeptHost) -> None:
    """Names, mounts and cgroups of the container, and what it has from its engine."""
    host.settle(ALL)
    for number in range(3):
        members = {
            "hostname": f"web-{number}",
            "mounts": [{"destination": "/etc/hosts", "source": f"/var/lib/{number}/hosts"}],
            "annotations": {"io.kubernetes.pod": f'{number}"\\'},
        }
        created = host.create(ALL, f"HOSTNAME=web-{number}", members=members)
        assert created.is_native
        assert created.document["hostname"] == f"web-{number}"
        assert created.document["process"]["env"] == ["PATH=/bin", ALL, f"HOSTNAME=web-{number}"]


@pytest.mark.parametrize(
    ("env", "members", "environment"),
    [
        (("NVIDIA_VISIBLE_DEVICES=0",), {}, {}),
        ((ALL, "NVIDIA_DRIVER_CAPABILITIES=video"), {}, {}),
        ((ALL, "NVIDIA_REQUIRE_CUDA=cuda>=12"), {}, {}),
        ((ALL, "CUDA_VERSION=11.0"), {}, {}),
        ((ALL,), {"annotations": {"cdi.k8s.io/x": "nvidia.com/gpu=0"}}, {}),
        ((ALL,), {"linux": {"namespaces": [{"type": "user"}]}}, {}),
        ((ALL,), {"linux": {"namespaces": [], "devices": [{"path": "/dev/nvidia0"}]}}, {}),
        ((ALL,), {"hooks": {"prestart": [{"path": f"/usr/bin/{RUNTIME}-hook"}]}}, {}),
        ((ALL,), {}, {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}),
        ((ALL,), {}, {"CUDA_MPS_PIPE_DIRECTORY": "/mps"}),
    ],
)
def test_what_differs_is_pythons(
    host: KeptHost, env: tuple[str, ...], members: dict[str, Any], environment: dict[str, str]
) -> None:
    host.settle(ALL)
    created = host.create(*env, members=members, **environment)
    assert not created.is_native
    host.forget()
    assert created.result() == host.create(*env, members=members, **environment).result()


def test_the_prestart_hook_is_put_in_without_an_interpreter(host: KeptHost) -> None:
    """In legacy mode, whatever the driver is."""
    hook = {"path": f"{host.bin}/{RUNTIME}-hook", "args": [f"{RUNTIME}-hook", "prestart"]}
    other: dict[str, Any] = {"path": "/bin/other", "args": ["other"]}
    host.configure(runtime='mode = "legacy"')
    try:
        first = host.settle(ALL)
        native = host.create(ALL, members={"hooks": {"prestart": [other], "poststop": []}})
        assert (native.status, native.is_native, native.plan) == (0, True, b"")
        assert native.document["hooks"] == {"prestart": [other, hook], "poststop": []}
        assert first.document["hooks"] == {"prestart": [hook]}
        host.forget()
        again = host.create(ALL)
        assert not again.is_native
        assert first.result() == again.result()
        host.settle(ALL)
        given = host.create(ALL, members={"hooks": {"prestart": [hook]}})
        assert (given.status, given.is_native) == (0, False)
        assert given.document["hooks"] == {"prestart": [hook]}
        (host.bin / f"{RUNTIME}-hook").touch()
        assert not host.create(ALL).is_native
        host.configure(runtime='mode = "legacy"', top='[nvidia-container-runtime-hook]\npath = "x"')
        assert [host.create(ALL).is_native for _ in range(3)] == [False] * 3
    finally:
        host.configure()


def test_what_keeps_nothing(host: KeptHost) -> None:
    for _ in range(3):
        assert not host.create(ALL, name=RUNTIME, members={"annotations": {"a": "b"}}).status
    try:
        host.configure(top="cache = false")
        host.forget()
        assert [host.create(ALL).is_native for _ in range(2)] == [False, False]
        assert host.plans == []
        host.configure(runtime=f'debug = "{host.bundle.parent}/debug.log"')
        assert [host.create(ALL).is_native for _ in range(2)] == [False, False]
    finally:
        host.configure()


# --- what it rests on ---------------------------------------------------------------------------

LIBRARIES = "usr/lib/x86_64-linux-gnu"
DRIVER = "proc/driver/nvidia"
VERSION = "535.261.03"


def moved(path: str) -> Callable[[KeptHost, bool], None]:
    """Return what takes a file away, and puts it back."""

    def toggle(host: KeptHost, is_on: bool) -> None:
        here, aside = host.root / path, host.root.parent / "aside" / path.replace("/", "+")
        aside.parent.mkdir(exist_ok=True)
        os.rename(*((here, aside) if is_on else (aside, here)))

    return toggle


def made(path: str, make: Callable[[Path], object]) -> Callable[[KeptHost, bool], None]:
    """Return what makes a file, and removes it."""

    def toggle(host: KeptHost, is_on: bool) -> None:
        file = host.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if is_on:
            make(file)
        elif file.is_dir():
            shutil.rmtree(file)
        else:
            file.unlink()

    return toggle


def rewritten(path: str, old: bytes, new: bytes) -> Callable[[KeptHost, bool], None]:
    """Return what changes a file in place, keeping its time of modification, and back."""

    def toggle(host: KeptHost, is_on: bool) -> None:
        file = host.root / path
        was = file.stat()
        before, after = (old, new) if is_on else (new, old)
        content = file.read_bytes()
        assert before in content
        write_in_place(file, content.replace(before, after, 1))
        os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))

    return toggle


def swapped_minors(host: KeptHost, is_on: bool) -> None:
    files = sorted((host.root / DRIVER / "gpus").glob("*/information"))[:2]
    one, other = (file.read_text() for file in files)
    files[0].write_text(other)
    files[1].write_text(one)


def relinked(host: KeptHost, is_on: bool) -> None:
    link = host.root / LIBRARIES / "libcuda.so.1"
    link.unlink()
    link.symlink_to(f"libnvidia-ml.so.{VERSION}" if is_on else f"libcuda.so.{VERSION}")


def mode_changed(host: KeptHost, is_on: bool) -> None:
    (host.root / "dev/nvidia-uvm").chmod(0o600 if is_on else 0o666)


def new_inode(host: KeptHost, is_on: bool) -> None:
    """Replace a library by another of the same size and times."""
    file = host.root / LIBRARIES / f"libcuda.so.{VERSION}"
    copy = file.with_name("copy")
    shutil.copy2(file, copy)
    copy.rename(file)


def configured(host: KeptHost, is_on: bool) -> None:
    host.configure(top='supported-driver-capabilities = "utility"' if is_on else "")


def other_boot(host: KeptHost, is_on: bool) -> None:
    file, place = host.bundle.parent / "boot", "/proc/sys/kernel/random/boot_id"
    file.write_text("00000000-0000-0000-0000-000000000000\n")
    command = ("mount", "--bind", file, place) if is_on else ("umount", place)
    assert host.on_host(*command).returncode == 0


def image_changed(host: KeptHost, is_on: bool) -> None:
    file = host.bundle / "rootfs/etc/debian_version"
    file.touch() if is_on else file.unlink()


def image_with_compat(host: KeptHost, is_on: bool) -> None:
    place = host.bundle / "rootfs/usr/local/cuda/compat"
    if is_on:
        place.mkdir(parents=True)
        (place / "libcuda.so.545.23.08").touch()
        (place / "libcuda.so.1").symlink_to("libcuda.so.545.23.08")
    else:
        shutil.rmtree(host.bundle / "rootfs/usr")


def tegra(host: KeptHost, is_on: bool) -> None:
    """Make it a Jetson, whose driver CSV files describe."""
    release, module = host.root / "etc/nv_tegra_release", host.root / "sys/module/nvgpu"
    if is_on:
        release.touch()
        module.mkdir()
    else:
        release.unlink()
        module.rmdir()


def drm(host: KeptHost, is_on: bool) -> None:
    shown = host.root / "sys/bus/pci/devices/0000:07:00.0/drm"
    node = host.root / "dev/dri/card0"
    if is_on:
        (shown / "card0").mkdir(parents=True)
        (shown / "card0/dev").write_text("226:0\n")
        node.parent.mkdir(parents=True)
        device(node)
    else:
        shutil.rmtree(shown)
        shutil.rmtree(node.parent)


def program(path: Path) -> None:
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)


def device(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(195, 9))


CHANGES: dict[str, Callable[[KeptHost, bool], None]] = {
    "module-upgraded": rewritten(f"{DRIVER}/version", b"535.261.03", b"535.261.04"),
    "library-gone": moved(f"{LIBRARIES}/libnvidia-opencl.so.{VERSION}"),
    "library-in-place": rewritten(
        f"{LIBRARIES}/libcuda.so.{VERSION}", b"libcuda.so.1", b"libcuda.so.2"
    ),
    "library-of-the-same-size": new_inode,
    "link-changed": relinked,
    "link-gone": moved(f"{LIBRARIES}/libnvidia-opencl.so.1"),
    "loader-cache-gone": moved("etc/ld.so.cache"),
    "gpu-removed": moved(f"{DRIVER}/gpus/0000:47:00.0"),
    "gpu-off-the-bus": moved("sys/bus/pci/devices/0000:47:00.0"),
    "node-gone": moved("dev/nvidia3"),
    "node-mode": mode_changed,
    "minors-swapped": swapped_minors,
    "uvm-major": rewritten("proc/devices", b"510 nvidia-uvm", b"509 nvidia-uvm"),
    "params": rewritten(f"{DRIVER}/params", b"DeviceFileUID: 0", b"DeviceFileUID: 7"),
    "mig-destroyed": moved(f"{DRIVER}/capabilities/gpu0/mig/gi1"),
    "mig-made": made(f"{DRIVER}/capabilities/gpu5/mig/gi9", Path.mkdir),
    "daemon-stopped": moved("run/nvidia-persistenced/socket"),
    "program-gone": moved("usr/bin/nvidia-smi"),
    "program-elsewhere": made("usr/sbin/nvidia-debugdump", program),
    "firmware-gone": moved(f"usr/lib/firmware/nvidia/{VERSION}/gsp_ga10x.bin"),
    "imex-channel": made("dev/nvidia-caps-imex-channels/channel3", device),
    "module-unloaded": moved("sys/module/nvidia_modeset"),
    "configured": configured,
    "other-boot": other_boot,
    "tegra": tegra,
    "manifest-gone": moved("usr/share/glvnd/egl_vendor.d/10_nvidia.json"),
    "manifest-elsewhere": made("usr/local/share/nvidia/nvoptix.bin", program),
    "platform-gone": moved(f"{LIBRARIES}/libnvidia-egl-gbm.so.1"),
    "drm": drm,
    "image": image_changed,
    "image-with-compat": image_with_compat,
}


PICTURES = (ALL, "NVIDIA_DRIVER_CAPABILITIES=all")

#: What is noticed by who asks for more than the usual capabilities.
ASKED = dict.fromkeys(("manifest-gone", "manifest-elsewhere", "platform-gone", "drm"), PICTURES)


def check(host: KeptHost, *env: str) -> None:
    """Compare what is created with what is created where nothing is kept."""
    found = host.create(*env)
    host.forget()
    assert found.result() == host.create(*env).result()


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_stale_is_used(host: KeptHost, change: str) -> None:
    """After any one change; and after it is taken back, as from a backup."""
    asked = ASKED.get(change, (ALL,))
    before = host.settle(*asked)
    CHANGES[change](host, True)
    try:
        check(host, *asked)
        for _ in range(3):  # some states are not kept: where loading a module is tried again
            host.create(*asked)
    finally:
        CHANGES[change](host, False)
    check(host, *asked)
    assert host.settle(*asked).result() == before.result()


@settings(max_examples=15)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([*CHANGES]),
            st.sampled_from([(ALL,), PICTURES, ("NVIDIA_VISIBLE_DEVICES=0",)]),
        ),
        max_size=6,
    )
)
def test_nothing_stale_is_used_after_many_changes(
    shared: KeptHost, steps: list[tuple[str, tuple[str, ...]]]
) -> None:
    """Plans of states before stay around: a state that comes back may find one."""
    on: set[str] = set()
    try:
        for change, env in steps:
            CHANGES[change](shared, change not in on)
            on ^= {change}
            found = shared.create(*env)
            kept = [(path, path.read_bytes()) for path in shared.plans]
            shared.forget()
            assert found.result() == shared.create(*env).result()
            for path, content in kept:
                path.write_bytes(content)
                path.chmod(0o600)
    finally:
        for change in on:
            CHANGES[change](shared, False)


# --- whom it trusts -----------------------------------------------------------------------------


def test_only_root_may_look(host: KeptHost) -> None:
    host.settle(ALL)
    (plan,) = host.plans
    assert stat.S_IMODE(plan.stat().st_mode) == 0o600
    assert stat.S_IMODE(plan.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(plan.parent.parent.stat().st_mode) == 0o700
    done = host.on_host("setpriv", "--reuid=65534", "--clear-groups", "ls", "/run/libnvc/plans")
    assert done.stderr.endswith("Permission denied\n")


def replaced_by_link(plan: Path) -> None:
    plan.rename(plan.with_name("other"))
    plan.symlink_to("other")


def replaced_by_fifo(plan: Path) -> None:
    plan.unlink()
    os.mkfifo(plan, 0o600)


CLOSED = ": others than root may enter it: remove it, or make it root's and 0700\n"


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (replaced_by_link, "cannot be read: too many levels of symbolic links"),
        (replaced_by_fifo, "not a plain file"),
        (lambda plan: plan.chmod(0o602), "its mode is 0602"),
        (lambda plan: os.chown(plan, 65534, 0), "belongs to user 65534"),
        (lambda plan: plan.parent.chmod(0o711), CLOSED),
        (lambda plan: os.chown(plan.parent, 65534, 0), CLOSED),
        (lambda plan: plan.parent.parent.chmod(0o701), CLOSED),
        (lambda plan: os.truncate(plan, plan.stat().st_size // 2), "damaged"),
        (lambda plan: os.truncate(plan, 0), "damaged"),
        (lambda plan: os.truncate(plan, 8 << 20), "damaged"),
    ],
)
def test_what_others_may_have_written_is_not_used(
    host: KeptHost, commands: Path, spoil: Callable[[Path], object], why: str
) -> None:
    good = host.settle(ALL)
    (plan,) = host.plans
    spoil(plan)
    try:
        done = host.on_host(commands / "nvc", "cache", "show", "--json")
        if why == CLOSED:
            assert (done.returncode, done.stderr.endswith(CLOSED)) == (1, True)
        else:
            rows = {row["name"]: row["not_used"] for row in json.loads(done.stdout)}
            assert rows[plan.name] == why
        log = host.bundle.parent / "log.txt"
        assert host.command(f"--debug={log}", "info").returncode == 0
        said = log.read_text()
        log.unlink()
        assert "] not using what is kept" in said
        assert (why if why == CLOSED else f"/run/libnvc/plans/{plan.name}: {why}\n") in said
        created = host.create(ALL)
        assert not created.is_native
        assert (created.status, created.stderr) == (0, "")
        assert created.result() == good.result()
    finally:
        for directory in (host.run, host.run / "plans"):
            directory.chmod(0o700)
            os.chown(directory, 0, 0)
        for path in host.plans:
            path.unlink()


def test_damage_and_other_versions(host: KeptHost) -> None:
    """At places all over the file; the hash finds each change of one byte, wherever it is."""
    good = host.settle(ALL)
    (plan,) = host.plans
    content = plan.read_bytes()
    for place in (*range(0, len(content), len(content) // 40), 10, len(content) - 2):
        damaged = bytearray(content)
        damaged[place] ^= 1
        plan.write_bytes(damaged)
        created = host.create(ALL)
        assert not created.is_native, place
        assert created.result() == good.result()
    plan.write_bytes(content)
    assert host.create(ALL).is_native
    newer = content.replace(b"nvckept 1", b"nvckept 2", 1)
    for text in (b"", content + b"\n", content[:-1], newer):
        plan.write_bytes(text)
        assert not host.create(ALL).is_native


def test_no_more_than_so_many_are_kept(host: KeptHost) -> None:
    host.settle(ALL)
    (plan,) = host.plans
    for number in range(100):
        old = plan.with_name(f"{number:016x}")
        old.touch()
        os.utime(old, (number, number))
    assert not host.create("NVIDIA_VISIBLE_DEVICES=1").is_native
    names = [path.name for path in host.plans]
    assert len(names) == 64
    assert plan.name in names
    assert f"{99:016x}" in names
    assert f"{30:016x}" not in names


def test_what_is_kept_is_shown_and_removed(host: KeptHost, commands: Path) -> None:
    def cache(*words: str) -> str:
        done = host.on_host(commands / "nvc", "cache", *words)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    members = {**PRIVILEGED, "annotations": {"cdi.k8s.io/x": "", "other": "y"}}
    host.settle("NVIDIA_VISIBLE_DEVICES=0", "HOSTNAME=a")
    host.create(members=members)
    found = json.loads(cache("show", "--json"))
    assert sorted(row["name"] for row in found) == [plan.name for plan in host.plans]
    assert [row["not_used"] for row in found] == ["", ""]
    asked = [row["asked_by"] for row in found]
    assert asked == [["privileged", ALL, "cdi.k8s.io/x"], ["NVIDIA_VISIBLE_DEVICES=0"]]
    library = host.root / LIBRARIES / f"libcuda.so.{VERSION}"
    times = library.stat()
    os.utime(library, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    _, *lines = cache("show").splitlines()
    os.utime(library, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert [lines[place].strip() for place in (1, 3)] == [
        f"not used: {library}: other modification time"
    ] * 2
    assert cache("clear") == "removed 2 plans\n"
    assert cache("show").splitlines()[1:] == []
    assert host.plans == []


# --- what commands print --------------------------------------------------------------------------


def is_kept(host: KeptHost, *words: str) -> bool:
    """Tell whether the command needs no interpreter; it prints the same as if nothing were kept."""
    host.mark.unlink(missing_ok=True)
    done = host.command(*words)
    kept = not host.mark.exists()
    fresh = host.command("--no-cache", *words)
    assert (done.returncode, done.stdout, done.stderr) == (
        fresh.returncode,
        fresh.stdout,
        fresh.stderr,
    )
    return kept


@pytest.mark.parametrize(
    "words",
    [
        ("info",),
        ("info", "--csv"),
        ("list",),
        ("-k", "list", "--libraries", "--binaries"),
        ("list", "-d", "0:0"),
    ],
)
def test_output_is_kept(host: KeptHost, words: tuple[str, ...]) -> None:
    found = [is_kept(host, *words) for _ in range(5)]
    assert found[0] is False
    assert found[-2:] == [True, True]
    assert not is_kept(host, "--no-create-imex-channels", *words)


@pytest.mark.parametrize("words", [("info",), ("list", "-d", "0:0"), ("-k", "list", "-d", "3")])
@pytest.mark.parametrize("change", sorted({*CHANGES} - {"image", "image-with-compat", *ASKED}))
def test_no_stale_output_is_printed(host: KeptHost, change: str, words: tuple[str, ...]) -> None:
    for _ in range(3):
        is_kept(host, *words)
    CHANGES[change](host, True)
    try:
        for _ in range(2):
            is_kept(host, *words)
    finally:
        CHANGES[change](host, False)
    is_kept(host, *words)


def test_output_that_is_not_kept(host: KeptHost) -> None:
    for words in (("info", "-x"), ("--no-cache", "info"), (f"--debug={os.devnull}", "info")):
        for _ in range(3):
            assert not is_kept(host, *words)
    host.configure(top="cache = false")
    try:
        assert [is_kept(host, "info") for _ in range(3)] == [False] * 3
    finally:
        host.configure()
    assert host.plans == []


def test_kept_output_that_nobody_takes(host: KeptHost) -> None:
    while not is_kept(host, "list"):
        pass
    full = ("sh", "-c", 'exec "$@" >/dev/full', "sh")
    host.mark.unlink(missing_ok=True)
    done = host.command("list", before=full)
    assert not host.mark.exists()
    message = "nvidia-container-cli: output error: write failed: no space left on device\n"
    assert (done.returncode, done.stderr) == (1, message)
