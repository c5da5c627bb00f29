# SPDX-License-Identifier: Apache-2.0
"""Container engines, started once, with what is installed here first on their PATH.

The driver is a simulated one in a directory of its own, which config.toml names.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import libnvc.sim
from libnvc.testing import (
    CannotFetchError,
    Containerd,
    Dockerd,
    Podman,
    copy_program,
    fetch_packages,
    make_rootfs,
    on_host,
    unpack,
    with_cgroups,
    write_image,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

#: Who runs rootless engines.
UID = 4711

#: Newer Dockers, 63 MB each: 26 with containerd 1.7, 28 with 2.1. Bookworm has runc and all else
#: that they need.
NEWER_SUITES = ("trixie", "forky")
SUITES = ("bookworm", *NEWER_SUITES)
NEWER_DOCKER = ("containerd", "docker-cli", "docker.io")


class Image(NamedTuple):
    """An image with a program that uses CUDA.

    Attributes:
        name: for engines.
        archive: what they load.
    """

    name: str
    archive: Path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run these last: other tests look at our children, and the daemons are that until the end."""
    here = Path(__file__).parent
    items.sort(key=lambda item: here in item.path.parents)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Image]:
    """Return images by name: one that asks for nothing, one for every GPU, one for pods."""
    directory = tmp_path_factory.mktemp("images")
    rootfs = make_rootfs(directory / "rootfs")
    copy_program(rootfs, libnvc.sim.cuda_client())

    def make(name: str, *environment: str, command: tuple[str, ...] = ("/bin/sh",)) -> Image:
        archive = directory / f"{name}.tar"
        full = f"localhost/{name}:1"  # a name that no engine completes
        write_image(archive, rootfs, full, environment=environment, command=command)
        return Image(full, archive)

    return {
        "plain": make("plain"),
        "gpus": make("gpus", "NVIDIA_VISIBLE_DEVICES=all"),
        "sandbox": make("sandbox", command=("sleep", "1000000")),
    }


@pytest.fixture(scope="session")
def plain(images: dict[str, Image]) -> str:
    """Return the name of the image that asks for nothing."""
    return images["plain"].name


@pytest.fixture(scope="session")
def gpus(images: dict[str, Image]) -> str:
    """Return the name of the image whose environment asks for every GPU."""
    return images["gpus"].name


@pytest.fixture(scope="session")
def nvidia_runtime(commands: Path) -> Path:
    """Return the path of the OCI runtime that gives containers GPUs."""
    return commands / "nvidia-container-runtime"


@pytest.fixture(scope="session")
def configured(commands: Path, nvidia_runtime: Path) -> Callable[..., Callable[[Path], None]]:
    """Give what has `nvidia-ctk` change an engine's configuration."""

    def make(engine: str, *options: str) -> Callable[[Path], None]:
        def configure(path: Path) -> None:
            words = ["runtime", "configure", f"--runtime={engine}", f"--config={path}"]
            if engine == "containerd":
                words.append(f"--drop-in-config={path.parent}/conf.d/99-nvidia.toml")
            words += [f"--nvidia-runtime-path={nvidia_runtime}", *options]
            state = {"XDG_STATE_HOME": str(path.parent / "kept")}
            subprocess.run([commands / "nvidia-ctk", *words], check=True, env=state)

        return configure

    return make


@pytest.fixture(scope="session")
def config(dgx_a100: Path) -> str:
    """Return what config.toml holds: where the simulated driver is."""
    return f'[nvidia-container-cli]\nroot = "{dgx_a100}"\nload-kmods = false\n'


@pytest.fixture(scope="session")
def cdi_file(commands: Path, dgx_a100: Path) -> str:
    """Return a CDI file of the simulated driver."""
    words = [f"--driver-root={dgx_a100}", f"--nvidia-cdi-hook-path={commands / 'nvidia-cdi-hook'}"]
    command = [str(commands / "nvidia-ctk"), "--quiet", "cdi", "generate", *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.fixture(scope="session")
def cdi_specs(tmp_path_factory: pytest.TempPathFactory, cdi_file: str) -> Path:
    """Return a directory with that file alone."""
    directory = tmp_path_factory.mktemp("cdi")
    (directory / "nvidia.yaml").write_text(cdi_file)
    return directory


@pytest.fixture(scope="session")
def environment(
    tmp_path_factory: pytest.TempPathFactory,
    commands: Path,
    config: str,
    engine_path: list[Path],
) -> dict[str, str]:
    """Return the environment of a daemon of one Debian or another."""
    path = tmp_path_factory.mktemp("config") / "config.toml"
    path.write_text(config)
    return {
        "PATH": ":".join([str(commands), *map(str, engine_path), SYSTEM_PATH]),
        "LC_ALL": "C",
        "NVIDIA_CTK_CONFIG_FILE_PATH": str(path),
    }


@pytest.fixture(scope="session")
def newer_docker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], list[Path]]:
    """Give the directories of a suite's Docker: fetched once, not installed."""

    def get(suite: str) -> list[Path]:
        assert request.config.cache is not None
        prefix = Path(str(request.config.cache.mkdir("docker"))) / suite
        if not prefix.exists():
            new = prefix.with_suffix(".new")
            shutil.rmtree(new, ignore_errors=True)
            directory = tmp_path_factory.mktemp("packages") / "docker"
            try:
                unpack(fetch_packages(directory, suite, NEWER_DOCKER), new)
            except CannotFetchError as error:
                pytest.skip(f"the newer Docker: {error}")
            new.rename(prefix)
        return [prefix / "usr/bin", prefix / "usr/sbin"]

    return get


@pytest.fixture(scope="session", params=SUITES)
def suite(request: pytest.FixtureRequest) -> str:
    """Return the name of the Debian whose engines are driven."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def engine_path(suite: str, newer_docker: Callable[[str], list[Path]]) -> list[Path]:
    """Return the directories of that Debian's engines: none for bookworm, they are installed."""
    return newer_docker(suite) if suite in NEWER_SUITES else []


@pytest.fixture(scope="session")
def dockerd(
    tmp_path_factory: pytest.TempPathFactory,
    configured: Callable[..., Callable[[Path], None]],
    environment: dict[str, str],
    engine_path: list[Path],
    images: dict[str, Image],
    cdi_specs: Path,
) -> Iterator[Dockerd]:
    """Run a dockerd with the runtime `nvidia`; the newer one with cgroup v2, and CDI."""
    cdi = {"cdi-spec-dirs": [str(cdi_specs)]}
    with Dockerd(
        tmp_path_factory.mktemp("dockerd"),
        environment,
        configuration=cdi if engine_path else None,
        configure=configured("docker", *(["--cdi.enabled"] if engine_path else [])),
        host=with_cgroups("v2") if engine_path else (),
    ) as dockerd:
        for name in ("plain", "gpus"):
            dockerd.load(images[name].archive)
        yield dockerd


@pytest.fixture(scope="session")
def containerd(
    tmp_path_factory: pytest.TempPathFactory,
    configured: Callable[..., Callable[[Path], None]],
    environment: dict[str, str],
    images: dict[str, Image],
    cdi_specs: Path,
) -> Iterator[Containerd]:
    """Run a containerd for pods, with the runtime handler `nvidia` and CDI where it knows that."""
    with Containerd(
        tmp_path_factory.mktemp("cri"),
        environment,
        handlers={"runc": "runc"},
        sandbox=images["sandbox"].name,
        configure=configured("containerd", "--cdi.enabled"),
        cdi=cdi_specs,
    ) as containerd:
        for image in images.values():
            containerd.load(image.archive, image.name)
        yield containerd


@pytest.fixture(scope="session")
def running(validate_oci: Callable[[object], None]) -> Callable[[Path, str], dict[str, Any]]:
    """Give what finds a running container's configuration, by its id below a directory.

    It is what the runtime and the low-level one made of the engine's, and valid.
    """

    def find(directory: Path, name: str) -> dict[str, Any]:
        walked = os.walk(directory)  # engines remove directories meanwhile, which it passes over
        places = sorted(Path(place) for place, _, files in walked if "config.json" in files)
        found = [place / "config.json" for place in places if name in place.parts]
        documents: list[dict[str, Any]] = [json.loads(path.read_text()) for path in found]
        for document in documents:
            validate_oci(document)
        return documents[0]

    return find


@pytest.fixture(scope="session", params=["root", "rootless"])
def podman_uid(request: pytest.FixtureRequest) -> int:
    return {"root": 0, "rootless": UID}[request.param]


@pytest.fixture(scope="session", params=["runc", "crun"])
def low_level(request: pytest.FixtureRequest) -> str:
    """Return the name of what runs containers in the end."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def rootless(
    tmp_path_factory: pytest.TempPathFactory,
    commands: Path,
    low_level: str,
    images: dict[str, Image],
    dgx_a100: Path,
) -> Iterator[Podman]:
    """Give somebody's podman on a machine where "/" has the driver, and a CDI file of that."""
    host = on_host(dgx_a100)
    hook = f"--nvidia-cdi-hook-path={commands / 'nvidia-cdi-hook'}"
    command: list[str | Path] = [*host, commands / "nvidia-ctk", "--quiet", "cdi", "generate", hook]
    made = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    with Podman(
        tmp_path_factory.mktemp("rootless"),
        {"PATH": SYSTEM_PATH, "LC_ALL": "C"},
        uid=UID,
        runtime=low_level,
        etc={"cdi/nvidia.yaml": made},
        host=[*with_cgroups("v1"), *host],
        shown=[commands, Path(sys.prefix), Path(sys.base_prefix)],
    ) as podman:
        podman.load(images["plain"].archive)
        yield podman


@pytest.fixture(scope="session")
def podman(
    tmp_path_factory: pytest.TempPathFactory,
    commands: Path,
    config: str,
    podman_uid: int,
    low_level: str,
    images: dict[str, Image],
    dgx_a100: Path,
    cdi_file: str,
) -> Iterator[Podman]:
    """Give a podman of root or somebody else, with cgroup v1, which every crun can do here."""
    lines = ["[nvidia-container-runtime]", f'runtimes = ["{low_level}"]', ""]
    with Podman(
        tmp_path_factory.mktemp("podman"),
        {"PATH": SYSTEM_PATH, "LC_ALL": "C"},
        uid=podman_uid,
        runtime=low_level,
        etc={
            "nvidia-container-runtime/config.toml": config + "\n".join(lines),
            "cdi/nvidia.yaml": cdi_file,
        },
        host=with_cgroups("v1"),
        shown=[dgx_a100, commands, Path(sys.prefix), Path(sys.base_prefix)],
    ) as podman:
        for name in ("plain", "gpus"):
            podman.load(images[name].archive)
        yield podman
