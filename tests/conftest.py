# SPDX-License-Identifier: Apache-2.0
"""Fixtures that several kinds of tests share, and the guard against tests that silently skip."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import hypothesis
import pytest
from jsonschema import Draft4Validator, ValidationError
from referencing import Registry
from referencing.jsonschema import DRAFT4

import libnvc.sim
from libnvc.sim.machine import this_machine
from libnvc.testing import make_rootfs

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    Done = subprocess.CompletedProcess[str]
    Enter = Callable[[], None]
    RunOnHost = Callable[..., Done]

# Time per example says nothing on a loaded machine or under sanitizers.
hypothesis.settings.register_profile(
    "libnvc",
    deadline=None,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("libnvc")

#: Makes the simulated host's /dev of the given root, alters it, runs a command.
HOST = """
set -e
mount -t tmpfs -o mode=755 tmpfs /dev
cp -a "$1"/dev/. /dev
mknod -m 666 /dev/null c 1 3
eval "$2"
shift 2
exec "$@"
"""


def sonames(driver: Path, capabilities: Sequence[str]) -> set[str]:
    """Return what loader caches say of the libraries that a container gets, as `LOOK` prints it."""
    found = libnvc.discover(str(driver))
    plan = libnvc.make_plan(found, libnvc.Request(devices=("0",), capabilities=tuple(capabilities)))
    binds = {op.source for op in plan.operations if isinstance(op, libnvc.BindMount)}
    given = [lib for lib in found.libraries if lib.bits == 64 and f"{driver}{lib.path}" in binds]
    assert {"libcuda.so.1", "libnvidia-ml.so.1"} <= {lib.soname for lib in given}
    return {f"{lib.soname} (libc6,x86-64)" for lib in given}


#: Lists GPUs by NVML and by CUDA, and what the loader finds, if it is there; then tries to open
#: every GPU, if need be by a node made for it.
LOOK = """
nvidia-smi -L
cuda-probe
ldconfig -p | while read -r name kind arrow path; do
    [ "$arrow" != "=>" ] || head -c 4 "$path" >/dev/null && echo "$name $kind"
done
for n in 0 1 2 3 4 5 6 7; do
    node=/dev/nvidia$n
    [ -e $node ] || node=/tmp/nvidia$n
    [ -e $node ] || mknod $node c 195 $n && cat $node
done
true
"""


# crun 1.8 raises RLIMIT_MEMLOCK before it loads a device program; without CAP_SYS_RESOURCE that is
# refused, and not needed by any kernel that charges programs to the memory cgroup (5.11).
IGNORE_MEMLOCK = """
#include <dlfcn.h>
#include <sys/resource.h>

typedef int call(__rlimit_resource_t, const struct rlimit *);

int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit)
{
\tcall *real = (call *)dlsym(RTLD_NEXT, "setrlimit");

\treturn resource == RLIMIT_MEMLOCK ? 0 : real(resource, limit);
}

int setrlimit64(__rlimit_resource_t resource, const struct rlimit64 *limit)
    __attribute__((alias("setrlimit")));
"""


class Run(Protocol):
    """Runs a command with arguments."""

    def __call__(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]: ...


class CheckGpus(Protocol):
    """Checks by commands run in a container that it can use GPUs of a DGX A100, and only these.

    `unprivileged`: its root may not make device nodes. `capabilities`: those whose libraries the
    loader finds, all of them.
    """

    def __call__(
        self,
        run: Callable[..., Done],
        indices: Sequence[int],
        *,
        unprivileged: bool = False,
        capabilities: Sequence[str] = ...,
    ) -> None: ...


class CompileC(Protocol):
    """Compiles C sources into a program, or into a library if the name ends in ".so"."""

    def __call__(self, output: Path, *sources: Path, flags: tuple[str, ...] = ()) -> Path: ...


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root"):
        need_root("by its marker")


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Expect a refusal that names the kernel where a call is denied that the test needs."""
    marker = pyfuncitem.get_closest_marker("needs_call")
    if marker is None or marker.args[0] not in os.environ.get("NVC_DENIED", "").split(","):
        return (yield)
    with pytest.raises(Exception, match=f"needs kernel {marker.args[1]} or newer"):
        yield
    return None


def need_root(reason: str) -> None:
    """Skip the test for an ordinary user."""
    if os.geteuid() != 0:
        pytest.skip(f"needs root: {reason}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail what skips in continuous integration, unless this machine really cannot run it."""
    report = yield
    excused = os.geteuid() != 0 and "needs root: " in str(report.longrepr)
    if os.environ.get("CI") == "true" and report.skipped and not excused:
        report.outcome = "failed"
        report.longrepr = f"skipped where it must run: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def commands() -> Path:
    """Return the directory of the installed commands."""
    return Path(sys.executable).parent


@pytest.fixture(scope="session")
def container_cli(commands: Path) -> Run:
    """Run the installed `nvidia-container-cli` as a container engine does."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [commands / "nvidia-container-cli", *arguments],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return run


def make_sim(profile: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a simulated driver."""
    need_root("its device nodes")
    root = tmp_path_factory.mktemp("sim") / profile
    libnvc.sim.create(profile, root)
    return root


@pytest.fixture(scope="session")
def dgx_a100(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the root of a simulated DGX A100, shared: do not change it."""
    return make_sim("dgx-a100", tmp_path_factory)


@pytest.fixture(scope="session")
def dgx_a100_mig(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the root of a simulated DGX A100 with MIG devices, shared: do not change it."""
    return make_sim("dgx-a100-mig", tmp_path_factory)


@pytest.fixture(scope="session")
def dgx_h100(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the root of a simulated DGX H100, shared: do not change it."""
    return make_sim("dgx-h100", tmp_path_factory)


@pytest.fixture(scope="session")
def mx150(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the root of a simulated laptop with a GeForce MX150, shared: do not change it."""
    return make_sim("mx150", tmp_path_factory)


@pytest.fixture(scope="session")
def t4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the root of a simulated cloud server with a Tesla T4, shared: do not change it."""
    return make_sim("t4", tmp_path_factory)


@pytest.fixture(scope="session")
def gb200(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the root of a simulated server with IMEX channels, shared: do not change it."""
    return make_sim("gb200", tmp_path_factory)


@pytest.fixture(scope="session")
def workstation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the root of a simulated desktop with 32-bit libraries, shared: do not change it."""
    return make_sim("workstation", tmp_path_factory)


@pytest.fixture(scope="session")
def jetson_orin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the root of a simulated Jetson AGX Orin, shared: do not change it."""
    return make_sim("jetson-orin", tmp_path_factory)


@pytest.fixture(scope="session")
def rack_128(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the root of a simulated host with 128 GPUs, shared: do not change it."""
    return make_sim("rack-128", tmp_path_factory)


@pytest.fixture(scope="session")
def run_in_host() -> RunOnHost:
    """Run a command in a mount namespace whose /dev is that of a simulated host.

    `dev` is shell that alters that /dev first.
    """

    def run(root: Path, *command: str | Path, dev: str = "", preexec: Enter | None = None) -> Done:
        return subprocess.run(
            [
                *("unshare", "--mount", "--propagation", "private"),
                *("sh", "-c", HOST, "sh", root, dev, *command),
            ],
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "LD_LIBRARY_PATH": f"{root}{this_machine().libs_dir}",
                "LC_ALL": "C",
                "TZ": "UTC",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            preexec_fn=preexec,
        )

    return run


@pytest.fixture(scope="session")
def smi(run_in_host: RunOnHost) -> RunOnHost:
    """Run the nvidia-smi of a simulated host."""

    def run(root: Path, *options: str, dev: str = "", preexec: Enter | None = None) -> Done:
        return run_in_host(root, root / "usr/bin/nvidia-smi", *options, dev=dev, preexec=preexec)

    return run


@pytest.fixture(scope="session")
def cuda(run_in_host: RunOnHost) -> RunOnHost:
    """Run a small program that lists the GPUs CUDA finds on a simulated host."""

    def run(root: Path, dev: str = "") -> Done:
        return run_in_host(root, libnvc.sim.cuda_client(), dev=dev)

    return run


@pytest.fixture(scope="session")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Create a simulated driver with a fault; return its root."""

    def make(fault: str, profile: str = "mx150") -> Path:
        root = tmp_path_factory.mktemp("faulty") / "root"
        libnvc.sim.create(profile, root, fault=fault)
        return root

    return make


@pytest.fixture(scope="session")
def c_client(tmp_path_factory: pytest.TempPathFactory, dgx_a100: Path) -> Path:
    """Return a program, compiled against NVIDIA's header, that calls every function of NVML."""
    files = importlib.metadata.files("nvidia-nvml-dev")
    assert files is not None
    (header,) = [file for file in files if file.name == "nvml.h"]
    program = tmp_path_factory.mktemp("client") / "client"
    subprocess.run(
        [
            *("gcc", "-Wall", "-Wextra", "-Werror", "-Wno-deprecated-declarations"),
            f"-isystem{Path(str(header.locate())).parent}",
            Path(__file__).parent / "c/sim_client.c",
            *("-o", program, f"-L{dgx_a100}{this_machine().libs_dir}", "-lnvidia-ml"),
        ],
        check=True,
    )
    return program


@pytest.fixture(scope="session")
def check_gpus(dgx_a100: Path) -> CheckGpus:
    """Check what a container can do with GPUs; it needs cuda-probe."""
    profile = next(p for p in libnvc.sim.profiles() if p.name == "dgx-a100")

    def check(
        run: Callable[..., Done],
        indices: Sequence[int],
        *,
        unprivileged: bool = False,
        capabilities: Sequence[str] = ("compute", "utility"),
    ) -> None:
        done = run("sh", "-c", LOOK)
        assert done.returncode == 0, done.stderr
        assert sonames(dgx_a100, capabilities) - set(done.stdout.splitlines()) == set()
        uuids = [profile.gpus[index].uuid for index in indices]
        assert re.findall(r"^GPU \d+: .*\(UUID: (.*)\)$", done.stdout, re.MULTILINE) == uuids
        assert re.findall(r"^device \d+: .*?, (GPU-[^,]*),", done.stdout, re.MULTILINE) == uuids
        # The cgroup lets it pass to a driver that is not there, or does not.
        said = [f"cat: /dev/nvidia{index}: No such device or address" for index in range(8)]
        for index in set(range(8)) - set(indices):
            said[index] = (
                f"{'mknod' if unprivileged else 'cat'}: /tmp/nvidia{index}: Operation not permitted"
            )
        assert done.stderr.splitlines() == said

    return check


@pytest.fixture(scope="session")
def validate_oci() -> Callable[[object], None]:
    """Check a container's configuration by the schema of OCI."""
    schemas = Path(__file__).parent / "data/schemas/oci"
    files = {path.name: json.loads(path.read_text()) for path in schemas.glob("*.json")}
    resources = [(name, DRAFT4.create_resource(file)) for name, file in files.items()]
    known: Registry[Any] = Registry().with_resources(resources)
    schema = {"$schema": files["config-schema.json"]["$schema"], "$ref": "config-schema.json"}
    validator = Draft4Validator(schema, registry=known)

    def check(document: object) -> None:
        validator.validate(document)

    device = {"path": "/a", "type": "c", "major": "x"}
    with pytest.raises(ValidationError, match="'x' is not of type 'integer'"):
        check({"ociVersion": "1.0.2", "linux": {"devices": [device]}})
    return check


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    """Return a fresh small root file system in Debian's layout."""
    return make_rootfs(tmp_path / "rootfs")


@pytest.fixture(scope="session")
def strict_flags() -> tuple[str, ...]:
    """Return what the compiler is told about hand-written C: the extension's flags and more.

    What cffi generates does not pass some of these, so they are not in csrc/ffi_build.py.
    """
    return (
        "-std=gnu11",
        "-D_GNU_SOURCE",
        *("-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers"),
        *("-Wshadow", "-Wconversion", "-Wmissing-prototypes", "-Wstrict-prototypes"),
        *("-Wcast-qual", "-Wundef", "-Wformat=2", "-Wvla"),
    )


@pytest.fixture(scope="session")
def compile_c(strict_flags: tuple[str, ...]) -> CompileC:
    """Compile C with the strict warnings, for tests."""
    include = Path(__file__).parent.parent / "csrc"

    def compile_c(output: Path, *sources: Path, flags: tuple[str, ...] = ()) -> Path:
        kind = ("-shared", "-fPIC") if output.suffix == ".so" else ()
        command = ["gcc", *strict_flags, "-O1", "-g", f"-I{include}", *kind, *flags]
        done = subprocess.run(
            [*command, *sources, "-o", output], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return output

    return compile_c


@pytest.fixture(scope="session")
def crun(tmp_path_factory: pytest.TempPathFactory, compile_c: CompileC) -> Path:
    """Return a crun that also runs where RLIMIT_MEMLOCK cannot be raised."""
    directory = tmp_path_factory.mktemp("crun")
    source = directory / "memlock.c"
    source.write_text(IGNORE_MEMLOCK)
    flags = ("-Wno-attribute-alias", "-Wno-missing-attributes")
    library = compile_c(directory / "memlock.so", source, flags=flags)
    script = directory / "crun"
    script.write_text(f'#!/bin/sh\nexport LD_PRELOAD={library}\nexec crun "$@"\n')
    script.chmod(0o755)
    return script


@pytest.fixture(params=["runc", "crun"])
def runtime(request: pytest.FixtureRequest) -> str:
    return "runc" if request.param == "runc" else str(request.getfixturevalue("crun"))


@pytest.fixture(params=["v1", "v2"])
def cgroup(request: pytest.FixtureRequest) -> str:
    version: str = request.param
    return version
