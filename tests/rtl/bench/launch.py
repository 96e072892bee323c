"""A launch as its program sees it: words, commands and tiles in order, and the results that must come back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from tests.rtl.bench import shape as records
from tests.rtl.bench.coverage import CODES, COVERAGE
from tests.rtl.bench.reference import (
    ADDRESSES,
    Memory,
    context_rows,
    gemm_pass,
    key_addresses,
    key_matrix,
    requantize,
    scores_rows,
)
from tests.rtl.bench.shape import AWAITS, INPUTS, SPEC, WORDS, Shape, Tile

OPCODE, FLAG, ERROR = SPEC.engine_opcode, SPEC.flag, SPEC.engine_error
STATUS_LANES = 8  # behind them it counts cycles
BYTE, HALF = (-128, 127), (-(1 << 15), (1 << 15) - 1)


@dataclass(frozen=True)
class Expected:
    """One result: its first lanes, or None where the contract leaves them open."""

    name: str
    lanes: np.ndarray | None


@dataclass(frozen=True)
class Word:
    """A word, and what must have come before it is sent: results; a word of another stream (which, and its number)."""

    data: int
    after: int
    behind: tuple[int, int] | None = None


@dataclass(frozen=True)
class Attention:
    """Scores or context of one head. `weight`: where its keys or values are."""

    source: int
    weight: int
    keys: int
    head_size: int
    source_stride: int = 0
    weight_stride: int = 0
    row_first: int = 0
    row_count: int = 1
    reload: bool = True
    is_unsigned: bool = False
    multiplier: int = 1
    slot: int = 0
    shift: int = 0
    limits: tuple = HALF


@dataclass
class Launch:
    """Commands see the words that were added before them; a word that overwrites what a command reads is held back."""

    memory: Memory
    commands: list[int] = field(default_factory=list)
    tiles: list[int] = field(default_factory=list)
    words: tuple[list[Word], ...] = field(default_factory=lambda: tuple([] for _ in WORDS))  # of each stream
    expected: list[Expected] = field(default_factory=list)
    error: int = ERROR.none
    eager: bool = False  # await no more words than are read
    held: dict = field(default_factory=dict)  # keys and values that the engine holds
    samples: list[Callable] = field(default_factory=list)  # of coverage, once the launch has run
    previous: int | None = None  # opcode

    def __post_init__(self) -> None:
        self.memory.start_launch()

    @property
    def shape(self) -> Shape:
        return self.memory.shape

    # Words

    def word(self, address: int, lanes: np.ndarray, stream: int = 0) -> None:
        data = records.encode_activation(self.shape, address, lanes)
        self.words[stream].append(Word(data, *self.memory.write(address, lanes, stream)))

    def row_scales(self, slot: int, scales: np.ndarray) -> None:
        for half, part in enumerate(np.split(scales, 2)):
            after = self.memory.write_scales(slot, half, part)
            self.words[0].append(Word(records.encode_row_scales(self.shape, slot, half, part), after))

    def stray_word(self, address: int, kind: int, stream: int = 0) -> None:
        """A word without a place: counted, and nothing else."""
        self.memory.sent[stream] += 1
        data = records.encode_word(self.shape, address, kind, np.full(self.shape.tokens, 85))
        self.words[stream].append(Word(data, 0))

    # Commands

    def send(self, results: list, limits: tuple = HALF, is_covered: bool = False, **fields: int) -> None:
        """Any command, and what it must send: [passes][outputs, tokens], None for lanes that nobody knows."""
        number = len(self.commands)
        self.commands.append(records.encode_command(limit_low=limits[0], limit_high=limits[1], **fields))
        for which, lanes in enumerate(results):
            for output in range(self.shape.outputs):
                name = f"command {number}, pass {which}, output {output}"
                self.expected.append(Expected(name, None if lanes is None else lanes[output]))
        if is_covered:
            arguments = (fields, results, limits, self.previous, not self.eager)
            self.samples.append(lambda: COVERAGE.sample_command(*arguments))
        self.previous = fields["opcode"]

    def awaits(self, needed: list[int]) -> dict[str, int]:
        """Fields of a command that needs so many words of each stream."""
        return dict(zip(AWAITS, needed if self.eager else self.memory.sent, strict=True))

    def awaits_all(self) -> dict[str, int]:
        return dict(zip(AWAITS, self.memory.sent, strict=True))

    def gemm(
        self,
        tiles: list[Tile],
        source: int,
        stride: int,
        row_first: int = 0,
        row_count: int = 1,
        is_unsigned: bool = False,
        limits: tuple = BYTE,
        known: bool = True,
        **others: int,
    ) -> None:
        rows = [(source + row * stride) % ADDRESSES for row in range(row_first, row_first + row_count)]
        read = np.concatenate([row + tile.index for row in rows for tile in tiles]).astype(np.int64)
        passes = [(tile, row) for tile in tiles for row in rows]
        self.send(
            [gemm_pass(self.memory, *which, is_unsigned, limits) if known else None for which in passes],
            opcode=OPCODE.gemm,
            flags=is_unsigned << FLAG.unsigned_source,
            row_first=row_first,
            row_count=row_count,
            **self.awaits(self.memory.awaited(read) if known else [0] * len(WORDS)),
            source=source,
            source_stride=stride,
            tiles=len(tiles),
            limits=limits,
            is_covered=known,
            **others,
        )
        for tile in tiles:
            self.tiles += tile.encode(self.shape)
            self.samples.append(lambda tile=tile: COVERAGE.sample_tile(tile, stride, self.shape))
        if known:
            self.memory.keep(read, len(self.expected))
        self.held.clear()

    def attention(self, opcode: int, head: Attention, sums: list[np.ndarray], read: np.ndarray) -> None:
        """The command, when its sums are known. `read`: words of the token operand."""
        words = key_addresses(self.shape, head.weight, head.weight_stride, head.keys, head.head_size)
        is_scores, multiplier = opcode == OPCODE.scores, head.multiplier
        awaited = self.memory.awaited(read)
        if not is_scores:
            awaited[0] = max(awaited[0], int(self.memory.scale_written[head.slot]))
            multiplier = self.memory.row_scales[head.slot]
        results = []
        for rows in sums:
            lanes = requantize(rows, multiplier, head.shift, head.limits)
            results += np.split(lanes, len(lanes) // self.shape.outputs)
        self.send(
            results,
            opcode=opcode,
            flags=head.is_unsigned << FLAG.unsigned_source | head.reload << FLAG.reload,
            row_first=head.row_first,
            row_count=head.row_count,
            **self.awaits(awaited),
            await_weight=self.awaits(self.memory.awaited(words))[AWAITS[0]] if head.reload else 0,
            source=head.source,
            source_stride=head.source_stride,
            weight=head.weight,
            weight_stride=head.weight_stride,
            tiles=len(results) // head.row_count,
            keys=head.keys,
            head_size=head.head_size,
            shift=head.shift,
            multiplier=head.multiplier if is_scores else 0,
            row_scale_slot=head.slot,
            limits=head.limits,
            is_covered=True,
        )
        self.samples.append(lambda: COVERAGE.sample_head(CODES[opcode], head, self.shape))
        self.memory.keep(read, len(self.expected))
        if head.reload:
            self.memory.keep(words, len(self.expected))
        if not is_scores:
            self.memory.scale_until[head.slot] = len(self.expected)

    def weights_of(self, kind: str, head: Attention) -> np.ndarray:
        """Keys or values: from memory, or those that the engine still holds."""
        if head.reload:
            self.own(key_addresses(self.shape, head.weight, head.weight_stride, head.keys, head.head_size))
            self.held[kind] = key_matrix(self.memory, head.weight, head.weight_stride, head.keys, head.head_size)
        return self.held[kind]

    def own(self, addresses: np.ndarray) -> None:
        """Keys and values come from the encoder: what a peer wrote there in this launch is written again."""
        for address in np.unique(addresses):
            if self.memory.writer[address] and self.memory.written[address] > 0:
                self.word(int(address), self.memory.lanes[address])

    def scores(self, head: Attention) -> None:
        keys = self.weights_of("keys", head)
        sums = [scores_rows(self.memory, keys, head.keys, base, head.is_unsigned) for base in self.bases(head)]
        self.attention(OPCODE.scores, head, sums, self.operand(head, head.head_size))

    def context(self, head: Attention) -> None:
        values = self.weights_of("values", head)
        sums = [context_rows(self.memory, values, head.keys, base, head.is_unsigned) for base in self.bases(head)]
        self.attention(OPCODE.context, head, sums, self.operand(head, -(-head.keys // INPUTS) * INPUTS))

    def bases(self, head: Attention) -> list[int]:
        rows = range(head.row_first, head.row_first + head.row_count)
        return [(head.source + row * head.source_stride) % ADDRESSES for row in rows]

    def operand(self, head: Attention, inputs: int) -> np.ndarray:
        return (np.array(self.bases(head))[:, None] + np.arange(inputs)).ravel()

    def halt(self) -> Launch:
        """The end: every word awaited, and the status as the last result."""
        self.send([], opcode=OPCODE.halt, **self.awaits_all())
        status = SPEC.records["engine_status"].encode(spec_digest=SPEC.digest_word, error=self.error)
        lanes = np.frombuffer(status, "<i2")[:STATUS_LANES].astype(np.int64)
        self.expected.append(Expected("status", lanes))
        self.samples.append(lambda: COVERAGE.sample_error(self.error))
        return self
