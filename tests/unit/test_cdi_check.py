# SPDX-License-Identifier: Apache-2.0
"""`nvidia-ctk cdi`: list, check, transform, and files that are written only if need be."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from libnvc.cli.ctk import main

import libnvc.sim
from libnvc._cdi.transform import move_root

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

pytestmark = pytest.mark.root

HOOK = "--nvidia-cdi-hook-path=/usr/bin/nvidia-cdi-hook"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NVIDIA_CTK_CONFIG_FILE_PATH", str(tmp_path / "no-config.toml"))


@pytest.fixture
def ctk(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run `nvidia-ctk cdi`; return exit status, output and messages without their times."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        status = main(["nvidia-ctk", "cdi", *map(str, words)])
        said = capfd.readouterr()
        lines = [line.partition(" level=")[2] or line for line in said.err.splitlines()]
        return status, said.out, "\n".join(lines)

    return run


@pytest.fixture
def output(tree: Path, tmp_path: Path, ctk: Callable[..., tuple[int, str, str]]) -> Path:
    """Return the file of a DGX A100 that is in `tree`."""
    path = tmp_path / "cdi/nvidia.yaml"
    assert ctk("generate", f"--driver-root={tree}", HOOK, f"--output={path}") == (
        0,
        "",
        'info msg="Generated CDI spec with version 0.5.0"',
    )
    return path


def renew(root: Path, profile: libnvc.sim.Profile | str) -> None:
    """Put another simulated driver in the place of one."""
    subprocess.run(["rm", "-rf", root], check=True)
    libnvc.sim.create(profile, root)


def test_a_file_is_fresh(output: Path, ctk: Callable[..., tuple[int, str, str]]) -> None:
    assert ctk("check", f"--input={output}") == (0, f"{output}: fresh\n", "")
    assert ctk("check", f"--spec-dir={output.parent}") == (0, f"{output}: fresh\n", "")


def upgrade(root: Path) -> None:
    profile = next(p for p in libnvc.sim.profiles() if p.name == "dgx-a100")
    renew(root, profile.replace(driver_version="550.54.15"))


def divide(root: Path) -> None:
    renew(root, "dgx-a100-mig")


def load_again(root: Path) -> None:
    devices = root / "proc/devices"
    devices.write_text(devices.read_text().replace("510 nvidia-uvm", "505 nvidia-uvm"))


def lose_gpu(root: Path) -> None:
    subprocess.run(["rm", "-r", root / "proc/driver/nvidia/gpus/0000:bd:00.0"], check=True)


def close_node(root: Path) -> None:
    (root / "dev/nvidia3").chmod(0o600)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (upgrade, "it is for driver 535.261.03, this is 550.54.15; files that are gone: "),
        (divide, "devices that are gone: 0, 1, GPU-4404041a-04cf-1ccf-9e70-f139a9b1e23c and 1"),
        (load_again, "{tree}/dev/nvidia-uvm: 505:0 here, 510:0 in the file"),
        (lose_gpu, "devices that are gone: 7, GPU-4404041a-04cf-1ccf-9e70-f139a9b1e243; device"),
        (close_node, "generated anew, it has other hooks, variables or rights of nodes"),
    ],
)
def test_a_change_of_the_host_makes_it_stale(
    tree: Path,
    output: Path,
    ctk: Callable[..., tuple[int, str, str]],
    change: Callable[[Path], None],
    reason: str,
) -> None:
    change(tree)
    status, said, _ = ctk("check", f"--input={output}")
    assert status == 1
    assert said.startswith(f"{output}: stale: {reason.format(tree=tree)}")
    again = ("generate", f"--driver-root={tree}", HOOK, f"--output={output}", "--if-stale")
    assert ctk(*again)[0] == 0
    assert ctk("check", f"--input={output}") == (0, f"{output}: fresh\n", "")
    inode = output.stat().st_ino
    status, _, said = ctk(*again)
    assert (status, said.splitlines()[-1]) == (0, f'info msg="Nothing to change in {output}"')
    assert output.stat().st_ino == inode


def test_if_stale_lets_everybody_read_the_file(
    tree: Path, output: Path, ctk: Callable[..., tuple[int, str, str]]
) -> None:
    output.chmod(0o600)
    words = (f"--driver-root={tree}", HOOK, f"--output={output}", "--if-stale")
    status, _, said = ctk("generate", *words)
    assert (status, said) == (0, f'info msg="Nothing to change in {output}"')
    assert stat.S_IMODE(output.stat().st_mode) == 0o644


def test_several_write_a_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "nvidia.yaml"
    code = (
        "import sys\nfrom libnvc._cdi.write import write_file\n"
        "for n in range(25): write_file(sys.argv[1], sys.argv[2] * 1000 + str(n))"
    )
    running = [
        subprocess.Popen([sys.executable, "-P", "-c", code, path, letter]) for letter in "abcd"
    ]
    assert [process.wait() for process in running] == [0, 0, 0, 0]
    text = path.read_text()
    assert text in {letter * 1000 + "24" for letter in "abcd"}
    assert os.listdir(tmp_path) == ["nvidia.yaml"]


def test_what_the_reference_has_more_is_named(
    mx150: Path, ctk: Callable[..., tuple[int, str, str]]
) -> None:
    flags = ("--feature-flags=enable-coherent-annotations,other", "--library-search-path=/x")
    status, _, said = ctk("generate", f"--driver-root={mx150}", *flags)
    assert status == 0
    feature, libraries = said.splitlines()[:2]
    assert libraries.startswith('warning msg="Ignoring library-search-path: ')
    assert feature == (
        'warning msg="Ignoring feature-flag=enable-coherent-annotations: not supported"'
    )


def test_a_directory_that_cannot_be_written(
    mx150: Path, ctk: Callable[..., tuple[int, str, str]]
) -> None:
    status, _, said = ctk("generate", f"--driver-root={mx150}", "--output=/proc/x/nvidia.yaml")
    assert status == 1
    assert said.splitlines()[0] == (
        'error msg="/proc/x/nvidia.yaml: cannot write: no such file or directory"'
    )


def test_without_a_driver_it_is_broken(
    tree: Path, output: Path, ctk: Callable[..., tuple[int, str, str]]
) -> None:
    subprocess.run(["rm", "-r", tree / "proc", tree / "usr/lib"], check=True)
    status, said, _ = ctk("check", f"--input={output}")
    assert status == 2
    assert said.startswith(f"{output}: broken: none can be generated: load library failed: ")


@pytest.mark.parametrize("content", ["", "kind: x\n", "a: [", "{}"])
def test_a_file_that_is_none_is_broken(
    tmp_path: Path, ctk: Callable[..., tuple[int, str, str]], content: str
) -> None:
    path = tmp_path / "nvidia.yaml"
    path.write_text(content)
    status, said, _ = ctk("check", f"--input={path}")
    assert status == 2
    assert said.startswith(f"{path}: broken: {path}: ")
    assert ctk("check", f"--spec-dir={tmp_path}") == (status, said, "")


def test_no_file_at_all(tmp_path: Path, ctk: Callable[..., tuple[int, str, str]]) -> None:
    assert ctk("check", f"--spec-dir={tmp_path}") == (
        2,
        "",
        f'error msg="no CDI file of nvidia.com in {tmp_path}"',
    )


def test_files_that_say_nothing_are_held_against_the_host(
    tree: Path, output: Path, ctk: Callable[..., tuple[int, str, str]]
) -> None:
    """As the reference's: what they name must be there."""
    lines = output.read_text().splitlines(keepends=True)
    output.write_text("".join(line for line in lines if not line.startswith("# ")))
    assert ctk("check", f"--input={output}")[0] == 0
    (tree / "usr/bin/nvidia-smi").unlink()
    (tree / "dev/nvidia3").unlink()
    os.mknod(tree / "dev/nvidia3", stat.S_IFCHR | 0o666, os.makedev(195, 99))
    (tree / "dev/nvidia4").unlink()
    status, said, _ = ctk("check", f"--input={output}")
    assert status == 1
    assert said == (
        f"{output}: stale: {tree}/dev/nvidia3: 195:99 here, 195:3 in the file; "
        f"{tree}/dev/nvidia4: no such file or directory; "
        f"not on this host: {tree}/usr/bin/nvidia-smi\n"
    )


@pytest.mark.parametrize(
    "options", [["--device-id=1,2"], ["--mode=management"], ["--capabilities=compute"]]
)
def test_a_file_is_checked_by_what_it_was_generated_by(
    dgx_a100: Path,
    tmp_path: Path,
    ctk: Callable[..., tuple[int, str, str]],
    options: Sequence[str],
) -> None:
    path = tmp_path / "nvidia.yaml"
    assert ctk("generate", f"--driver-root={dgx_a100}", *options, f"--output={path}")[0] == 0
    assert ctk("check", f"--input={path}")[0] == 0


def test_which_files_of_a_directory_are_checked(
    mx150: Path, tmp_path: Path, ctk: Callable[..., tuple[int, str, str]]
) -> None:
    document = {**DOCUMENT, "devices": DOCUMENT["devices"][1:2]}
    for name, kind in (("acme.json", "acme.com/dev"), ("other.json", "x.nvidia.com/y")):
        (tmp_path / name).write_text(json.dumps({**document, "kind": kind}))
    path = tmp_path / "own.yaml"
    words = (f"--driver-root={mx150}", "--vendor=example.com", f"--output={path}")
    assert ctk("generate", *words)[0] == 0
    status, said, _ = ctk("check", f"--spec-dir={tmp_path}")
    assert (status, said) == (0, f"{tmp_path}/other.json: fresh\n{path}: fresh\n")


def test_if_stale_needs_a_file(ctk: Callable[..., tuple[int, str, str]]) -> None:
    assert ctk("generate", "--if-stale") == (1, "", 'error msg="--if-stale needs --output"')


def test_an_unknown_format(ctk: Callable[..., tuple[int, str, str]]) -> None:
    status, _, said = ctk("generate", "--format=xml")
    assert status == 1
    assert said.startswith('error msg="invalid output format: xml"')


def test_json_is_one_line(dgx_a100: Path, ctk: Callable[..., tuple[int, str, str]]) -> None:
    root = f"--driver-root={dgx_a100}"
    one, other = ctk("generate", root, "--format=json")[1], ctk("generate", root)[1]
    assert one.count("\n") == 1
    assert json.loads(one) == yaml.safe_load(other)


def test_the_driver_root_is_that_of_the_configuration(
    dgx_a100: Path,
    tmp_path: Path,
    ctk: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "config.toml").write_text(f'[nvidia-container-cli]\nroot = "{dgx_a100}"\n')
    monkeypatch.setenv("NVIDIA_CTK_CONFIG_FILE_PATH", str(tmp_path / "config.toml"))
    assert f"hostPath: {dgx_a100}/dev/nvidia0\n" in ctk("generate")[1]


def test_list(output: Path, ctk: Callable[..., tuple[int, str, str]]) -> None:
    (output.parent / "bad.json").write_text("{")
    status, said, log = ctk("list", f"--spec-dir={output.parent}")
    assert status == 0
    assert said.splitlines()[0] == "nvidia.com/gpu=0"
    assert said.splitlines()[-1] == "nvidia.com/gpu=all"
    assert log.splitlines()[0].startswith(f'warning msg="{output.parent}/bad.json: ')
    assert log.splitlines()[1] == 'info msg="Found 17 CDI devices"'


def test_list_without_a_directory(ctk: Callable[..., tuple[int, str, str]]) -> None:
    assert ctk("list", "--spec-dir=/nonexist") == (0, "", 'info msg="Found 0 CDI devices"')


# --- transform ------------------------------------------------------------------------------------

DOCUMENT: dict[str, Any] = {
    "cdiVersion": "0.5.0",
    "kind": "a.b/c",
    "devices": [
        {
            "name": "d0",
            "containerEdits": {
                "mounts": [{"hostPath": "/etc/hostname", "containerPath": "/etc/hostname"}]
            },
        },
        {"name": "d1", "containerEdits": {"deviceNodes": [{"path": "/dev/null"}]}},
        {
            "name": "d2",
            "containerEdits": {
                "hooks": [
                    {
                        "hookName": "createContainer",
                        "path": "/bin/true",
                        "args": ["true", "--x", "/etc/a::/etcetera"],
                    }
                ]
            },
        },
    ],
}


def parts(document: dict[str, Any]) -> tuple[Any, Any, Any]:
    d0, d1, d2 = (device["containerEdits"] for device in document["devices"])
    return d0["mounts"][0], d1["deviceNodes"][0], d2["hooks"][0]


def test_transform_all_of_the_host() -> None:
    mount, node, hook = parts(move_root(DOCUMENT, "/", "/host", "host"))
    assert mount == {"hostPath": "/host/etc/hostname", "containerPath": "/etc/hostname"}
    assert node == {"path": "/dev/null", "hostPath": "/host/dev/null"}
    assert hook["path"] == "/host/bin/true"


def test_transform_a_directory_of_the_host() -> None:
    mount, node, hook = parts(move_root(DOCUMENT, "/etc", "/host/etc", "host"))
    assert mount["hostPath"] == "/host/etc/hostname"
    assert node == {"path": "/dev/null", "hostPath": "/dev/null"}
    assert hook["path"] == "/bin/true"
    assert hook["args"] == ["true", "--x", "/host/etc/a::/etcetera"]


def test_transform_containers() -> None:
    mount, node, hook = parts(move_root(DOCUMENT, "/etc", "/e", "container"))
    assert mount == {"hostPath": "/etc/hostname", "containerPath": "/e/hostname"}
    assert node == {"path": "/dev/null"}
    assert hook["path"] == "/bin/true"
    assert move_root(DOCUMENT, "/x", "/x", "host") is DOCUMENT


def test_transform_by_the_command(tmp_path: Path, ctk: Callable[..., tuple[int, str, str]]) -> None:
    source = tmp_path / "a.json"
    source.write_text(json.dumps({**DOCUMENT, "cdiVersion": "1.0.0"}))
    words = ("--from=/etc", "--to=/x", f"--input={source}", f"--output={tmp_path / 'b.yaml'}")
    assert ctk("transform", "root", *words)[0] == 0
    written = yaml.safe_load((tmp_path / "b.yaml").read_text())
    assert written["cdiVersion"] == "1.0.0"
    assert parts(written)[0]["hostPath"] == "/x/hostname"
    status, _, said = ctk("transform", "root", f"--input={source}", "--relative-to=x")
    assert (status, said.splitlines()[0]) == (
        1,
        'error msg="invalid value for --relative-to: x"',
    )


# --- being killed ---------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
number = int(sys.argv.pop(1))
count = 0
def at(name):
    call = getattr(os, name)
    def wrapped(*words, **named):
        global count
        count += 1
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*words, **named)
    setattr(os, name, wrapped)
for name in ("open", "write", "fchmod", "fsync", "rename", "chmod"):
    at(name)
from libnvc._cdi.write import write_file
write_file(sys.argv[1], "new")
"""


def test_whoever_kills_it_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "nvidia.yaml"
    seen = set()
    for number in range(1, 100):
        path.write_text("old")
        command = [sys.executable, "-P", "-c", KILLED, str(number), str(path)]
        done = subprocess.run(command, check=False)
        seen.add(path.read_text())
        names = [name for name in os.listdir(tmp_path) if name.endswith((".yaml", ".json"))]
        assert names == ["nvidia.yaml"]
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
    assert number > 5
    assert seen == {"old", "new"}
