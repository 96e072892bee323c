"""Logic levels of a mapped netlist: the LUTs between one register and the next.

A LUT is one level, a carry chain one however long, a read of distributed RAM one, a wide multiplexer (MUXF7 to MUXF9)
none. Registers are everything with a clock: flip-flops, shift registers, DSPs, UltraRAM, the write side of distributed
RAM. The ports of the top count as registers, too: its neighbours register what they drive.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from bertile.errors import BertileError
from bertile.synthesis.netlist import CARRIES, CELLS, LOGIC_LUTS, MULTIPLEXERS, RAM_LUTS, SHIFT_LUTS, Cell, Flat, Net

CLOCK_PINS = {"C", "CLK", "WCLK"}
RAM_WRITE_PINS = re.compile(r"DI[A-H]?|WE|D")


@dataclass(frozen=True)
class Path:
    """The longest way into one register: `end` names its input, `module` is where that register lies."""

    levels: int
    start: str
    end: str
    module: str
    start_module: str


@dataclass(frozen=True)
class Source:
    """Where a signal leaves a register, `levels` deep already (a RAM is read through its multiplexers)."""

    name: str
    module: str
    levels: int


@dataclass(frozen=True)
class Sink:
    """Where a signal enters a register."""

    net: Net
    name: str
    module: str


class TimingGraph:
    """Who drives whom between registers: `fan_in[net]` are the nets behind it, each with its levels."""

    def __init__(self, flat: Flat):
        self.fan_in: dict[Net, list[tuple[Net, int]]] = {}
        self.sources: dict[Net, Source] = {net: Source(name, "", 0) for net, name in flat.inputs.items()}
        self.sinks: list[Sink] = [Sink(net, name, "") for net, name in flat.outputs.items()]
        self.carries = {net for cell in flat.cells if cell.kind in CARRIES for net in cell.nets("CO")}
        unknown = {cell.kind for cell in flat.cells} - CELLS
        if unknown:
            raise BertileError(f"Yosys mapped to cells that the analysis does not know: {', '.join(sorted(unknown))}")
        for cell in flat.cells:
            self.add(cell)

    def add(self, cell: Cell) -> None:
        if cell.kind in CARRIES:
            self.add_carry(cell)
        elif cell.kind in RAM_LUTS:
            self.add_ram(cell)
        elif cell.kind in LOGIC_LUTS or cell.kind in MULTIPLEXERS:
            levels = int(cell.kind in LOGIC_LUTS)
            behind = [(net, levels) for pin in cell.pins if pin != "O" for net in cell.nets(pin)]
            self.fan_in[cell.nets("O")[0]] = behind
        else:
            self.add_register(cell)

    def add_carry(self, cell: Cell) -> None:
        """Bit i depends on bits 0 to i. Along the chain nothing is added: it was counted where the signal entered."""
        carry_in = [(net, int(net not in self.carries)) for net in cell.nets("CI")]
        carry_in += [(net, 1) for net in cell.nets("CYINIT")]
        behind = carry_in
        for bit in range(4 * CARRIES[cell.kind]):
            behind = behind + [(cell.nets(pin)[bit], 1) for pin in ("DI", "S") if bit < len(cell.nets(pin))]
            for pin in ("O", "CO"):
                if bit < len(cell.nets(pin)):
                    self.fan_in[cell.nets(pin)[bit]] = behind

    def add_ram(self, cell: Cell) -> None:
        """A read is a level behind its address, and a level behind the clock of the write."""
        for pin in cell.pins:
            if pin in cell.outputs:
                # Port A of a RAM64M8 is DOA at ADDRA; a dual-port RAM reads SPO at A, DPO at DPRA.
                address = f"ADDR{pin[2:]}" if pin.startswith("DO") else "DPRA" if pin == "DPO" else "A"
                addresses = [
                    net for name in cell.pins if name.rstrip("0123456789") == address for net in cell.nets(name)
                ]
                for net in cell.nets(pin):
                    self.fan_in[net] = [(behind, 1) for behind in addresses]
                    self.sources[net] = Source(cell.name, cell.module, 1)
            elif RAM_WRITE_PINS.fullmatch(pin) or pin in ("ADDRH", "ADDRD", "A"):
                self.add_sink(cell, pin)

    def add_register(self, cell: Cell) -> None:
        for pin, nets in cell.pins.items():
            if pin in cell.outputs:
                self.sources.update(dict.fromkeys(nets, Source(cell.name, cell.module, 0)))
            elif cell.kind in SHIFT_LUTS and pin.startswith("A"):
                for output in cell.outputs:
                    self.fan_in[cell.nets(output)[0]] = [(net, 1) for net in nets]
            elif pin not in CLOCK_PINS:
                self.add_sink(cell, pin)

    def add_sink(self, cell: Cell, pin: str) -> None:
        self.sinks += [Sink(net, f"{cell.name}/{pin}", cell.module) for net in cell.nets(pin)]


class Levels:
    """Depth of every net behind a register."""

    def __init__(self, flat: Flat):
        self.graph = TimingGraph(flat)
        self.depth: dict[Net, int] = {}
        self.before: dict[Net, Net | None] = {}  # the net on the longest way to it; None: a register
        for sink in self.graph.sinks:
            self.visit(sink.net)

    def visit(self, net: Net) -> None:
        """Depth of a net and of all behind it; a stack, since chains are longer than Python's."""
        pending = [net]
        opened: set[Net] = set()
        while pending:
            top = pending[-1]
            missing = [behind for behind, _ in self.graph.fan_in.get(top, ()) if behind not in self.depth]
            if top in self.depth or not missing:
                pending.pop()
                if top not in self.depth:
                    self.settle(top)
            elif top in opened:
                raise BertileError("the netlist has a combinational loop")
            else:
                opened.add(top)
                pending += missing

    def settle(self, net: Net) -> None:
        """Everything behind the net is known; -1 is the depth of a constant."""
        source = self.graph.sources.get(net)
        best, before = (source.levels if source else -1), None
        for behind, levels in self.graph.fan_in.get(net, ()):
            if self.depth[behind] >= 0 and self.depth[behind] + levels > best:
                best, before = self.depth[behind] + levels, behind
        self.depth[net], self.before[net] = best, before

    def start_of(self, net: Net) -> Source:
        """The register where the longest way to a net begins."""
        while self.before[net] is not None:
            net = self.before[net]
        return self.graph.sources[net]

    def histogram(self) -> dict[int, int]:
        """How many register inputs lie so many levels behind a register."""
        return dict(
            sorted(Counter(self.depth[sink.net] for sink in self.graph.sinks if self.depth[sink.net] >= 0).items())
        )

    def paths(self) -> Iterator[Path]:
        """The longest path into every register input, deepest first."""
        order = sorted(self.graph.sinks, key=lambda sink: (-self.depth[sink.net], sink.name))
        for sink in order:
            if self.depth[sink.net] >= 0:
                start = self.start_of(sink.net)
                yield Path(self.depth[sink.net], start.name, sink.name, sink.module, start.module)


def without_index(name: str) -> str:
    """A register without its bit and its place in an array: `g_token[3].column.low[7]` is like any other."""
    return re.sub(r"\[\d+\]", "[]", re.sub(r"\.\d+", "", name))


def distinct_paths(levels: Levels, count: int | None, above: int = 0) -> list[Path]:
    """The deepest paths, one for all bits and all copies of a register pair: at most `count`, longer than `above`."""
    seen, kept = set(), []
    for path in levels.paths():
        key = (without_index(path.start), without_index(path.end))
        if path.levels <= above or len(kept) == count:
            break
        if key not in seen:
            seen.add(key)
            kept.append(path)
    return kept


def deepest_by_module(levels: Levels) -> dict[str, Path]:
    """The longest path that ends in a register of each module."""
    deepest: dict[str, Path] = {}
    for path in levels.paths():
        deepest.setdefault(path.module, path)
    return deepest
