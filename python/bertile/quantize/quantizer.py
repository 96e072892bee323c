"""W8A8 quantization of an encoder, calibrated on sequences (docs/numerics.md says what the numbers mean)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bertile.config.spec import load_spec
from bertile.errors import BertileError
from bertile.models.encoder import Embeddings, EncoderConfig, EncoderLayer, Linear, Norm
from bertile.models.quantized import QuantizedAttention, QuantizedEncoder, QuantizedLayer, QuantizedNorm
from bertile.quantize.calibration import join_sequences
from bertile.quantize.layer_scales import LayerScales, measure_scales
from bertile.quantize.scales import (
    activation_table,
    exponential_table,
    fixed_point,
    quantize_linear,
    shared_shift,
)

SPEC = load_spec()
# Largest epsilon in the scale of the variance: their sum stays below 2**53 (docs/numerics.md, LayerNorm).
EPSILON_MAX = 1 << 51


def quantize_attention(scales: LayerScales, head_size: int) -> QuantizedAttention:
    """Score and context requantization."""
    score_step = np.log(2) / (1 << SPEC.law.score_fraction_bits)
    multiplier, shift = fixed_point(scales.score / np.sqrt(head_size) / score_step, SPEC.law.multiplier_bits)
    return QuantizedAttention(
        multiplier.astype(np.uint16),
        shift.astype(np.uint8),
        scales.context_numerator.astype(np.uint32),
        scales.context_shift.astype(np.uint8),
    )


def quantize_norm(norm: Norm, epsilon: float, residual_scale: np.ndarray, sum_scale: float, output_scale: np.ndarray):
    """Residual addition and LayerNorm between real scales: residual and output [hidden], sum a scalar."""
    hidden = len(norm.gain)
    residual_multiplier, residual_shift = shared_shift(residual_scale / sum_scale, 16)
    gain, gain_shift = shared_shift(norm.gain / output_scale, 15)
    scaled_epsilon = round(hidden * hidden * epsilon / sum_scale**2)
    if scaled_epsilon > EPSILON_MAX:
        raise BertileError(f"quantization: a LayerNorm epsilon of {epsilon:.3g} is larger than its inputs")
    output_shift = gain_shift + SPEC.law.norm_fraction_bits
    return QuantizedNorm(
        residual_multiplier.astype(np.uint16),
        residual_shift,
        gain.astype(np.int16),
        np.rint(norm.bias / output_scale * 2.0**output_shift).astype(np.int32),
        output_shift,
        max(1, scaled_epsilon),
    )


def quantize_layer(layer: EncoderLayer, config: EncoderConfig, scales: LayerScales) -> QuantizedLayer:
    """The integers of one layer."""

    def between(matrix: Linear, source, zero, target, offset=0.0):
        return quantize_linear(matrix.weight, matrix.bias, source, zero, target, offset)

    s, epsilon = scales, config.norm_epsilon
    hidden_steps = np.full(config.ffn, s.hidden_step)
    return QuantizedLayer(
        query=between(layer.query, s.input, 0, s.query),
        key=between(layer.key, s.input, 0, s.key),
        value=between(layer.value, s.input, 0, s.value),
        attention=quantize_attention(s, config.head_size),
        attention_output=between(layer.attention_output, s.context, 0, s.attention_sum),
        attention_norm=quantize_norm(layer.attention_norm, epsilon, s.input, s.attention_sum, s.middle),
        ffn_in=between(layer.ffn_in, s.middle, 0, s.index_step, s.index_offset),
        activation_table=activation_table(
            config.activation, s.index_step, s.index_offset, s.hidden_step, s.hidden_zero
        ),
        ffn_out=between(layer.ffn_out, hidden_steps, s.hidden_zero, s.ffn_sum),
        ffn_norm=quantize_norm(layer.ffn_norm, epsilon, s.middle, s.ffn_sum, s.output),
    )


def quantize_encoder(
    layers: list[EncoderLayer],
    config: EncoderConfig,
    embeddings: Embeddings,
    sequences: list[np.ndarray],
    tokenizer: str = "",
    provenance: dict | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> QuantizedEncoder:
    """Quantize with static scales from `sequences` of token ids [tokens]; progress(done, total) counts layers."""
    x, lengths = join_sequences([embeddings.embed(ids) for ids in sequences])
    quantized, measured = [], []
    for layer, scales in zip(layers, measure_scales(layers, config, x, lengths), strict=True):
        quantized.append(quantize_layer(layer, config, scales))
        measured.append(scales)
        progress(len(quantized), len(layers))
    return QuantizedEncoder(
        config,
        tuple(quantized),
        exponential_table(),
        measured[0].input.astype(np.float32),
        np.stack([scales.output for scales in measured]).astype(np.float32),
        embeddings,
        tokenizer,
        provenance or {},
    )
