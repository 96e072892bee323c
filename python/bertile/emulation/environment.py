"""What the environment of a process must hold before its first call of XRT, for the emulated card to answer."""

from __future__ import annotations

import os
import re
from pathlib import Path

from bertile.config.kernels import load_link
from bertile.emulation.build import EMU_DIR, FARM, build_farm, emconfig, replace_text
from bertile.emulation.xclbin import read_xclbin_header
from bertile.errors import DeviceError

BANK_VARIABLE = "BERTILE_EMU_BANK"  # size of each memory bank, such as 64M: for tests of a card that is too small
FAULT_VARIABLE = "BERTILE_EMU_FAULT"  # read by the card process: hang:UNIT[:LAUNCH], crash:UNIT, slow:MILLISECONDS
LOG_VARIABLE = "BERTILE_EMU_LOG"  # where the card says why it was lost
CARD_LOG = EMU_DIR / "card.log"
# What XRT can read: powers of two, up to 512, of kibibytes and more.
BANK_SIZE = re.compile(r"(1|2|4|8|16|32|64|128|256|512)[KMG]")


def emconfig_folder() -> Path:
    """The folder with the description of the platform. Raises DeviceError for a bank size that XRT does not know."""
    bank = os.environ.get(BANK_VARIABLE)
    if not bank:
        return FARM
    if not BANK_SIZE.fullmatch(bank):
        raise DeviceError(f"{BANK_VARIABLE}={bank}: a power of two from 1 to 512 with K, M or G, such as 64M")
    folder = EMU_DIR / "banks" / bank
    replace_text(folder / "emconfig.json", emconfig(load_link(), bank))
    return folder


def card_log() -> Path:
    """The file in which an emulated card says, in a line, why it was lost or why a unit hangs."""
    return Path(os.environ.get(LOG_VARIABLE) or CARD_LOG)


def emulation_environment(xclbin: Path) -> dict[str, str]:
    """Variables to set before the first call of XRT in a process that loads this sw_emu xclbin.

    Builds the card process and XRT's folder if need be. Every process that has them gets a run folder of its own, which
    is removed when it ends. Raises DeviceError, and FormatError for what is no xclbin.
    """
    header = read_xclbin_header(xclbin)
    if header.mode != "sw_emu":
        raise DeviceError(f"{xclbin} is for mode {header.mode}; the emulated card runs sw_emu")
    farm = build_farm()
    return {
        "XCL_EMULATION_MODE": "sw_emu",
        "XILINX_XRT": str(farm),
        "XILINX_VITIS": str(farm),
        "EMCONFIG_PATH": str(emconfig_folder()),
        "XRT_INI_PATH": os.environ.get("XRT_INI_PATH") or str(farm / "xrt.ini"),
        LOG_VARIABLE: str(card_log()),
    }
