"""Builds the emulated card: its process, the guard, the folder that XRT is pointed at, the kernels and the xclbin."""

from __future__ import annotations

import json
import os
import subprocess
from ctypes.util import find_library
from pathlib import Path

from bertile.config.kernels import Link, load_link
from bertile.config.paths import BUILD_DIR, EMULATION_DIR, HLS_DIR
from bertile.devices import build as csim
from bertile.devices import verilate
from bertile.devices.build import ap_types, compiler
from bertile.devices.verilate import Progress, cached, compile_all, digest_of, locked, run_tool
from bertile.emulation.tables import card_tables
from bertile.emulation.xclbin import encode_xclbin
from bertile.errors import DeviceError

CARD_DIR = EMULATION_DIR / "card"
EMU_DIR = BUILD_DIR / "emu"
FARM = EMU_DIR / "xrt"
# XRT looks here for the device process.
CARD_PROGRAM = FARM / "data/emulation/unified/cpu_em/generic_pcie/model/genericpciemodel"
SHIM = "libxrt_swemu.so.2"
GUARD = FARM / "lib" / SHIM
LINKED = ["libxrt_core.so.2", "libxrt_coreutil.so.2", "libxrt_noop.so.2"]
ENGINES = ("csim", "rtl")
XRT_MISSING = "no XRT libraries: the emulated card needs the Debian packages libxrt-dev and libxrt1"

FLAGS = ["-std=c++17", "-O2", "-Wall", "-Wextra", "-pthread", f"-I{CARD_DIR}"]
# The guard is initialized before the shim that it links: that looks at the environment at once.
GUARD_FLAGS = ["-shared", "-fPIC", "-Wl,-z,initfirst", "-Wl,-soname,libbertile_guard.so", "-Wl,--no-as-needed"]
CARD_SOURCES = ["card_main", "card_server", "compute_units", "device_memory", "test_settings"]
GUARD_SOURCES = ["guard", "imports"]
SHARED_SOURCES = ["card_log", "run_folder", "wire"]
INI = "[Emulation]\nkeep_run_dir=false\n"


def silent(done: int, total: int) -> None:
    """Shows no progress."""


def library_folders() -> list[Path]:
    """Where the loader and the compiler look for libraries on this machine."""
    command = [*compiler(), "-print-search-dirs"]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    found = next((line for line in lines if line.startswith("libraries: =")), "libraries: =").split("=", 1)[1]
    return [Path(folder) for folder in [*found.split(":"), "/usr/lib", "/usr/local/lib"]]


def xrt_libraries() -> dict[str, Path]:
    """The installed XRT libraries by name. Raises DeviceError when one is missing."""
    if find_library("xrt_coreutil") is None:
        raise DeviceError(XRT_MISSING)
    folders = library_folders()
    libraries = {}
    for name in [*LINKED, SHIM]:
        path = next((folder / name for folder in folders if (folder / name).exists()), None)
        if path is None:
            raise DeviceError(f"{XRT_MISSING}; {name} was not found")
        libraries[name] = path.resolve()
    return libraries


def sources(names: list[str]) -> list[Path]:
    return [CARD_DIR / f"{name}.cpp" for name in names]


def replace_text(path: Path, text: str) -> None:
    """Write a file at once, for those who read it now."""
    replace_bytes(path, text.encode())


def replace_bytes(path: Path, data: bytes) -> None:
    if path.exists() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(data)
    temporary.replace(path)


def link_program(output: Path, inputs: list[Path], flags: list[str], tail: list[str], what: str) -> None:
    """Compile or link into `output` at once; nothing happens when it is there from the same inputs."""
    headers = sorted(CARD_DIR.glob("*.hpp"))
    stamp, digest = output.with_name(f".{output.name}.digest"), digest_of([*flags, *tail], [*inputs, *headers])
    if output.exists() and stamp.exists() and stamp.read_text() == digest:
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    run_tool([*compiler(), *flags, *map(str, inputs), "-o", str(temporary), *tail], what)
    temporary.replace(output)
    stamp.write_text(digest)


def emconfig(link: Link, bank: str | None = None) -> str:
    """The description of the platform that XRT reads in emulation; `bank`: another size of each, such as 64M."""
    sizes = [bank or f"{size >> 30}GB" for size in link.banks.values()]
    device = {
        "Name": link.platform,
        "HalMajorVersion": 2,
        "HalMinorVersion": 1,
        "DataAlignment": 4096,
        "NumDevices": 1,
        "DdrBanks": [{"Size": size} for size in sizes],
    }
    platform = {"UnifiedPlatform": "true", "ExpandedPR": "true", "Boards": [{"NumBoards": 1, "Devices": [device]}]}
    return json.dumps({"Version": {"FileVersion": "2.0", "ToolVersion": "2022.1"}, "Platform": platform}, indent=1)


def build_farm() -> Path:
    """The folder that XILINX_XRT and XILINX_VITIS name: libraries, guard, device process. Raises DeviceError."""
    libraries = xrt_libraries()
    with locked(EMU_DIR / "locks" / "farm"):
        (FARM / "lib").mkdir(parents=True, exist_ok=True)
        for name in LINKED:
            target = FARM / "lib" / name
            if not target.is_symlink() or target.resolve() != libraries[name]:
                target.unlink(missing_ok=True)
                target.symlink_to(libraries[name])
        shared = sources(SHARED_SOURCES)
        link_program(CARD_PROGRAM, [*sources(CARD_SOURCES), *shared], FLAGS, ["-ldl"], "the emulated card")
        guard = [*sources(GUARD_SOURCES), *shared]
        link_program(GUARD, guard, [*FLAGS, *GUARD_FLAGS], [str(libraries[SHIM])], "the guard of XRT's shim")
        replace_text(FARM / "emconfig.json", emconfig(load_link()))
        replace_text(FARM / "xrt.ini", INI)
    return FARM


def csim_library(folder: Path, tables: Path) -> Path:
    """Kernels in C-simulation as a shared library."""
    flags = [flag for flag in csim.FLAGS if not flag.startswith("-std")]
    flags += ["-std=c++17", "-march=native", f"-isystem{ap_types()}", f"-I{CARD_DIR}"]
    flags += [f"-I{HLS_DIR / name}" for name in ("include", "kernels", "tb")]
    files = [*(HLS_DIR / source for source in [*csim.KERNEL_SOURCES, "tb/compute_unit.cpp"])]
    return kernel_library(folder, [*files, CARD_DIR / "csim_kernel.cpp", tables], flags, [], silent)


def rtl_library(folder: Path, tables: Path, progress: Progress) -> Path:
    """Kernels with the Verilated engine as a shared library."""
    with locked(BUILD_DIR / "rtl" / "plain"):
        model = verilate.build_model(BUILD_DIR / "rtl" / "plain" / "model", False, progress)
    flags = [*verilate.compile_flags(BUILD_DIR / "rtl" / "plain" / "model", False), f"-I{CARD_DIR}"]
    files = [source for source in verilate.HARNESS if source.name != "rtl_library.cpp"]
    return kernel_library(folder, [*files, CARD_DIR / "rtl_kernel.cpp", tables], flags, model, silent)


def kernel_library(folder: Path, files: list[Path], flags: list[str], objects: list[Path], progress: Progress) -> Path:
    """Compile the sources and link them with the objects."""
    library = folder / "libbertile_card.so"
    headers = [path for root in (HLS_DIR, EMULATION_DIR) for path in sorted(root.rglob("*.hpp"))]

    def make() -> None:
        compiled = compile_all(files, folder, flags, progress)
        command = [*compiler(), "-shared", "-pthread", *map(str, [*compiled, *objects]), "-o", str(library)]
        run_tool(command, "the emulated card's kernels were not linked")

    cached(folder, digest_of(flags, [*files, *headers, *objects]), make)
    return library


def build_emulation(engine: str = "csim", progress: Progress = silent) -> Path:
    """The xclbin of the emulated card with that engine, and all it needs. Raises DeviceError."""
    if engine not in ENGINES:
        raise DeviceError(f"no such engine: {engine} (there are {', '.join(ENGINES)})")
    build_farm()
    link, folder = load_link(), EMU_DIR / engine
    xclbin = folder / f"bertile_{link.target}.xclbin"
    with locked(EMU_DIR / "locks" / engine):
        tables = folder / "card_tables.cpp"
        replace_text(tables, card_tables(link))
        if engine == "rtl":
            library = rtl_library(folder / "objects", tables, progress)
        else:
            library = csim_library(folder / "objects", tables)
        replace_bytes(xclbin, encode_xclbin(link, library.read_bytes(), engine))
    return xclbin


def main(arguments: list[str]) -> None:
    """Build what is asked for, and say where it is."""
    usage = "usage: python -m bertile.emulation [--engine csim|rtl]"
    if arguments and (len(arguments) != 2 or arguments[0] != "--engine" or arguments[1] not in ENGINES):
        raise DeviceError(usage)
    print(build_emulation(arguments[1] if arguments else "csim", progress=verilate.show_progress))
