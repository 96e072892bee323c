"""A packed random encoder with both of its devices, made once a session for each shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from tests.random_encoder import ONE_VECTOR, encoder_config, random_quantized

from bertile.devices.csim import CsimEncoder
from bertile.golden.integer import IntegerEncoder
from bertile.models.encoder import MATRICES
from bertile.models.quantized import QuantizedEncoder
from bertile.pack.packer import PackedModel, pack_encoder

ALL_ZERO = dict.fromkeys(MATRICES, 0.0)
SHAPES = {
    "heads of 32": lambda: random_quantized(encoder_config(64, 112, 2), 1),
    "heads of 64": lambda: random_quantized(encoder_config(128, 208, 2, activation="relu"), 2, {"query": 0.05}),
    "three heads of 32": lambda: random_quantized(encoder_config(96, 32, 3, layers=1), 3, {"ffn_in": 1.0}),
    "a matrix of zeros": lambda: random_quantized(encoder_config(64, 112, 2), 4, {"key": 0.0, "ffn_out": 0.0}),
    "one vector": lambda: random_quantized(encoder_config(64, 112, 2), 5, dict.fromkeys(MATRICES, ONE_VECTOR)),
    "no weights at all": lambda: random_quantized(encoder_config(64, 48, 1, layers=1), 6, ALL_ZERO),
    "base": lambda: random_quantized(encoder_config(768, 3072, 12, layers=1), 7, dict.fromkeys(MATRICES, 0.1)),
    "largest": lambda: random_quantized(encoder_config(1024, 4096, 16, layers=1), 8, dict.fromkeys(MATRICES, 0.05)),
}


@dataclass(frozen=True)
class Pair:
    """The same encoder on integers and in C-simulation."""

    model: QuantizedEncoder
    packed: PackedModel
    integer: IntegerEncoder
    csim: CsimEncoder

    def sequences(self, lengths: list[int], seed: int = 0) -> list[np.ndarray]:
        """Random input [tokens, hidden] int8 over the whole range."""
        rng = np.random.default_rng(seed)
        return [rng.integers(-128, 128, (tokens, self.model.config.hidden)).astype(np.int8) for tokens in lengths]


@pytest.fixture(scope="session")
def pair() -> Callable[[str], Pair]:
    """`pair(shape)`, a key of `SHAPES`: shared by all tests, so never change it."""
    cache: dict[str, Pair] = {}

    def make(shape: str) -> Pair:
        if shape not in cache:
            model = SHAPES[shape]()
            packed = pack_encoder(model)
            cache[shape] = Pair(model, packed, IntegerEncoder(model), CsimEncoder(packed))
        return cache[shape]

    return make
