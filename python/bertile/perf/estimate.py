"""Estimated cycles of a packed encoder on one compute unit, by operation, and what bounds each (`bertile estimate`).

The program of the packed model is walked as the sequencer walks it (docs/program.md). The result is compared with the
RTL engine, cycle by cycle simulated, in tests/emulation: within 3 %.
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass, field

import numpy as np

from bertile.config.spec import load_spec
from bertile.config.target import load_target
from bertile.models.encoder import MATRICES
from bertile.pack.packer import PackedModel
from bertile.pack.program import decode_program
from bertile.perf.timeline import INPUTS, OUTPUTS, RESULT_RECORDS, TOKENS, Costs, Timeline

SPEC = load_spec()
OPCODE, POST = SPEC.opcode, SPEC.post
SLOTS = SPEC.capacity.probability_slots
PACKET_GROUPS = SPEC.packet.vectors // INPUTS
BEAT_BYTES = SPEC.packet.beat_bytes
BOUNDS = ("DSP", "drain", "DDR")


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
    """One launch. `launch`: cycles before the first operation, `finish`: behind the last one."""

    operations: list[Operation]
    launch: int
    finish: int
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


class ProgramWalk:
    """Executes descriptors on a Timeline, as the sequencer does for a launch of `lengths`."""

    def __init__(self, packed: PackedModel, lengths: list[int], costs: Costs):
        self.packed, self.costs = packed, costs
        self.row_blocks = sum(-(-tokens // TOKENS) for tokens in lengths)
        self.lengths = lengths
        self.timeline = Timeline(costs)
        self.arrivals: list[tuple[int, int, float]] = []  # target, stride, time
        self.everything = 0.0  # all words issued so far have returned
        self.norm_arrival = 0.0
        self.pending: deque[tuple] = deque()
        self.operations: list[Operation] = []
        self.layer, self.heads = 0, 0
        self.launch = self.operation_start = 0.0
        self.matrices = [
            (extent.offset, extent.offset + extent.beats, layer, name)
            for layer, images in enumerate(packed.layers)
            for name, extent in ((name, images.matrices[name]) for name in MATRICES)
        ]

    def arrival(self, address: int) -> float:
        """When the words at an address are there (Sequencer::Arrival)."""
        times = [
            time for target, stride, time in self.arrivals[-RESULT_RECORDS:] if target <= address < target + stride
        ]
        return max(self.norm_arrival, max(times) if times else self.everything)

    def rows(self, descriptor: np.void) -> int:
        return min(self.row_blocks - int(descriptor["row_first"]), int(descriptor["row_count"]))

    def arrived(self, descriptor: np.void, time: float) -> None:
        self.everything = time
        self.arrivals.append((int(descriptor["target"]), int(descriptor["target_stride"]), time))

    def record(
        self, name: str, compute: int, work: dict[str, float], waits: dict[str, float], tile_bytes: int = 0
    ) -> None:
        """Close an operation: it ends when the array issued its last vectors."""
        end = self.timeline.last_end
        cycles = round(end) - round(self.operation_start)
        self.operation_start = end
        stretched = max(0, min(round(work["busy"]) - compute, cycles - compute))
        left = cycles - compute - stretched
        norm = min(left, max(0, round(waits.get("layernorm", 0.0))))
        ddr = min(left - norm, max(0, round(waits.get("ddr", 0.0))))
        bound = max(BOUNDS, key=lambda name: work[name])
        self.operations.append(
            Operation(self.layer, name, cycles, compute, stretched, ddr, norm, left - norm - ddr, tile_bytes, bound)
        )

    def gemm(self, descriptor: np.void) -> None:
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
        arrival = self.arrival(int(descriptor["source"]))
        ready = self.timeline.last_end
        waited = self.timeline.gemm(arrival, beats, groups, rows)
        compute = int(groups.sum()) * rows
        busy = float(np.maximum(groups, OUTPUTS).sum() * rows)
        work = {
            "DSP": compute,
            "drain": OUTPUTS * count * rows,
            "DDR": beats.sum() / self.costs.beats_per_cycle,
            "busy": busy,
        }
        exposed = max(0.0, arrival - ready)
        norm = exposed if self.norm_arrival and arrival == self.norm_arrival else 0.0
        self.record(name, compute, work, {"layernorm": norm, "ddr": waited}, int(beats.sum()) * BEAT_BYTES)
        words = rows * count * OUTPUTS
        if descriptor["post"] == POST.layernorm:
            self.arrived(descriptor, self.timeline.normed(rows, count * OUTPUTS))
            self.norm_arrival = self.everything
        else:
            self.arrived(descriptor, self.timeline.activated(words))

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
                self.pending.append((self.everything, values, tokens, size, row == 0))

    def context(self) -> None:
        step = self.pending.popleft()
        self.timeline.context(*step)
        self.everything = self.timeline.activated(step[3])

    def flush(self) -> None:
        """All contexts that are still to come; then the attention of the layer is over."""
        if not self.pending:
            return
        while self.pending:
            self.context()
        self.arrivals.clear()
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

    def run(self) -> CycleEstimate:
        variant = next(v for v in self.packed.variants if v.row_blocks >= self.row_blocks)
        for descriptor in decode_program(self.packed.program.tobytes(), variant.offset):
            if descriptor["opcode"] == OPCODE.load and self.rows(descriptor) > 0:
                words = int(descriptor["tiles"]) * OUTPUTS
                self.arrived(descriptor, self.timeline.loaded(self.rows(descriptor), words))
                self.norm_arrival = self.launch = self.operation_start = self.everything
            elif descriptor["opcode"] == OPCODE.gemm:
                self.gemm(descriptor)
            elif descriptor["opcode"] == OPCODE.attention:
                self.heads += 1
                self.attention(descriptor)
        # Behind the last word: `halt`, and the last stores.
        finish = self.everything - self.timeline.last_end + self.costs.memory_latency
        return CycleEstimate(self.operations, round(self.launch), round(finish))


def estimate_cycles(packed: PackedModel, lengths: list[int], megahertz: int | None = None) -> CycleEstimate:
    """Estimate for one launch of sequences of `lengths` tokens. A higher clock makes memory slower, in cycles."""
    target = load_target()
    return ProgramWalk(packed, lengths, Costs.of(target, megahertz or target["clock"]["megahertz"][0])).run()


def project_milliseconds(packed: PackedModel, tokens: int) -> dict[str, float]:
    """Latency of one sequence at each clock of the target, projected from the estimate for that clock."""
    clocks = load_target()["clock"]["megahertz"]
    return {str(clock): estimate_cycles(packed, [tokens], clock).total / clock / 1e3 for clock in clocks}
