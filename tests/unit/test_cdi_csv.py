# SPDX-License-Identifier: Apache-2.0
"""CDI files of a Jetson."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from libnvc import MissingDeviceError, NvcError, RequestError, UnknownDeviceError
from libnvc._cdi.generate import generate
from libnvc._cdi.options import Options, option_words
from libnvc.sim.jetson import CSV_DIRECTORY
from libnvc.sim.machine import this_machine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Document = dict[str, Any]

pytestmark = pytest.mark.root

LIBRARIES = f"{this_machine().libs_dir}/nvidia"


@pytest.fixture
def jetson(tmp_path: Path, jetson_orin: Path) -> Path:
    """Return an own copy of a simulated Jetson."""
    subprocess.run(["cp", "-a", jetson_orin, tmp_path / "jetson"], check=True)
    return tmp_path / "jetson"


def made(root: Path, **options: Any) -> Document:
    return generate(Options(driver_root=str(root), **options)).document


def names(document: Document) -> list[str]:
    return [device["name"] for device in document["devices"]]


def hook(document: Document, name: str) -> list[str]:
    """Return what a hook is told, [] if it is not called."""
    calls = document["containerEdits"].get("hooks", [])
    return next((call["args"][2:] for call in calls if call["args"][1] == name), [])


def mounts(document: Document) -> list[str]:
    return [mount["containerPath"] for mount in document["containerEdits"]["mounts"]]


def test_a_document(jetson_orin: Path, validate_cdi: Callable[[object], None]) -> None:
    document = made(jetson_orin)
    validate_cdi(document)
    assert (document["cdiVersion"], document["kind"]) == ("0.7.0", "nvidia.com/gpu")
    assert names(document) == ["0", "all"]
    first, every = (device["containerEdits"] for device in document["devices"])
    assert first == every
    assert first["additionalGids"] == [44]
    paths = [node["path"] for node in first["deviceNodes"]]
    assert paths[:2] == ["/dev/host1x-fence", "/dev/nvidia-modeset"]
    assert len([path for path in paths if path.startswith("/dev/nvgpu/igpu0/")]) == 10
    assert len(paths) == 17
    calls = [call["args"][1] for call in document["containerEdits"]["hooks"]]
    assert calls == ["create-symlinks", "enable-cuda-compat", "update-ldcache"]
    assert document["containerEdits"]["env"] == ["NVIDIA_VISIBLE_DEVICES=void"]
    assert hook(document, "update-ldcache") == ["--folder", LIBRARIES]
    assert hook(document, "enable-cuda-compat") == [
        "--host-cuda-version=12.6",
        "--cuda-compat-container-root=/usr/local/cuda/compat_orin",
    ]
    links = hook(document, "create-symlinks")[1::2]
    assert f"libcuda.so.1.1::{LIBRARIES}/libcuda.so.1" in links
    assert f"nvidia/libcuda.so::{this_machine().libs_dir}/libcuda.so" in links
    places = mounts(document)
    assert places[:2] == ["/etc/nv_tegra_release", "/lib/firmware/ga10b"]
    assert f"{LIBRARIES}/libcuda.so.1.1" in places
    for mount in document["containerEdits"]["mounts"]:
        assert mount["options"] == ["ro", "nosuid", "nodev", "rbind", "rprivate"]
        assert os.path.exists(mount["hostPath"])


def test_what_is_not_there_is_named(jetson_orin: Path) -> None:
    warnings = generate(Options(driver_root=str(jetson_orin))).warnings
    assert warnings == (
        "devices.csv:9: dev /dev/nvhost-ctrl-pva0: not on this host: left out",
        f"l4t.csv:1: lib {LIBRARIES}/libnvdla_compiler.so: not on this host: left out",
        f"l4t.csv:2: sym {this_machine().libs_dir}/libnvv4l2.so: not on this host: left out",
        "l4t.csv:3: dir /usr/src/jetson_multimedia_api: not on this host: left out",
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["0", "all"]),
        ({"device_id": ("0",)}, ["0", "all"]),
        ({"no_all_device": True}, ["0"]),
        ({"device_name_strategy": ("type-index",)}, ["all", "gpu0"]),
        ({"device_name_strategy": ("index", "type-index")}, ["0", "all", "gpu0"]),
        ({"device_id": ("none",)}, ["none"]),
    ],
)
def test_names(jetson_orin: Path, options: dict[str, Any], expected: list[str]) -> None:
    assert names(made(jetson_orin, **options)) == expected


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"device_id": ("1",)}, UnknownDeviceError, "unsupported device id: 1"),
        ({"device_id": ("GPU-x",)}, UnknownDeviceError, "unsupported device id: GPU-x"),
        ({"device_name_strategy": ("uuid",)}, RequestError, "mode csv: devices have no UUID"),
        ({"library_search_path": ("/x",)}, RequestError, "/x: not below the driver root "),
        ({"csv_file": ("/nowhere.csv",)}, NvcError, "no usable entry in /nowhere.csv: "),
    ],
)
def test_what_is_refused(
    jetson_orin: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        made(jetson_orin, **options)
    assert str(caught.value).startswith(message)


def test_files_and_patterns(tmp_path: Path, jetson_orin: Path) -> None:
    file = tmp_path / "own.csv"
    file.write_text(f"dev, /dev/nvmap\nsym, {LIBRARIES}/libcuda.so\nsym, {LIBRARIES}/libcuda.so.1")
    document = made(jetson_orin, csv_file=(str(file),), csv_ignore_pattern=("**/*.so",))
    assert mounts(document) == ["/etc/nv_tegra_release", f"{LIBRARIES}/libcuda.so.1.1"]
    assert hook(document, "create-symlinks") == [
        *("--link", f"libcuda.so.1.1::{LIBRARIES}/libcuda.so.1")
    ]


def test_the_compatibility_libraries_of_other_processors(jetson: Path) -> None:
    (jetson / "sys/devices/soc0/soc_id").chmod(0o644)
    (jetson / "sys/devices/soc0/soc_id").write_text("25\n")
    assert hook(made(jetson), "enable-cuda-compat") == ["--host-cuda-version=12.6"]
    words = hook(made(jetson, csv_compat_container_root="/opt/compat"), "enable-cuda-compat")
    assert words[1] == "--cuda-compat-container-root=/opt/compat"
    release = jetson / "etc/nv_tegra_release"
    release.write_text("# R99 (release), REVISION: 1.0\n")
    assert hook(made(jetson), "enable-cuda-compat") == []


def test_an_older_jetson(jetson: Path) -> None:
    """JetPack 5 on a Xavier: other directories and devices, no NVML, no driver version."""
    version = jetson / "proc/driver/nvidia/version"
    version.unlink()
    libraries = jetson / LIBRARIES.lstrip("/")
    (libraries / "libnvidia-ml.so.1").unlink()
    libraries.rename(libraries.with_name("tegra"))
    shutil.rmtree(jetson / "dev/nvgpu")
    os.rename(jetson / "dev/nvmap", jetson / "dev/nvhost-gpu")
    (jetson / "etc/nv_tegra_release").write_text("# R35 (release), REVISION: 4.1, GCID: 1\n")
    (jetson / "sys/devices/soc0/soc_id").chmod(0o644)
    (jetson / "sys/devices/soc0/soc_id").write_text("25\n")
    place = jetson / CSV_DIRECTORY.lstrip("/")
    drivers = (place / "drivers.csv").read_text().replace("/nvidia/", "/tegra/")
    (place / "drivers.csv").write_text(drivers)
    (place / "devices.csv").write_text("dev, /dev/nvhost-gpu\n")
    found = generate(Options(driver_root=str(jetson)))
    assert found.driver_version == ""
    assert names(found.document) == ["0", "all"]
    nodes = found.document["devices"][0]["containerEdits"]["deviceNodes"]
    assert [node["path"] for node in nodes] == ["/dev/nvhost-gpu"]
    folder = LIBRARIES.replace("/nvidia", "/tegra")
    assert hook(found.document, "update-ldcache") == ["--folder", folder]
    assert hook(found.document, "enable-cuda-compat") == ["--host-cuda-version=11.4"]
    assert f"{folder}/libcuda.so.1.1" in mounts(found.document)


def test_without_devices(jetson: Path) -> None:
    shutil.rmtree(jetson / "dev")
    with pytest.raises(MissingDeviceError) as caught:
        made(jetson)
    assert 'failed add device "0"' in str(caught.value)
    assert "kernel module" in caught.value.hint


def test_a_base_file_that_is_missing(jetson: Path) -> None:
    (jetson / CSV_DIRECTORY.lstrip("/") / "l4t.csv").unlink()
    found = generate(Options(driver_root=str(jetson)))
    assert names(found.document) == ["0", "all"]
    assert found.warnings[0].endswith("/l4t.csv: missing: what it would name is left out")


def test_what_is_asked_for_is_in_the_stamp() -> None:
    options = Options(
        mode="csv",
        csv_file=("/a.csv", "/b.csv"),
        csv_ignore_pattern=("**/x",),
        csv_compat_container_root="/c",
        library_search_path=("/l",),
    )
    assert shlex.join(sorted(option_words(options))) == (
        "--csv.compat-container-root=/c --csv.file=/a.csv,/b.csv '--csv.ignore-pattern=**/x' "
        "--library-search-path=/l --mode=csv"
    )


def test_the_command(
    tmp_path: Path, jetson_orin: Path, commands: Path, validate_cdi: Callable[[object], None]
) -> None:
    """It says the same when it checks its own file."""
    output = tmp_path / "cdi/nvidia.json"
    command = [str(commands / "nvidia-ctk"), "cdi", "generate", f"--output={output}"]
    words = [f"--driver-root={jetson_orin}", "--mode=csv", "--csv.ignore-pattern=**/10_nvidia.json"]
    done = subprocess.run([*command, *words], stderr=subprocess.PIPE, text=True, check=True)
    assert done.stderr.endswith('level=info msg="Generated CDI spec with version 0.7.0"\n')
    text = output.read_text()
    assert "10_nvidia.json" not in text
    again = subprocess.run(
        [*command, *words, "--if-stale"], stderr=subprocess.PIPE, text=True, check=True
    )
    assert f"Nothing to change in {output}" in again.stderr
