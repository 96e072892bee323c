"""The folder of a built head: what its kernel is compiled from. Nothing of the converter is needed to read it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bertile.config.paths import HLS_DIR
from bertile.errors import BertileError

KERNEL_SOURCE = HLS_DIR / "head" / "bertile_head.cpp"
NETWORK = "bertile_head_network"
CONFIG_HEADER = "bertile_head_config.hpp"
STAMP = "digest"  # written when the build is whole
DIGEST = re.compile(r"\bkHeadDigest = 0x([0-9A-Fa-f]{16})ULL;")


@dataclass(frozen=True)
class HeadFolder:
    """One built head; `digest` of its numbers, 16 hexadecimal digits, as the kernel's status has it."""

    folder: Path
    digest: str


def firmware_of(folder: Path) -> Path:
    return folder / "network" / "firmware"


def head_sources(folder: Path) -> tuple[Path, ...]:
    """The kernel, and hls4ml's network."""
    return (KERNEL_SOURCE, firmware_of(folder) / f"{NETWORK}.cpp")


def head_includes(folder: Path) -> tuple[Path, ...]:
    """Folders of headers. Weights are in headers, too, for synthesis: it needs no `WEIGHTS_DIR`."""
    return (HLS_DIR / "include", HLS_DIR / "head", folder, firmware_of(folder))


def open_head_folder(folder: Path) -> HeadFolder:
    """Raises BertileError for a folder that `bertile head build` did not make, or not to its end."""
    folder = folder.expanduser().resolve()
    missing = [folder / CONFIG_HEADER, *head_sources(folder), folder / STAMP]
    missing = [path for path in missing if not path.is_file()]
    if missing:
        cause = f"no {missing[0].name}" if folder.is_dir() else "no such folder"
        raise BertileError(f"{folder} is no built head: {cause} (`bertile head build` makes and names the folder)")
    found = DIGEST.search((folder / CONFIG_HEADER).read_text(errors="replace"))
    if found is None:
        raise BertileError(f"{folder} is no built head: {CONFIG_HEADER} has no digest")
    return HeadFolder(folder, found[1].lower())
