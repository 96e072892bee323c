"""Random commands for an engine of any shape: sizes that are multiples of nothing, values from the ends of ranges."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from tests.rtl.bench.launch import BYTE, HALF, Attention, Launch
from tests.rtl.bench.reference import ADDRESSES, Memory
from tests.rtl.bench.shape import INPUTS, SPEC, WORDS, Shape, Tile

LIMITS = [BYTE, HALF, (-512, 511), (0, 0), (-1, 1), (-7, 100), (5, 2000)]
SHIFT_MAX = SPEC.law.shift_max


@dataclass
class Stimulus:
    """Makes words and commands of launches over one engine memory."""

    shape: Shape
    rng: random.Random

    def __post_init__(self) -> None:
        self.noise = np.random.default_rng(self.rng.getrandbits(32))
        self.memory = Memory(self.shape, SPEC.capacity.probability_slots)

    def launch(self, eager: bool | None = None) -> Launch:
        return Launch(self.memory, eager=self.rng.random() < 0.7 if eager is None else eager)

    # Values

    def values(self, low: int, high: int, size: tuple | int) -> np.ndarray:
        """Half of the time random, otherwise the ends of the range."""
        kind = self.rng.random()
        if kind < 0.5:
            return self.noise.integers(low, high + 1, size)
        if kind < 0.6:
            return np.full(size, self.rng.choice([low, high]))
        return self.noise.choice([low, high], size)

    def fill(self, launch: Launch, address: int, count: int) -> None:
        for i, stream in enumerate(self.streams(count)):
            launch.word((address + i) % ADDRESSES, self.values(0, 255, self.shape.tokens), stream)

    def streams(self, count: int) -> list[int]:
        """Where so many words come from: all from one, tiles of words from each, or any."""
        size = self.rng.choice([count, count, self.shape.outputs, 1])
        parts = [self.rng.randrange(len(WORDS)) for _ in range(0, count, max(size, 1))]
        return [parts[i // size] for i in range(count)]

    def region(self, words: int, rows: int) -> tuple[int, int]:
        """First word and stride of a region of row blocks somewhere in the memory."""
        stride = words + self.rng.choice([0, 0, 1, 3])
        room = self.shape.words - ((rows - 1) * stride + words)
        assert room >= 0, "the region does not fit the memory"
        return self.rng.choice([0, room, self.rng.randint(0, room)]), stride

    def scale(self, largest: float) -> tuple[int, int]:
        """Multiplier and shift; mostly some that bring `largest` somewhere near the limits of a byte."""
        kind = self.rng.random()
        if kind < 0.1:
            return self.rng.choice([0, 1, 65535]), self.rng.choice([0, 1, SHIFT_MAX])
        multiplier = self.rng.choice([65535, self.rng.randint(1, 65535), self.rng.randint(32768, 65535)])
        target = 2.0 ** self.rng.uniform(3, 9)
        shift = int(np.clip(np.log2(max(largest * multiplier / target, 1)), 0, SHIFT_MAX))
        return multiplier, shift

    # Tiles and gemms

    def tile(self, inputs: int, vectors: int, short_packets: bool = False) -> Tile:
        outputs = self.shape.outputs
        index = np.sort(self.noise.permutation(inputs)[:vectors])
        weight = self.values(-128, 127, (vectors, outputs))
        largest = 64 * 100 * max(vectors, 1) ** 0.5
        scales = np.array([self.scale(largest) for _ in range(outputs)]).T
        bias = self.values(-(2**31), 2**31 - 1, outputs)
        if self.rng.random() < 0.8:
            bias = self.noise.integers(-int(largest), int(largest) + 1, outputs)
        return Tile(index, weight, bias, *scales, self.packets(vectors, short_packets))

    def packets(self, vectors: int, short: bool) -> tuple[int, ...]:
        """Vectors of each packet: full ones and a rest, or any; none at all is a packet, too."""
        left, counts = vectors, []
        while left > 0:
            counts.append(min(left, self.rng.randint(0, self.shape.entries) if short else self.shape.entries))
            left -= counts[-1]
        return tuple(counts) or (0,)

    def gemm(self, launch: Launch, inputs: int, density: float, tiles: int, rows: int, **options) -> None:
        """A gemm on new words in a region of its own, which may begin below zero."""
        start, stride = self.region(inputs, rows)
        for row in range(rows):
            self.fill(launch, start + row * stride, inputs)
        counts = [round(inputs * min(1.0, density * self.rng.uniform(0.3, 1.7))) for _ in range(tiles)]
        if density in (0.0, 1.0):
            counts = [int(density * inputs)] * tiles
        short = self.rng.random() < 0.4
        made = [self.tile(inputs, count, short) for count in counts]
        options = {"is_unsigned": self.rng.random() < 0.5, "limits": self.rng.choice(LIMITS), **options}
        launch.gemm(made, stride=stride, **self.rows(start, stride, 0, rows), **options)

    # Attention

    def attention(self, launch: Launch, keys: int, head_size: int, queries: int = 1) -> None:
        """Scores and context of one head for some row blocks of queries; weights are reloaded at the first."""
        head = self.place_head(launch, keys, head_size, queries)
        for first, count in self.commands_of(queries):
            rows = self.rows(head["source"], head["source_stride"], first, count)
            options = {**head, **rows, **self.requantization(head_size)}
            launch.scores(Attention(**options, is_unsigned=self.coin(), reload=first == 0))
        slot = self.rng.randrange(SPEC.capacity.probability_slots)
        inputs = -(-keys // INPUTS) * INPUTS
        start, stride = self.region(inputs, queries)
        for first, count in self.commands_of(queries):
            for row in range(first, first + count):
                self.fill(launch, start + row * stride, inputs)
            if first == 0 or self.coin():
                launch.row_scales(slot, self.values(0, 65535, self.shape.tokens))
            options = {**head, "source_stride": stride, **self.rows(start, stride, first, count), "slot": slot}
            options["shift"] = self.rng.choice([0, SHIFT_MAX, self.rng.randint(20, 34)])
            options["limits"] = self.rng.choice(LIMITS)
            launch.context(Attention(**options, is_unsigned=self.rng.random() < 0.8, reload=first == 0))

    def commands_of(self, queries: int) -> list[tuple[int, int]]:
        """First row block and row blocks of each command: one command for all, or one for each."""
        return [(0, queries)] if self.rng.random() < 0.3 else [(row, 1) for row in range(queries)]

    def rows(self, start: int, stride: int, first: int, count: int) -> dict:
        """Row blocks of a region; their numbers may begin anywhere, and the source then lies below the region."""
        offset = self.rng.choice([0, 0, self.rng.randint(0, SPEC.row_blocks - first - count)])
        source = (start - offset * stride) % ADDRESSES
        return {"source": source, "row_first": first + offset, "row_count": count}

    def program(self, launch: Launch, heads: list[tuple[int, int, int]]) -> None:
        """Heads (keys, head size, row blocks) in the order of docs/program.md: a context follows two steps behind."""
        placed = [(self.place_head(launch, *head), head[2]) for head in heads]
        steps = [(head, row) for head, rows in placed for row in range(rows)]
        for number in range(len(steps) + 2):
            if number < len(steps):
                head, row = steps[number]
                launch.scores(Attention(**head, **self.requantization(8), row_first=row, reload=row == 0))
            if number >= 2:
                head, row = steps[number - 2]
                slot = (number - 2) % SPEC.capacity.probability_slots
                probability = slot * 48
                self.fill(launch, probability, -(-head["keys"] // INPUTS) * INPUTS)
                launch.row_scales(slot, self.values(0, 65535, self.shape.tokens))
                head = {**head, "source": probability, "source_stride": 0}
                launch.context(Attention(**head, slot=slot, reload=row == 0, is_unsigned=True, shift=28, limits=BYTE))

    def place_head(self, launch: Launch, keys: int, head_size: int, queries: int) -> dict:
        """Words of queries and keys (values lie where the keys do: the engine cannot know)."""
        rows = -(-keys // self.shape.tokens)
        weight, weight_stride = self.region(head_size, rows)
        for row in range(rows):
            self.fill(launch, weight + row * weight_stride, head_size)
        source, stride = self.region(head_size, queries)
        for row in range(queries):
            self.fill(launch, source + row * stride, head_size)
        return {
            "keys": keys,
            "head_size": head_size,
            "weight": weight,
            "weight_stride": weight_stride,
            "source": source,
            "source_stride": stride,
        }

    def requantization(self, inputs: int) -> dict:
        multiplier, shift = self.scale(64 * 64 * inputs**0.5)
        return {"multiplier": multiplier, "shift": shift, "limits": self.rng.choice(LIMITS)}

    def coin(self) -> bool:
        return self.rng.random() < 0.5
