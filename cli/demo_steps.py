# SPDX-License-Identifier: Apache-2.0
"""What the demo does, step by step."""

from __future__ import annotations

import os
import re
import shlex
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import libnvc
from libnvc import sim
from libnvc.testing import (
    NamespaceContainer,
    OciContainer,
    configure_hook,
    copy_program,
    make_rootfs,
    mounts,
)

if TYPE_CHECKING:
    from libnvc.testing import Mount

    from .demo_story import Story

    Container = OciContainer | NamespaceContainer

_PROFILE = "dgx-a100"
_WANTED = 2
_CAPABILITIES = ("utility", "compute")

# What the driver's files are called, and the directory that may have to be covered for them.
_DRIVER = re.compile(r"nvidia|/libcuda|^/proc/driver$")

# Tells who runs, then becomes the command.
_INTRODUCE = 'echo "$$ $(readlink /proc/self/ns/mnt)"; exec "$@"'


def tell(story: Story, directory: Path, why_not_runc: str) -> None:
    """Run the whole demo.

    Args:
        story: gets the explanations.
        directory: empty; everything is made in it. The caller removes it.
        why_not_runc: if not empty, namespaces are made by hand, and this is said.

    Raises:
        NvcError: a step failed, or did not have the effect that it should have.
        ContainerFailedError: the container could not be run.
    """
    before = mounts()
    driver = _driver(story, directory)
    granted = tuple(str(gpu.index) for gpu in driver.gpus[:_WANTED])
    rootfs, client = _rootfs(story, directory)
    container: Container
    what: libnvc.Target | libnvc.Applied
    if why_not_runc:
        container, what = _run_by_hand(story, driver, granted, rootfs, why_not_runc)
    else:
        container = _run_by_runc(story, directory, driver, granted, rootfs)
        what = libnvc.Target(pid=container.pid)
    try:
        try:
            _look_inside(story, container, client, _visible(driver, granted, why_not_runc))
            if not why_not_runc:
                _try_another(story, container, driver, granted)
            _show_changes(story, container)
            if not why_not_runc:
                _come_and_go(story, container, driver, len(granted))
        except BaseException:
            libnvc.detach(what)
            raise
        _detach(story, container, what)
    finally:
        container.delete()
    _finish(story, before)


def _driver(story: Story, directory: Path) -> libnvc.Inventory:
    story.step("A driver")
    if Path("/proc/driver/nvidia/version").exists():
        try:
            inventory = libnvc.discover("/")
        except libnvc.DriverNotFoundError as error:
            story.say(f"The driver of this machine is not complete ({error}).")
        else:
            story.say("This machine has an NVIDIA driver: the demo uses it.")
            return _describe(story, inventory)
    story.say(
        f"""This machine has no NVIDIA driver, so the demo makes a simulated one: the files, device
        nodes and loader cache of a host of the kind {_PROFILE}, with an NVML and a CUDA driver
        library that work without a GPU. Its libraries count a GPU only if its device node is
        there and may be opened, like the real ones."""
    )
    root = directory / "driver"
    story.command("host", f"nvc sim create --profile {_PROFILE} {root}")
    sim.create(_PROFILE, root)
    return _describe(story, libnvc.discover(str(root)))


def _describe(story: Story, inventory: libnvc.Inventory) -> libnvc.Inventory:
    models = ", ".join(sorted({gpu.model for gpu in inventory.gpus}))
    story.output(f"driver {inventory.driver_version}, {len(inventory.gpus)} GPUs: {models}")
    if not inventory.gpus:
        raise libnvc.DriverNotFoundError("the driver knows no GPU; is one plugged in?")
    return inventory


def _rootfs(story: Story, directory: Path) -> tuple[Path, str]:
    story.step("A root file system")
    rootfs = make_rootfs(directory / "rootfs")
    client = copy_program(rootfs, sim.cuda_client())
    files = sum(len(names) for _, _, names in os.walk(rootfs))
    story.say(
        f"""A small one, from programs of this machine: {files} files in {rootfs}. It has a shell,
        ldconfig and {client}, a program that uses the CUDA driver API. It has no file of NVIDIA's:
        these must come from the driver, in exactly its version."""
    )
    return rootfs, client


def _run_by_runc(
    story: Story,
    directory: Path,
    driver: libnvc.Inventory,
    granted: tuple[str, ...],
    rootfs: Path,
) -> OciContainer:
    story.step("A container, run by runc")
    command = [str(Path(sysconfig.get_path("scripts"), "nvidia-container-cli"))]
    command += [f"--root={driver.root}"] if driver.root else []
    command += ["configure", f"--device={','.join(granted)}"]
    command += [f"--{capability}" for capability in _CAPABILITIES]
    hook = configure_hook(directory / "prestart", command, rootfs)
    story.say(
        f"""Its config.json names a prestart hook, which runc runs when the container's namespaces
        exist but its program does not run yet. The hook asks for {_named(granted)} of
        {len(driver.gpus)}:"""
    )
    container = OciContainer(directory / "container", rootfs, prestart=[hook])
    story.command("host", f"runc create --bundle {container.bundle} {container.name}")
    story.output(f"prestart hook: {shlex.join(command)} --pid=PID {rootfs}")
    try:
        container.create()
        container.start()
    except BaseException:
        container.delete()
        raise
    story.output(f"the container's process is {container.pid}")
    return container


def _run_by_hand(
    story: Story,
    driver: libnvc.Inventory,
    granted: tuple[str, ...],
    rootfs: Path,
    why_not_runc: str,
) -> tuple[NamespaceContainer, libnvc.Applied]:
    story.step("A container, in namespaces of the demo's own making")
    nodes = all(file.present for file in driver.control)
    story.say(
        f"""Not by runc: {why_not_runc}. So the demo makes the namespaces itself and calls the
        Python API, asking for {_named(granted)} of {len(driver.gpus)}. What cannot be shown this
        way: device rules, because they need a cgroup of the container's own."""
    )
    if not nodes:
        story.say(
            """Nor device nodes: only root of the whole machine can make them for the simulated
            driver. Without its node a GPU does not count, so nvidia-smi and CUDA below are found
            and run, and then report that there is no GPU."""
        )
    container = NamespaceContainer(rootfs)
    try:
        container.create()
        target = libnvc.Target(pid=container.pid, rootfs=str(rootfs))
        request = libnvc.Request(
            devices=granted,
            capabilities=_CAPABILITIES,
            layout=libnvc.inspect_container(target),
            device_nodes=nodes,
            device_rules=False,
        )
        story.command("host", "python  # libnvc.apply(libnvc.make_plan(driver, request), target)")
        story.output(str(target))
        applied = libnvc.apply(libnvc.make_plan(driver, request), target)
        container.start()
    except BaseException:
        container.delete()
        raise
    return container, applied


def _visible(driver: libnvc.Inventory, granted: tuple[str, ...], why_not_runc: str) -> int:
    """Return how many GPUs the container must see."""
    nodes = not why_not_runc or all(file.present for file in driver.control)
    return len(granted) if nodes else 0


def _look_inside(story: Story, container: Container, client: str, visible: int) -> None:
    story.step("What a program in the container sees")
    how = "runc exec" if isinstance(container, OciContainer) else "nsenter"
    story.say(
        f"""The commands below run inside, by `{how}`. The demo itself runs in mount namespace
        {os.readlink("/proc/self/ns/mnt")}; each command says in which one it runs, and as which
        process."""
    )
    _run(story, container, "nvidia-smi")
    listed = _run(story, container, "nvidia-smi -L")
    counted = _run(story, container, Path(client).name)
    _run(story, container, "ldconfig -p | grep -E 'nvidia|cuda'")
    seen = len(re.findall(r"^GPU \d+:", listed, re.MULTILINE))
    if seen != visible:
        raise libnvc.NvcError(f"the container sees {seen} GPUs by NVML, and not {visible}")
    seen = len(set(re.findall(r"GPU-[0-9a-f-]{36}", counted)))
    if seen != visible:
        raise libnvc.NvcError(f"the container sees {seen} GPUs by CUDA, and not {visible}")


def _try_another(
    story: Story, container: Container, driver: libnvc.Inventory, granted: tuple[str, ...]
) -> None:
    others = [gpu for gpu in driver.gpus if str(gpu.index) not in granted]
    if not others:
        return
    node = others[0].device
    story.step("A GPU that was not granted")
    story.say(
        """Containers may make device nodes. It does not help: opening one is refused by the
        container's device rules (a cgroup), where only what was granted is allowed. A granted
        node of a simulated GPU can be opened as far as the kernel is concerned; then there is no
        hardware, and the kernel says so."""
    )
    allowed = driver.gpus[0].device.path
    _run(story, container, f"head -c1 {allowed}")
    made = _run(story, container, f"mknod {node.path} c {node.major} {node.minor}")
    said = _run(story, container, f"head -c1 {node.path}")
    if made or "Operation not permitted" not in said:
        raise libnvc.NvcError(f"the container could open {node.path}, which it was not given")


def _show_changes(story: Story, container: Container) -> None:
    story.step("What was changed")
    story.say(
        """Mounts in the container's namespace: private, and read-only but for sockets and the tmpfs
        that hides the host's /proc/driver/nvidia. Also links and an updated loader cache in the
        root file system. `nvc plan` shows all this before anything is done."""
    )
    rows = [(",".join(_restrictions(mount)), mount.path) for mount in _driver_mounts(container)]
    width = max(len(options) for options, _ in rows)
    story.output("\n".join(f"{options:{width}}  {path}" for options, path in rows))
    rules = _device_rules(container)
    if rules:
        story.say("And rules in its device cgroup:")
        story.output("\n".join(rules))


def _come_and_go(story: Story, container: Container, driver: libnvc.Inventory, before: int) -> None:
    """Give the running container its last GPU and take it away again."""
    if len(driver.gpus) == before:
        return
    last = str(driver.gpus[-1].index)
    story.step("Another GPU, while the container runs")
    story.say(
        """The same operations work on a container that has long started. Its processes see the
        GPU at once, and the other GPUs stay."""
    )
    target = libnvc.Target(pid=container.pid)
    request = libnvc.Request(
        devices=(last,), capabilities=_CAPABILITIES, layout=libnvc.inspect_container(target)
    )
    root = driver.root or "/"
    story.command("host", f"nvc attach --root {root} --device {last} --pid {target.pid}")
    try:
        applied = libnvc.apply(libnvc.make_plan(driver, request), target)
    except libnvc.UnsupportedKernelError as error:
        story.say(f"Not on this machine: {error}.")
        return
    listed = [_run(story, container, "nvidia-smi -L")]
    story.command("host", "python  # libnvc.detach(applied)")
    libnvc.detach(applied)
    listed.append(_run(story, container, "nvidia-smi -L"))
    seen = [text.count("UUID: GPU-") for text in listed]
    if seen != [before + 1, before]:
        raise libnvc.NvcError(f"the container saw {seen[0]} GPUs, then {seen[1]}")


def _detach(story: Story, container: Container, what: libnvc.Target | libnvc.Applied) -> None:
    story.step("Taking the GPUs away again, while the container runs")
    if isinstance(what, libnvc.Target):
        story.command("host", f"nvc detach --pid {container.pid}")
    else:
        story.command("host", "python  # libnvc.detach(applied)")
    libnvc.detach(what)
    _run(story, container, "nvidia-smi -L")
    left = [mount.path for mount in _driver_mounts(container)] + _device_rules(container)
    if left:
        raise libnvc.NvcError(f"left in the container after detaching: {' '.join(left)}")
    story.say("Nothing is left: no mount, no node, no device rule.")


def _finish(story: Story, before: tuple[Mount, ...]) -> None:
    if mounts() != before:
        raise libnvc.NvcError("the host's mount table has changed")
    story.step("Cleaning up")
    story.say(
        """The container is gone, and the host's mount table is as it was before. Now the demo's
        files are removed."""
    )


def _run(story: Story, container: Container, command: str) -> str:
    """Run a shell command in the container, show it, and return what it printed."""
    story.command("container", command)
    done = container.exec("sh", "-c", _INTRODUCE, "sh", "sh", "-c", command)
    who, _, printed = (done.stdout + done.stderr).partition("\n")
    pid, _, namespace = who.partition(" ")
    story.output(f"[process {pid} in the container, mount namespace {namespace}]")
    if printed:
        story.output(printed)
    return printed


def _driver_mounts(container: Container) -> list[Mount]:
    return [mount for mount in mounts(container.pid) if _DRIVER.search(mount.path)]


def _device_rules(container: Container) -> list[str]:
    """Return the rules that are not those of every container."""
    if isinstance(container, NamespaceContainer):
        return []
    listed = Path("/sys/fs/cgroup/devices", container.name, "devices.list")
    if not listed.exists():  # in version 2 they are a program, not a list
        return []
    rules = listed.read_text().split("\n")
    return [rule for rule in rules if re.fullmatch(r"c (19[0-9]|[2-9]\d\d):\d+ rw", rule)]


def _restrictions(mount: Mount) -> list[str]:
    return [o for o in ("ro", "nosuid", "nodev", "noexec") if o in mount.options]


def _named(indices: tuple[str, ...]) -> str:
    return f"GPU {indices[0]}" if len(indices) == 1 else f"GPUs {' and '.join(indices)}"
