"""A mapped netlist as Yosys writes it (`write_json`): counts by module, and all cells of it in one flat list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

# A net of the flat netlist, or a constant: "0", "1", "x".
Net = int | str

# LUTs that a cell occupies. An inverter is one: what it feeds may absorb it, but not every register input can.
# MUXF7 to MUXF9 and the carry logic lie beside the LUTs. A RAM32M16 or RAM64M8 takes the eight LUTs of a slice.
LOGIC_LUTS = {"INV": 1, **{f"LUT{inputs}": 1 for inputs in range(1, 7)}}
RAM_LUTS = {"RAM32M": 4, "RAM64M": 4, "RAM32M16": 8, "RAM64M8": 8, "RAM32X1D": 2, "RAM64X1D": 2}
RAM_LUTS |= {"RAM128X1D": 4, "RAM256X1D": 8, "RAM32X16DR8": 8, "RAM64X8SW": 8}
SHIFT_LUTS = {"SRL16E": 1, "SRLC32E": 1}
REGISTERS = {"FDRE", "FDSE", "FDCE", "FDPE"}
CARRIES = {"CARRY4": 1, "CARRY8": 2}  # in units of CARRY4
BRAMS = {"RAMB18E2": 0.5, "RAMB36E2": 1}
DSPS = {"DSP48E2"}
URAMS = {"URAM288", "URAM288_BASE"}
MULTIPLEXERS = {"MUXF7", "MUXF8", "MUXF9"}
CELLS = {*LOGIC_LUTS, *RAM_LUTS, *SHIFT_LUTS, *REGISTERS, *CARRIES, *BRAMS, *DSPS, *URAMS, *MULTIPLEXERS}


def resources(kinds: Counter) -> dict[str, float]:
    """What these cells take of a device. `lut` counts logic, RAM and shift registers."""

    def weigh(weights: dict[str, float]) -> float:
        return sum(count * weights.get(kind, 0) for kind, count in kinds.items())

    ram, shift = weigh(RAM_LUTS), weigh(SHIFT_LUTS)
    return {
        "lut": weigh(LOGIC_LUTS) + ram + shift,
        "ff": weigh(dict.fromkeys(REGISTERS, 1)),
        "dsp": weigh(dict.fromkeys(DSPS, 1)),
        "uram": weigh(dict.fromkeys(URAMS, 1)),
        "bram": weigh(BRAMS),
        "carry": weigh(CARRIES),
        "lut_ram": ram,
        "srl": shift,
    }


@dataclass(frozen=True)
class Cell:
    """A primitive of the flat netlist: `module` is the source module that it lies in, `pins` are its nets by name."""

    kind: str
    name: str
    module: str
    pins: dict[str, list[Net]]
    outputs: frozenset[str]
    parameters: dict[str, str]

    def nets(self, pin: str) -> list[Net]:
        """Nets of a pin, lowest bit first; none where it is not connected."""
        return self.pins.get(pin, [])


@dataclass(frozen=True)
class Flat:
    """Every primitive below the top, the module of every instance by its path, and the ports of the top by nets."""

    cells: list[Cell]
    instances: dict[str, str]
    inputs: dict[int, str]
    outputs: dict[int, str]


class Netlist:
    """The modules of a `write_json` file below `top`."""

    def __init__(self, modules: dict[str, dict], top: str):
        self.modules = modules
        self.top = top

    def is_module(self, kind: str) -> bool:
        """Whether a cell of this type has contents here; a primitive has none."""
        return kind in self.modules and not is_black_box(self.modules[kind])

    def source_name(self, name: str) -> str:
        """The name of a module in the source, whatever parameters Yosys put into it."""
        return self.modules[name]["attributes"].get("hdlname", name).split("\\")[-1]

    @cached_property
    def instances(self) -> Counter:
        """How often every module is there below the top."""
        counts: Counter = Counter()
        pending = [self.top]
        while pending:
            name = pending.pop()
            counts[name] += 1
            kinds = (cell["type"] for cell in self.modules[name]["cells"].values())
            pending += [kind for kind in kinds if self.is_module(kind)]
        return counts

    def own_kinds(self, name: str) -> Counter:
        """Primitives of one instance, without those of the modules in it."""
        kinds = (cell["type"] for cell in self.modules[name]["cells"].values())
        return Counter(kind for kind in kinds if not self.is_module(kind))

    def total_kinds(self, name: str, known: dict[str, Counter] | None = None) -> Counter:
        """Primitives of one instance and of all modules in it."""
        known = {} if known is None else known
        if name not in known:
            known[name] = self.own_kinds(name)
            for cell in self.modules[name]["cells"].values():
                if self.is_module(cell["type"]):
                    known[name].update(self.total_kinds(cell["type"], known))
        return known[name]

    def flatten(self) -> Flat:
        """All cells of the top and of the modules in it."""
        return Flattening(self).run()


def is_black_box(module: dict) -> bool:
    """Whether only the ports of a module are known."""
    return any(int(module["attributes"].get(name, "0"), 2) for name in ("blackbox", "whitebox"))


class Flattening:
    """Numbers the nets of every instance anew; the nets of a port are those of the instance around it."""

    def __init__(self, netlist: Netlist):
        self.netlist = netlist
        self.cells: list[Cell] = []
        self.instances: dict[str, str] = {}
        self.aliases: dict[int, Net] = {}  # a module may join two of its ports
        self.count = 0
        self.local_names = {name: best_names(netlist.modules[name]) for name in netlist.instances}

    def run(self) -> Flat:
        top: dict[int, Net] = {}
        self.add(self.netlist.top, "", top)
        for cell in self.cells if self.aliases else ():
            for pin, nets in cell.pins.items():
                cell.pins[pin] = [self.resolve(net) for net in nets]
        ports = self.netlist.modules[self.netlist.top]["ports"]
        inputs, outputs = (dict(self.port_nets(ports, way, top)) for way in ("input", "output"))
        return Flat(self.cells, self.instances, inputs, outputs)

    def port_nets(self, ports: dict, way: str, top: dict[int, Net]) -> Iterator[tuple[int, str]]:
        for name, port in ports.items():
            for bit in port["bits"] if port["direction"] == way else ():
                if bit in top:
                    yield self.resolve(top[bit]), name

    def resolve(self, net: Net) -> Net:
        while net in self.aliases:
            net = self.aliases[net]
        return net

    def globals_of(self, bits: Iterable[Net], known: dict[int, Net]) -> list[Net]:
        """Nets of an instance as nets of the whole."""
        nets = []
        for bit in bits:
            if not isinstance(bit, str) and bit not in known:
                self.count += 1
                known[bit] = self.count
            nets.append(bit if isinstance(bit, str) else known[bit])
        return nets

    def add(self, name: str, path: str, known: dict[int, Net]) -> None:
        """One instance; `known` holds the nets that come from outside and gets the others."""
        module, source = self.netlist.modules[name], self.netlist.source_name(name)
        for cell_name, cell in module["cells"].items():
            pins = {pin: self.globals_of(bits, known) for pin, bits in cell["connections"].items()}
            kind = cell["type"]
            if self.netlist.is_module(kind):
                inside = self.bind(self.netlist.modules[kind]["ports"], pins)
                self.instances[path + cell_name] = self.netlist.source_name(kind)
                self.add(kind, f"{path}{cell_name}.", inside)
            else:
                outputs = frozenset(pin for pin, way in cell["port_directions"].items() if way == "output")
                if kind in REGISTERS or kind in SHIFT_LUTS:  # Yosys numbers them: their outputs have names
                    cell_name = self.local_names[name].get(cell["connections"]["Q"][0], cell_name)
                self.cells.append(Cell(kind, path + cell_name, source, pins, outputs, cell["parameters"]))

    def bind(self, ports: dict, pins: dict[str, list[Net]]) -> dict[int, Net]:
        """Nets of an instance that are its ports."""
        inside: dict[int, Net] = {}
        for port_name, port in ports.items():
            for bit, net in zip(port["bits"], pins.get(port_name, []), strict=False):
                if isinstance(bit, str) or inside.get(bit, net) != net:
                    self.aliases[net] = bit if isinstance(bit, str) else inside[bit]
                else:
                    inside[bit] = net
        return inside


def best_names(module: dict) -> dict[int, str]:
    """A name for every net of a module: one of the source, the shortest."""
    best: dict[int, tuple] = {}
    for name, net in module["netnames"].items():
        wide = len(net["bits"]) > 1
        for index, bit in enumerate(net["bits"]):
            rank = (net.get("hide_name", 0), len(name), name, index, wide)
            if not isinstance(bit, str) and (bit not in best or rank < best[bit]):
                best[bit] = rank
    return {bit: f"{name}[{index}]" if wide else name for bit, (_, _, name, index, wide) in best.items()}
