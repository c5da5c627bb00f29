# SPDX-License-Identifier: Apache-2.0
"""Pin the modules that the commands load on the way to a started container.

Each module costs time at every container start. An interpreter without `site` is used: an
editable install would load some of the modules asked about before our first line.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import libnvc.sim
from libnvc.testing import NamespaceContainer

if TYPE_CHECKING:
    from collections.abc import Callable

CLI = ["_argp", "container_cli", "container_common", "output"]

#: of the standard library, what a start may load: small or built into the interpreter
STANDARD = {
    "__future__",
    "_cffi_backend",
    "_operator",
    "_sha2",  # Python 3.12 and later
    "_sha256",
    "_struct",
    "_thread",
    "errno",
    "gc",
    "pwd",
    "struct",
    "time",
}

MARK = "modules:"

PROGRAM = """
import os, sys  # what `site` loads anyway
sys.path += {paths!r}
import libnvc
libnvc.__path__.append({cli!r})  # where `libnvc.cli` is, also in an editable install
before = {{name for name in sys.modules if name.split(".")[0] != "libnvc"}}
{statement}
print({mark!r}, *sorted(set(sys.modules) - before))
"""


def home(module: str) -> Path:
    """Return the directory of a module's file, or of a package."""
    found = find_spec(module)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent


@pytest.fixture
def loaded() -> Callable[..., set[str]]:
    """Give a function that lists the modules that a statement loads in a fresh interpreter."""

    def run(statement: str) -> set[str]:
        program = PROGRAM.format(
            paths=[str(home("_cffi_backend")), str(home("libnvc").parent)],
            cli=str(home("libnvc.cli").parent),
            statement=statement,
            mark=MARK,
        )
        done = subprocess.run(
            [sys.executable, "-S", "-P", "-c", program],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return set(done.stdout.rpartition(MARK)[2].split())

    return run


def call(*words: str) -> str:
    return f"from libnvc.cli.container_cli import main; main({['x', *words]!r})"


def test_importing_libnvc(loaded: Callable[..., set[str]]) -> None:
    assert loaded("import libnvc") - STANDARD == {"libnvc"}


def test_reading_what_a_container_asks_for(loaded: Callable[..., set[str]]) -> None:
    found = loaded(
        "from libnvc._config import settings; from libnvc._oci import document, wanted\n"
        "config = settings.load_config('/nowhere', required=False)\n"
        "container = wanted.read_container({'process': {'env': ['CUDA_VERSION=12.2']}})\n"
        "assert wanted.decode(container, config, annotations=False).devices == ('all',)"
    )
    ours = ("_config", "_config.plain", "_config.settings", "_oci", "_oci.document", "_oci.wanted")
    others = {"libnvc", "libnvc._record", "libnvc.errors", "_json"}
    assert found - STANDARD == {*others, *(f"libnvc.{name}" for name in ours)}


def test_importing_the_container_cli(loaded: Callable[..., set[str]]) -> None:
    expected = {"libnvc", "libnvc._record", "libnvc.cli", *(f"libnvc.cli.{name}" for name in CLI)}
    assert loaded("import libnvc.cli.container_cli") - STANDARD == expected


def test_choosing_a_command_of_ctk(loaded: Callable[..., set[str]]) -> None:
    """Some are hooks: they must not wait for what others need."""
    found = loaded("from libnvc.cli import ctk; ctk.main(['nvidia-ctk', '--version'])")
    ours = {"_flags", "ctk", "ctk_version", "output"}
    assert {name for name in found if name.startswith("libnvc.cli.")} == {
        f"libnvc.cli.{name}" for name in ours
    }
    assert found - STANDARD - {name for name in found if name.startswith("libnvc")} == set()
    assert not {name for name in found if name.startswith("libnvc._engines")}


def check(found: set[str], modules: set[str]) -> None:
    ours = {name for name in found if name.split(".")[0] == "libnvc"}
    cli = {name for name in ours if name.startswith("libnvc.cli.")}
    assert cli == {f"libnvc.cli.{name}" for name in {*CLI, *modules}}
    assert not {name for name in ours if name.startswith(("libnvc.sim", "libnvc.testing"))}
    assert found - ours <= STANDARD


def test_list(loaded: Callable[..., set[str]], dgx_a100: Path) -> None:
    found = loaded(call(f"--root={dgx_a100}", "list"))
    check(found, {"container_list", "container_kept"})
    assert not {name for name in found if name.startswith(("libnvc._apply", "libnvc._render"))}
    assert "libnvc._planner.build" not in found


@pytest.mark.root
def test_list_where_the_driver_is_loaded(loaded: Callable[..., set[str]], tmp_path: Path) -> None:
    libnvc.sim.create("dgx-a100", tmp_path / "root")
    found = loaded(call("-k", f"--root={tmp_path}/root", "list"))
    check(found, {"container_list", "container_kept"})


def test_info(loaded: Callable[..., set[str]], dgx_a100: Path) -> None:
    found = loaded(call(f"--root={dgx_a100}", "-u0:0", "info"))
    check(found, {"container_info", "container_kept", "container_user"})


@pytest.mark.root
def test_asking_nvml_and_keeping_its_answer(
    loaded: Callable[..., set[str]], dgx_a100_mig: Path
) -> None:
    for _ in range(2):  # the second time it is kept
        found = loaded(call(f"--root={dgx_a100_mig}", "list", "-d0:0"))
        check(found, {"container_list", "container_kept", "container_user"})
        assert "libnvc._discover.kept" in found


@pytest.mark.root
def test_configure(loaded: Callable[..., set[str]], dgx_a100: Path, rootfs: Path) -> None:
    with NamespaceContainer(rootfs) as container:
        words = ("configure", "-d0", "-cu", "--no-cgroups", f"--pid={container.pid}", str(rootfs))
        found = loaded(call(f"--root={dgx_a100}", *words))
        inside = Path(f"/proc/{container.pid}/mountinfo").read_text()
    assert f" {rootfs}/dev/nvidia0 " in inside
    check(found, {"container_configure"})
    assert not {name for name in found if name.startswith("libnvc._render")}
    assert not found & {"libnvc._discover.nvml", "libnvc._discover.kept", "libnvc._native.nvml"}


RUNTIME = {"output", "runtime", "runtime_args", "runtime_front"}
CREATE = RUNTIME | {
    *("container_common", "_argp", "runtime_create", "runtime_kept", "runtime_log"),
    "runtime_request",
}


def check_programs(found: set[str], modules: set[str]) -> None:
    ours = {name for name in found if name.split(".")[0] == "libnvc"}
    cli = {name for name in ours if name.startswith("libnvc.cli.")}
    assert cli == {f"libnvc.cli.{name}" for name in modules}
    assert not {name for name in ours if name.startswith(("libnvc.sim", "libnvc.testing"))}
    assert found - ours <= STANDARD | {"_json"}


@pytest.fixture
def bundle(tmp_path: Path, dgx_a100: Path, rootfs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a bundle whose container asks for a GPU."""
    config = tmp_path / "config.toml"
    config.write_text(
        f'[nvidia-container-cli]\nroot = "{dgx_a100}"\nload-kmods = false\n'
        '[nvidia-container-runtime]\nruntimes = ["true"]\n'
    )
    monkeypatch.setenv("NVIDIA_CTK_CONFIG_FILE_PATH", str(config))
    document = {
        "ociVersion": "1.0.2",
        "process": {"env": ["NVIDIA_VISIBLE_DEVICES=0"]},
        "root": {"path": str(rootfs)},
    }
    (tmp_path / "config.json").write_text(json.dumps(document))
    return tmp_path


def runtime_call(*words: str) -> str:
    # What it becomes would end the interpreter that is asked.
    return (
        "os.execve = lambda *_: None\n"
        f"from libnvc.cli.runtime import main; main('/opt/x', 'x', *{words!r})"
    )


def test_the_runtime_passing_a_call_on(loaded: Callable[..., set[str]], bundle: Path) -> None:
    found = loaded(runtime_call("state", "c"))
    check_programs(found, RUNTIME)
    assert "libnvc._planner" not in found


def test_the_runtime_creating(loaded: Callable[..., set[str]], bundle: Path) -> None:
    found = loaded(runtime_call("create", "--bundle", str(bundle), "c"))
    check_programs(found, CREATE)
    assert not {name for name in found if name.startswith("libnvc._cdi")}
    assert "libnvc._apply" not in found
    assert not {name for name in found if name.endswith(("tegra", "csvfiles", "globs"))}
    assert (bundle / "nvidia-container.plan").exists()


def test_the_runtime_creating_on_a_jetson(
    loaded: Callable[..., set[str]], bundle: Path, dgx_a100: Path, jetson_orin: Path
) -> None:
    config = bundle / "config.toml"
    config.write_text(config.read_text().replace(str(dgx_a100), str(jetson_orin)))
    found = loaded(runtime_call("create", "--bundle", str(bundle), "c"))
    check_programs(found, (CREATE - {"runtime_kept"}) | {"runtime_csv", "cdi_hook_work"})
    assert not {name for name in found if name.startswith("libnvc._cdi")}
    assert (bundle / "nvidia-container.plan").exists()


def test_the_hook(loaded: Callable[..., set[str]], bundle: Path) -> None:
    """Up to the request: what follows is `configure`."""
    state = json.dumps({"pid": 1, "bundle": str(bundle)})
    found = loaded(
        f"import io; sys.stdin = io.TextIOWrapper(io.BytesIO({state.encode()!r}))\n"
        "from libnvc.cli import container_cli; container_cli.main = lambda *_, **__: 0\n"
        "from libnvc.cli.runtime_hook import main; assert main('prestart') == 0"
    )
    check_programs(found, {*CLI, "runtime_front", "runtime_hook", "runtime_request"})


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_a_runtime_that_reads_cdi_files(
    loaded: Callable[..., set[str]], bundle: Path, tmp_path: Path, suffix: str
) -> None:
    """PyYAML only where there is YAML."""
    specs = tmp_path / "cdi"
    specs.mkdir()
    config = tmp_path / "config.toml"
    text = f'[nvidia-container-runtime.modes.cdi]\nspec-dirs = ["{specs}"]\n'
    config.write_text(config.read_text() + text)
    file = bundle / "config.json"
    file.write_text(file.read_text().replace("DEVICES=0", "DEVICES=a.b/c=d"))
    edits = {"deviceNodes": [{"path": "/dev/null"}]}
    device = {"name": "d", "containerEdits": edits}
    document = {"cdiVersion": "0.3.0", "kind": "a.b/c", "devices": [device]}
    (specs / f"a.{suffix}").write_text(json.dumps(document))
    found = loaded(runtime_call("create", "--bundle", str(bundle), "c"))
    assert b"/dev/null" in file.read_bytes()
    cdi = {name for name in found if name.startswith("libnvc._cdi.")}
    modules = {"edits", "members", "registry", "spec"} | (
        {"yamltext"} if suffix == "yaml" else set()
    )
    assert cdi == {f"libnvc._cdi.{name}" for name in modules}
    assert ("yaml" in found) is (suffix == "yaml")
    if suffix == "json":
        ours = {name for name in found if name.split(".")[0] == "libnvc"}
        assert found - ours <= STANDARD | {"_json"}


@pytest.mark.parametrize(
    "words",
    [
        ("update-ldcache", "--folder=/usr/lib"),
        ("create-symlinks", "--link=a::/b"),
        ("enable-cuda-compat", "--host-driver-version=535.1"),
    ],
)
def test_a_hook_of_a_cdi_file(
    loaded: Callable[..., set[str]], bundle: Path, words: tuple[str, ...]
) -> None:
    """Up to the plan, and that it is not applied to the host."""
    state = json.dumps({"bundle": str(bundle)})
    found = loaded(
        f"import io; sys.stdin = io.TextIOWrapper(io.BytesIO({state.encode()!r}))\n"
        f"from libnvc.cli.cdi_hook import main; main(*{words!r})"
    )
    modules = {"cdi_hook", "cdi_hook_words", "cdi_hook_work"}
    check_programs(found, {*modules, "_argp", "container_common", "output"})
    assert "libnvc._planner.build" not in found
