"""The size of an engine, and its records as integers: what its streams carry."""

from __future__ import annotations

from dataclasses import dataclass

import cocotb
import numpy as np

from bertile.config.spec import load_spec

SPEC = load_spec()
INPUTS = SPEC.array.inputs
VALID, LAST = 1 << SPEC.packet.valid_bit, 1 << SPEC.packet.last_bit
PARAMETER = SPEC.records["tile_parameter"]
COMMAND = SPEC.records["command"]
# Streams of words: from the encoder, then one from each peer. And how a command names the words it awaits of each.
WORDS = ("words", "words_from_0", "words_from_1")
AWAITS = ("await_words", "await_peer_0", "await_peer_1")


@dataclass(frozen=True)
class Shape:
    """Tokens of a word, outputs of a tile, words of the activation memory. The contract's is (32, 16, 49,152)."""

    tokens: int
    outputs: int
    words: int

    @classmethod
    def of_simulation(cls) -> Shape:
        """Of the engine that is simulated."""
        number = {name: int(value) for name, value in cocotb.plusargs.items() if name.isupper()}
        return cls(number["TOKENS"], number["OUTPUTS"], SPEC.capacity.activation_banks * number["BANK_WORDS"])

    @property
    def beat_bytes(self) -> int:
        return self.outputs * INPUTS

    @property
    def entries(self) -> int:
        """Of an index beat."""
        return self.beat_bytes // 2

    @property
    def result_bytes(self) -> int:
        return 2 * self.tokens


def little(data: bytes | np.ndarray) -> int:
    return int.from_bytes(bytes(data), "little")


def encode_command(**fields: int) -> int:
    return little(COMMAND.encode(**fields))


def encode_word(shape: Shape, address: int, kind: int, lanes: np.ndarray) -> int:
    """`lanes` are bytes: one a token for an activation, two for a row scale."""
    data = np.zeros(2 * shape.tokens, np.uint8)
    data[: shape.tokens] = lanes.astype(np.uint8)
    data[shape.tokens : shape.tokens + 3] = address & 255, address >> 8, kind
    return little(data)


def encode_activation(shape: Shape, address: int, lanes: np.ndarray) -> int:
    return encode_word(shape, address, SPEC.word_kind.activation, lanes & 255)


def encode_row_scales(shape: Shape, slot: int, half: int, scales: np.ndarray) -> int:
    lanes = scales.astype("<u2").view(np.uint8)
    return encode_word(shape, 2 * slot + half, SPEC.word_kind.row_scale, lanes)


@dataclass(frozen=True)
class Tile:
    """One output tile: `weight` is [vectors, outputs]; `packets` says how many vectors each packet holds."""

    index: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray
    packets: tuple[int, ...]

    def encode(self, shape: Shape, entries: np.ndarray | None = None) -> list[int]:
        """Beats. `entries` replaces the index entries of the only packet."""
        data = b"".join(
            PARAMETER.encode(bias=int(b), multiplier=int(m), shift=int(s))
            for b, m, s in zip(self.bias, self.multiplier, self.shift, strict=True)
        )
        beats = [little(data[i : i + shape.beat_bytes]) for i in range(0, len(data), shape.beat_bytes)]
        first = 0
        for number, count in enumerate(self.packets):
            index = np.zeros(shape.entries, "<u2")
            index[:count] = self.index[first : first + count] | VALID
            index[0] |= LAST * (number == len(self.packets) - 1)
            beats.append(little((index if entries is None else entries.astype("<u2")).tobytes()))
            weight = np.zeros((-(-count // INPUTS) * INPUTS, shape.outputs), np.int8)
            weight[:count] = self.weight[first : first + count]
            beats += [little(weight[i : i + INPUTS].tobytes()) for i in range(0, len(weight), INPUTS)]
            first += count
        return beats
