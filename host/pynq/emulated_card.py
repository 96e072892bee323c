"""The emulated card for PYNQ: what must be so before `import pynq`. Nothing of this is for a board."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from bertile.config.paths import BUILD_DIR
from bertile.devices.verilate import locked
from bertile.emulation.build import FARM, SHIM, replace_text
from bertile.emulation.environment import emulation_environment
from bertile.errors import DeviceError

PYNQ_DIR = BUILD_DIR / "pynq"
PYNQ_FARM = PYNQ_DIR / "xrt"
MODE = "XCL_EMULATION_MODE"


def link(path: Path, target: Path) -> None:
    if not path.is_symlink() or path.readlink() != target:
        path.unlink(missing_ok=True)
        path.symlink_to(target)


def xrt_version() -> str:
    """Of the installed libraries, from the name of the file: 2.13.0."""
    return (FARM / "lib" / "libxrt_core.so.2").resolve().name.partition(".so.")[2]


def build_pynq_farm() -> Path:
    """The folder for XILINX_XRT: the libraries of the emulation's own, and two files that PYNQ looks for.

    PYNQ loads lib/libxrt_core.so and calls its C functions: here that is XRT's sw_emu shim under its guard. From
    version.json it takes that XRT has a scheduler.
    """
    with locked(PYNQ_DIR / "locks"):
        libraries = PYNQ_FARM / "lib"
        libraries.mkdir(parents=True, exist_ok=True)
        for library in sorted((FARM / "lib").glob("*.so.2")):
            link(libraries / library.name, library)
        link(libraries / "libxrt_core.so", FARM / "lib" / SHIM)
        replace_text(PYNQ_FARM / "version.json", json.dumps({"BUILD_VERSION": xrt_version()}))
    return PYNQ_FARM


def use_emulated_card(xclbin: Path | str) -> None:
    """Let PYNQ find the emulated card in this process. Raises DeviceError, and FormatError for what is no xclbin."""
    if "pynq" in sys.modules:
        raise DeviceError("use_emulated_card() comes before `import pynq`, which looks at once what XRT there is")
    environment = emulation_environment(Path(xclbin))
    # XRT reads the mode from the C library's environment. PYNQ looks in os.environ, and refuses sw_emu.
    os.environ.pop(MODE, None)
    os.putenv(MODE, environment.pop(MODE))
    os.environ.update(environment, XILINX_XRT=str(build_pynq_farm()))
