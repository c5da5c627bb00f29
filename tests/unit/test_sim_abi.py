# SPDX-License-Identifier: Apache-2.0
"""The simulated NVML and CUDA against NVIDIA's own headers, by the compiler.

The headers come from the packages nvidia-nvml-dev and nvidia-cuda-runtime-cu12.
"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
from pathlib import Path

import pytest
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

import libnvc.sim

SOURCES = Path(__file__).parent.parent.parent / "csrc/sim"
NATIVE = Path(libnvc.sim.__file__).parent / "_native_files"
NVML_SOURCES = sorted(path.name for path in SOURCES.glob("nvml_*.c"))

#: Everything that the simulated libraries may ask a C library for.
LIBC = {
    *("__errno_location", "close", "memcpy", "memset", "open", "poll", "snprintf"),
    *("strcasecmp", "strlen", "strncmp", "syscall"),
}


def header_directory(distribution: str, name: str) -> Path:
    files = importlib.metadata.files(distribution)
    assert files is not None
    (header,) = [file for file in files if file.name == name]
    return Path(str(header.locate())).parent


@pytest.fixture(scope="module")
def nvml_h() -> Path:
    return header_directory("nvidia-nvml-dev", "nvml.h")


@pytest.fixture(scope="module")
def cuda_h() -> Path:
    return header_directory("nvidia-cuda-runtime-cu12", "cuda.h")


def compile_with(directory: Path, source: Path, *flags: str) -> str:
    """Compile a source against NVIDIA's header in place of ours; return what the compiler says."""
    command = ["gcc", "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror"]
    # The newest header deprecates what older drivers have.
    command += ["-Wno-deprecated-declarations", "-Wno-missing-field-initializers"]
    command += ["-DSIM_NVIDIA_HEADER", f"-I{SOURCES}", f"-isystem{directory}", *flags]
    done = subprocess.run(
        [*command, "-c", source, "-o", "/dev/null"], capture_output=True, text=True, check=False
    )
    return done.stderr


@pytest.mark.parametrize("source", NVML_SOURCES)
def test_nvml_prototypes(nvml_h: Path, source: str) -> None:
    """Each function is defined as NVIDIA declares it, or this would not compile."""
    assert compile_with(nvml_h, SOURCES / source, "-Wmissing-prototypes") == ""


def test_cuda_prototypes(cuda_h: Path) -> None:
    assert compile_with(cuda_h, SOURCES / "cuda.c", "-Wmissing-prototypes") == ""


def test_check_is_awake(nvml_h: Path, tmp_path: Path) -> None:
    source = tmp_path / "wrong.c"
    source.write_text(
        '#include "nvml_abi.h"\n'
        "nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, int *index)\n"
        "{\n\t*index = device == 0;\n\treturn NVML_SUCCESS;\n}\n"
    )
    assert "conflicting types" in compile_with(nvml_h, source)


@pytest.mark.parametrize("program", ["smi_main.c", "smi_fields.c", "smi_query.c", "smi_table.c"])
def test_programs_are_clients_of_the_real_library(nvml_h: Path, program: str) -> None:
    assert compile_with(nvml_h, SOURCES / program) == ""


def test_cuda_program_is_a_client_of_the_real_library(cuda_h: Path) -> None:
    assert compile_with(cuda_h, SOURCES / "cuda_probe.c") == ""


# --- sizes, offsets, values ---------------------------------------------------------------------


def read_header(name: str) -> str:
    """Return our part of a header without comments."""
    text = (SOURCES / name).read_text().partition("#else")[2]
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


def constants(text: str) -> list[str]:
    """Name the enumerators and numeric macros."""
    enumerators = re.findall(r"^\t((?:NVML|CU|CUDA)_\w+)(?: = \w+)?,", text, re.MULTILINE)
    macros = re.findall(r"^#define (\w+) ", text, re.MULTILINE)
    return [*enumerators, *macros]


def structs(text: str) -> dict[str, list[str]]:
    """Name the structs' types and members."""
    found = re.findall(r"typedef struct \w+ {\n(.*?)\n} ([^;]+);", text, re.DOTALL)
    return {
        name.strip(): re.findall(r"(\w+)(?:\[\w+\])?;", body)
        for body, names in found
        for name in names.split(",")
    }


def measure(tmp_path: Path, header: str, text: str, *flags: str) -> dict[str, int]:
    """Ask the compiler for every number that a binary interface consists of."""
    lines = [f"N({name}, (long)({name}))" for name in constants(text)]
    for name, members in structs(text).items():
        lines.append(f"N(sizeof {name}, (long)sizeof({name}))")
        for member in members:
            lines.append(f"N({name}.{member}, (long)offsetof({name}, {member}))")
            lines.append(f"N(sizeof {name}.{member}, (long)sizeof ((({name} *)0)->{member}))")
    types = re.findall(r"^} (\w+);", text, re.MULTILINE) + re.findall(r"\btypedef int (\w+);", text)
    lines += [f"N(sizeof {name}, (long)sizeof({name}))" for name in types]
    source = tmp_path / "measure.c"
    source.write_text(
        f'#include <stddef.h>\n#include <stdio.h>\n#include "{header}"\n'
        '#define N(name, value) (void)printf("%s=%ld\\n", #name, value);\n'
        "int main(void)\n{\n" + "\n".join(lines) + "\nreturn 0;\n}\n"
    )
    program = tmp_path / "measure"
    subprocess.run(["gcc", f"-I{SOURCES}", *flags, source, "-o", program], check=True)
    output = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    pairs = [line.rpartition("=") for line in output.splitlines()]
    return {name: int(value) for name, _, value in pairs}


def test_nvml_numbers(tmp_path: Path, nvml_h: Path) -> None:
    text = read_header("nvml_abi.h")
    ours = measure(tmp_path, "nvml_abi.h", text)
    assert len(structs(text)) == 7
    assert {"NVML_ERROR_UNKNOWN", "nvmlMemory_v2", "sizeof nvmlPciInfo_t.busId"} <= ours.keys()
    assert measure(tmp_path, "nvml_abi.h", text, "-DSIM_NVIDIA_HEADER", f"-I{nvml_h}") == ours


def test_cuda_numbers(tmp_path: Path, cuda_h: Path) -> None:
    text = read_header("cuda_abi.h")
    ours = measure(tmp_path, "cuda_abi.h", text)
    assert {"CUDA_ERROR_UNKNOWN", "sizeof CUuuid", "sizeof CUdevice"} <= ours.keys()
    assert measure(tmp_path, "cuda_abi.h", text, "-DSIM_NVIDIA_HEADER", f"-I{cuda_h}") == ours


def test_every_error_has_a_text(nvml_h: Path) -> None:
    """Every code that NVIDIA's header knows, so that none is taken for an unknown one."""
    header = (nvml_h / "nvml.h").read_text()
    enum = re.search(r"typedef enum nvmlReturn_enum\n{(.*?)} nvmlReturn_t;", header, re.DOTALL)
    assert enum is not None
    codes = set(re.findall(r"^ *(NVML_\w+) *=", enum[1], re.MULTILINE))
    assert len(codes) > 25
    system = (SOURCES / "nvml_system.c").read_text()
    assert set(re.findall(r"{(NVML_\w+),", system)) == codes - {"NVML_ERROR_UNKNOWN"}


# --- what the files ask for and offer -----------------------------------------------------------


def symbols(name: str) -> tuple[set[str], set[str]]:
    """Return the dynamic symbols a file needs and those it defines."""
    with (NATIVE / name).open("rb") as stream:
        table = ELFFile(stream).get_section_by_name(".dynsym")
        assert isinstance(table, SymbolTableSection)
        found = [(symbol.name, symbol["st_shndx"]) for symbol in table.iter_symbols()]
    needed = {symbol for symbol, index in found if index == "SHN_UNDEF" and symbol}
    return needed, {symbol for symbol, index in found if symbol} - needed


def test_nvml_exports_its_interface_only() -> None:
    declared = set(re.findall(r"\b(nvml[A-Z]\w+)\(", read_header("nvml_abi.h")))
    assert len(declared) > 50
    assert symbols("libnvidia-ml.so")[1] == declared


def test_cuda_exports_its_interface_only() -> None:
    assert symbols("libcuda.so")[1] == set(
        re.findall(r"\b(cu[A-Z]\w+)\(", read_header("cuda_abi.h"))
    )


@pytest.mark.parametrize("name", ["libnvidia-ml.so", "libcuda.so"])
def test_libraries_believe_nothing_but_device_nodes(name: str) -> None:
    """No getenv and no way to read a file: the record, /dev and what opens are all.

    The files of capabilities are for modules that have no devices for them; `read` is not there.
    """
    assert symbols(name)[0] <= LIBC
    data = (NATIVE / name).read_bytes()
    paths = {path.decode() for path in re.findall(rb"/(?:[a-z0-9_%.-]+/?)+(?=\0)", data)}
    assert {path for path in paths if path.count("/") > 1} <= {
        "/dev/nvidiactl",
        "/dev/nvidia%u",
        "/dev/nvidia-uvm",
        "/dev/nvgpu/igpu0/ctrl",
        "/dev/nvidia-caps/nvidia-cap%u",
        "/proc/driver/nvidia/capabilities/gpu%u/mig/gi%u/access",
        "/proc/driver/nvidia/capabilities/gpu%u/mig/gi%u/ci%u/access",
    }


@pytest.mark.parametrize("path", sorted(NATIVE.iterdir()), ids=lambda path: str(path.name))
def test_native_files_run_with_any_glibc(path: Path) -> None:
    """They name no version of any symbol, so the oldest one of it will do."""
    with path.open("rb") as stream:
        file = ELFFile(stream)
        assert file.get_section_by_name(".gnu.version_r") is None
        dynamic = file.get_section_by_name(".dynamic")
        assert isinstance(dynamic, DynamicSection)
        needed = {getattr(tag, "needed") for tag in dynamic.iter_tags("DT_NEEDED")}  # noqa: B009
    assert needed <= {"libc.so.6", "libdl.so.2"}
