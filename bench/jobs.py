# SPDX-License-Identifier: Apache-2.0
"""What is measured: each job, the rows it fills, and what the project aims at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import libnvc
from libnvc._record import Record
from libnvc.testing import OciContainer

from . import measure
from .setting import CDI_HOOK, CLI, CTK, EVERYTHING, HOOK, RUNTIME, configure_everything, profile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .setting import Library, Setting

#: The interpreter that the installed commands run in, by its own name: not a version manager's.
PYTHON = str(getattr(sys, "_base_executable", sys.executable))

#: The row that others are compared with.
BARE = "python3 -I -S -c pass (P)"

#: What containers are run with, by the name of the rows, and whether results are kept.
RUNTIMES = {
    "plain": ("runc", False),
    "default mode": (RUNTIME, False),
    "default mode, kept": (RUNTIME, True),
    "legacy mode": (f"{RUNTIME}.legacy", False),
    "legacy mode, kept": (f"{RUNTIME}.legacy", True),
}

#: A program that the runtime becomes.
_NOTHING = "/bin/true"

_CONFIGURE = "≤ 2.5 P, ≤ 2 500 calls"
_APPLY = "≤ 5 ms, 1 child"
_LIBRARY = "Library calls in a running process, all GPUs and capabilities"

GPUS = (1, 8, 64, 128)
ENTRIES = (500, 5_000, 50_000)


class Use(Record):
    """What one row's work took beside time.

    Attributes:
        calls: system calls and child processes; None where they say nothing.
        memory: peak resident MiB of the process.
    """

    calls: measure.Calls | None
    memory: float


class Row(Record):
    """One line of a table.

    Attributes:
        name: unique.
        target: what the project aims at, "" for nothing.
        against: the row to compare it with, beside the bare interpreter; "" for none.
    """

    name: str
    target: str = ""
    against: str = ""


class Job(Record):
    """Something to be measured.

    Attributes:
        section: title of its table.
        rows: what it fills.
        time: does it, and returns the seconds for each row.
        use: does it, and returns the use for each row.
    """

    section: str
    rows: tuple[Row, ...]
    time: Callable[[], Sequence[float]]
    use: Callable[[], Sequence[Use]]


def all_jobs(setting: Setting) -> list[Job]:
    """Return every job, with what it needs."""
    driver = setting.driver(profile("dgx-a100"))
    library = setting.library(setting.container(setting.rootfs()))
    used = setting.used_rootfs(driver)
    return [
        *_commands(driver),
        *_configures(setting, driver, used),
        *_runtimes(setting, driver),
        *_cdi_hooks(setting, driver),
        *_calls(library, driver),
        *_calls_again(setting.library(setting.container(used)), driver),
        *_containers(setting, driver),
        *_growth(setting, library),
        *_caches(setting, library),
    ]


def _commands(driver: str) -> Iterator[Job]:
    commands = {
        Row(name=BARE): [PYTHON, "-I", "-S", "-c", "pass"],
        Row(name="python3 -c pass, as the commands start it"): [sys.executable, "-c", "pass"],
        Row(name="nvidia-container-cli --version"): [CLI, "--version"],
        Row(name="info", target="≤ 4 P"): [CLI, f"--root={driver}", "--no-cache", "info"],
        Row(name="info, kept", target="≤ 0.4 P"): [CLI, f"--root={driver}", "info"],
        Row(name="list", target="≤ 4 P"): [CLI, f"--root={driver}", "--no-cache", "list"],
        Row(name="list, kept", target="≤ 0.4 P"): [CLI, f"--root={driver}", "list"],
    }
    for row, command in commands.items():
        yield _command("Commands", row, command)


def _configures(setting: Setting, driver: str, used: Path) -> Iterator[Job]:
    some = ["configure", "--device=0", "--utility", "--compute"]
    everything = configure_everything()
    container = setting.container(setting.rootfs())
    yield _configure(Row(name="configure, 1 GPU, utility+compute"), container, driver, some)
    for version in cgroup_versions():
        row = Row(name=f"configure, all, cgroup {version}", target=_CONFIGURE)
        container = setting.container(setting.rootfs(), cgroup=version)
        yield _configure(row, container, driver, everything)
    row = Row(name="configure, all, kept", target="≤ 0.6 P, ≤ 1 200 calls")
    container = setting.container(setting.rootfs())
    yield _configure(row, container, driver, everything, keeps=True)
    images = {"used before": used, "on disk": setting.disk_rootfs()}
    for name, image in images.items():
        row = Row(name=f"configure, all, image {name}", target=_CONFIGURE)
        yield _configure(row, setting.container(image), driver, everything)
    row = Row(name="configure, all, loader cache out of date")
    container = setting.container(setting.rootfs())
    yield _configure(row, container, driver, everything, is_fresh=False)


def _runtimes(setting: Setting, driver: str) -> Iterator[Job]:
    """Yield what the runtime does itself: it becomes a program that does nothing."""
    config = setting.config(driver, _NOTHING)
    cold = setting.config(driver, _NOTHING, keeps=False)
    rootfs = setting.rootfs()
    yield _command("Commands", Row(name=_NOTHING), [_NOTHING])
    against, target = _NOTHING, "≤ 0.25 P more"

    def job(
        name: str,
        *words: str,
        after: Callable[[], object] = bool,
        target: str = "",
        text: str = "",
        using: str = config,
    ) -> Job:
        row = Row(name=name, target=target, against=against)
        return _after_another(row, using, words, after, text)

    none, every = setting.bundle(rootfs), setting.bundle(rootfs, *EVERYTHING)
    file = every / "config.json"
    before = file.read_bytes()
    create = (RUNTIME, "create", "--bundle")
    yield job("runtime: state", RUNTIME, "state", "c", target=target)
    yield job("runtime: create, no GPU", *create, str(none), "c", target=target)
    for name, using in (("", cold), (", kept", config)):
        yield job(
            f"runtime: create, all{name}",
            *(*create, str(every), "c"),
            after=lambda: file.write_bytes(before),
            using=using,
        )
    container = setting.container(rootfs)

    def take_back() -> None:
        libnvc.detach(container)
        os.utime(rootfs / "etc/ld.so.cache")

    state = f'{{"pid": {container.pid}, "bundle": "{setting.bundle(rootfs, *EVERYTHING)}"}}'
    for name, using, target in (("", cold, "≤ 2.5 P"), (", kept", config, "≤ 0.8 P")):
        yield job(
            f"hook: prestart, all{name}",
            *(HOOK, "prestart"),
            after=take_back,
            target=target,
            text=state,
            using=using,
        )


def _cdi_hooks(setting: Setting, driver: str) -> Iterator[Job]:
    """Yield the call of a CDI file's hooks, in a mount namespace as a container has one."""
    command = [CTK, "--quiet", "cdi", "generate", "--format=json", f"--driver-root={driver}"]
    command.append(f"--nvidia-cdi-hook-path={CDI_HOOK}")
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    (hook,) = json.loads(done.stdout)["containerEdits"]["hooks"]
    enter = ["unshare", "--mount", "--propagation", "private"]
    rootfs = setting.rootfs()
    state = f'{{"pid": 1, "bundle": "{setting.bundle(rootfs)}"}}'
    yield _command("Commands", Row(name="unshare, /bin/true"), [*enter, _NOTHING])
    for name, keeps in (("", False), (", kept", True)):
        row = Row(name=f"CDI hook: all of a file{name}", against="unshare, /bin/true")
        config = setting.config(driver, _NOTHING, keeps=keeps)
        yield _after_another(row, config, [*enter, CDI_HOOK, *hook["args"][1:]], bool, state)


def use_config(config: str) -> None:
    """Have the programs use a configuration, and note what they need of it."""
    for environment in (os.environ, measure.ENVIRONMENT):
        environment["NVIDIA_CTK_CONFIG_FILE_PATH"] = config
    subprocess.run([RUNTIME, "state", "c"], capture_output=True, check=False)


def _after_another(
    row: Row, config: str, command: Sequence[str], take_back: Callable[[], object], text: str
) -> Job:
    """Return a job whose program has run before: what it noted of its configuration holds."""

    def time() -> list[float]:
        use_config(config)
        seconds = measure.run(command, text)
        take_back()
        return [seconds]

    def use() -> list[Use]:
        time()
        calls = measure.count(measure.trace(command, text))
        take_back()
        memory = measure.peak_memory(command, text)
        take_back()
        return [Use(calls=calls, memory=memory)]

    return Job(section="Commands", rows=(row,), time=time, use=use)


def _calls(library: Library, driver: str) -> Iterator[Job]:
    names = {
        "discover": (Row(name="discover"),),
        "plan": (Row(name="make_plan"),),
        "apply": (Row(name="apply", target=_APPLY), Row(name="detach")),
        "apply-without-cache": (
            Row(name="apply, loader cache left alone", against="apply"),
            Row(name="detach, loader cache left alone", against="detach"),
        ),
    }
    for name, rows in names.items():
        yield _call(_LIBRARY, rows, library, name, driver)


def _calls_again(library: Library, driver: str) -> Iterator[Job]:
    rows = (
        Row(name="apply, image used before", target=_APPLY, against="apply"),
        Row(name="detach, image used before", against="detach"),
    )
    yield _call(_LIBRARY, rows, library, "apply", driver)


def _containers(setting: Setting, driver: str) -> Iterator[Job]:
    for kind, (runtime, keeps) in RUNTIMES.items():
        yield _container(kind, setting, runtime, setting.config(driver, "runc", keeps=keeps))


def _growth(setting: Setting, library: Library) -> Iterator[Job]:
    rack = profile("rack-128")
    for number in GPUS:
        driver = setting.driver(rack.replace(gpus=rack.gpus[:number]))
        section = "Growth with the number of GPUs"
        for name in ("discover", "plan", "apply"):
            row = Row(name=growth(name, number))
            rows = (row, Row(name=growth("detach", number))) if name == "apply" else (row,)
            yield _call(section, rows, library, name, driver)
        listed = [CLI, f"--root={driver}", "--no-cache", "list"]
        yield _command(section, Row(name=growth("list", number)), listed)
        generate = [CTK, "--quiet", "cdi", "generate", f"--driver-root={driver}"]
        yield _command(section, Row(name=growth("cdi generate", number)), generate)


def _caches(setting: Setting, library: Library) -> Iterator[Job]:
    for entries in ENTRIES:
        driver = setting.driver(profile("dgx-a100"), entries)
        row = Row(name=f"discover, {entries} entries")
        yield _call("Growth with the host's loader cache", (row,), library, "discover", driver)


def growth(job: str, gpus: int) -> str:
    """Return the name of a row of the table of growth."""
    return f"{job}, {gpus} GPU{'s' * (gpus > 1)}"


def cgroup_versions() -> list[str]:
    """Return the kinds of device cgroups that this machine has mounted."""
    found = set()
    for line in Path("/proc/mounts").read_text().splitlines():
        _, _, kind, options, *_ = line.split()
        if kind == "cgroup2":
            found.add("v2")
        elif kind == "cgroup" and "devices" in options.split(","):
            found.add("v1")
    return sorted(found)


def _command(section: str, row: Row, command: Sequence[str]) -> Job:
    def use() -> list[Use]:
        calls = measure.count(measure.trace(command))
        return [Use(calls=calls, memory=measure.peak_memory(command))]

    return Job(section=section, rows=(row,), time=lambda: [measure.run(command)], use=use)


def _configure(
    row: Row,
    target: libnvc.Target,
    driver: str,
    words: Sequence[str],
    *,
    is_fresh: bool = True,
    keeps: bool = False,
) -> Job:
    """Return a job that configures a container; what it did is taken back each time.

    Args:
        row: what it fills.
        target: the container.
        driver: the root of the driver.
        words: of the command.
        is_fresh: whether the loader cache of the image is newer than its directories.
        keeps: whether what was done for the container before it is used.
    """
    kept = () if keeps else ("--no-cache",)
    command = [CLI, f"--root={driver}", *kept, *words, f"--pid={target.pid}", target.rootfs]

    def date_cache() -> None:
        os.utime(f"{target.rootfs}/etc/ld.so.cache", None if is_fresh else (0, 0))

    def take_back() -> None:
        libnvc.detach(target)
        date_cache()

    def time() -> list[float]:
        seconds = measure.run(command)
        take_back()
        return [seconds]

    def use() -> list[Use]:
        if keeps:
            time()
        date_cache()
        calls = measure.count(measure.trace(command))
        take_back()
        memory = measure.peak_memory(command)
        take_back()
        return [Use(calls=calls, memory=memory)]

    return Job(section="Commands", rows=(row,), time=time, use=use)


def _call(section: str, rows: tuple[Row, ...], library: Library, name: str, driver: str) -> Job:
    def use() -> list[Use]:
        text = f"{name} {driver}\n"
        # The second time nothing is loaded any more.
        parts = measure.marked(measure.trace(library.command, text * 2))[-len(rows) :]
        memory = measure.peak_memory(library.command, text)
        return [Use(calls=measure.count(part), memory=memory) for part in parts]

    return Job(section=section, rows=rows, time=lambda: library.call(name, driver), use=use)


def _container(kind: str, setting: Setting, runtime: str, config: str) -> Job:
    rootfs = setting.rootfs()

    def fresh() -> OciContainer:
        use_config(config)
        return OciContainer(setting.fresh(), rootfs, runtime=runtime, environment=EVERYTHING)

    def time() -> list[float]:
        container = fresh()
        seconds = []
        for step in (container.create, container.start, container.delete):
            start = perf_counter()
            step()
            seconds.append(perf_counter() - start)
        return [*seconds, sum(seconds)]

    def use() -> list[Use]:
        container = fresh()
        create = ("create", "--bundle", str(container.bundle), container.name)
        steps = (create, ("start", container.name), ("delete", "--force", container.name))
        memory = [measure.peak_memory(container.command(*step)) for step in steps]
        # runc's own calls and threads differ from run to run.
        return [Use(calls=None, memory=number) for number in (*memory, max(memory))]

    return Job(section="Containers by runc", rows=_steps(kind), time=time, use=use)


def _steps(kind: str) -> tuple[Row, ...]:
    names = ("create", "start", "delete", "whole")
    if kind == "plain":
        return tuple(Row(name=f"plain {name}") for name in names)
    targets = {"whole": f"plain + ≤ {1 if RUNTIMES[kind][1] else 5} P"}
    return tuple(
        Row(name=f"{kind} {name}", against=f"plain {name}", target=targets.get(name, ""))
        for name in names
    )
