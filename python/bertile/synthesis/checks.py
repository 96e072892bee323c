"""What the engine's sources ask for must be what Yosys made of them: DSPs, their cascades, UltraRAM."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from bertile.config.spec import Spec, load_spec
from bertile.errors import BertileError
from bertile.synthesis.netlist import BRAMS, DSPS, RAM_LUTS, URAMS, Cell, Flat

DSP_REGISTERS = ("AREG", "BREG", "MREG", "PREG")
CASCADE_OPERATIONS = ("001", "101")  # Z of OPMODE: PCIN, PCIN >> 17
URAM_BITS = 72
MEMORIES = ("activation_memory", "tile_memory")


def parent(path: str) -> str:
    """The instance around an instance or cell."""
    return path.rpartition(".")[0]


def enclosing(path: str, flat: Flat, modules: tuple[str, ...]) -> str | None:
    """The innermost instance of one of `modules` that a cell lies in."""
    while path := parent(path):
        if flat.instances.get(path) in modules:
            return path
    return None


def check_inference(flat: Flat) -> None:
    """Raise BertileError when the netlist is not built of the primitives that the design means."""
    spec = load_spec()
    problems = [*dsp_problems(flat, spec), *cascade_problems(flat), *uram_problems(flat, spec), *memory_problems(flat)]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise BertileError(f"the netlist is not what the design means: {problems[0]}{more}")


def expected_dsps(spec: Spec) -> dict[str, tuple[int, int]]:
    """Instances, and DSPs of one instance, of every module that has DSPs."""
    cells = spec.word.tokens * spec.array.outputs // 2
    return {"mac_cell": (cells, spec.array.inputs), "requantizer_lane": (spec.word.tokens, 2)}


def dsps_by_owner(flat: Flat) -> dict[str | None, list[Cell]]:
    """DSPs of every mac_cell and requantizer_lane; None: those of nobody."""
    owned: dict[str | None, list[Cell]] = defaultdict(list)
    for cell in flat.cells:
        if cell.kind in DSPS:
            owned[enclosing(cell.name, flat, ("mac_cell", "requantizer_lane"))].append(cell)
    return owned


def dsp_problems(flat: Flat, spec: Spec) -> Iterator[str]:
    """Number, place and registers of the DSPs."""
    owned = dsps_by_owner(flat)
    for cell in owned.pop(None, []):
        yield f"{cell.name} is a DSP outside the array and the requantizer: a multiplication took it"
    for module, (instances, each) in expected_dsps(spec).items():
        counts = Counter(len(cells) for owner, cells in owned.items() if flat.instances[owner] == module)
        if counts != Counter({each: instances}):
            yield f"{instances} of {module} with {each} DSPs each were expected, found {dict(counts)} (DSPs: instances)"
    for cell in (cell for cells in owned.values() for cell in cells):
        for register in DSP_REGISTERS:
            if int(cell.parameters.get(register, "0"), 2) != 1:
                yield f"{cell.name} has no register {register}"


def cascade_problems(flat: Flat) -> Iterator[str]:
    """Every DSP that adds PCIN gets it from its neighbour; one of each mac_cell and requantizer_lane does not."""
    for owner, cells in dsps_by_owner(flat).items():
        outputs = {tuple(cell.nets("PCOUT")): cell.name for cell in cells if cell.nets("PCOUT")}
        used = []
        for cell in cells:
            operation = "".join(str(net) for net in reversed(cell.nets("OPMODE")[4:7]))
            source = outputs.get(tuple(cell.nets("PCIN")))
            if operation in CASCADE_OPERATIONS and source in (None, cell.name):
                yield f"{cell.name} adds a cascade that no neighbour drives"
            if operation in CASCADE_OPERATIONS:
                used.append(source)
        if owner is not None and (len(used) != len(cells) - 1 or len(set(used)) != len(used)):
            yield f"the {len(cells)} DSPs of {owner} are not one chain"


def expected_urams(spec: Spec) -> dict[str, tuple[int, int]]:
    """Instances of `uram`, and UltraRAMs of each, in every memory."""
    word = -(-spec.word.tokens * 8 // URAM_BITS)
    beat = -(-(spec.packet.beat_bytes * 8 + spec.array.inputs * spec.packet.index_bits) // URAM_BITS)
    return {"activation_memory": (2 * spec.capacity.activation_banks, word), "tile_memory": (1, beat)}


def uram_problems(flat: Flat, spec: Spec) -> Iterator[str]:
    """Number, place and output registers of the UltraRAMs."""
    found: dict[str | None, Counter] = {module: Counter() for module in (*MEMORIES, None)}
    for cell in flat.cells:
        if cell.kind in URAMS:
            memory = enclosing(cell.name, flat, MEMORIES)
            found[flat.instances.get(memory)][parent(cell.name.rpartition(".g_block")[0] + ".")] += 1
            for register in ("OREG_A", "OREG_B"):
                if cell.parameters.get(register, "").strip() != "TRUE":
                    yield f"{cell.name} has no output register {register}"
    for name in found[None]:
        yield f"{name} is an UltraRAM outside the memories"
    for module, (instances, each) in expected_urams(spec).items():
        counts = Counter(found[module].values())
        if counts != Counter({each: instances}):
            yield f"{module}: {instances} memories of {each} UltraRAMs were expected, found {dict(counts)}"


def memory_problems(flat: Flat) -> Iterator[str]:
    """Bits of the large memories must not lie elsewhere; the engine has no block RAM at all."""
    for cell in flat.cells:
        if cell.kind in BRAMS:
            yield f"{cell.name} is a block RAM"
        if cell.kind in RAM_LUTS and enclosing(cell.name, flat, MEMORIES):
            yield f"{cell.name} holds bits of a large memory in LUTs"
