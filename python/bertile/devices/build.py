"""Builds the C-simulation of the HLS kernels with g++ (`python -m bertile.devices.build`)."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from bertile.config.paths import BUILD_DIR, HLS_DIR
from bertile.errors import DeviceError, run_program

FLAGS = ["-std=c++14", "-O3", "-Wall", "-Wextra", "-Wno-unknown-pragmas", "-Wno-unused-label", "-fPIC", "-pthread"]
KERNEL_SOURCES = ["kernels/bertile_encoder.cpp", "kernels/bertile_engine.cpp", "tb/simulation.cpp"]
LIBRARY_SOURCES = [*KERNEL_SOURCES, "tb/compute_unit.cpp", "tb/csim_library.cpp"]


def compiler() -> list[str]:
    """The C++ compiler as a command: $CXX, or g++. Raises DeviceError when there is none."""
    command = shlex.split(os.environ.get("CXX", "")) or ["g++"]
    if shutil.which(command[0]) is None:
        raise DeviceError(f"no C++ compiler: {command[0]} is not on PATH (install g++ or set CXX)")
    return command


def ap_types() -> Path:
    """The folder of ap_int.h, from the installed hls4ml package (found, not imported). Raises DeviceError."""
    package = importlib.util.find_spec("hls4ml")
    if package is None or not package.submodule_search_locations:
        raise DeviceError("the C-simulation needs the ap_types headers of the Python package hls4ml; run `make setup`")
    return Path(package.submodule_search_locations[0]) / "templates" / "vivado" / "ap_types"


def machine_digest(command: list[str]) -> hashlib._Hash:
    """Digest, to be continued, of the compiler and the processor."""
    digest = hashlib.sha256(subprocess.run([command[0], "--version"], capture_output=True, check=False).stdout)
    cpu = Path("/proc/cpuinfo")
    if cpu.exists():  # -march=native: a library from another processor may not run here
        digest.update(next((line for line in cpu.read_text().splitlines() if line.startswith("flags")), "").encode())
    return digest


def source_digest(command: list[str]) -> str:
    """Digest of every HLS source, the command and the compiler: what the library depends on."""
    digest = machine_digest(command)
    digest.update(" ".join(command).encode())
    for path in sorted(HLS_DIR.rglob("*.[hc]pp")):
        digest.update(path.relative_to(HLS_DIR).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def build(output: Path, sources: list[str], extra: list[str]) -> Path:
    """Compile `sources` (relative to hls/) into `output`, unless it is there from the same sources already."""
    command = [*compiler(), *FLAGS, "-march=native", *extra]
    command += ["-isystem", str(ap_types())]
    command += [f"-I{HLS_DIR / 'include'}", f"-I{HLS_DIR / 'kernels'}", f"-I{HLS_DIR / 'tb'}"]
    command += [str(HLS_DIR / source) for source in sources]
    stamp, digest = output.with_suffix(".digest"), source_digest(command)
    if output.exists() and stamp.exists() and stamp.read_text() == digest:
        return output
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    result = subprocess.run([*command, "-o", str(temporary)], capture_output=True, text=True, check=False)
    if result.returncode:
        sys.stderr.write(result.stderr)
        raise DeviceError(f"the C-simulation did not compile: {command[0]} exited with {result.returncode}")
    temporary.replace(output)
    stamp.write_text(digest)
    return output


def build_library() -> Path:
    """The shared library that `bertile.devices.csim` loads."""
    return build(BUILD_DIR / "csim" / "libbertile_csim.so", LIBRARY_SOURCES, ["-shared"])


def build_test_bench(name: str, sanitize: bool = False) -> Path:
    """The test bench hls/tb/`name`.cpp as a program; with `sanitize`, under address and undefined-behaviour checks."""
    checks = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    checks += ["-fno-sanitize=shift-base"]  # ap_private.h shifts negative numbers left, which C++20 allows
    extra = checks if sanitize else []
    folder = "sanitized" if sanitize else "tb"
    sources = [*KERNEL_SOURCES, "tb/compute_unit.cpp", f"tb/{name}.cpp"]
    return build(BUILD_DIR / "csim" / folder / name, sources, extra)


if __name__ == "__main__":
    run_program(lambda: print(build_library()))
