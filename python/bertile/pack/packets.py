"""Tile packets: the one encoder and the one decoder of the weight format (docs/tile-format.md)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bertile.config.spec import load_spec
from bertile.errors import FormatError
from bertile.models.quantized import QuantizedLinear

SPEC = load_spec()
BEAT = SPEC.packet.beat_bytes
OUTPUTS = SPEC.array.outputs
VECTORS = SPEC.packet.vectors
PER_BEAT = SPEC.packet.vectors_per_beat
VALID = 1 << SPEC.packet.valid_bit
LAST = 1 << SPEC.packet.last_bit
INDEX_MASK = (1 << SPEC.packet.index_bits) - 1
PARAMETER = SPEC.records["tile_parameter"].dtype


def encode_tile(weight: np.ndarray, bias: np.ndarray, multiplier: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Beats [n, 64] uint8 of one output tile: weight [16, in] int8; bias, multiplier, shift [16].

    A vector (one column) is kept when any of its 16 weights is not zero.
    """
    parameters = np.zeros(OUTPUTS, PARAMETER)
    parameters["bias"], parameters["multiplier"], parameters["shift"] = bias, multiplier, shift
    kept = np.flatnonzero(weight.any(axis=0))
    packets = max(1, -(-len(kept) // VECTORS))
    entries = np.zeros(packets * VECTORS, "<u2")
    entries[: len(kept)] = kept | VALID
    entries[(packets - 1) * VECTORS] |= LAST
    vectors = np.zeros((packets * VECTORS, OUTPUTS), np.int8)
    vectors[: len(kept)] = weight[:, kept].T
    index_beats = entries.view(np.uint8).reshape(packets, 1, BEAT)
    weight_beats = vectors.view(np.uint8).reshape(packets, VECTORS // PER_BEAT, BEAT)
    beats = np.concatenate([index_beats, weight_beats], axis=1).reshape(-1, BEAT)
    unused = packets * VECTORS // PER_BEAT - -(-len(kept) // PER_BEAT)
    header = np.frombuffer(parameters.tobytes(), np.uint8).reshape(-1, BEAT)
    return np.concatenate([header, beats[: len(beats) - unused]])


def read_packets(beats: np.ndarray, first: int, inputs: int) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """The packets of the tile at beat `first` of beats [n, 64].

    Yields kept input features [count], their vectors [count, 16] int8, and the next beat. Raises FormatError.
    """
    position, last, previous = first + SPEC.tile.parameter_beats, False, -1
    while not last:
        if position >= len(beats):
            raise FormatError(f"weight tile at beat {first}: its packets run over the end")
        entries = beats[position].view("<u2")
        last = bool(entries[0] & LAST)
        valid = (entries & VALID) != 0
        count = int(valid.sum())
        index = (entries & INDEX_MASK)[:count].astype(np.int64)
        if not valid[:count].all() or (index >= inputs).any() or (np.diff(index, prepend=previous) <= 0).any():
            raise FormatError(f"weight tile at beat {first}: bad index beat {position}")
        end = position + 1 + -(-count // PER_BEAT)
        vectors = beats[position + 1 : end].reshape(-1, OUTPUTS).view(np.int8)
        if len(vectors) < count:
            raise FormatError(f"weight tile at beat {first}: its packets run over the end")
        if vectors[count:].any():  # the engine would multiply these by some input feature
            raise FormatError(f"weight tile at beat {first}: weights behind the last vector of packet {position}")
        position, previous = end, int(index[-1]) if count else previous
        yield index, vectors[:count], position


def decode_tile(beats: np.ndarray, first: int, inputs: int) -> tuple[np.ndarray, np.ndarray, int]:
    """The tile at beat `first` of beats [n, 64]: weight [16, inputs] int8, parameters [16], and the next beat.

    Raises FormatError where the packets are not well formed.
    """
    parameters = np.frombuffer(beats[first : first + SPEC.tile.parameter_beats].tobytes(), PARAMETER)
    weight, position = np.zeros((OUTPUTS, inputs), np.int8), first
    for index, vectors, position in read_packets(beats, first, inputs):  # noqa: B007
        weight[:, index] = vectors.T
    return weight, parameters, position


def tile_features(beats: np.ndarray, inputs: int) -> np.ndarray:
    """Input features that one tile's beats [n, 64] keep, ascending."""
    return np.concatenate([index for index, _, _ in read_packets(beats, 0, inputs)])


def encode_matrix(linear: QuantizedLinear) -> list[np.ndarray]:
    """The tiles of a matrix, each beats [n, 64] uint8."""
    tiles = len(linear.weight) // OUTPUTS
    parts = [array.reshape(tiles, OUTPUTS, *array.shape[1:]) for array in vars(linear).values()]
    return [encode_tile(*(part[tile] for part in parts)) for tile in range(tiles)]


def decode_matrix(beats: np.ndarray, tiles: int, inputs: int) -> QuantizedLinear:
    """The matrix whose `tiles` tiles fill beats [n, 64] exactly. Raises FormatError."""
    weights, parameters, position = [], [], 0
    for _ in range(tiles):
        weight, parameter, position = decode_tile(beats, position, inputs)
        weights.append(weight)
        parameters.append(parameter)
    if position != len(beats):
        raise FormatError(f"weight matrix: {len(beats) - position} beats behind its last tile")
    table = np.concatenate(parameters)
    return QuantizedLinear(
        np.concatenate(weights), table["bias"].copy(), table["multiplier"].copy(), table["shift"].copy()
    )
