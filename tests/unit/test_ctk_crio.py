# SPDX-License-Identifier: Apache-2.0
"""`nvidia-ctk runtime configure` for CRI-O, and the hook's manifest for podman."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.conftest import Ctk, CtkDone

    Run = Callable[..., CtkDone]

MAIN = """\
[crio.runtime]
default_runtime = "crun"
[crio.runtime.runtimes.crun]
runtime_path = "/usr/bin/crun"
runtime_root = "/run/crun"
monitor_path = "/usr/libexec/crio/conmon"
"""
D = """\

[crio]

  [crio.runtime]
    default_runtime = "nvidia"

    [crio.runtime.runtimes]

      [crio.runtime.runtimes.nvidia]
        monitor_path = "/usr/libexec/crio/conmon"
        runtime_path = "/usr/bin/nvidia-container-runtime"
        runtime_root = "/run/crun"
        runtime_type = "oci"
"""
E = """\
{
  "version": "1.0.0",
  "hook": {
    "path": "/usr/bin/nvidia-container-runtime-hook",
    "args": [
      "nvidia-container-runtime-hook",
      "prestart"
    ],
    "env": [
      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    ]
  },
  "when": {
    "always": true,
    "commands": [
      ".*"
    ]
  },
  "stages": [
    "prestart"
  ]
}
"""


@pytest.fixture
def main(tmp_path: Path) -> Path:
    return tmp_path / "crio.conf"


@pytest.fixture
def drop_in(tmp_path: Path) -> Path:
    return tmp_path / "crio.conf.d/99-nvidia.toml"


@pytest.fixture
def configure(run_ctk: Ctk, main: Path, drop_in: Path) -> Run:
    def run(*options: str | Path) -> CtkDone:
        files = (f"--config={main}", f"--drop-in-config={drop_in}")
        return run_ctk("runtime", "configure", "--runtime=crio", *files, *options)

    return run


def test_d(configure: Run, main: Path, drop_in: Path) -> None:
    main.write_text(MAIN)
    done = configure("--set-as-default")
    assert done.messages[-1] == "info It is recommended that crio daemon be restarted."
    assert drop_in.read_text() == D
    assert main.read_text() == MAIN
    assert configure("--set-as-default").messages[-1] == f"info Nothing to change in {drop_in}"
    configure()
    assert drop_in.read_text() == D.replace('    default_runtime = "nvidia"\n', "")
    configure("--unset")
    assert not drop_in.exists()
    assert main.read_text() == MAIN


def test_without_a_runtime_to_copy(configure: Run, drop_in: Path) -> None:
    configure()
    assert tomllib.loads(drop_in.read_text())["crio"]["runtime"] == {
        "runtimes": {
            "nvidia": {
                "runtime_path": "/usr/bin/nvidia-container-runtime",
                "runtime_type": "oci",
            }
        }
    }


def test_what_else_the_drop_in_has_stays(configure: Run, drop_in: Path) -> None:
    drop_in.parent.mkdir()
    drop_in.write_text('[crio.image]\npause_image = "p"\n')
    configure("--set-as-default")
    configure("--nvidia-runtime-name=other", "--set-as-default")
    document = tomllib.loads(drop_in.read_text())["crio"]
    assert document["image"] == {"pause_image": "p"}
    assert document["runtime"]["runtimes"].keys() == {"nvidia", "other"}
    configure("--unset", "--nvidia-runtime-name=other")
    configure("--unset")
    assert tomllib.loads(drop_in.read_text()) == {"crio": {"image": {"pause_image": "p"}}}


def test_cdi_needs_no_flag(configure: Run, drop_in: Path) -> None:
    done = configure("--cdi.enabled")
    assert done.status == 0
    assert done.messages[0] == "warning Ignoring cdi.enabled flag for crio"
    assert "cdi" not in drop_in.read_text()


def test_the_configuration_in_effect(
    configure: Run, drop_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of CRI-O's own program, or of an older version's second one."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (tmp_path / "crio").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "crio-status").write_text(f"#!/bin/sh\necho '{MAIN}'\n")
    for name in ("crio", "crio-status"):
        (tmp_path / name).chmod(0o755)
    assert configure("--config-source=command", "--set-as-default").status == 0
    assert drop_in.read_text() == D
    (tmp_path / "crio-status").unlink()
    done = configure("--config-source=command")
    assert done.messages[-1] == (
        "error crio status config: exit status 1: ; crio-status config: no such program"
    )


def test_a_file_that_is_not_understood(configure: Run, main: Path, drop_in: Path) -> None:
    main.write_text("[crio")
    done = configure()
    assert done.status == 1
    assert done.messages[-1].startswith(f"error {main}: ")
    assert "(at line 1, column 6)" in done.messages[-1]
    assert not drop_in.exists()


HOOK = ("runtime", "configure", "--config-mode=oci-hook")


def test_e(run_ctk: Ctk, tmp_path: Path) -> None:
    done = run_ctk(*HOOK)
    assert (done.status, done.out) == (0, E)
    file = tmp_path / "hooks.d/oci-nvidia-hook.json"
    assert run_ctk(*HOOK, f"--oci-hook-path={file}").out == ""
    assert file.read_text() == E
    assert run_ctk(*HOOK, f"--oci-hook-path={file}").messages[-1].startswith("info Nothing")
    assert run_ctk(*HOOK, f"--oci-hook-path={file}", "--unset").status == 0
    assert not file.exists()


def test_podman_takes_the_manifest(run_ctk: Ctk) -> None:
    assert run_ctk(*HOOK, "--runtime=podman").out == E


def test_a_hook_in_a_directory_of_its_own(run_ctk: Ctk) -> None:
    done = run_ctk(*HOOK, "--nvidia-runtime-hook-path=/opt/nvidia/hook")
    hook = json.loads(done.out)["hook"]
    assert (hook["path"], hook["args"]) == ("/opt/nvidia/hook", ["hook", "prestart"])
    assert hook["env"][0].endswith(":/bin:/opt/nvidia")


def test_manifests_of_others_stay(run_ctk: Ctk, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text('{"hook": {"path": "/other"}}')
    run_ctk(*HOOK, f"--oci-hook-path={file}", "--unset")
    assert file.read_text() == '{"hook": {"path": "/other"}}'


def test_hook_flags_that_make_no_sense(run_ctk: Ctk) -> None:
    done = run_ctk(*HOOK, "--nvidia-runtime-hook-path=x")
    assert done.messages == ['error the NVIDIA runtime hook path "x" is not an absolute path']
    assert run_ctk(*HOOK, "--unset").status == 1
