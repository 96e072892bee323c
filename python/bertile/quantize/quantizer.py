"""W8A8 quantization of an encoder, calibrated on sequences (docs/numerics.md says what the numbers mean)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from bertile.config.spec import load_spec
from bertile.errors import BertileError
from bertile.models.encoder import Embeddings, EncoderConfig, EncoderLayer, Linear, Norm
from bertile.models.quantized import QuantizedAttention, QuantizedEncoder, QuantizedLayer, QuantizedNorm
from bertile.quantize.calibration import LayerTrace, join_sequences, trace_layer
from bertile.quantize.equalize import equalized_scale, rounded_weight, sample_rows
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
# Head room of the 16-bit sum before a LayerNorm, over the largest value seen in calibration.
SUM_HEADROOM = 2.0
CLIP_RATIOS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5)
# Below this input GELU is flat to within a step of its output.
INDEX_FLOOR = -6.0


def peak(x: torch.Tensor) -> np.ndarray:
    """Largest magnitude of each feature, [features] float64, never zero."""
    return np.maximum(x.abs().amax(dim=0).double().numpy(), 1e-6)


def input_scale(x: torch.Tensor, readers: list[Linear]) -> np.ndarray:
    """Scale [hidden] of a LayerNorm output read by `readers`."""
    return equalized_scale(x, np.concatenate([reader.weight for reader in readers]))


def head_scales(trace: LayerTrace, heads: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scales of queries and keys [hidden] and of their product [heads].

    A feature's query and key may trade range freely as long as their product of scales is the same over a head.
    """
    query, key = peak(trace.query), peak(trace.key)
    level = np.sqrt(query * key).reshape(heads, -1).max(axis=1) / 127  # [heads]
    balance = np.sqrt(query / key)
    level_of_feature = np.repeat(level, len(query) // heads)
    return level_of_feature * balance, level_of_feature / balance, level * level


def quantize_attention(trace: LayerTrace, score_scale: np.ndarray, value_scale: np.ndarray, heads: int):
    """Score and context requantization, and the scale [hidden] of the context."""
    head_size = len(value_scale) // heads
    score_step = np.log(2) / (1 << SPEC.law.score_fraction_bits)
    score_multiplier, score_shift = fixed_point(score_scale / np.sqrt(head_size) / score_step, SPEC.law.multiplier_bits)
    # A context is an average of values, hence smaller: one gain a head restores its 8 bits.
    ratio = (peak(trace.context) / (127 * value_scale)).reshape(heads, head_size).max(axis=1)
    ratio = np.clip(ratio, 1 / 64, 1.0)
    largest_row_scale = (1 << SPEC.law.row_scale_bits) - 1
    shift = np.floor(np.log2(largest_row_scale * SPEC.law.probability_max * ratio)).astype(np.int64)
    numerator = np.floor(2.0**shift / ratio).astype(np.int64)
    attention = QuantizedAttention(
        score_multiplier.astype(np.uint16),
        score_shift.astype(np.uint8),
        numerator.astype(np.uint32),
        shift.astype(np.uint8),
    )
    return attention, value_scale * np.repeat(2.0**shift / numerator, head_size)


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


def hidden_scale(hidden: torch.Tensor, reader: Linear) -> tuple[float, int]:
    """Scale and zero point of the activation function's uint8 output: the clipping of least error behind `reader`."""
    low, high = float(hidden.min()), max(float(hidden.max()), 1e-6)
    sample, weight = sample_rows(hidden), torch.from_numpy(reader.weight)
    exact, rounded = sample @ weight.T, rounded_weight(weight)
    best = None
    for ratio in CLIP_RATIOS:
        scale = (high * ratio - min(low, 0.0)) / 255
        zero = round(-min(low, 0.0) / scale)
        quantized = ((sample / scale).round_() + zero).clamp_(0, 255) - zero
        error = float(((quantized * scale) @ rounded.T - exact).square_().mean())
        if best is None or error < best[0]:
            best = (error, scale, zero)
    return best[1], best[2]


def sum_scale(x: torch.Tensor) -> float:
    """Step of a 16-bit sum before a LayerNorm."""
    return max(float(x.abs().max()), 1e-6) * SUM_HEADROOM / 32767


def quantize_layer(
    layer: EncoderLayer, config: EncoderConfig, trace: LayerTrace, scale: np.ndarray, output_scale: np.ndarray
) -> QuantizedLayer:
    """One layer between the scales of its input and output, both [hidden]."""
    query_scale, key_scale, score_scale = head_scales(trace, config.heads)
    value_scale = equalized_scale(trace.value, layer.attention_output.weight)
    attention, context_scale = quantize_attention(trace, score_scale, value_scale, config.heads)
    attention_step, ffn_step = sum_scale(trace.attention_sum), sum_scale(trace.ffn_sum)
    middle_scale = input_scale(trace.middle, [layer.ffn_in])

    half = 1 << (SPEC.law.gelu_index_bits - 1)
    top = max(float(trace.ffn_index.max()) * 1.1, 1.0)
    index_scale = (top - INDEX_FLOOR) / (2 * half - 1)
    index_offset = -half - INDEX_FLOOR / index_scale
    hidden_step, hidden_zero = hidden_scale(trace.ffn_hidden, layer.ffn_out)

    def between(matrix: Linear, source, zero, target, offset=0.0):
        return quantize_linear(matrix.weight, matrix.bias, source, zero, target, offset)

    hidden_steps = np.full(config.ffn, hidden_step)
    return QuantizedLayer(
        query=between(layer.query, scale, 0, query_scale),
        key=between(layer.key, scale, 0, key_scale),
        value=between(layer.value, scale, 0, value_scale),
        attention=attention,
        attention_output=between(layer.attention_output, context_scale, 0, attention_step),
        attention_norm=quantize_norm(layer.attention_norm, config.norm_epsilon, scale, attention_step, middle_scale),
        ffn_in=between(layer.ffn_in, middle_scale, 0, index_scale, index_offset),
        activation_table=activation_table(config.activation, index_scale, index_offset, hidden_step, hidden_zero),
        ffn_out=between(layer.ffn_out, hidden_steps, hidden_zero, ffn_step),
        ffn_norm=quantize_norm(layer.ffn_norm, config.norm_epsilon, middle_scale, ffn_step, output_scale),
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
    first_scale = scale = input_scale(x, [layers[0].query, layers[0].key, layers[0].value])
    quantized, output_scales = [], []
    for number, layer in enumerate(layers):
        trace = trace_layer(layer, config, x, lengths)
        if number + 1 < len(layers):
            reader = layers[number + 1]
            output_scale = input_scale(trace.output, [reader.query, reader.key, reader.value])
        else:
            output_scale = peak(trace.output) / 127
        quantized.append(quantize_layer(layer, config, trace, scale, output_scale))
        output_scales.append(output_scale)
        x, scale = trace.output, output_scale
        progress(number + 1, len(layers))
    return QuantizedEncoder(
        config,
        tuple(quantized),
        exponential_table(),
        first_scale.astype(np.float32),
        np.stack(output_scales).astype(np.float32),
        embeddings,
        tokenizer,
        provenance or {},
    )
