"""Estimated cycles of a packed encoder, by operation, and what bounds each (`bertile estimate`): on one compute unit,
or on several that run a launch together.

The program of the packed model is walked as the sequencer walks it (docs/program.md). The result is compared with the
RTL engine, cycle by cycle simulated, in tests/emulation: within 3 %.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass, field

import numpy as np

from bertile.config.spec import load_spec
from bertile.config.target import load_target
from bertile.errors import FormatError
from bertile.models.encoder import MATRICES
from bertile.pack.packer import PackedModel, ProgramVariant
from bertile.pack.program import decode_program
from bertile.perf.timeline import INPUTS, OUTPUTS, RESULT_RECORDS, TOKENS, UNAWAITED_WORDS, Costs, Timeline

SPEC = load_spec()
OPCODE, POST, FLAG = SPEC.opcode, SPEC.post, SPEC.flag
SLOTS = SPEC.capacity.probability_slots
PACKET_GROUPS = SPEC.packet.vectors // INPUTS
BEAT_BYTES = SPEC.packet.beat_bytes
BOUNDS = ("DSP", "drain", "DDR")
ALL_ROWS = range(SPEC.row_blocks)


@dataclass(frozen=True)
class Operation:
    """One gemm or the attention of a layer: where its cycles go. They add up to `cycles`.

    compute: the array multiplies. drain: passes stretched to the cycles their results need to leave. ddr: the array
    waits for tiles. layernorm: it waits for the second pass of a LayerNorm. latency: it waits for words on their way,
    for softmax or for keys and values.
    """

    layer: int
    name: str
    cycles: int
    compute: int
    drain: int
    ddr: int
    layernorm: int
    latency: int
    tile_bytes: int  # of weight tiles; 0 for attention
    bound: str  # the largest of the work: multiplications (DSP), results (drain), tile beats (DDR)


@dataclass(frozen=True)
class CycleEstimate:
    """One launch, on the unit that ends last. launch: cycles before the first operation, finish: behind the last one.

    work: cycles in which the array of each unit multiplies or its results need to leave.
    """

    operations: list[Operation]
    launch: int
    finish: int
    work: tuple[int, ...] = ()
    total: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", self.launch + self.finish + sum(o.cycles for o in self.operations))

    def layers(self) -> list[dict]:
        """Cycles of each layer, with its operations."""
        numbers = sorted({operation.layer for operation in self.operations})
        rows = [[o for o in self.operations if o.layer == number] for number in numbers]
        return [
            {"layer": number, "cycles": sum(o.cycles for o in row), "operations": [asdict(o) for o in row]}
            for number, row in zip(numbers, rows, strict=True)
        ]

    def parts(self) -> dict[str, int]:
        """Where the cycles of the launch go."""
        names = ("compute", "drain", "ddr", "layernorm", "latency")
        sums = {name: sum(getattr(o, name) for o in self.operations) for name in names}
        return {**sums, "launch": self.launch, "finish": self.finish}


def tile_groups(beats: np.ndarray) -> np.ndarray:
    """Groups of four weight vectors in tiles of so many beats; the rest are parameters and index beats."""
    packets = beats - SPEC.tile.parameter_beats
    return packets - -(-packets // (PACKET_GROUPS + 1))


class Exchange:
    """What units that run a launch together know of each other."""

    def __init__(self, units: int):
        self.sums: list[list[float]] = [[] for _ in range(units)]  # of each unit, by LayerNorm: `Timeline.summed`
        # Of each unit: how many words it has shared in all, when the last of them are there, whether of a LayerNorm.
        self.shared: list[list[tuple[int, float, bool]]] = [[(0, 0.0, False)] for _ in range(units)]

    def entries(self) -> int:
        """How much is known: grows whenever a unit tells something."""
        return sum(map(len, (*self.sums, *self.shared)))


class ProgramWalk:
    """Executes descriptors on a Timeline, as the sequencer of a unit does for a launch of `lengths`.

    `walk` is a generator: it yields where it has to know what the other units of `exchange` do, and does not yet.
    """

    def __init__(self, packed: PackedModel, lengths: list[int], costs: Costs, variant: ProgramVariant,
                 exchange: Exchange):  # fmt: skip
        self.packed, self.costs, self.variant, self.exchange = packed, costs, variant, exchange
        self.row_blocks = sum(-(-tokens // TOKENS) for tokens in lengths)
        self.lengths = lengths
        self.timeline = Timeline(costs)
        self.unit = variant.unit
        self.peers = [(variant.unit + 1 + peer) % variant.units for peer in range(variant.units - 1)]
        self.expected = [0] * len(self.peers)  # words of the peers that joins have named
        self.peer_arrival, self.peer_norm = 0.0, False  # when they are there, and whether a LayerNorm was last
        self.busy = 0.0
        self.arrivals: list[tuple[int, int, range, float]] = []  # target, stride, row blocks, time
        self.everything = 0.0  # all words issued so far have returned
        self.norm_arrival = self.last_norm = 0.0
        self.pending: deque[tuple] = deque()
        self.operations: list[Operation] = []
        self.last_work: dict[str, float] = {}  # of the last of these, by bound
        self.layer, self.heads = 0, 0
        self.launch = self.operation_start = 0.0
        self.matrices = [
            (extent.offset, extent.offset + extent.beats, layer, name)
            for layer, images in enumerate(packed.layers)
            for name, extent in ((name, images.matrices[name]) for name in MATRICES)
        ]

    def arrival(self, address: int, rows: range = ALL_ROWS) -> float:
        """When the words at an address are there (Sequencer::Arrival), and what joins have named."""
        times = [
            time
            for target, stride, written, time in self.arrivals[-RESULT_RECORDS:]
            if target <= address < target + stride and written.start < rows.stop and rows.start < written.stop
        ]
        return max(self.norm_arrival, self.peer_arrival, max(times) if times else self.everything)

    def share(self, descriptor: np.void, words: int, time: float, norm: bool = False) -> None:
        """Words go to the other units, too."""
        if descriptor["flags"] >> FLAG.share & 1:
            mine = self.exchange.shared[self.unit]
            mine.append((mine[-1][0] + words, time + self.costs.peer_crossing - self.costs.crossing, norm))

    def join(self, descriptor: np.void) -> Iterator[None]:
        self.flush()
        words = max(0, self.rows(descriptor)) * OUTPUTS
        for index, peer in enumerate(self.peers):
            self.expected[index] += int(descriptor[f"peer_tiles_{index}"]) * words
            shared = self.exchange.shared[peer]
            while shared[-1][0] < self.expected[index]:
                yield
            _, time, norm = next(entry for entry in shared if entry[0] >= self.expected[index])
            if time >= self.peer_arrival:
                self.peer_arrival, self.peer_norm = time, bool(norm)

    def moments(self, rows: int) -> Iterator[None]:
        """Those of a LayerNorm, over the features of all units; the result is in `moments_ready`."""
        summed, mine = self.timeline.summed(), self.exchange.sums[self.unit]
        mine.append(summed)
        while any(len(self.exchange.sums[peer]) < len(mine) for peer in self.peers):
            yield
        others = [self.exchange.sums[peer][len(mine) - 1] for peer in self.peers]
        self.moments_ready = self.timeline.moments(summed, rows, others)

    def rows(self, descriptor: np.void) -> int:
        return min(self.row_blocks - int(descriptor["row_first"]), int(descriptor["row_count"]))

    def arrived(self, descriptor: np.void, time: float) -> None:
        self.everything = time
        # On record for the whole row, of all units.
        before = int(descriptor["features_before"])
        row_first = int(descriptor["row_first"])
        rows = range(row_first, row_first + self.rows(descriptor))
        self.arrivals.append((int(descriptor["target"]) - before, int(descriptor["target_stride"]), rows, time))

    def normed(self, words: int) -> None:
        """The next command awaits the words of a load or LayerNorm that might not fit their stream."""
        if words > UNAWAITED_WORDS:
            self.norm_arrival = self.everything
        self.last_norm = self.everything

    def record(
        self, name: str, compute: int, work: dict[str, float], waits: dict[str, float], tile_bytes: int = 0
    ) -> None:
        """Close an operation: it ends when the array issued its last vectors. Chunks in a row are one."""
        end = self.timeline.last_end
        self.busy += work["busy"]
        cycles = round(end) - round(self.operation_start)
        self.operation_start = end
        stretched = max(0, min(round(work["busy"]) - compute, cycles - compute))
        left = cycles - compute - stretched
        norm = min(left, max(0, round(waits.get("layernorm", 0.0))))
        ddr = min(left - norm, max(0, round(waits.get("ddr", 0.0))))
        numbers = [cycles, compute, stretched, ddr, norm, left - norm - ddr, tile_bytes]
        if self.operations and (self.operations[-1].layer, self.operations[-1].name) == (self.layer, name):
            _, _, *before, _ = astuple(self.operations.pop())
            numbers = [a + b for a, b in zip(numbers, before, strict=True)]
            work = {bound: work[bound] + self.last_work[bound] for bound in BOUNDS}
        self.last_work = work
        self.operations.append(Operation(self.layer, name, *numbers, max(BOUNDS, key=lambda bound: work[bound])))

    def gemm(self, descriptor: np.void) -> Iterator[None]:
        rows = self.rows(descriptor)
        self.flush()
        if rows <= 0:
            return
        offset, count = int(descriptor["tile_offset"]), int(descriptor["tiles"])
        begin, _, self.layer, name = next(m for m in self.matrices if m[0] <= offset < m[1])
        ends = self.packed.layers[self.layer].tile_ends[name]
        sizes = np.diff(np.concatenate([[0], ends]))
        first = int(np.searchsorted(ends, offset - begin, side="right"))
        beats = sizes[first : first + count]
        groups = tile_groups(beats)
        row_first = int(descriptor["row_first"])
        arrival = self.arrival(int(descriptor["source"]), range(row_first, row_first + rows))
        ready = self.timeline.last_end
        is_norm = descriptor["post"] == POST.layernorm
        waited = self.timeline.gemm(arrival, beats, groups, rows, not is_norm)
        compute = int(groups.sum()) * rows
        busy = float(np.maximum(groups, OUTPUTS).sum() * rows)
        work = {
            "DSP": compute,
            "drain": OUTPUTS * count * rows,
            "DDR": beats.sum() / self.costs.beats_per_cycle,
            "busy": busy,
        }
        exposed = max(0.0, arrival - ready)
        norms = [self.last_norm] + ([self.peer_arrival] if self.peer_norm else [])
        norm = exposed if self.last_norm and arrival in norms else 0.0
        self.record(name, compute, work, {"layernorm": norm, "ddr": waited}, int(beats.sum()) * BEAT_BYTES)
        words = rows * count * OUTPUTS
        if is_norm:
            yield from self.moments(rows)
            self.arrived(descriptor, self.timeline.normed(self.moments_ready, rows, count * OUTPUTS))
            self.normed(words)
        else:
            self.arrived(descriptor, self.timeline.activated(words))
        self.share(descriptor, words, self.everything, is_norm)

    def attention(self, descriptor: np.void) -> None:
        """Scores of every row block; contexts follow two steps behind."""
        for tokens in self.lengths:
            for row in range(-(-tokens // TOKENS)):
                if len(self.pending) == SLOTS:
                    self.context()
                size = int(descriptor["head_size"])
                keys_arrival = self.arrival(int(descriptor["key"]))
                arrival = max(self.arrival(int(descriptor["source"])), keys_arrival)
                values = self.arrival(int(descriptor["value"]))
                self.timeline.scores(arrival, keys_arrival, tokens, size, row == 0)
                self.everything = self.timeline.softmaxed(tokens)
                self.pending.append((descriptor, (self.everything, values, tokens, size, row == 0)))

    def context(self) -> None:
        descriptor, step = self.pending.popleft()
        self.timeline.context(*step)
        self.everything = self.timeline.activated(step[3])
        self.share(descriptor, step[3], self.everything)

    def flush(self) -> None:
        """All contexts that are still to come; then the attention of the layer is over."""
        if not self.pending:
            return
        while self.pending:
            self.context()
        self.arrivals = [(0, 1 << 16, ALL_ROWS, self.everything)] * RESULT_RECORDS
        self.record_attention()

    def record_attention(self) -> None:
        size, heads = self.packed.config.head_size, self.heads
        compute = busy = words = 0
        for tokens in self.lengths:
            rows, groups, tiles = -(-tokens // TOKENS), -(-tokens // INPUTS), -(-tokens // OUTPUTS)
            compute += rows * (tiles * (size // INPUTS) + size // OUTPUTS * groups)
            busy += rows * (tiles * max(size // INPUTS, OUTPUTS) + size // OUTPUTS * max(groups, OUTPUTS))
            words += rows * (tiles * OUTPUTS + size)
        work = {"DSP": heads * compute, "drain": heads * words, "DDR": 0, "busy": heads * busy}
        self.record("attention", heads * compute, work, {})
        self.heads = 0

    def walk(self) -> Iterator[None]:
        for descriptor in decode_program(self.packed.program.tobytes(), self.variant.offset):
            if descriptor["opcode"] == OPCODE.load and self.rows(descriptor) > 0:
                rows, row_first = self.rows(descriptor), int(descriptor["row_first"])
                words = int(descriptor["tiles"]) * OUTPUTS
                delay = self.timeline.agreed() if self.peers else 0.0
                self.arrived(descriptor, self.timeline.loaded(rows, words, delay))
                self.normed(rows * words)
                if row_first == 0:
                    self.launch = self.operation_start = self.everything
                self.share(descriptor, rows * words, self.everything, norm=True)
            elif descriptor["opcode"] == OPCODE.gemm:
                yield from self.gemm(descriptor)
            elif descriptor["opcode"] == OPCODE.attention:
                self.heads += 1
                self.attention(descriptor)
            elif descriptor["opcode"] == OPCODE.join:
                yield from self.join(descriptor)

    def estimate(self, work: tuple[int, ...]) -> CycleEstimate:
        # Behind the last word: `halt`, and the last stores.
        finish = self.everything - self.timeline.last_end + self.costs.memory_latency
        return CycleEstimate(self.operations, round(self.launch), round(finish), work)


def estimate_cycles(
    packed: PackedModel, lengths: list[int], megahertz: int | None = None, units: int = 1
) -> CycleEstimate:
    """Estimate for one launch of sequences of `lengths` tokens, on one unit or on `units` together.

    A higher clock makes memory slower, in cycles. Raises CapacityError for a file without programs for so many units,
    FormatError for programs that wait for each other for ever.
    """
    target = load_target()
    costs = Costs.of(target, megahertz or target["clock"]["megahertz"][0])
    variants = packed.variant(sum(-(-tokens // TOKENS) for tokens in lengths), units)
    exchange = Exchange(units)
    walks = [ProgramWalk(packed, lengths, costs, variant, exchange) for variant in variants]
    running = [walk.walk() for walk in walks]
    while running:  # each as far as it can without the others
        before = len(running), exchange.entries()
        running = [steps for steps in running if next(steps, running) is not running]
        if (len(running), exchange.entries()) == before:
            raise FormatError("the programs of the units wait for words that none of them sends")
    work = tuple(round(walk.busy) for walk in walks)
    return max((walk.estimate(work) for walk in walks), key=lambda estimate: estimate.total)


def units_text(units: int) -> str:
    """How many units share a request, in words."""
    return "one compute unit" if units == 1 else f"{units} compute units together"


def project_milliseconds(packed: PackedModel, tokens: int, units: int = 1) -> dict[str, float]:
    """Latency of one sequence at each clock of the target, projected from the estimate for that clock."""
    clocks = load_target()["clock"]["megahertz"]
    return {str(clock): estimate_cycles(packed, [tokens], clock, units).total / clock / 1e3 for clock in clocks}
