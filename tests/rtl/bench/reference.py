"""What the engine computes, in plain integers, written from docs/numerics.md and docs/program.md."""

from __future__ import annotations

import numpy as np
from tests.rtl.bench.shape import INPUTS, WORDS, Shape, Tile

ADDRESSES = 1 << 16


def rounding_shift(x: np.ndarray, shift: np.ndarray | int) -> np.ndarray:
    """Divide by 2^shift, halves toward plus infinity."""
    x, shift = np.broadcast_arrays(np.asarray(x, np.int64), np.asarray(shift, np.int64))
    half = np.where(shift > 0, np.int64(1) << np.maximum(shift - 1, 0), 0)
    return (x + half) >> shift


def requantize(sums: np.ndarray, multiplier: np.ndarray | int, shift: np.ndarray | int, limits: tuple) -> np.ndarray:
    """33-bit sums times 16-bit multipliers fit 64 bits."""
    return np.clip(rounding_shift(np.asarray(sums, np.int64) * multiplier, shift), *limits)


class Memory:
    """Activations and row scales as they are after the words sent so far; when each may be overwritten.

    A word that nobody has sent yet is an error to read: the engine's memory holds noise there.
    """

    def __init__(self, shape: Shape, slots: int) -> None:
        self.shape = shape
        self.lanes = np.zeros((shape.words, shape.tokens), np.int64)  # as bytes, 0..255
        self.row_scales = np.zeros((slots, shape.tokens), np.int64)
        self.sent = [0] * len(WORDS)  # words of this launch
        self.written = np.full(shape.words, -1)  # by which word of its stream in this launch; -1: by none, ever
        self.writer = np.zeros(shape.words, np.int64)  # its stream
        self.scale_written = np.full(slots, -1)
        self.read_until = np.zeros(shape.words, np.int64)  # results after which nobody reads a word any more
        self.scale_until = np.zeros(slots, np.int64)

    def start_launch(self) -> None:
        """Counts start anew; contents stay."""
        self.sent = [0] * len(WORDS)
        for written in (self.written, self.scale_written):
            written[written >= 0] = 0
        self.read_until[:] = 0
        self.scale_until[:] = 0

    def write(self, address: int, lanes: np.ndarray, stream: int) -> tuple[int, tuple[int, int] | None]:
        """The results that must have come before this word may be sent, and the word of another stream (which, and its
        number) that must have arrived.
        """
        writer, number = int(self.writer[address]), int(self.written[address])
        self.sent[stream] += 1
        self.lanes[address] = lanes & 255
        self.written[address], self.writer[address] = self.sent[stream], stream
        return int(self.read_until[address]), (writer, number) if writer != stream and number > 0 else None

    def write_scales(self, slot: int, half: int, scales: np.ndarray) -> int:
        self.sent[0] += 1
        lanes = self.shape.tokens // 2
        self.row_scales[slot, half * lanes : (half + 1) * lanes] = scales
        self.scale_written[slot] = self.sent[0]
        return int(self.scale_until[slot])

    def awaited(self, addresses: np.ndarray) -> list[int]:
        """The words of each stream that must have arrived before these can be read."""
        latest, writer = self.written[addresses % ADDRESSES], self.writer[addresses % ADDRESSES]
        assert (latest >= 0).all(), "the stimulus reads words that it never wrote"
        return [int(latest[writer == stream].max(initial=0)) for stream in range(len(WORDS))]

    def read(self, addresses: np.ndarray, is_unsigned: bool) -> np.ndarray:
        lanes = self.lanes[addresses % ADDRESSES]
        return lanes if is_unsigned else lanes.astype(np.uint8).view(np.int8).astype(np.int64)

    def keep(self, addresses: np.ndarray, results: int) -> None:
        """Nobody may overwrite these until so many results have come."""
        self.read_until[addresses % ADDRESSES] = results


def gemm_pass(memory: Memory, tile: Tile, base: int, is_unsigned: bool, limits: tuple) -> np.ndarray:
    """Results [outputs, tokens] of one tile over one row block."""
    activations = memory.read(base + tile.index, is_unsigned)
    sums = tile.weight.astype(np.int64).T @ activations + tile.bias[:, None]
    return requantize(sums, tile.multiplier[:, None].astype(np.int64), tile.shift[:, None], limits)


def key_addresses(shape: Shape, weight: int, stride: int, keys: int, head_size: int) -> np.ndarray:
    """Words of the keys or values of a head: [row blocks, features]."""
    rows = -(-keys // shape.tokens)
    return weight + np.arange(rows)[:, None] * stride + np.arange(head_size)


def key_matrix(memory: Memory, weight: int, stride: int, keys: int, head_size: int) -> np.ndarray:
    """Keys or values [features, tokens of whole row blocks]: a word is one feature of a row block."""
    words = memory.read(key_addresses(memory.shape, weight, stride, keys, head_size), False)
    return words.transpose(1, 0, 2).reshape(head_size, -1)


def scores_rows(memory: Memory, keys: np.ndarray, count: int, base: int, is_unsigned: bool) -> np.ndarray:
    """Sums [keys of whole tiles, tokens] of one row block of queries. Padding keys are multiplied like all others."""
    tiles = -(-count // memory.shape.outputs)
    queries = memory.read(base + np.arange(len(keys)), is_unsigned)
    return keys[:, : tiles * memory.shape.outputs].T @ queries


def context_rows(memory: Memory, values: np.ndarray, count: int, base: int, is_unsigned: bool) -> np.ndarray:
    """Sums [head size, tokens]. Keys come in whole groups: the softmax weights behind the last key are zeros."""
    inputs = -(-count // INPUTS) * INPUTS
    weights = memory.read(base + np.arange(inputs), is_unsigned)
    return values[:, :inputs] @ weights
