"""Which sources a kernel is made of."""

from __future__ import annotations

import re
from pathlib import Path

from bertile.config.kernels import ENGINE, HEAD, Kernel
from bertile.config.paths import HLS_DIR, ROOT, RTL_DIR
from bertile.errors import BertileError
from bertile.head.folder import HeadFolder, head_includes, head_sources
from bertile.vitis.views import wrapper_path

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
INCLUDE_FOLDERS = (HLS_DIR / "include", HLS_DIR / "kernels")
PACKAGE_SCRIPT = RTL_DIR / "syn" / "package_engine.tcl"
CSYNTH_SCRIPT = HLS_DIR / "link" / "csynth.tcl"


def compiled(kernel: Kernel, head: HeadFolder | None = None) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """What an HLS kernel is compiled from, and the folders of its headers. head: what was built for the head kernel."""
    if kernel.name == HEAD and head is not None:
        return head_sources(head.folder), head_includes(head.folder)
    return (ROOT / kernel.source,), INCLUDE_FOLDERS


def hls_sources(kernel: Kernel, head: HeadFolder | None = None) -> tuple[Path, ...]:
    """The kernel's sources and every header beside them and in its folders that they include, over all conditions."""
    if not (ROOT / kernel.source).is_file():
        raise BertileError(f"{kernel.source}, the source of {kernel.name} in spec/kernels.toml, is not there")
    sources, folders = compiled(kernel, head)
    found, waiting = list(sources), list(sources)
    while waiting:
        path = waiting.pop()
        for name in INCLUDE.findall(path.read_text()):
            candidates = [(folder / name).resolve() for folder in (path.parent, *folders)]
            header = next((candidate for candidate in candidates if candidate.is_file()), None)
            if header is not None and header not in found:
                found.append(header)
                waiting.append(header)
    return tuple(sorted(found))


def rtl_sources() -> tuple[Path, ...]:
    """What the RTL engine is packaged from."""
    modules = sorted([*(RTL_DIR / "pkg").glob("*.sv"), *(RTL_DIR / "src").glob("*.sv")])
    return (*modules, wrapper_path(ENGINE), PACKAGE_SCRIPT)
