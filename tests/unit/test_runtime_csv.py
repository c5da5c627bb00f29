# SPDX-License-Identifier: Apache-2.0
"""What `nvidia-container-runtime create` gives containers on a Jetson, and when."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from libnvc.cli import cdi_hook_work, runtime_create, runtime_kept

import libnvc
from libnvc._config.settings import load_config
from libnvc._native.flat import encode
from libnvc.plan import BindMount, DeviceNode, LoaderCache, Symlink
from libnvc.sim.jetson import CSV_DIRECTORY
from libnvc.sim.machine import this_machine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from libnvc._config.settings import Config
    from tests.unit.conftest import Bundle

pytestmark = pytest.mark.root

ALL = "NVIDIA_VISIBLE_DEVICES=all"
LIBRARIES = f"{this_machine().libs_dir}/nvidia"
PRESTART = {"path": "/usr/bin/nvidia-container-runtime-hook", "args": ["x", "prestart"]}


@pytest.fixture
def configure(
    tmp_path: Path, jetson_orin: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Config]:
    """Return a reader of configurations for the simulated Jetson, or another root."""
    monkeypatch.setenv("PATH", "/usr/sbin:/usr/bin")

    def load(runtime: str = "", *, top: str = "", root: Path = jetson_orin) -> Config:
        path = tmp_path / "config.toml"
        cli = f'[nvidia-container-cli]\nroot = "{root}"\nload-kmods = false\n'
        path.write_text(f"{top}\n{cli}[nvidia-container-runtime]\n{runtime}\n")
        return load_config(str(path), required=True)

    return load


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> Callable[[], libnvc.Plan]:
    """Return what tells the plan that the hook got last."""
    plans: list[libnvc.Plan] = []

    def note(plan: libnvc.Plan) -> bytes:
        plans.append(plan)
        return encode(plan)

    monkeypatch.setattr(runtime_create, "encode", note)
    return lambda: plans[-1]


def paths(document: dict[str, Any]) -> list[str]:
    return [node["path"] for node in document["linux"]["devices"]]


@pytest.mark.parametrize("mode", ["auto", "csv", "jit-cdi"])
def test_every_mode_that_plans_finds_the_jetson(
    bundle: Bundle, configure: Callable[..., Config], mode: str
) -> None:
    bundle.write(ALL, hooks={"prestart": [PRESTART]})
    document = bundle.create(configure(f'mode = "{mode}"'))
    assert "prestart" not in document["hooks"]
    assert [hook["args"][1] for hook in document["hooks"]["createRuntime"]] == ["create-runtime"]
    assert paths(document)[:2] == ["/dev/nvidia0", "/dev/nvidiactl"]
    assert "/dev/nvgpu/igpu0/ctrl" in paths(document)
    rules = document["linux"]["resources"]["devices"]
    assert {"allow": True, "type": "c", "major": 505, "minor": 2, "access": "rw"} in rules
    assert document["process"]["user"]["additionalGids"] == [44]
    nvmap = next(node for node in document["linux"]["devices"] if node["path"] == "/dev/nvmap")
    assert (nvmap["fileMode"], nvmap["gid"]) == (0o660, 44)
    assert "given by mode csv" in bundle.log.read_text()


def test_the_hook_does_the_rest(
    bundle: Bundle,
    configure: Callable[..., Config],
    jetson_orin: Path,
    left: Callable[[], libnvc.Plan],
) -> None:
    bundle.write(ALL)
    bundle.create(configure())
    kinds = {type(operation) for operation in left().operations}
    assert kinds == {BindMount, Symlink, LoaderCache}
    mounts = {op.path: op.source for op in left().operations if isinstance(op, BindMount)}
    assert mounts[f"{LIBRARIES}/libcuda.so.1.1"] == f"{jetson_orin}{LIBRARIES}/libcuda.so.1.1"


def test_what_is_missing_is_logged(bundle: Bundle, configure: Callable[..., Config]) -> None:
    bundle.write(ALL)
    bundle.create(configure())
    assert "devices.csv:9: dev /dev/nvhost-ctrl-pva0: not on this host: left out" in (
        bundle.log.read_text()
    )


def test_nothing_is_kept(
    bundle: Bundle, configure: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_kept, "keep_made", lambda *_: pytest.fail("kept"))
    bundle.write(ALL)
    assert bundle.create(configure(top="cache = true"))["linux"]["devices"]


def test_none_is_no_device(
    bundle: Bundle, configure: Callable[..., Config], left: Callable[[], libnvc.Plan]
) -> None:
    bundle.write("NVIDIA_VISIBLE_DEVICES=none")
    document = bundle.create(configure('mode = "csv"'))
    assert "devices" not in document.get("linux", {})
    assert left().operations


def test_who_asks_for_nothing_is_not_touched(
    bundle: Bundle, configure: Callable[..., Config]
) -> None:
    text = bundle.write("NVIDIA_VISIBLE_DEVICES=void")
    bundle.create(configure('mode = "csv"'))
    assert bundle.file.read_text() == text


def test_names_of_the_runtimes_own_kind(bundle: Bundle, configure: Callable[..., Config]) -> None:
    bundle.write("NVIDIA_VISIBLE_DEVICES=runtime.nvidia.com/gpu=all")
    assert "/dev/nvmap" in paths(bundle.create(configure()))


def test_no_groups(bundle: Bundle, configure: Callable[..., Config]) -> None:
    bundle.write(ALL)
    config = configure()
    name = "no-additional-gids-for-device-nodes"
    document = bundle.create(config.replace(features=frozenset((name,))))
    assert "user" not in document["process"]
    assert "/dev/nvmap" in paths(document)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (("NVIDIA_VISIBLE_DEVICES=0,1",), "unsupported device id: 1"),
        ((ALL, "NVIDIA_REQUIRE_CUDA=cuda>=12.8"), "unsatisfied condition: cuda>=12.8"),
        ((ALL, "NVIDIA_REQUIRE_X=driver>=550"), "unsatisfied condition: driver>=550"),
        ((ALL, "CUDA_VERSION=13.0"), "unsatisfied condition: cuda>=13.0"),
    ],
)
def test_refusals(
    bundle: Bundle, configure: Callable[..., Config], env: tuple[str, ...], message: str
) -> None:
    bundle.write(*env)
    said = bundle.refuses(configure())
    assert message in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("env", "top"),
    [
        ((ALL, "NVIDIA_REQUIRE_CUDA=cuda>=99", "NVIDIA_DISABLE_REQUIRE=1"), ""),
        ((ALL, "NVIDIA_REQUIRE_CUDA=cuda>=99"), "disable-require = true"),
        ((ALL, "NVIDIA_REQUIRE_CUDA=cuda>=12.6,arch>=8.7"), ""),
        ((ALL, "NVIDIA_REQUIRE_X=brand=tegra"), ""),  # the brand is not known
    ],
)
def test_requirements_that_do_not_count(
    bundle: Bundle, configure: Callable[..., Config], env: tuple[str, ...], top: str
) -> None:
    bundle.write(*env)
    assert bundle.create(configure(top=top))["linux"]["devices"]


def test_no_csv_files(bundle: Bundle, configure: Callable[..., Config]) -> None:
    bundle.write(ALL)
    said = bundle.refuses(configure('[nvidia-container-runtime.modes.csv]\nmount-spec-path = "/x"'))
    assert "no usable entry in " in said
    assert "/x/devices.csv" in said
    assert "nvidia-l4t-init" in said


def test_another_directory_and_every_file(
    tmp_path: Path,
    bundle: Bundle,
    configure: Callable[..., Config],
    jetson_orin: Path,
    left: Callable[[], libnvc.Plan],
) -> None:
    """NVIDIA_REQUIRE_JETPACK picks the files; it is no requirement."""
    root = tmp_path / "jetson"
    subprocess.run(["cp", "-a", jetson_orin, root], check=True)
    (root / CSV_DIRECTORY.lstrip("/")).rename(root / "csv")
    (root / "csv/more.csv").write_text("lib, /etc/ld.so.conf\n")
    config = configure('[nvidia-container-runtime.modes.csv]\nmount-spec-path = "/csv"', root=root)

    def given(*env: str) -> set[str]:
        bundle.write(ALL, *env)
        bundle.create(config)
        return {operation.path for operation in left().operations}

    assert given("NVIDIA_REQUIRE_JETPACK=csv-mounts=all") - given() == {"/etc/ld.so.conf"}
    assert given("NVIDIA_REQUIRE_JETPACK=csv-mounts=some") == given()


def test_mode_csv_on_another_host(
    bundle: Bundle, configure: Callable[..., Config], dgx_a100: Path
) -> None:
    bundle.write(ALL)
    said = bundle.refuses(configure('mode = "csv"', root=dgx_a100))
    assert f"no usable entry in {dgx_a100}/etc/nvidia-container-runtime/" in said
    assert "missing" in said


def test_user_namespaces_have_other_groups(
    bundle: Bundle, configure: Callable[..., Config], left: Callable[[], libnvc.Plan]
) -> None:
    """Runtimes make no nodes there either: the hook binds the host's."""
    bundle.write(ALL, linux={"namespaces": [{"type": "user"}]})
    document = bundle.create(configure())
    assert "user" not in document["process"]
    assert "devices" not in document["linux"]
    assert [op.path for op in left().operations if isinstance(op, DeviceNode)][:1] == [
        "/dev/nvidia0"
    ]


@pytest.mark.parametrize(
    ("place", "lines", "cuda", "used"),
    [
        ("/usr/local/cuda/compat_orin", "", "13.0", True),
        ("/usr/local/cuda/compat_orin", "", "12.6", False),
        ("/usr/local/cuda/compat", "", "13.0", False),
        ("/opt/compat", 'modes.csv.compat-container-root = "/opt/compat"', "13.0", True),
        (
            "/usr/local/cuda/compat_orin",
            'modes.legacy.cuda-compat-mode = "disabled"',
            "13.0",
            False,
        ),
    ],
)
def test_compatibility_libraries_of_the_image(
    bundle: Bundle,
    configure: Callable[..., Config],
    left: Callable[[], libnvc.Plan],
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    lines: str,
    cuda: str,
    used: bool,
) -> None:
    """Which version they are of they say in a note."""
    monkeypatch.setattr(cdi_hook_work, "_read_note", lambda *_: {"CUDA Version": cuda})
    directory = bundle.path / "rootfs" / place.lstrip("/")
    directory.mkdir(parents=True)
    (directory / "libcuda.so.1.1").touch()
    bundle.write(ALL)
    bundle.create(configure(lines))
    (cache,) = (op for op in left().operations if isinstance(op, LoaderCache))
    assert cache.directories == ((place,) if used else ())
