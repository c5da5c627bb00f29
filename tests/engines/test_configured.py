# SPDX-License-Identifier: Apache-2.0
"""Engines start with what `nvidia-ctk runtime configure` made of any file, and get it back."""

from __future__ import annotations

import subprocess
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from libnvc.testing import Containerd, ContainerFailedError, Dockerd, with_cgroups
from tests.engines.conftest import SUITES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import CheckGpus
    from tests.engines.conftest import Image

    Configured = Callable[..., Callable[[Path], None]]

pytestmark = pytest.mark.root

RICH_JSON = """\
{
\t"debug": false, "log-level":"info",

\t"log-opts": {"max-size": "10m", "labels": "ünï"},
\t"runtimes": { "other": {"path": "/usr/sbin/runc", "runtimeArgs": ["--debug"]} },
\t"default-runtime": "other",
\t"features": {"buildkit": true},
\t"max-concurrent-downloads":    4
}"""  # no newline at its end

#: containerd's first format
VERSION_1 = """\
# by hand   # in two thousand and eighteen
oom_score = 0

[plugins.cri]
  stream_server_port = "0"  # any
  sandbox_image = "{sandbox}"
  [plugins.cri.containerd]
    default_runtime_name = "runc"
    [plugins.cri.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"  # not the old one
"""
#: with the runtime already, as somebody wrote it
VERSION_2 = """\
# Managed by hand.  \t
version = 2                # of the format
imports = [
  "{directory}/a/*.toml",   # first
]
disabled_plugins = []

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{sandbox}"  # for pods
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes]
other = {{runtime_type = "io.containerd.runc.v2", options = {{BinaryName = "/usr/sbin/runc"}}}}
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]
BinaryName = "/nowhere/nvidia-container-runtime"
"""
VERSION_3 = """\
version = 3  # containerd 2

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '{sandbox}'

[plugins.'io.containerd.cri.v1.runtime'.containerd]
default_runtime_name = 'runc' # as ever
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
"""

WRITTEN = {"version 1": VERSION_1, "version 2": VERSION_2, "version 3": VERSION_3}
STARTS = {
    **dict.fromkeys(("none", "empty", "packaged", "default", "version 2"), SUITES),
    "version 1": ("bookworm", "trixie"),  # see below
    "version 3": ("forky",),
}

# Root may lack the right to lower a score of the out-of-memory killer, which containerd sets unless
# its configuration says otherwise; here that says nothing.
RUNTIME = """\
#!/bin/sh
case " $* " in *" create "*) sed -i 's/"oomScoreAdj":-[0-9]*/"oomScoreAdj":0/' config.json;; esac
exec {runtime} "$@"
"""


class Start(NamedTuple):
    """How an engine's file is found.

    Attributes:
        text: None for no file.
        sandbox: the name of the image that is then a pod's own.
    """

    text: str | None
    sandbox: str = ""

    def put(self, path: Path) -> None:
        """Make it so."""
        if self.text is None:
            path.unlink()
        else:
            path.write_text(self.text)


def content(path: Path) -> dict[str, bytes]:
    """Return an engine's files, and what else is kept for them."""
    places = [path, *path.parent.glob("conf.d/**/*"), *path.parent.glob("kept/**/*")]
    return {str(place): place.read_bytes() for place in places if place.is_file()}


@pytest.mark.parametrize("text", [None, "", "{}", RICH_JSON], ids=["none", "empty", "{}", "rich"])
def test_docker(
    tmp_path: Path,
    environment: dict[str, str],
    configured: Configured,
    engine_path: list[Path],
    gpus: str,
    images: dict[str, Image],
    check_gpus: CheckGpus,
    text: str | None,
) -> None:
    """The default runtime is ours, and the one that was the default is still there."""
    file = tmp_path / "d/daemon.json"
    found: dict[str, bytes] = {}

    def configure(path: Path) -> None:
        Start(text).put(path)
        found.update(content(path))
        configured("docker", "--set-as-default", "--cdi.enabled")(path)

    host = with_cgroups("v2") if engine_path else ()
    with Dockerd(file.parent, environment, configure=configure, host=host) as dockerd:
        dockerd.load(images["gpus"].archive)
        run = ("run", "--rm", "--network=none")
        check_gpus(partial(dockerd.docker, *run, gpus), range(8))
        other = "runc" if text != RICH_JSON else "other"
        done = dockerd.docker(*run, f"--runtime={other}", gpus, "ls", "/dev")
        assert (done.returncode, done.stderr) == (0, "")
        assert "nvidia" not in done.stdout
    assert file.exists()
    configured("docker", "--unset")(file)
    assert content(file) == found


@pytest.fixture(scope="session")
def defaults(suite: str, environment: dict[str, str]) -> str:
    """Return all that the release has by default, as it prints it."""
    command = ["containerd", "config", "default"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def start(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    defaults: str,
    engine_path: list[Path],
) -> Start:
    """Return how containerd's file is found."""
    lines = [line for line in defaults.splitlines() if "registry.k8s.io/pause" in line]
    sandbox = lines[0].split("= ")[1].strip("'\"")
    prefix = engine_path[0].parents[1] if engine_path else Path("/")
    packaged = (prefix / "etc/containerd/config.toml").read_text()
    texts = {"none": None, "empty": "", "packaged": packaged, "default": defaults}
    if request.param in texts:
        return Start(texts[request.param], sandbox)
    own = "localhost/own:1"
    return Start(WRITTEN[request.param].format(sandbox=own, directory=tmp_path), own)


@pytest.fixture
def runtime(tmp_path: Path, nvidia_runtime: Path) -> Path:
    program = tmp_path / "nvidia-container-runtime"
    program.write_text(RUNTIME.format(runtime=nvidia_runtime))
    program.chmod(0o755)
    return program


@pytest.fixture
def containerd(
    tmp_path: Path,
    environment: dict[str, str],
    configured: Configured,
    images: dict[str, Image],
    start: Start,
    runtime: Path,
) -> Iterator[Containerd]:
    """Run a containerd with what was made of that file; its images are there."""
    directory = tmp_path / "c"
    found: dict[str, bytes] = {}

    def configure(path: Path) -> None:
        start.put(path)
        found.update(content(path))
        option = f"--nvidia-runtime-path={runtime}"
        configured("containerd", "--set-as-default", "--cdi.enabled", option)(path)

    with Containerd(directory, environment, handlers={}, configure=configure) as containerd:
        for image in images.values():
            containerd.load(image.archive, image.name)
        tagged = ("images", "tag", images["sandbox"].name, start.sandbox)
        assert containerd.ctr("--namespace", "k8s.io", *tagged).returncode == 0
        containerd.cri.wait_for_image(start.sandbox)
        yield containerd
    configured("containerd", "--unset")(directory / "config.toml")
    assert content(directory / "config.toml") == found


@pytest.mark.parametrize(
    ("suite", "start"),
    [(suite, start) for start, suites in STARTS.items() for suite in suites],
    indirect=True,
)
def test_containerd(
    containerd: Containerd, images: dict[str, Image], check_gpus: CheckGpus
) -> None:
    """The default runtime is ours, and is there by name, too."""
    with containerd.cri.pod("default") as pod:
        check_gpus(pod.start("one", images["gpus"].name).exec, range(8))
    with containerd.cri.pod("named", "nvidia") as pod:
        asked = {"NVIDIA_VISIBLE_DEVICES": "3"}
        check_gpus(pod.start("one", images["plain"].name, environment=asked).exec, [3])


@pytest.mark.parametrize(("suite", "start"), [("forky", "version 1")], indirect=True)
def test_containerd_2_starts_with_version_1_and_reads_little_of_it(containerd: Containerd) -> None:
    """Of which `nvidia-ctk` warns."""
    with (
        pytest.raises(ContainerFailedError, match='no runtime for "nvidia" is configured'),
        containerd.cri.pod("named", "nvidia"),
    ):
        pass
