"""The quantized encoder as plain integer arrays: what the law of numbers (docs/numerics.md) computes with."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bertile.models.encoder import Embeddings, EncoderConfig


@dataclass(frozen=True)
class QuantizedLinear:
    """One weight matrix with its requantization (docs/numerics.md, Requantization).

    weight [out, in] int8 in -127..127; bias [out] int32; multiplier [out] uint16; shift [out] uint8.
    """

    weight: np.ndarray
    bias: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray


@dataclass(frozen=True)
class QuantizedNorm:
    """Residual addition and LayerNorm (docs/numerics.md, LayerNorm).

    residual_multiplier [hidden] uint16; gain [hidden] int16; offset [hidden] int32; the rest scalars.
    """

    residual_multiplier: np.ndarray
    residual_shift: int
    gain: np.ndarray
    offset: np.ndarray
    output_shift: int
    epsilon: int


@dataclass(frozen=True)
class QuantizedAttention:
    """Requantization of scores and context, one value a head (docs/numerics.md, Attention).

    score_multiplier [heads] uint16; score_shift, context_shift [heads] uint8; context_numerator [heads] uint32.
    """

    score_multiplier: np.ndarray
    score_shift: np.ndarray
    context_numerator: np.ndarray
    context_shift: np.ndarray


@dataclass(frozen=True)
class QuantizedLayer:
    """One transformer layer; activation_table [2**gelu_index_bits] uint8."""

    query: QuantizedLinear
    key: QuantizedLinear
    value: QuantizedLinear
    attention: QuantizedAttention
    attention_output: QuantizedLinear
    attention_norm: QuantizedNorm
    ffn_in: QuantizedLinear
    activation_table: np.ndarray
    ffn_out: QuantizedLinear
    ffn_norm: QuantizedNorm


@dataclass(frozen=True)
class QuantizedEncoder:
    """Everything a run needs.

    exponential_table [2**score_fraction_bits] uint16; input_scale [hidden] float32: real value of one step of the
    encoder's input; output_scale [layers, hidden] float32: the same for each layer's output. tokenizer: the text of
    a Hugging Face tokenizer.json, or "" for a model without one. provenance: plain JSON data.
    """

    config: EncoderConfig
    layers: tuple[QuantizedLayer, ...]
    exponential_table: np.ndarray
    input_scale: np.ndarray
    output_scale: np.ndarray
    embeddings: Embeddings
    tokenizer: str = ""
    provenance: dict = field(default_factory=dict)


def quantize_input(x: np.ndarray, input_scale: np.ndarray) -> np.ndarray:
    """Encoder input [tokens, hidden] float32 as int8 (docs/numerics.md, Input); input_scale [hidden]."""
    steps = x / input_scale
    np.rint(steps, out=steps)
    return np.clip(steps, -128, 127, out=steps).astype(np.int8)


def dequantize_output(y: np.ndarray, output_scale: np.ndarray) -> np.ndarray:
    """A layer's output [tokens, hidden] int8 as float32; output_scale [hidden] of that layer."""
    return np.multiply(y, output_scale, dtype=np.float32)
