"""The compiled module over XRT, and what must be in the environment before its first call."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType

from bertile.config.paths import BITSTREAMS_DIR, BUILD_DIR
from bertile.emulation.environment import emulation_environment
from bertile.emulation.xclbin import XclbinHeader, read_xclbin_header
from bertile.errors import DeviceError

XCLBIN = "bertile_u200.xclbin"
AMD_XRT = Path("/opt/xilinx/xrt")
used_modes: dict[str, str] = {}  # XRT reads its environment once


def load_extension() -> ModuleType:
    """The module. Raises DeviceError when it was not built or XRT is missing."""
    try:
        return importlib.import_module("bertile.runtime._xrt")
    except ModuleNotFoundError:
        raise DeviceError(
            "the XRT runtime is not built: install XRT (Debian, Ubuntu: apt install libxrt-dev), then `make setup`"
        ) from None
    except ImportError as error:
        raise DeviceError(f"no XRT: {str(error).splitlines()[0]}") from None


def find_xclbin(given: Path | None) -> Path:
    """The given file, else the bitstream that `make hw` left, else the emulated card of `make emu`."""
    if given is not None:
        return given
    candidates = [BITSTREAMS_DIR / XCLBIN, BUILD_DIR / "emu" / "csim" / XCLBIN]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise DeviceError("no xclbin: `make emu` makes the emulated card, `make hw TARGET=u200` the bitstream")


def prepare_environment(xclbin: Path) -> XclbinHeader:
    """Read the xclbin and set what XRT reads from the environment; for a bitstream nothing but XRT's own folder.

    Raises FormatError for a file that is no xclbin, DeviceError when this process has used XRT in the other mode.
    """
    header = read_xclbin_header(xclbin)
    if header.mode != used_modes.setdefault("first", header.mode):
        raise DeviceError(f"{xclbin} is for mode {header.mode}, but this process has used {used_modes['first']}")
    mode = os.environ.get("XCL_EMULATION_MODE", "")
    if header.mode == "hw":
        if mode:
            raise DeviceError(f"{xclbin} is for a board, but XCL_EMULATION_MODE is {mode}")
        if "XILINX_XRT" not in os.environ:
            if not AMD_XRT.is_dir():
                raise DeviceError(f"{xclbin} is for a board: its driver and XRT are not in {AMD_XRT} ($XILINX_XRT)")
            os.environ["XILINX_XRT"] = str(AMD_XRT)
    else:
        os.environ.update(emulation_environment(xclbin))
    return header
