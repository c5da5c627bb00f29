# SPDX-License-Identifier: Apache-2.0
"""What users install: tree → sdist → wheel → fresh environment, outside the checkout."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

TREE = Path(__file__).parents[2]
LAUNCHERS = {
    "nvidia-container-runtime",
    "nvidia-container-runtime.cdi",
    "nvidia-container-runtime.legacy",
    "nvidia-container-runtime-hook",
    "nvidia-container-toolkit",
    "nvidia-cdi-hook",
    "nvidia-container-cli",
}
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env=ENVIRONMENT, check=False, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the source distribution from a copy of the tree: building writes into it."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("LICENSE", "README.md", "pyproject.toml", "setup.py"):
        shutil.copy(TREE / name, tree)
    for name in ("cli", "csrc", "libnvc", "tests"):
        leftovers = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(TREE / name, tree / name, ignore=leftovers)
    out = tmp_path_factory.mktemp("sdist")
    built = run(sys.executable, "-P", "-m", "build", "--sdist", "--outdir", out, tree, cwd=out)
    assert built.returncode == 0, built.stderr + built.stdout
    return next(out.glob("libnvc-*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    built = run(sys.executable, "-P", "-m", "pip", "wheel", "--no-deps", "-w", out, sdist, cwd=out)
    assert built.returncode == 0, built.stderr
    return next(out.glob("libnvc-*.whl"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel, without extras, into a fresh environment; return its bin directory."""
    venv = tmp_path_factory.mktemp("venv")
    assert run(sys.executable, "-P", "-m", "venv", venv, cwd=venv).returncode == 0
    installed = run(venv / "bin/pip", "install", "--quiet", wheel, cwd=venv)
    assert installed.returncode == 0, installed.stderr
    return venv / "bin"


def test_sdist_can_be_built_again(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "setup.py", "csrc/ffi_build.py"} <= names
    headers = {f"csrc/{path.name}" for path in (TREE / "csrc").glob("*.[ch]*")}
    headers |= {f"csrc/launcher/{path.name}" for path in (TREE / "csrc/launcher").iterdir()}
    assert headers <= names


def test_wheel_contents(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    modules = {
        str(path.relative_to(TREE))
        for path in (TREE / "libnvc").rglob("*.py")
        if "__pycache__" not in path.parts
    }
    modules |= {f"libnvc/cli/{path.name}" for path in (TREE / "cli").glob("*.py")}
    assert modules <= names
    assert {"libnvc/_core.abi3.so", "libnvc/py.typed"} <= names
    assert [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]
    outside = {name for name in names if not name.startswith("libnvc/")}
    outside = {name.partition("/")[2] for name in outside if ".dist-info/" not in name}
    assert outside == {f"data/bin/{name}" for name in LAUNCHERS}
    assert not [name for name in names if name.startswith("libnvc/_core.c")]


def test_wheel_has_the_simulated_driver(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        native = [name for name in archive.namelist() if name.startswith("libnvc/sim/")]
    assert [name for name in native if not name.endswith(".py")]


def test_wheel_serves_every_python_from_3_11(wheel: Path) -> None:
    assert wheel.name.endswith(f"-cp311-abi3-linux_{platform.machine()}.whl")


def test_container_cli_needs_no_extra(environment: Path, tmp_path: Path) -> None:
    done = run(environment / "nvidia-container-cli", "--version", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(r"cli-version: \S+\n", done.stdout)


def test_ctk_needs_no_extra(environment: Path, tmp_path: Path) -> None:
    (tmp_path / "f").write_text(
        "version = 1\n[plugins.cri.containerd]\ndefault_runtime_name = 'x'\n"
    )
    words = ("runtime", "configure", "--runtime=containerd", "--config=f", "--set-as-default")
    done = run(environment / "nvidia-ctk", *words, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0
    assert 'default_runtime_name = "nvidia"' in done.stdout


def test_launcher_is_static_and_beside_its_interpreter(environment: Path, tmp_path: Path) -> None:
    for name in LAUNCHERS:
        with (environment / name).open("rb") as file:
            assert not [s for s in ELFFile(file).iter_segments() if s["p_type"] == "PT_INTERP"]
    # Called without a front file, it asks the interpreter of this environment.
    (environment / "nvidia-ctk").rename(environment / "away")
    try:
        done = run(environment / "nvidia-container-runtime", "--version", cwd=tmp_path)
    finally:
        (environment / "away").rename(environment / "nvidia-ctk")
    assert (done.returncode, done.stderr) == (
        1,
        f"nvidia-container-runtime: {environment}/nvidia-ctk: names no Python "
        "interpreter: install libnvc anew\n",
    )


def test_nvc_without_its_extra_says_what_to_install(environment: Path, tmp_path: Path) -> None:
    done = run(environment / "nvc", "--help", cwd=tmp_path)
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "libnvc[cli]" in done.stderr


def test_nvc_with_its_extra(environment: Path, wheel: Path, tmp_path: Path) -> None:
    """Runs last in this file: it adds the extra to the shared environment."""
    installed = run(
        environment / "pip", "install", "--quiet", f"libnvc[cli] @ {wheel.as_uri()}", cwd=tmp_path
    )
    assert installed.returncode == 0, installed.stderr
    helped = run(environment / "nvc", "--help", cwd=tmp_path)
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "sim" in helped.stdout
    created = run(
        environment / "nvc", "sim", "create", "--profile", "mx150", "driver", cwd=tmp_path
    )
    assert created.returncode == 0, created.stderr
    assert (tmp_path / "driver/etc/ld.so.cache").is_file()
