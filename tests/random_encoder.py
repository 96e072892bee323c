"""Small random encoders, pruned by vectors and quantized: what the C-simulation and quantizer tests run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bertile.models.encoder import MATRICES, Embeddings, EncoderConfig, EncoderLayer, Linear, Norm
from bertile.models.quantized import QuantizedEncoder
from bertile.quantize.quantizer import quantize_encoder

OUTPUTS = 16
# A density: exactly one vector in the whole matrix.
ONE_VECTOR = -1.0
VOCABULARY = 61


def encoder_config(hidden: int, ffn: int, heads: int, layers: int = 2, activation: str = "gelu") -> EncoderConfig:
    return EncoderConfig("bert", layers, hidden, ffn, heads, activation, 1e-12, 512, VOCABULARY)


def vector_mask(rng: np.random.Generator, outputs: int, inputs: int, density: float) -> np.ndarray:
    """Which weights [outputs, inputs] stay: whole vectors of 16 output features."""
    shape = (outputs // OUTPUTS, inputs)
    if density == ONE_VECTOR:
        kept = np.zeros(shape, bool)
        kept[tuple(rng.integers(shape))] = True
    else:
        kept = rng.random(shape) < density
    return np.repeat(kept, OUTPUTS, axis=0)


def random_linear(rng: np.random.Generator, outputs: int, inputs: int, density: float) -> Linear:
    spread = 1.5 / np.sqrt(max(1.0, inputs * abs(density)))
    weight = rng.standard_normal((outputs, inputs), np.float32) * np.float32(spread)
    bias = rng.standard_normal(outputs, np.float32) * np.float32(0.3)
    return Linear(weight * vector_mask(rng, outputs, inputs, density), bias)


def random_norm(rng: np.random.Generator, hidden: int) -> Norm:
    gain = rng.uniform(0.3, 1.7, hidden) * rng.choice([-1, 1], hidden)
    return Norm(gain.astype(np.float32), rng.standard_normal(hidden, np.float32) * np.float32(0.2))


def random_layer(rng: np.random.Generator, config: EncoderConfig, densities: Mapping[str, float]) -> EncoderLayer:
    shapes = dict.fromkeys(MATRICES, (config.hidden, config.hidden))
    shapes |= {"ffn_in": (config.ffn, config.hidden), "ffn_out": (config.hidden, config.ffn)}
    return EncoderLayer(
        **{name: random_linear(rng, *shape, densities.get(name, 0.4)) for name, shape in shapes.items()},
        attention_norm=random_norm(rng, config.hidden),
        ffn_norm=random_norm(rng, config.hidden),
    )


def random_embeddings(rng: np.random.Generator, config: EncoderConfig) -> Embeddings:
    word = rng.standard_normal((config.vocabulary, config.hidden), np.float32)
    position = rng.standard_normal((config.max_tokens, config.hidden), np.float32) * np.float32(0.3)
    return Embeddings(word, position, random_norm(rng, config.hidden), config.norm_epsilon)


def random_layers(
    config: EncoderConfig, seed: int, densities: Mapping[str, float]
) -> tuple[list[EncoderLayer], Embeddings, list[np.ndarray]]:
    """Float layers, embeddings and token ids to calibrate on; `densities` by matrix name, 0.4 for the others."""
    rng = np.random.default_rng(seed)
    layers = [random_layer(rng, config, densities) for _ in range(config.layers)]
    calibration = [rng.integers(config.vocabulary, size=tokens) for tokens in (17, 40, 64, 5)]
    return layers, random_embeddings(rng, config), calibration


def random_quantized(
    config: EncoderConfig, seed: int, densities: Mapping[str, float] | None = None
) -> QuantizedEncoder:
    layers, embeddings, calibration = random_layers(config, seed, densities or {})
    return quantize_encoder(layers, config, embeddings, calibration)
