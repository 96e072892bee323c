"""The parameter image: tables and LayerNorm parameters, encoded and decoded (docs/tile-format.md)."""

from __future__ import annotations

import numpy as np

from bertile.config.spec import load_spec
from bertile.models.quantized import QuantizedNorm

SPEC = load_spec()
BEAT = SPEC.packet.beat_bytes
HEADER = SPEC.records["layernorm_header"]
FEATURE = SPEC.records["layernorm_feature"].dtype


def to_beats(data: bytes) -> np.ndarray:
    """Bytes padded with zeros to whole beats, [n, 64] uint8."""
    return np.frombuffer(data + bytes(-len(data) % BEAT), np.uint8).reshape(-1, BEAT)


def encode_table(table: np.ndarray) -> np.ndarray:
    """A table as beats [n, 64]."""
    return to_beats(table.astype(table.dtype.newbyteorder("<")).tobytes())


def decode_table(beats: np.ndarray, dtype: str, entries: int) -> np.ndarray:
    return np.frombuffer(beats.tobytes(), dtype)[:entries].copy()


def encode_norm(norm: QuantizedNorm) -> np.ndarray:
    """A header beat, then eight features a beat, [n, 64]."""
    header = HEADER.encode(
        epsilon=norm.epsilon,
        features=len(norm.gain),
        residual_shift=norm.residual_shift,
        output_shift=norm.output_shift,
    )
    features = np.zeros(len(norm.gain), FEATURE)
    features["offset"], features["gain"] = norm.offset, norm.gain
    features["residual_multiplier"] = norm.residual_multiplier
    return np.concatenate([to_beats(header), to_beats(features.tobytes())])


def decode_norm(beats: np.ndarray) -> QuantizedNorm:
    header = HEADER.decode(beats[0].tobytes())[0]
    features = np.frombuffer(beats[1:].tobytes(), FEATURE)[: int(header["features"])]
    return QuantizedNorm(
        features["residual_multiplier"].copy(),
        int(header["residual_shift"]),
        features["gain"].copy(),
        features["offset"].copy(),
        int(header["output_shift"]),
        int(header["epsilon"]),
    )
