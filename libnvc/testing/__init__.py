# SPDX-License-Identifier: Apache-2.0
"""What the tests, the demo and the example need around libnvc: a rootfs, real engines.

Works offline and on any glibc distribution; needs the extra `cli` (pyelftools).
"""

from .containerd import Containerd
from .debian import CannotFetchError, fetch_packages, unpack
from .docker import Dockerd
from .host import on_host, with_cgroups
from .image import write_image
from .lxc import NVIDIA_HOOK, LxcContainer
from .namespaces import NamespaceContainer
from .oci import MAPPED, ContainerFailedError, OciContainer, configure_hook
from .podman import Podman
from .rootfs import (
    PROGRAMS,
    copy_program,
    make_busybox_like,
    make_rhel_like,
    make_rootfs,
    multiarch,
)
from .snapshot import Mount, mounts, tree

__all__ = [
    "MAPPED",
    "NVIDIA_HOOK",
    "PROGRAMS",
    "CannotFetchError",
    "ContainerFailedError",
    "Containerd",
    "Dockerd",
    "LxcContainer",
    "Mount",
    "NamespaceContainer",
    "OciContainer",
    "Podman",
    "configure_hook",
    "copy_program",
    "fetch_packages",
    "make_busybox_like",
    "make_rhel_like",
    "make_rootfs",
    "mounts",
    "multiarch",
    "on_host",
    "tree",
    "unpack",
    "with_cgroups",
    "write_image",
]
