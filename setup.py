"""Build the C core (`libnvc._core`, cffi API mode, abi3), the simulated driver and the launcher.

The commands are mapped to `libnvc.cli`; the launcher is installed beside their scripts.
"""

import os
import platform
import shlex
import shutil
import subprocess  # noqa: TID253
import time
from pathlib import Path  # noqa: TID253

from setuptools import find_packages, setup
from setuptools.command.build_ext import build_ext

SIM = Path("csrc/sim")
SIM_OUTPUT = Path("libnvc/sim/_native_files")
SIM_MACHINES = ("x86_64", "aarch64")

# What is built: its sources, and the name the loader knows it by if it is a library.
_DEVICES = ("sim_config", "sim_devices")
_NVML = ("nvml_state", "nvml_system", "nvml_device", "nvml_mig", "nvml_board")
_SMI = ("start", "smi_main", "smi_fields", "smi_query", "smi_table")
SIM_LIBRARIES = {
    "libnvidia-ml.so": ("libnvidia-ml.so.1", (*_NVML, *_DEVICES)),
    "libcuda.so": ("libcuda.so.1", ("cuda", *_DEVICES)),
}
SIM_PROGRAMS = {
    "nvidia-smi": _SMI,
    "cuda-probe": ("start", "cuda_probe"),
    "idle": ("start", "idle"),
}

# These files run in containers: no flags from the environment (sanitizers), no start files and no
# symbol versions of this machine's C library (see csrc/sim/stub_libc.c).
SIM_FLAGS = (
    *("-std=gnu11", "-D_GNU_SOURCE", "-O2", "-g0", "-fvisibility=hidden", "-fPIC"),
    *("-fno-stack-protector", "-U_FORTIFY_SOURCE"),
    *("-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers"),
    *("-nostdlib", "-Wl,-z,relro,-z,now,-z,noexecstack,-z,defs"),
)

# One program under all its names: static, so that no environment changes what code runs, and so
# without the environment's flags (sanitizers), too.
CORE = Path("csrc")
LAUNCHER = CORE / "launcher"
LAUNCHER_NAMES = (
    "nvidia-container-runtime",
    "nvidia-container-runtime.cdi",
    "nvidia-container-runtime.legacy",
    "nvidia-container-runtime-hook",
    "nvidia-container-toolkit",
    "nvidia-cdi-hook",
    "nvidia-container-cli",
)
LAUNCHER_FLAGS = (
    *("-std=gnu11", "-D_GNU_SOURCE", "-O2", "-g0", "-fvisibility=hidden", f"-I{CORE}"),
    *("-fstack-protector-strong", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=3"),
    *("-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers"),
    *("-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections", "-s"),
    *("-fPIE", "-static-pie", "-Wl,-z,relro,-z,now,-z,noexecstack"),
)
# Of the core, what NVML is asked by stays out.
NOT_IN_LAUNCHER = ("nvc_blocked.c", "nvc_nvml.c", "nvc_nvml_ask.c")


def _first_line(*command):
    """Return what a program says; "" if it is missing or refuses."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.partition("\n")[0]


class BuildExt(build_ext):
    """Build the C core, note how, then build the launcher and the simulated driver's parts."""

    def run(self):
        """Build all of it."""
        super().run()
        self._note_build()
        self._build_launcher(Path(self.build_temp) / "launcher")
        if platform.machine() in SIM_MACHINES:
            base = Path() if self.inplace else Path(self.build_lib)
            self._build_sim(base / SIM_OUTPUT, Path(self.build_temp) / "sim")

    def get_source_files(self):
        """Add what goes into the source distribution."""
        more = [*sorted(SIM.glob("*.[ch]")), *sorted(LAUNCHER.glob("*.[ch]"))]
        return [*super().get_source_files(), *map(str, more)]

    def _note_build(self):
        compiler, *flags = self.compiler.compiler_so
        flags += self.extensions[0].extra_compile_args
        facts = {
            "VERSION": self.distribution.get_version(),
            "DATE": int(os.environ.get("SOURCE_DATE_EPOCH", time.time())),
            "REVISION": _first_line("git", "--git-dir=.git", "rev-parse", "HEAD"),
            "COMPILER": _first_line(compiler, "--version"),
            "FLAGS": shlex.join(flags),
        }
        output = Path() if self.inplace else Path(self.build_lib)
        text = "".join(f"{name} = {value!r}\n" for name, value in facts.items())
        (output / "libnvc/_build.py").write_text(text)

    def _build_launcher(self, work):
        work.mkdir(parents=True, exist_ok=True)
        core = [path for path in CORE.glob("nvc_*.c") if path.name not in NOT_IN_LAUNCHER]
        sources = sorted([*LAUNCHER.glob("*.c"), *core])
        version = f'-DNVC_VERSION="{self.distribution.get_version()}"'
        first, *others = (work / name for name in LAUNCHER_NAMES)
        self._compile(first, *LAUNCHER_FLAGS, version, *sources)
        for path in others:
            shutil.copy(first, path)
        self.distribution.data_files = [("bin", [str(work / name) for name in LAUNCHER_NAMES])]

    def _build_sim(self, output, work):
        for directory in (output, work):
            directory.mkdir(parents=True, exist_ok=True)
        libc, libdl = work / "libc.so.6", work / "libdl.so.2"
        for stub, flags in ((libc, []), (libdl, ["-DSIM_STUB_DL"])):
            self._link(stub, ("stub_libc",), "-shared", f"-Wl,-soname,{stub.name}", *flags)
        for name, (soname, sources) in SIM_LIBRARIES.items():
            self._link(output / name, sources, "-shared", f"-Wl,-soname,{soname}", str(libc))
        for name, sources in SIM_PROGRAMS.items():
            self._link(output / name, sources, "-pie", str(libc), str(libdl))

    def _link(self, output, sources, kind, *rest):
        paths = [SIM / f"{source}.c" for source in sources]
        self._compile(output, *SIM_FLAGS, kind, *paths, *rest, "-lgcc")

    def _compile(self, output, *words):
        compiler = shlex.split(os.environ.get("CC", "cc"))
        self.spawn([*compiler, "-o", str(output), *map(str, words)])


setup(
    # Computed, because a hand-written list forgets a new subpackage in the wheel only.
    packages=[*find_packages(include=["libnvc", "libnvc.*"]), "libnvc.cli"],
    package_data={"libnvc": ["py.typed", "_build.pyi", "_core.pyi"]},
    cffi_modules=["csrc/ffi_build.py:ffi"],
    cmdclass={"build_ext": BuildExt},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
