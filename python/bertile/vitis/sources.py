"""Which sources a kernel is made of."""

from __future__ import annotations

import re
from pathlib import Path

from bertile.config.kernels import ENGINE, Kernel
from bertile.config.paths import HLS_DIR, ROOT, RTL_DIR
from bertile.errors import BertileError
from bertile.vitis.views import wrapper_path

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
INCLUDE_FOLDERS = (HLS_DIR / "include", HLS_DIR / "kernels")
PACKAGE_SCRIPT = RTL_DIR / "syn" / "package_engine.tcl"
CSYNTH_SCRIPT = HLS_DIR / "link" / "csynth.tcl"


def hls_sources(kernel: Kernel) -> tuple[Path, ...]:
    """The kernel's source and every header of this checkout that it includes, over all conditions."""
    source = ROOT / kernel.source
    if not source.is_file():
        raise BertileError(f"{kernel.source}, the source of {kernel.name} in spec/kernels.toml, is not there")
    found, waiting = [source], [source]
    while waiting:
        path = waiting.pop()
        for name in INCLUDE.findall(path.read_text()):
            candidates = [(folder / name).resolve() for folder in (path.parent, *INCLUDE_FOLDERS)]
            header = next((candidate for candidate in candidates if candidate.is_file()), None)
            if header is not None and header not in found:
                found.append(header)
                waiting.append(header)
    return tuple(sorted(found))


def rtl_sources() -> tuple[Path, ...]:
    """What the RTL engine is packaged from."""
    modules = sorted([*(RTL_DIR / "pkg").glob("*.sv"), *(RTL_DIR / "src").glob("*.sv")])
    return (*modules, wrapper_path(ENGINE), PACKAGE_SCRIPT)
