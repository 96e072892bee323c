"""When things happen in a launch: recurrences over commands, passes and words, not a clock-by-clock simulation.

Every time is a clock cycle. What the RTL engine does is modelled from its structure (docs/architecture.md, The engine
in RTL), the vector stages and the memory from the assumptions of `spec/targets`, as the emulated compute unit has them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from bertile.config.spec import load_spec

SPEC = load_spec()
OUTPUTS, INPUTS, TOKENS = SPEC.array.outputs, SPEC.array.inputs, SPEC.word.tokens

# Pipelines of the RTL engine, in cycles.
ARRIVAL_TO_ISSUE = 7  # the word that a command awaited has come; its first vectors are issued
ISSUE_TO_RESULT = 34  # the last vectors of a pass; its first result leaves the engine
LOADED_TO_ISSUE = 7  # the last beat of a tile is written; its first vectors are issued
TILE_OVERHEAD = 2  # between two tiles in the loader
FETCH_LATENCY = 15  # of keys or values, from the request of a word to beats that are ready
VALUE_BLOCK = 29  # cycles for a block of values: OUTPUTS words in, then out transposed
WORD_TO_MEMORY = 4  # a word enters the engine; it is counted
# Limits of the tile memory (rtl/pkg/engine_pkg.sv, rtl/src/tile_loader.sv).
ENTRIES_ALIVE = 12
RING_BEATS = SPEC.capacity.tile_memory_beats - 8
# The sequencer runs ahead until a stage has this many commands waiting (hls/kernels/encoder/commands.hpp).
COMMANDS_AHEAD = 9
RESULT_RECORDS = 4  # results whose arrival it keeps apart (hls/kernels/encoder/sequencer.hpp)
WORD_FIFO, ACTIVATED_FIFO = 64, 256  # depths of streams (hls/kernels/encoder/commands.hpp)
RETURN_WORDS = SPEC.stream.results + WORD_FIFO + ACTIVATED_FIFO  # results under way to the words of a gemm
UNAWAITED_WORDS = SPEC.stream.words - RETURN_WORDS  # a LayerNorm of more is awaited by every command behind it


@dataclass(frozen=True)
class Costs:
    """What the target file assumes, in clock cycles."""

    latency: dict[str, int]
    crossing: int
    peer_crossing: int
    memory_latency: int
    beats_per_cycle: float  # of a memory port, at most one

    @classmethod
    def of(cls, target: dict, megahertz: int) -> Costs:
        ddr = target["ddr"]
        bytes_per_cycle = ddr["gigabytes_per_second"] * ddr["efficiency"] * 1e3 / megahertz
        return cls(
            target["latency"],
            target["link"]["crossing"],
            target["link"]["peer_crossing"],
            round(ddr["latency_ns"] * megahertz / 1e3),
            min(1.0, bytes_per_cycle / SPEC.packet.beat_bytes),
        )


class Timeline:
    """State of the compute unit between two commands."""

    def __init__(self, costs: Costs):
        self.costs = costs
        stage = costs.latency
        self.back = {  # of one result on its way to the engine's memory, through the stages
            "activate": self.way("RouteResults", "Activate", "MergeWords"),
            "softmax": self.way("RouteResults", "SoftmaxScan"),
            "norm": costs.crossing + stage["RouteResults"],
        }
        self.issue_free = 0.0  # the array may issue
        self.last_end = -float(OUTPUTS)  # the last vectors of the last pass were issued
        self.loader_free = 0.0
        self.stream = 0.0  # the last beat that the tile stream delivered
        self.entries: deque[list[float]] = deque()  # beats and release of what is in the tile memory
        self.held: dict[str, list[float]] = {}
        self.merged: list[float] = [0.0]  # when the words of each command had returned
        self.exponentiated = 0.0
        self.normalized = 0.0

    def way(self, *stages: str) -> int:
        """Latency of stages in a row, and of both crossings."""
        return sum(self.costs.latency[stage] for stage in stages) + 2 * self.costs.crossing

    # The tile memory.

    def room(self, beats: int) -> float:
        """When so many beats more can be loaded, after everything older."""
        time = 0.0
        while self.entries and (
            len(self.entries) >= ENTRIES_ALIVE or sum(entry[0] for entry in self.entries) + beats > RING_BEATS
        ):
            time = max(time, self.entries.popleft()[1])
        return time

    def load(self, start: float, cycles: float, beats: int, available: float = 0.0) -> tuple[float, list[float]]:
        """Load an entry: when its first vectors can be issued, and the entry, whose release is still to be told."""
        begin = max(start, self.loader_free, self.room(beats))
        end = max(begin + cycles, available)
        self.loader_free = end
        entry = [float(beats), float("inf")]
        self.entries.append(entry)
        return end + LOADED_TO_ISSUE, entry

    def hold(self, kind: str, entry: list[float], time: float) -> None:
        """The array takes an entry up; the one it had of this kind is free."""
        kinds = ("weights", "keys", "values") if kind == "weights" else (kind, "weights")
        for other in kinds:
            if other in self.held:
                self.held.pop(other)[1] = time
        self.held[kind] = entry

    # The array.

    def passes(self, start: float, groups: int, count: int) -> None:
        """Issue `count` equal passes, one behind the other, not before `start`."""
        begin = max(self.issue_free, start)
        first = max(begin + max(groups, 1), self.last_end + OUTPUTS)
        self.last_end = first + (count - 1) * max(groups, OUTPUTS)
        self.issue_free = self.last_end

    def last_result(self) -> float:
        """When the last result of the passes so far leaves the engine."""
        return self.last_end + ISSUE_TO_RESULT + OUTPUTS

    # Commands.

    def request_tiles(self) -> None:
        """The tiles of the next gemm are asked for as early as the sequencer gets there."""
        ahead = self.merged[-COMMANDS_AHEAD] if len(self.merged) >= COMMANDS_AHEAD else 0.0
        self.stream = max(self.stream, ahead) + self.costs.memory_latency + 2 * self.costs.latency["ReadTiles"]

    def gemm(self, arrival: float, beats: np.ndarray, groups: np.ndarray, rows: int, returns: bool) -> float:
        """All tiles of a matrix over `rows` row blocks; the words it reads are there at `arrival`.

        returns: results go back behind all words before them; only RETURN_WORDS of them can be under way. Otherwise a
        LayerNorm keeps them. Returns the cycles in which the array waited for a tile.
        """
        self.request_tiles()
        start, waited, results = arrival + ARRIVAL_TO_ISSUE, 0.0, -RETURN_WORDS
        for tile_beats, tile_groups in zip(beats.tolist(), groups.tolist(), strict=True):
            # The stream is at most one FIFO ahead of the loader.
            self.stream = max(self.stream, self.loader_free - SPEC.stream.tiles / self.costs.beats_per_cycle)
            self.stream += tile_beats / self.costs.beats_per_cycle
            available = self.stream + self.costs.crossing + 4
            ready, entry = self.load(0.0, tile_beats + TILE_OVERHEAD, tile_groups, available)
            free = max(start, self.issue_free)
            waited += max(0.0, ready - free)
            begin = max(free, ready, self.merged[-1] + results if returns and results > 0 else 0.0)
            results += rows * OUTPUTS
            self.hold("weights", entry, begin)
            self.passes(begin, tile_groups, rows)
        return waited

    def scores(self, arrival: float, keys_arrival: float, keys: int, head_size: int, reload: bool) -> None:
        """One query row block of one head."""
        tiles, groups = -(-keys // OUTPUTS), head_size // INPUTS
        start = arrival + ARRIVAL_TO_ISSUE
        if reload:
            words = -(-keys // TOKENS) * head_size
            ready, entry = self.load(keys_arrival, words + FETCH_LATENCY, tiles * groups)
            start = max(start, ready)
            self.hold("keys", entry, max(start, self.issue_free))
        self.passes(start, groups, tiles)

    def context(self, arrival: float, values_arrival: float, keys: int, head_size: int, reload: bool) -> None:
        """The same row block and head, two steps later."""
        tiles, groups = head_size // OUTPUTS, -(-keys // INPUTS)
        start = arrival + ARRIVAL_TO_ISSUE
        if reload:
            blocks = -(-keys // TOKENS) * tiles
            ready, entry = self.load(values_arrival, blocks * VALUE_BLOCK + FETCH_LATENCY, tiles * groups)
            start = max(start, ready)
            self.hold("values", entry, max(start, self.issue_free))
        self.passes(start, groups, tiles)

    # Results on their way back; each returns when the engine has all the words.

    def merge(self, last_word: float, words: int) -> float:
        """Words return in the order of the commands, one a cycle."""
        time = max(last_word, self.merged[-1] + words)
        self.merged.append(time)
        return time

    def activated(self, words: int) -> float:
        return self.merge(self.last_result() + self.back["activate"] + WORD_TO_MEMORY, words)

    def softmaxed(self, keys: int) -> float:
        """Exponentials of a row block follow its maximum; then two words of row scales."""
        words = -(-keys // OUTPUTS) * OUTPUTS
        stage = self.costs.latency
        maximum = self.last_result() + self.costs.crossing + stage["RouteResults"] + stage["SoftmaxScan"]
        end = max(maximum, self.exponentiated) + words + stage["SoftmaxExponentiate"]
        scales = end + TOKENS + stage["SoftmaxExponentiate"]
        self.exponentiated = scales
        return self.merge(scales + stage["MergeWords"] + self.costs.crossing + WORD_TO_MEMORY, words + 2)

    def summed(self) -> float:
        """When the partial sums of the first row block of a LayerNorm are there, the others one a cycle behind."""
        stage = self.costs.latency
        return self.last_result() + self.costs.crossing + stage["RouteResults"] + 2 * stage["NormAccumulate"]

    def moments(self, summed: float, rows: int, of_peers: list[float]) -> float:
        """When those of the last row block are there. of_peers: when the partial sums of the other units were."""
        stage = self.costs.latency["NormMoments"]
        beats = SPEC.cooperation.moment_beats if of_peers else 0
        time = summed + rows * max(1, beats)
        for row in range(rows):
            arrivals = [other + (row + 1) * beats + stage + self.costs.peer_crossing for other in of_peers]
            time = max(time, *arrivals) + beats + TOKENS if arrivals else time + TOKENS
        return time + stage

    def normed(self, moments: float, rows: int, features: int) -> float:
        """The second pass of a LayerNorm begins behind the moments of its last row block."""
        stage = self.costs.latency
        self.normalized = max(moments, self.normalized) + rows * features + stage["NormApply"]
        end = self.normalized + stage["MergeWords"] + self.costs.crossing + WORD_TO_MEMORY
        return self.merge(end, rows * features)

    def agreed(self) -> float:
        """What it takes the units to tell each other that they can run a launch."""
        stage = self.costs.latency
        return stage["Sequence"] + 2 * stage["NormMoments"] + self.costs.peer_crossing

    def loaded(self, rows: int, features: int, delay: float = 0.0) -> float:
        """Input words from memory."""
        start = (
            delay
            + self.costs.memory_latency * 3
            + sum(self.costs.latency[s] for s in ("Sequence", "ReadWords", "NormApply"))
        )
        end = start + rows * features + self.costs.latency["MergeWords"] + self.costs.crossing + WORD_TO_MEMORY
        return self.merge(max(end, self.merged[-1] + rows * features), rows * features)
