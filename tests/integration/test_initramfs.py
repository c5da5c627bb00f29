# SPDX-License-Identifier: Apache-2.0
"""A host that never left its initramfs: pivot_root fails there, and nothing needs it.

The reference has the option --no-pivot for such hosts.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import libnvc as nvc
from libnvc.testing import make_rootfs, mounts, tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.root

#: Below the root of every mount namespace is the kernel's first file system. Take away what covers
#: it, and put the container's root on a tmpfs on one of its directories.
UNCOVER = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
NEWNS, REC_PRIVATE, DETACH = 0x20000, 0x44000, 2
OPEN_TREE, MOVE_MOUNT, CLONE, FROM_FD = 428, 429, 0x80001, 4

def call(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "call")
    return result

call(libc.unshare(NEWNS))
call(libc.mount(None, b"/", None, REC_PRIVATE, None))
namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY)
tree = call(libc.syscall(OPEN_TREE, -100, sys.argv[1].encode(), CLONE))
call(libc.umount2(b"/", DETACH))
call(libc.setns(namespace, NEWNS))
place = b"/" + next(e.name for e in os.scandir(b"/") if e.is_dir(follow_symlinks=False))
call(libc.mount(b"tmpfs", place, b"tmpfs", 0, None))
os.mkdir(place + b"/rootfs")
call(libc.syscall(MOVE_MOUNT, tree, b"", -100, place + b"/rootfs", FROM_FD))
os.chdir(place + b"/rootfs")
try:
    call(libc.pivot_root(b".", b"."))
except OSError as error:
    print(error.errno, place.decode() + "/rootfs", flush=True)
sys.stdin.read()
"""
EINVAL = "22"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return make_rootfs(tmp_path / "rootfs")


@pytest.fixture
def target(image: Path) -> Iterator[nvc.Target]:
    with subprocess.Popen(
        [sys.executable, "-c", UNCOVER, image],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        error, place = process.stdout.readline().split()
        assert error == EINVAL
        yield nvc.Target(pid=process.pid, rootfs=place)
        process.communicate()


def test_the_loader_cache_is_updated(image: Path, target: nvc.Target, dgx_a100: Path) -> None:
    before, table = tree(image), mounts(target.pid)
    request = nvc.Request(
        devices=("0",), capabilities=("compute",), layout=nvc.inspect_container(target)
    )
    plan = nvc.make_plan(nvc.discover(str(dgx_a100)), request.replace(device_rules=False))
    applied = nvc.apply(plan, target)
    listing = ["/sbin/ldconfig", "-p", "-C", f"{image}/etc/ld.so.cache"]
    listed = subprocess.run(listing, capture_output=True, text=True, check=True).stdout
    assert "\tlibcuda.so.1 " in listed
    nvc.detach(applied)
    assert (tree(image), mounts(target.pid)) == (before, table)
