# SPDX-License-Identifier: Apache-2.0
"""The native launcher: what it passes on, and to whom.

The low-level runtimes and the interpreter are programs that print how they were started. As root,
each run has a /run/libnvc of its own.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

TOOLS = Path(__file__).parent.parent / "tools"
RUNTIME = "nvidia-container-runtime"
HOOK = "nvidia-container-runtime-hook"
CDI_HOOK = "nvidia-cdi-hook"
CLI = "nvidia-container-cli"
#: Beside the launcher: it names the interpreter.
SCRIPT = "nvidia-ctk"
NAMES = (
    *(RUNTIME, f"{RUNTIME}.cdi", f"{RUNTIME}.legacy"),
    *(HOOK, "nvidia-container-toolkit", CDI_HOOK, CLI),
)
STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ASKS = ("NVIDIA_VISIBLE_DEVICES", "nvidia.com/gpu", "/var/run/nvidia-container-devices")
#: Low-level runtimes, of names that no machine has.
LOW = ("low-1", "low-2")
#: What would change which code runs in programs that are linked dynamically, or in Python.
HOSTILE = {
    "LD_PRELOAD": "/nowhere/evil.so",
    "LD_LIBRARY_PATH": "/nowhere",
    "LD_AUDIT": "/nowhere/audit.so",
    "PYTHONPATH": "/nowhere",
    "PYTHONHOME": "/nowhere",
    "GLIBC_TUNABLES": "glibc.malloc.check=3",
    "BASH_ENV": "/nowhere/env",
}
#: Runs a command where /run/libnvc is the directory given first.
IN_PLACE = 'mount --bind "$0" /run/libnvc && exec "$@"'


class CompileC(Protocol):
    def __call__(self, output: Path, *sources: Path, flags: tuple[str, ...] = ()) -> Path: ...


class Started:
    """What a launcher became: its argument vector and environment, or what it said."""

    def __init__(self, done: subprocess.CompletedProcess[bytes]) -> None:
        count, *words = os.fsdecode(done.stdout).split("\0")[:-1] or ["0"]
        self.argv = words[: int(count)]
        entries = (entry.partition("=") for entry in words[int(count) :])
        self.environment = {name: value for name, _, value in entries}
        self.status = done.returncode
        self.stderr = os.fsdecode(done.stderr)


class Place:
    """A launcher with all that it looks at.

    Attributes:
        bin: what the launcher is installed into, with a script of the package's interpreter.
        run: directory of the front file.
        low: directory of the low-level runtime.
        config: path of config.toml.
        bundle: directory of a container's configuration.
        environment: of the launcher.
    """

    def __init__(self, directory: Path, commands: Path, dump: Path) -> None:
        self.directory = directory
        self._dump = dump
        self.bin = directory / "bin"
        self.run = directory / "run/libnvc"
        self.low = directory / "low"
        self.config = directory / "config.toml"
        self.bundle = directory / "bundle"
        for path in (self.bin, self.low, self.bundle):
            path.mkdir()
        self.run.mkdir(mode=0o700, parents=True)
        shutil.copy(commands / RUNTIME, self.bin / RUNTIME)
        for name in NAMES[1:]:
            os.link(self.bin / RUNTIME, self.bin / name)
        self.interpreter = self.program(self.bin / "python3")
        self.script(f"#!{self.interpreter}\nimport sys\n")
        self.runc = self.program(self.low / LOW[0])
        self.config.write_text("# nothing\n")
        self.config_json({"process": {"env": ["PATH=/bin"]}})
        self.environment = {
            "PATH": f"{self.low}:/usr/bin:/bin",
            "NVIDIA_CTK_CONFIG_FILE_PATH": str(self.config),
            "XDG_RUNTIME_DIR": str(directory / "run"),
        }
        self.front()

    def program(self, path: Path) -> Path:
        """Put a program there that prints how it was started."""
        shutil.copy(self._dump, path)
        return path

    def script(self, text: str) -> None:
        """Write the script beside the launcher."""
        (self.bin / SCRIPT).write_text(text)

    def config_json(self, document: object) -> None:
        (self.bundle / "config.json").write_text(json.dumps(document))

    def identity(self) -> str:
        """Return the front file's line for config.toml as it is."""
        if not self.config.exists():
            return f"config 0 0 0 0 0 {self.config}"
        st = self.config.stat()
        numbers = (st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns)
        return f"config {' '.join(map(str, numbers))} {self.config}"

    def lines(self, runtimes: Sequence[str | Path] = LOW, asks: Sequence[str] = ASKS) -> list[str]:
        return [
            f"nvcfront 1 {importlib.metadata.version('libnvc')}",
            self.identity(),
            *(f"runtime {candidate}" for candidate in runtimes),
            *(f"ask {text}" for text in asks),
            "end",
        ]

    def write(self, lines: Sequence[str]) -> None:
        """Write the front file."""
        (self.run / "front").write_text("".join(f"{line}\n" for line in lines))
        (self.run / "front").chmod(0o600)

    def front(self, runtimes: Sequence[str | Path] = LOW, asks: Sequence[str] = ASKS) -> None:
        self.write(self.lines(runtimes, asks))

    def __call__(
        self,
        *arguments: str | Path,
        name: str | Path = RUNTIME,
        called: str = "",
        cwd: str | Path = "/",
        **environment: str,
    ) -> Started:
        """Run the launcher, under the name `called` if that is given."""
        wanted = {**self.environment, **environment}
        # Set last, by `env`: what is hostile shall meet the launcher only.
        command: list[str | Path] = ["env", "-i", *(f"{k}={v}" for k, v in wanted.items() if v)]
        if called:
            command += ["/bin/bash", "-c", 'exec -a "$0" "$@"', called]
        command += [self.bin / name, *arguments]
        if os.geteuid() == 0:
            Path("/run/libnvc").mkdir(mode=0o700, exist_ok=True)
            view = ["unshare", "--mount", "--propagation", "private", "sh", "-c", IN_PLACE]
            command = [*view, self.run, *command]
        done = subprocess.run(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        return Started(done)

    def is_passed_on(self, started: Started, *arguments: str | Path) -> bool:
        """Tell whether the low-level runtime was started with these arguments."""
        return started.argv == [str(self.runc), *map(str, arguments)]

    def is_asked(self, started: Started, *arguments: str | Path, module: str = "runtime") -> bool:
        """Tell whether Python was started for these arguments."""
        code = f"from libnvc.cli.{module} import run; run()"
        head, tail = started.argv[:4], started.argv[6:]
        return head == [str(self.interpreter), "-I", "-c", code] and tail == [*map(str, arguments)]


@pytest.fixture(scope="session")
def dump(tmp_path_factory: pytest.TempPathFactory, compile_c: CompileC) -> Path:
    return compile_c(tmp_path_factory.mktemp("dump") / "dump", TOOLS / "dump.c", flags=("-static",))


@pytest.fixture
def place(tmp_path: Path, commands: Path, dump: Path) -> Place:
    return Place(tmp_path, commands, dump)


# --- what is no start of a container ------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("state", "web"),
        ("--root", "/r", "--log-format", "json", "delete", "--force", "web"),
        ("start", "created"),
        ("exec", "web", "sh", "-c", "creates"),
        ("kill", "web", "--bundle"),
        ("list", "versions", "--v", "=version"),
        ("run", "", "\n", "a b"),
    ],
)
def test_other_commands_are_passed_on(place: Place, words: tuple[str, ...]) -> None:
    started = place(*words)
    assert place.is_passed_on(started, *words)
    assert (started.status, started.stderr) == (0, "")


def test_environment_is_passed_on(place: Place) -> None:
    started = place("state", "web", **HOSTILE)
    assert place.is_passed_on(started, "state", "web")
    assert started.environment == {**place.environment, **HOSTILE}


@pytest.mark.parametrize("word", ["version", "-version", "--version", "---version=x", "version="])
@pytest.mark.parametrize("before", [(), ("--root", "/r"), ("--bundle",), ("create",)])
def test_version_is_pythons(place: Place, word: str, before: tuple[str, ...]) -> None:
    assert place.is_asked(place(*before, word), *before, word)


def test_python_gets_place_and_name_and_the_whole_environment(place: Place) -> None:
    started = place("--version", **HOSTILE)
    assert started.argv[4:6] == [str(place.bin / RUNTIME)] * 2
    assert started.environment == {**place.environment, **HOSTILE}


# --- create -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags",
    [
        ("-b", "BUNDLE"),
        ("--bundle", "BUNDLE"),
        ("-bundle=BUNDLE",),
        ("---b=BUNDLE",),
        ("--bundle=/nowhere", "--bundle", "BUNDLE"),
        ("--bundle", "/nowhere", "-b=BUNDLE"),
        ("--bundle", "-b", "-b", "BUNDLE"),
        ("--bundle", "create", "--bundle", "BUNDLE"),
        ("--bundle=BUNDLE", "b=/nowhere", "bundle", "-bundl", "/nowhere", "--bundles=/nowhere"),
    ],
)
@pytest.mark.parametrize("asks", [False, True])
def test_bundle(place: Place, flags: tuple[str, ...], asks: bool) -> None:
    if asks:
        place.config_json({"process": {"env": ["NVIDIA_VISIBLE_DEVICES=all"]}})
    words = [flag.replace("BUNDLE", str(place.bundle)) for flag in flags]
    started = place("create", *words, "web")
    decide = place.is_asked if asks else place.is_passed_on
    assert decide(started, "create", *words, "web")


@pytest.mark.parametrize("flags", [(), ("--bundle=",), ("-b", "")])
def test_bundle_is_where_we_are(place: Place, flags: tuple[str, ...]) -> None:
    assert place.is_passed_on(place("create", *flags, "x", cwd=place.bundle), "create", *flags, "x")
    assert place.is_asked(place("create", *flags, "x"), "create", *flags, "x")


@pytest.mark.parametrize("flag", ["-b", "--bundle"])
def test_bundle_flag_without_a_bundle_is_pythons_to_refuse(place: Place, flag: str) -> None:
    words = ("create", "x", flag)
    assert place.is_asked(place(*words, cwd=place.bundle), *words)


def create(place: Place) -> Started:
    return place("create", "--bundle", place.bundle, "web")


def is_passed_on(place: Place) -> bool:
    words = ("create", "--bundle", place.bundle, "web")
    started = create(place)
    passed = place.is_passed_on(started, *words)
    assert passed or place.is_asked(started, *words)
    return passed


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        ('{"a": "NVIDIA_VISIBLE_DEVICE"}', True),
        ('{"a": "nvidia_visible_devices"}', True),
        ('{"a": "NVIDIA_VISIBLE_DEVICES"}', False),
        ('{"xnvidia.com/gpux": 1}', False),
        # each of these is one of the strings, once it is decoded
        (r'{"a": "\u004eVIDIA_VISIBLE_DEVICES"}', False),
        (r'{"a": "NVIDIA\u005fVISIBLE_DEVICES"}', False),
        (r'{"a": "NVIDIA\u005FVISIBLE_DEVICES"}', False),
        (r'{"a": "nvidia\u002Ecom/gpu"}', False),
        (r'{"a": "nvidia.com\/gpu"}', False),
        (r'{"a": "nvidia.com\u002fgpu"}', False),
        (r'{"a": "\\\u004eVIDIA_VISIBLE_DEVICES"}', False),
        # these cannot be
        (r'{"a": "\\u004eVIDIA_VISIBLE_DEVICES"}', True),
        (r'{"a": "a\u003cb\u0026\u003ec\u0001\u00e9\u2028\n\t\"\\"}', True),
        (r'{"a": "\u014e\u4e00"}', True),
        ('{"a": "\u00e9\U0001f600"}', True),
        # not JSON: the low-level runtime says so, unless something could be hidden there
        ("", True),
        ('{"process": {"env": ["PA', True),
        ('{"a": "\\', False),
        ('{"a": "\\u00', False),
        ("\0" * 100, True),
    ],
)
def test_what_a_configuration_asks_for(place: Place, text: str, passed: bool) -> None:
    (place.bundle / "config.json").write_text(text)
    assert is_passed_on(place) == passed


def test_escapes_of_whatever_is_asked_for(place: Place) -> None:
    (place.bundle / "config.json").write_text(r'{"a": "x\u003dy"}')
    assert is_passed_on(place)
    place.front(asks=["a=b"])
    assert not is_passed_on(place)
    place.front(asks=["zz", 'with "quotes" and spaces'])
    assert is_passed_on(place)


def make_fifo(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = os.open(path.parent, os.O_PATH)
        server.bind(f"/proc/self/fd/{here}/{path.name}")
        os.close(here)


def make_huge(path: Path) -> None:
    path.touch()
    os.truncate(path, (16 << 20) + 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: None,
        lambda path: path.mkdir(),
        lambda path: path.symlink_to(path.name),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to("/dev/tty"),
        make_fifo,
        make_socket,
        make_huge,
    ],
    ids=["missing", "directory", "loop", "device", "terminal", "fifo", "socket", "huge"],
)
def test_configuration_that_is_no_file_is_pythons(
    place: Place, make: Callable[[Path], None]
) -> None:
    (place.bundle / "config.json").unlink()
    make(place.bundle / "config.json")
    assert not is_passed_on(place)


def test_large_configuration(place: Place) -> None:
    path = place.bundle / "config.json"
    os.truncate(path, 16 << 20)
    assert is_passed_on(place)
    with path.open("r+b") as file:
        file.seek(-len(ASKS[0]), os.SEEK_END)
        file.write(ASKS[0].encode())
    assert not is_passed_on(place)


# --- the front file -----------------------------------------------------------------------------


def replaced(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, 1)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: "\n" + text,
        lambda text: text[:-1],
        lambda text: text[:-4],
        lambda text: text + "\n",
        lambda text: text + "end\n",
        lambda text: text + "\0",
        lambda text: text + "#" * 65536 + "\n",
        replaced("nvcfront 1 ", "nvcfront 2 "),
        replaced("nvcfront 1 ", "nvcfront 1 0"),
        replaced("nvcfront 1 ", "nvcfront  1 "),
        replaced("config ", "config -"),
        replaced("config ", "config +"),
        replaced("config ", "config 99999999999999999999"),
        replaced("config ", "config 0 "),
        replaced("config ", "Config "),
        replaced("config.toml\n", "config.toml \n"),
        replaced("runtime low-1\n", ""),
        replaced("runtime low-1\n", "runtime \n"),
        replaced("runtime low-1\n", "runtime\n"),
        replaced("runtime low-1\n", "runtime low-1\0\n"),
        replaced("runtime low-1\n", "unknown x\nruntime low-1\n"),
        replaced("ask ", "ask \n"),
        replaced("ask ", "ask \\"),
        replaced("ask ", "ask \t"),
        replaced("ask ", "ask \u00e9"),
        replaced("end\n", "runtime low-2\nend\n"),
        lambda text: text[: text.index("ask")] + "end\n",
    ],
)
def test_front_file_that_deviates_is_none(place: Place, change: Callable[[str], str]) -> None:
    place.front(runtimes=[LOW[0]])
    front = place.run / "front"
    text = front.read_text()
    assert change(text) != text
    front.write_text(change(text))
    assert place.is_asked(place("state", "web"), "state", "web")
    front.write_text(text)
    assert place.is_passed_on(place("state", "web"), "state", "web")


def chmod(mode: int) -> Callable[[Path], None]:
    return lambda path: path.chmod(mode)


@pytest.mark.parametrize(
    ("change", "passed"),
    [
        (lambda path: None, True),
        (chmod(0o644), True),
        (chmod(0o620), False),
        (chmod(0o602), False),
        (lambda path: path.parent.chmod(0o755), True),
        (lambda path: path.parent.chmod(0o770), False),
        (lambda path: path.parent.chmod(0o1777), False),
        (lambda path: path.unlink(), False),
        (lambda path: (path.rename(path.with_name("f")), path.symlink_to("f")), False),
        (lambda path: (path.unlink(), path.symlink_to("front")), False),
        (make_fifo, False),
        (lambda path: (path.unlink(), path.mkdir()), False),
    ],
)
def test_front_file_that_others_could_write_is_none(
    place: Place, change: Callable[[Path], object], passed: bool
) -> None:
    change(place.run / "front")
    decide = place.is_passed_on if passed else place.is_asked
    assert decide(place("state", "web"), "state", "web")


@pytest.mark.root
@pytest.mark.parametrize("which", ["front", "."])
def test_front_file_of_somebody_else_is_none(place: Place, which: str) -> None:
    os.chown(place.run / which, 1234, 1234)
    assert place.is_asked(place("state", "web"), "state", "web")


@pytest.fixture
def users_place(commands: Path, dump: Path) -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="libnvc-launcher-") as directory:
        path = Path(directory).resolve()
        path.chmod(0o755)
        place = Place(path, commands, dump)
        os.chown(place.run, 1234, 1234)
        os.chown(place.run / "front", 1234, 1234)
        yield place


@pytest.mark.root
def test_front_file_of_a_user(users_place: Place) -> None:
    def run(runtime_directory: str) -> Started:
        environment = {**users_place.environment, "XDG_RUNTIME_DIR": runtime_directory}
        become = ["setpriv", "--reuid=1234", "--regid=1234", "--clear-groups"]
        done = subprocess.run(
            [*become, users_place.bin / RUNTIME, "state"],
            env=environment,
            cwd=users_place.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        return Started(done)

    good = str(users_place.directory / "run")
    assert users_place.is_passed_on(run(good), "state")
    assert users_place.is_asked(run("run"), "state")
    assert users_place.is_asked(run(""), "state")
    assert users_place.is_asked(run("/" + "x" * 5000), "state")
    os.chown(users_place.run / "front", 0, 0)
    (users_place.run / "front").chmod(0o644)
    assert users_place.is_passed_on(run(good), "state")
    os.chown(users_place.run / "front", 4321, 0)
    assert users_place.is_asked(run(good), "state")


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_text("# somewhat longer\n"),
        lambda path: path.write_text("# NOTHING\n"),
        lambda path: os.utime(path, ns=(0, 0)),
        lambda path: path.chmod(0o600),
        lambda path: path.unlink(),
        lambda path: path.replace(path.with_name("was")).rename(path),
    ],
    ids=["size", "content", "mtime", "ctime", "gone", "renamed"],
)
def test_another_configuration_outdates_the_front_file(
    place: Place, change: Callable[[Path], object]
) -> None:
    assert is_passed_on(place)
    change(place.config)
    assert not is_passed_on(place)


def test_no_configuration(place: Place) -> None:
    place.config.unlink()
    place.front()
    assert is_passed_on(place)
    place.config.touch()
    assert not is_passed_on(place)
    place.config.unlink()
    place.config.symlink_to(place.config)  # a loop: not the same as missing
    assert not is_passed_on(place)


def test_which_configuration_applies(place: Place) -> None:
    words = ("state", "web")
    home = place.directory / "home"
    place.config = home / "nvidia-container-runtime/config.toml"
    place.config.parent.mkdir(parents=True)
    place.config.touch()
    place.front()
    assert place.is_asked(place(*words), *words)
    del place.environment["NVIDIA_CTK_CONFIG_FILE_PATH"]
    assert place.is_passed_on(place(*words, XDG_CONFIG_HOME=str(home)), *words)
    assert place.is_asked(place(*words), *words)
    assert place.is_asked(place(*words, XDG_CONFIG_HOME=f"{home}/"), *words)
    first, _, *rest = place.lines()
    standard = "/etc/nvidia-container-runtime/config.toml"
    place.write([first, f"config 0 0 0 0 0 {standard}", *rest])
    missing = not Path(standard).exists()
    decide = place.is_passed_on if missing else place.is_asked
    assert decide(place(*words), *words)
    assert place.is_asked(place(*words, NVIDIA_CTK_CONFIG_FILE_PATH="/" + "x" * 5000), *words)


# --- the low-level runtime ----------------------------------------------------------------------


def test_first_candidate_that_is_there(place: Place) -> None:
    other = place.directory / "other"
    other.mkdir()
    crun = place.program(other / LOW[1])
    path = f"{other}:{place.low}"
    assert place.is_passed_on(place("state", PATH=path), "state")
    place.runc.chmod(0o644)
    assert place("state", PATH=path).argv == [str(crun), "state"]
    place.runc.unlink()
    place.runc.mkdir()
    assert place("state", PATH=path).argv == [str(crun), "state"]
    place.front(runtimes=["none", crun])
    assert place("state").argv == [str(crun), "state"]
    place.front(runtimes=["none", place.low, other / "none", "/" + "x" * 5000])
    assert place.is_asked(place("state"), "state")


def test_order_of_the_search_path(place: Place) -> None:
    other = place.directory / "other"
    other.mkdir()
    runc = place.program(other / LOW[0])
    assert place("state", PATH=f"{other}:{place.low}").argv[0] == str(runc)
    assert place("state", PATH=f"{place.low}:{other}").argv[0] == str(place.runc)
    # never from where the caller happens to be
    relative = "." + ":" + ":low:" + str(other)
    assert place("state", PATH=relative, cwd=place.low).argv[0] == str(runc)
    assert place("state", PATH=f"/{'x' * 5000}:{other}").argv[0] == str(runc)


def test_standard_directories_come_last(place: Place) -> None:
    place.front(runtimes=["true"])
    for path in ("/nowhere", "", ":"):
        started = place("state", PATH=path)
        assert (started.status, started.argv) == (0, [])  # /usr/bin/true says nothing
    true = place.program(place.low / "true")
    assert place("state").argv == [str(true), "state"]


def test_launcher_is_no_low_level_runtime(place: Place) -> None:
    crun = place.program(place.low / LOW[1])
    place.runc.unlink()
    place.runc.symlink_to(place.bin / RUNTIME)
    assert place("state").argv == [str(crun), "state"]
    # installed under several names it is several files
    place.runc.unlink()
    (place.bin / f"{RUNTIME}.cdi").unlink()
    shutil.copy(place.bin / RUNTIME, place.bin / f"{RUNTIME}.cdi")
    place.runc.symlink_to(place.bin / f"{RUNTIME}.cdi")
    assert place("state").argv == [str(crun), "state"]
    place.front(runtimes=[place.bin / RUNTIME, place.bin / f"{RUNTIME}.cdi"])
    assert place.is_asked(place("state"), "state")


def test_runtime_that_cannot_be_executed_is_pythons_to_explain(place: Place) -> None:
    place.runc.write_text("no program\n")
    assert place.is_asked(place("state"), "state")


# --- names and the interpreter ------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", ["path", "name", "link"])
def test_role_is_by_name(place: Place, name: str, way: str) -> None:
    (place.run / "front").unlink()
    module = "runtime" if name.startswith(RUNTIME) and name != HOOK else "runtime_hook"
    module = {CDI_HOOK: "cdi_hook", CLI: "container_cli"}.get(name, module)
    expected = str(place.bin / name)
    if way == "name":
        expected = name
        started = place("a", "", "b", name=NAMES[0], called=name)
    elif way == "link":
        # What it is called says nothing: the file's name counts.
        own = place.bin / name
        own.unlink()
        shutil.copy(place.bin / next(other for other in NAMES if other != name), own)
        (place.bin / "link").symlink_to(own)
        started = place("a", "", "b", name="link")
    else:
        started = place("a", "", "b", name=name)
    assert place.is_asked(started, "a", "", "b", module=module)
    assert started.argv[5] == expected
    assert Path(started.argv[4]).parent == place.bin


def test_name_that_says_nothing(place: Place) -> None:
    (place.bin / RUNTIME).rename(place.bin / "other")
    started = place("state", name="other", called="x/an\x1bother")
    assert (started.status, started.stderr) == (
        1,
        "an\\x1bother: not a name that this program knows: call it nvidia-container-cli, "
        "nvidia-container-runtime, nvidia-container-runtime-hook or nvidia-cdi-hook\n",
    )


@pytest.mark.parametrize(
    "script",
    [
        "#!PYTHON\n",
        "#!PYTHON -sP\nimport sys\n",
        "#!/bin/sh\n'''exec' PYTHON \"$0\" \"$@\"\n' '''\n",
        "#!/bin/sh\n'''exec' \"SPACED\" \"$0\" \"$@\"\n' '''\n",
    ],
)
def test_interpreter_is_that_of_the_package(place: Place, script: str) -> None:
    spaced = place.directory / "with a space"
    spaced.mkdir()
    place.program(spaced / "python3")
    if "SPACED" in script:
        place.interpreter = spaced / "python3"
    script = script.replace("PYTHON", str(place.interpreter))
    place.script(script.replace("SPACED", str(place.interpreter)))
    assert place.is_asked(place("--version"), "--version")


@pytest.mark.parametrize(
    "script",
    [
        None,
        "",
        "#!",
        "#!python3\n",
        "#!/usr/bin/env python3\n",
        "#!/usr/bin/python3",
        "#!/bin/sh\n'''exec' \"$(dirname -- \"$0\")\"/'python' \"$0\"\n",
        "import sys\n",
        "#!/" + "x" * 10000 + "\n",
    ],
)
@pytest.mark.parametrize("name", [RUNTIME, HOOK])
def test_no_interpreter(place: Place, name: str, script: str | None) -> None:
    path = place.bin / SCRIPT
    path.unlink()
    if script is not None:
        path.write_text(script)
    started = place("--version", name=name)
    message = f"{name}: {path}: names no Python interpreter: install libnvc anew\n"
    assert (started.status, started.argv, started.stderr) == (1, [], message)


def test_interpreter_that_is_gone(place: Place) -> None:
    place.interpreter.unlink()
    started = place("--version")
    assert (started.status, started.stderr) == (
        1,
        f"{RUNTIME}: could not exec '{place.interpreter}', as {place.bin}/{SCRIPT} "
        "names it: No such file or directory: install libnvc anew\n",
    )


def test_interpreter_in_a_directory_that_is_closed_to_the_user(place: Place) -> None:
    place.interpreter.chmod(0)
    started = place("--version")
    assert (started.status, started.stderr) == (
        1,
        f"{RUNTIME}: could not exec '{place.interpreter}', as {place.bin}/{SCRIPT} "
        "names it: Permission denied: let everyone read and pass the directories it is installed "
        "in\n",
    )


# --- the hook's environment ---------------------------------------------------------------------

KEPT = {
    "NVIDIA_CTK_CONFIG_FILE_PATH": "/c",
    "NVIDIA_CTK_DEBUG": "true",
    "NVIDIA_CTK_QUIET": "false",
    "NVIDIA_CDI_DEBUG": "1",
    "NVIDIA_CDI_QUIET": "0",
}
DROPPED = {
    "XDG_CONFIG_HOME": "/x",
    "CUDA_MPS_PIPE_DIRECTORY": "/m",
    "HOME": "/h",
    "XDG_RUNTIME_DIR": "/r",
    "NVIDIA_VISIBLE_DEVICES": "all",
}


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("prestart",),
        ("-config", "f", "prestart"),
        ("create-runtime",),
        ("create-runtime", "p"),
        ("create-runtime", "p", "r", "x", "y"),
        ("-debug", "create-runtime", "p"),
    ],
)
@pytest.mark.parametrize("name", [HOOK, "nvidia-container-toolkit"])
def test_rest_of_the_hook_is_pythons(place: Place, words: tuple[str, ...], name: str) -> None:
    started = place(*words, name=name, **HOSTILE, **KEPT, **DROPPED)
    assert place.is_asked(started, *words, module="runtime_hook")
    assert started.environment == {**KEPT, "PATH": place.environment["PATH"]}


@pytest.mark.parametrize("path", ["config.toml", "", "./c"])
def test_configuration_of_the_image_is_not_named(place: Place, path: str) -> None:
    started = place("prestart", name=HOOK, NVIDIA_CTK_CONFIG_FILE_PATH=path)
    assert "NVIDIA_CTK_CONFIG_FILE_PATH" not in started.environment


def test_links_of_procfs_are_not_the_hosts(place: Place) -> None:
    """They lead into the image where the hook's working directory is there."""
    can_tell = "openat2" not in os.environ.get("NVC_DENIED", "")  # as kernels before 5.6
    for link in ("/proc/self/cwd", "/dev/fd/../cwd"):
        path, config = f"{link}:/a", f"{link}/config.toml"
        started = place("prestart", name=HOOK, PATH=path, NVIDIA_CTK_CONFIG_FILE_PATH=config)
        assert started.environment["PATH"] == ("/a" if can_tell else path)
        assert ("NVIDIA_CTK_CONFIG_FILE_PATH" in started.environment) is not can_tell


@pytest.mark.parametrize("words", [(), ("update-ldcache", "--folder", "/a"), ("create-runtime",)])
def test_hooks_of_cdi_files_are_pythons(place: Place, words: tuple[str, ...]) -> None:
    started = place(*words, name=CDI_HOOK, **HOSTILE, **KEPT, NVIDIA_VISIBLE_DEVICES="all")
    assert place.is_asked(started, *words, module="cdi_hook")
    assert started.environment == {**KEPT, "PATH": place.environment["PATH"]}


@pytest.mark.parametrize("words", [(), ("info",), ("-k", "configure", "--pid=1", "/r"), ("\n", "")])
def test_the_command_is_pythons_in_the_environment_of_its_caller(
    place: Place, words: tuple[str, ...]
) -> None:
    """What would change which code runs is ignored there: LXC runs it with what images choose."""
    started = place(*words, name=CLI, **HOSTILE)
    assert place.is_asked(started, *words, module="container_cli")
    assert started.environment == {**place.environment, **HOSTILE}


@pytest.mark.parametrize(
    ("path", "cleaned"),
    [
        ("/a:/b", "/a:/b"),
        ("/a:.:b:/c:", "/a:/c"),
        (":evil:/a", "/a"),
        (".", STANDARD_PATH),
        ("", STANDARD_PATH),
    ],
)
def test_search_path_of_the_hook(place: Place, path: str, cleaned: str) -> None:
    started = place("prestart", name=HOOK, PATH=path)
    assert started.environment["PATH"] == cleaned
