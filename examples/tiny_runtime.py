# SPDX-License-Identifier: Apache-2.0
"""A container runtime in one file, to show how a runtime uses libnvc. Needs root.

    python tiny_runtime.py DRIVER_ROOT ROOTFS DEVICES PROGRAM [ARG...]
    python tiny_runtime.py / /srv/rootfs 0,1 nvidia-smi -L

DRIVER_ROOT is / for the driver of this machine. A real runtime also has cgroups, user
namespaces, capabilities and seccomp; where libnvc comes in stays the same.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from typing import IO

import libnvc

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWPID = 0x20000, 0x4000000, 0x20000000
MS_BIND, MS_REC, MS_PRIVATE, MNT_DETACH = 0x1000, 0x4000, 0x40000, 2

libc = ctypes.CDLL(None, use_errno=True)


def main(driver_root: str, rootfs: str, devices: str, *program: str) -> int:
    """Run a program in a container that has the GPUs; return its exit status."""
    # Runtimes have threads (this one pretends to log), and none of them can enter a mount
    # namespace while the others are there. libnvc does not mind: it does so in a child.
    stop = threading.Event()
    threading.Thread(target=stop.wait, name="log").start()

    # The container's first process: it makes the namespaces and then waits.
    command = [sys.executable, "-P", __file__, "--init", rootfs, *program]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as init:
        assert init.stdin is not None
        assert init.stdout is not None
        try:
            pid = int(init.stdout.readline())

            # Now, before pivot_root, is the moment: the namespaces are there, and the process
            # still sees both the host's files and the root file system.
            target = libnvc.Target(pid=pid, rootfs=rootfs)
            inventory = libnvc.discover(driver_root)
            request = libnvc.Request(
                devices=tuple(devices.split(",")),
                capabilities=("utility", "compute"),
                layout=libnvc.inspect_container(target),
                device_rules=False,  # this container has no device cgroup of its own
            )
            plan = libnvc.make_plan(inventory, request)
            applied = libnvc.apply(plan, target)  # all of it, or an exception and nothing
            print(f"configured: {len(plan.operations)} operations", flush=True)

            # Let the container pivot and run its program.
            print("go", file=init.stdin, flush=True)
            status = read_program_output(init.stdout)

            # The container still runs. Take the GPUs out again.
            libnvc.detach(applied)
            print("detached", flush=True)
            return status
        finally:
            init.stdin.close()  # tells the container to end
            stop.set()


def read_program_output(stream: IO[str]) -> int:
    """Pass on what the program prints, up to the line with its exit status."""
    for line in stream:
        if line.startswith("exit status "):
            return int(line.split()[2])
        print(line, end="", flush=True)
    raise SystemExit("the container ended before its program")


def container(rootfs: str, *program: str) -> int:
    """Be the container: make namespaces, wait for the word, pivot, run the program, wait."""
    check(libc.unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWPID))
    mount("none", "/", "", MS_REC | MS_PRIVATE)  # what is mounted from here on stays in here
    mount(rootfs, rootfs, "", MS_BIND)  # pivot_root wants a mount point
    first = os.fork()
    if first:  # the pid namespace begins with the child; its pid out here is what libnvc needs
        print(first, flush=True)
        sys.stdin.close()
        return os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])

    mount("proc", f"{rootfs}/proc", "proc", 0)
    mount("tmpfs", f"{rootfs}/dev", "tmpfs", 0)
    if not sys.stdin.readline():  # "go", or the runtime gave up
        return 1
    os.chdir(rootfs)
    check(libc.pivot_root(b".", b"."))
    check(libc.umount2(b".", MNT_DETACH))
    status = os.spawnvpe(os.P_WAIT, program[0], program, {"PATH": "/usr/sbin:/usr/bin"})
    print("exit status", status, flush=True)
    sys.stdin.read()  # until the runtime is done with us
    return 0


def mount(source: str, target: str, kind: str, flags: int) -> None:
    """Mount, without options of the file system."""
    check(libc.mount(*map(os.fsencode, (source, target, kind)), ctypes.c_ulong(flags), None))


def check(result: int) -> None:
    """Turn a failed system call into an exception."""
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--init"]:
        sys.exit(container(*sys.argv[2:]))
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    try:
        sys.exit(main(*sys.argv[1:]))
    except libnvc.NvcError as error:
        sys.exit(f"tiny_runtime: {error}")
