# SPDX-License-Identifier: Apache-2.0
"""`nvidia-ctk runtime configure` for containerd: versions, drop-in, imports, and back."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.conftest import Ctk, CtkDone

    Run = Callable[..., CtkDone]

CRI = {2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.runtime"}
C1 = """\
version = 2
imports = ["/etc/containerd/other/*.toml"]
[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    sandbox_image = "pause"
    [plugins."io.containerd.grpc.v1.cri".containerd]
      default_runtime_name = "runc"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
        runtime_type = "io.containerd.runc.v2"
        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
          SystemdCgroup = true
"""
C1_DROP_IN = """\
version = 2

[plugins]

  [plugins."io.containerd.grpc.v1.cri"]
    enable_cdi = true
    sandbox_image = "pause"

    [plugins."io.containerd.grpc.v1.cri".containerd]
      default_runtime_name = "runc"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes]

        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]
          runtime_type = "io.containerd.runc.v2"

          [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]
            BinaryName = "/usr/bin/nvidia-container-runtime"
            SystemdCgroup = true

        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
          runtime_type = "io.containerd.runc.v2"

          [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
            SystemdCgroup = true
"""
#: as Debian has it: no runtime is named, containerd's own runc is meant
DEBIAN = """\
version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
      conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.internal.v1.opt"]
    path = "/var/lib/containerd/opt"
"""
VERSION_1 = """\
# the first version   # needs no number
root = "/data"

[plugins.cri]
  stream_server_port = "0"  # any
  [plugins.cri.containerd.runtimes.runc]
    runtime_type = "io.containerd.runtime.v1.linux"  # old
"""
#: as kubeadm's and cloud providers' images have it
COMMENTED = """\
# Managed by nobody.  \t
version = 2                # of the format
imports = [
  "/etc/containerd/a.toml",   # first
  "/etc/containerd/b.toml",
]
disabled_plugins = []

[plugins."io.containerd.grpc.v1.cri"]
# image for pods
sandbox_image = "pause:3.9"
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "kata"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes]
kata = {runtime_type = "io.containerd.kata.v2", privileged_without_host_devices = true}
"""
RUNC_V2 = {"runtime_type": "io.containerd.runc.v2"}


@pytest.fixture
def main(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


@pytest.fixture
def drop_in(tmp_path: Path) -> Path:
    return tmp_path / "conf.d/99-nvidia.toml"


@pytest.fixture
def configure(run_ctk: Ctk, main: Path, drop_in: Path) -> Run:
    def run(*options: str | Path) -> CtkDone:
        files = (f"--config={main}", f"--drop-in-config={drop_in}")
        return run_ctk("runtime", "configure", "--runtime=containerd", *files, *options)

    return run


def load(path: Path, version: int = 2) -> dict[str, Any]:
    """Return the plugin's table."""
    document = tomllib.loads(path.read_text())
    assert document.get("version", 1) == version
    plugin: dict[str, Any] = document["plugins"][CRI.get(version, "cri")]
    return plugin


def test_c1(configure: Run, main: Path, drop_in: Path) -> None:
    main.write_text(C1)
    assert configure("--cdi.enabled").status == 0
    assert drop_in.read_text() == C1_DROP_IN
    pattern = f'imports = ["/etc/containerd/other/*.toml", "{drop_in.parent}/*.toml"]'
    assert main.read_text() == C1.replace('imports = ["/etc/containerd/other/*.toml"]', pattern)


def test_c2_version_3(configure: Run, main: Path, drop_in: Path) -> None:
    main.write_text(C1.replace(CRI[2], CRI[3]).replace("version = 2", "version = 3"))
    assert configure("--cdi.enabled").status == 0
    changed = C1_DROP_IN.replace(CRI[2], CRI[3]).replace("version = 2", "version = 3")
    assert drop_in.read_text() == changed


@pytest.mark.parametrize("before", [None, "", "# nothing\n"])
def test_c2_an_empty_file(configure: Run, main: Path, drop_in: Path, before: str | None) -> None:
    if before is not None:
        main.write_text(before)
    done = configure("--set-as-default")
    assert "warning Could not infer options from runtimes [runc crun]" in done.messages
    assert load(drop_in)["containerd"] == {
        "default_runtime_name": "nvidia",
        "runtimes": {
            "nvidia": {
                "privileged_without_host_devices": False,
                "runtime_engine": "",
                "runtime_root": "",
                "runtime_type": "io.containerd.runc.v2",
                "options": {"BinaryName": "/usr/bin/nvidia-container-runtime"},
            }
        },
    }
    text = f'imports = ["{drop_in.parent}/*.toml"]\nversion = 2\n{before or ""}'
    assert main.read_text() == text
    again = configure("--set-as-default").messages
    assert again[-2:] == [f"info Nothing to change in {path}" for path in (drop_in, main)]
    assert configure("--unset").status == 0
    assert not drop_in.exists()
    assert (main.read_text() if main.exists() else None) == before


def test_c2_version_1_is_edited_in_place(configure: Run, main: Path, drop_in: Path) -> None:
    main.write_text(VERSION_1)
    assert configure("--cdi.enabled").status == 0
    assert not drop_in.exists()
    plugin = load(main, 1)
    path = "/usr/bin/nvidia-container-runtime"
    assert plugin["containerd"] == {
        "enable_cdi": True,
        "runtimes": {
            "runc": {"runtime_type": "io.containerd.runtime.v1.linux"},
            "nvidia": {
                "runtime_type": "io.containerd.runtime.v1.linux",
                "options": {"BinaryName": path, "Runtime": path},
            },
        },
    }
    for comment in ("# the first version   # needs no number", "# any", "# old"):
        assert comment in main.read_text()
    before = main.read_text()
    *_, warned, nothing = configure("--cdi.enabled").messages
    assert warned.startswith("warning containerd 2 reads nothing of plugins.cri: with version = 2")
    assert nothing == f"info Nothing to change in {main}"
    assert main.read_text() == before
    assert configure("--unset").status == 0
    assert main.read_text() == VERSION_1


def test_a_changed_value_leaves_the_rest_of_its_line(configure: Run, main: Path) -> None:
    """In any layout, there and back."""
    text = """\
[plugins.cri]
  stream_server_port = "0"  # any
  [plugins.cri.containerd]
    default_runtime_name =\t"ru#nc"\t # a "#" = in it
    [plugins.cri.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"  # not the old one
"""
    main.write_text(text)
    assert configure("--set-as-default").status == 0
    changed = '    default_runtime_name =\t"nvidia"\t # a "#" = in it\n'
    assert changed in main.read_text().splitlines(keepends=True)
    assert configure("--unset").status == 0
    assert main.read_text() == text


def test_c2_the_default_goes_without_the_flag(configure: Run, main: Path, drop_in: Path) -> None:
    main.write_text(C1.replace('= "runc"', '= "nvidia"'))
    configure()
    assert "default_runtime_name" not in load(drop_in)["containerd"]


def test_c2_dry_run_prints_both(configure: Run, main: Path, drop_in: Path) -> None:
    main.write_text(C1)
    out = configure("--dry-run", "--cdi.enabled").out
    assert out.startswith(C1_DROP_IN)
    assert tomllib.loads(out.removeprefix(C1_DROP_IN))["imports"] == [
        "/etc/containerd/other/*.toml",
        f"{drop_in.parent}/*.toml",
    ]
    assert main.read_text() == C1
    assert not drop_in.parent.exists()


def test_the_default_runtime_is_copied(configure: Run, main: Path, drop_in: Path) -> None:
    main.write_text(COMMENTED)
    configure()
    assert load(drop_in)["containerd"]["runtimes"]["nvidia"] == {
        "runtime_type": "io.containerd.kata.v2",
        "privileged_without_host_devices": True,
        "options": {"BinaryName": "/usr/bin/nvidia-container-runtime"},
    }


def test_a_runtime_without_a_type_gets_one(configure: Run, main: Path, drop_in: Path) -> None:
    main.write_text(C1.replace('"io.containerd.runc.v2"', '""'))
    configure()
    runtimes = load(drop_in)["containerd"]["runtimes"]
    assert runtimes["nvidia"]["runtime_type"] == "io.containerd.runc.v2"


def test_the_runtime_that_containerd_has_by_itself_stays(
    configure: Run, main: Path, drop_in: Path
) -> None:
    """Before 2.1 it goes as soon as a runtime is configured, and no pod starts any more."""
    main.write_text(DEBIAN)
    configure()
    assert load(drop_in)["containerd"]["runtimes"]["runc"] == RUNC_V2
    configure("--unset")
    one = VERSION_1[: VERSION_1.index("  [plugins.cri.containerd")]
    main.write_text(one)
    configure()
    assert load(main, 1)["containerd"]["runtimes"]["runc"] == RUNC_V2
    configure("--unset")
    assert main.read_text() == one


def test_without_a_file_it_is_warned_of(configure: Run) -> None:
    messages = configure("--dry-run").messages
    assert [m for m in messages if m.startswith("warning containerd before 2.1 has no runtime")]


@pytest.mark.parametrize("before", [C1, DEBIAN, COMMENTED, VERSION_1, C1.replace("\n", "\r\n")])
def test_twice_is_once_and_unset_gives_back_every_byte(
    configure: Run, main: Path, drop_in: Path, before: str
) -> None:
    main.write_bytes(before.encode())
    assert configure("--set-as-default", "--cdi.enabled").status == 0
    files = [path.read_bytes() for path in (main, drop_in) if path.exists()]
    again = configure("--set-as-default", "--cdi.enabled")
    assert [m for m in again.messages if m.startswith("info")] == [
        f"info Nothing to change in {path}" for path in (drop_in, main) if path.exists()
    ]
    assert [path.read_bytes() for path in (main, drop_in) if path.exists()] == files
    assert configure("--unset").status == 0
    assert main.read_bytes() == before.encode()
    assert not drop_in.exists()


def test_comments_stay_where_imports_grow(configure: Run, main: Path, drop_in: Path) -> None:
    main.write_text(COMMENTED)
    configure()
    text = main.read_text()
    assert set(COMMENTED.splitlines()) <= set(text.splitlines())
    assert tomllib.loads(text)["imports"][-1] == f"{drop_in.parent}/*.toml"


def test_unset_leaves_what_was_changed_since(configure: Run, main: Path, drop_in: Path) -> None:
    main.write_text(COMMENTED)
    configure()
    main.write_text(main.read_text().replace("# image for pods", "# another image"))
    configure("--unset")
    assert main.read_text() == COMMENTED.replace("# image for pods", "# another image")
    assert not drop_in.exists()


def test_other_drop_ins_stay_imported(configure: Run, main: Path, drop_in: Path) -> None:
    main.write_text(C1)
    configure()
    (drop_in.parent / "other.toml").write_text("version = 2\n")
    configure("--unset")
    assert f"{drop_in.parent}/*.toml" in tomllib.loads(main.read_text())["imports"]
    assert not drop_in.exists()


def test_two_runtimes(configure: Run, main: Path, drop_in: Path) -> None:
    main.write_text(C1)
    configure()
    configure("--nvidia-runtime-name=nvidia-cdi", "--nvidia-runtime-path=/usr/bin/cdi")
    runtimes = load(drop_in)["containerd"]["runtimes"]
    assert runtimes.keys() == {"runc", "nvidia", "nvidia-cdi"}
    assert runtimes["nvidia-cdi"]["options"] == {
        "BinaryName": "/usr/bin/cdi",
        "SystemdCgroup": True,
    }
    configure("--unset")
    assert load(drop_in)["containerd"]["runtimes"].keys() == {"runc", "nvidia-cdi"}
    configure("--unset", "--nvidia-runtime-name=nvidia-cdi")
    assert not drop_in.exists()
    assert main.read_text() == C1


def program(path: Path, text: str, status: int = 0) -> Path:
    path.write_text(
        f"#!/bin/sh\n[ \"$*\" = 'config dump' ] || exit 9\ncat <<'X'\n{text}\nX\nexit {status}\n"
    )
    path.chmod(0o755)
    return path


def test_the_configuration_in_effect(
    configure: Run, main: Path, drop_in: Path, tmp_path: Path
) -> None:
    """As the reference writes it: the drop-in has the command's version and plugin."""
    dump = C1.replace(CRI[2], CRI[3]).replace("version = 2", "version = 3")
    exe = program(tmp_path / "containerd", dump)
    source = ("--config-source=command", f"--executable-path={exe}")
    assert configure(*source).status == 0
    options = load(drop_in, 3)["containerd"]["runtimes"]["nvidia"]["options"]
    assert options["SystemdCgroup"] is True
    assert main.read_text() == f'imports = ["{drop_in.parent}/*.toml"]\nversion = 3\n'
    assert configure("--unset").status == 0
    assert not main.exists()
    main.write_text(VERSION_1)
    assert configure(*source).status == 0
    assert configure("--unset").status == 0
    assert main.read_text() == VERSION_1
    assert not drop_in.exists()


def test_a_command_that_fails(configure: Run, main: Path, tmp_path: Path) -> None:
    exe = program(tmp_path / "containerd", "", status=3)
    for path, why in ((exe, "exit status 3: "), (tmp_path / "none", "no such program")):
        done = configure("--config-source=command", f"--executable-path={path}")
        assert (done.status, done.messages[-1]) == (1, f"error {path} config dump: {why}")
        assert "hint: --config-source=file" in done.err
    assert not main.exists()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("version = \n", "Invalid value (at line 1, column 11)"),
        ("a = 1\n[b", "Expected ']' at the end of a table declaration (at line 2, column 3)"),
        ('a = 1\na = "x"\n', "Cannot overwrite a value (at line 2, column"),
        ("version = 'x'", "version: expected a whole number from 1, not x"),
        ("version = 2\nimports = 3", "imports: expected a list of strings"),
        (
            f'version = 2\nplugins."{CRI[2]}".containerd = 3',
            f"plugins.{CRI[2]}.containerd: expected",
        ),
        ("plugins = 3", "plugins: expected a table"),
    ],
)
def test_a_file_that_is_not_understood_is_not_touched(
    configure: Run, main: Path, text: str, why: str
) -> None:
    main.write_text(text)
    done = configure()
    assert done.status == 1
    assert done.messages[-1].startswith(f"error {main}: {why}")
    assert main.read_text() == text
    assert [path.name for path in main.parent.iterdir()] == [main.name]


@pytest.mark.parametrize("text", ["oom_score = 1\n", "[plugins.other]\n", "version = 2\n[grpc]\n"])
def test_a_drop_in_of_somebody_else_is_not_touched(
    configure: Run, main: Path, drop_in: Path, text: str
) -> None:
    drop_in.parent.mkdir()
    drop_in.write_text(text)
    done = configure()
    assert done.status == 1
    assert done.messages[-1].endswith(
        "is not of this command: name another file by --drop-in-config"
    )
    assert drop_in.read_text() == text
    assert not main.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--nvidia-runtime-path=foo"], 'the NVIDIA runtime path "foo" is not an absolute path'),
        (["--drop-in-config=foo"], 'the drop-in-config path "foo" is not an absolute path'),
    ],
)
def test_paths_must_be_absolute(
    configure: Run, main: Path, options: list[str], message: str
) -> None:
    done = configure(*options)
    assert (done.status, done.messages) == (1, [f"error {message}"])
    assert not main.exists()
