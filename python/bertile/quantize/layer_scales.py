"""The real-valued scales of a layer: measured once, read by the quantizer and by fake quantization alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from bertile.config.spec import load_spec
from bertile.models.encoder import EncoderConfig, EncoderLayer, Linear
from bertile.quantize.calibration import LayerTrace, trace_layer
from bertile.quantize.equalize import equalized_scale, rounded_weight, sample_rows

SPEC = load_spec()
# Head room of the 16-bit sum before a LayerNorm, over the largest value seen in calibration.
SUM_HEADROOM = 2.0
CLIP_RATIOS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5)
# Below this input GELU is flat to within a step of its output.
INDEX_FLOOR = -6.0


@dataclass(frozen=True)
class LayerScales:
    """What one step of each integer tensor of a layer is worth (docs/numerics.md, Tensors); arrays are float64.

    input, query, key, value, middle (between the LayerNorms), output [hidden]: int8. score [heads]: of a query's
    product with a key. context_numerator, context_shift [heads] int64: the gain of the context. attention_sum, ffn_sum:
    of the 16-bit sums. index_step, index_offset: real input of the activation function = step * (index - offset).
    hidden_step, hidden_zero: its output = step * (q - zero).
    """

    input: np.ndarray
    query: np.ndarray
    key: np.ndarray
    value: np.ndarray
    score: np.ndarray
    context_numerator: np.ndarray
    context_shift: np.ndarray
    attention_sum: float
    middle: np.ndarray
    index_step: float
    index_offset: float
    hidden_step: float
    hidden_zero: int
    ffn_sum: float
    output: np.ndarray

    @property
    def context(self) -> np.ndarray:
        """Scale [hidden] of the context: the values' over the gain of their head."""
        gain = 2.0**self.context_shift / self.context_numerator
        return self.value * np.repeat(gain, len(self.value) // len(gain))


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


def context_gain(context: torch.Tensor, value_scale: np.ndarray, heads: int) -> tuple[np.ndarray, np.ndarray]:
    """Numerator and shift [heads] int64 of the context's requantization."""
    # A context is an average of values, hence smaller: one gain a head restores its 8 bits.
    ratio = (peak(context) / (127 * value_scale)).reshape(heads, -1).max(axis=1)
    ratio = np.clip(ratio, 1 / 64, 1.0)
    largest_row_scale = (1 << SPEC.law.row_scale_bits) - 1
    shift = np.floor(np.log2(largest_row_scale * SPEC.law.probability_max * ratio)).astype(np.int64)
    return np.floor(2.0**shift / ratio).astype(np.int64), shift


def index_scale(index: torch.Tensor) -> tuple[float, float]:
    """Step and offset of the activation function's index: from -6 to a little over what calibration saw."""
    half = 1 << (SPEC.law.gelu_index_bits - 1)
    top = max(float(index.max()) * 1.1, 1.0)
    step = (top - INDEX_FLOOR) / (2 * half - 1)
    return step, -half - INDEX_FLOOR / step


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


def measure_layer(
    layer: EncoderLayer, config: EncoderConfig, trace: LayerTrace, scale: np.ndarray, output_scale: np.ndarray
) -> LayerScales:
    """The scales of one layer between those of its input and output, both [hidden]."""
    query, key, score = head_scales(trace, config.heads)
    value = equalized_scale(trace.value, layer.attention_output.weight)
    context_numerator, context_shift = context_gain(trace.context, value, config.heads)
    index_step, index_offset = index_scale(trace.ffn_index)
    hidden_step, hidden_zero = hidden_scale(trace.ffn_hidden, layer.ffn_out)
    return LayerScales(
        input=scale,
        query=query,
        key=key,
        value=value,
        score=score,
        context_numerator=context_numerator,
        context_shift=context_shift,
        attention_sum=sum_scale(trace.attention_sum),
        middle=input_scale(trace.middle, [layer.ffn_in]),
        index_step=index_step,
        index_offset=index_offset,
        hidden_step=hidden_step,
        hidden_zero=hidden_zero,
        ffn_sum=sum_scale(trace.ffn_sum),
        output=output_scale,
    )


def measure_scales(
    layers: list[EncoderLayer], config: EncoderConfig, x: torch.Tensor, lengths: list[int]
) -> Iterator[LayerScales]:
    """The scales of each layer in turn, for inputs x [tokens, hidden] float32 of sequences of these lengths."""
    scale = input_scale(x, [layers[0].query, layers[0].key, layers[0].value])
    for number, layer in enumerate(layers):
        trace = trace_layer(layer, config, x, lengths)
        if number + 1 < len(layers):
            reader = layers[number + 1]
            output_scale = input_scale(trace.output, [reader.query, reader.key, reader.value])
        else:
            output_scale = peak(trace.output) / 127
        yield measure_layer(layer, config, trace, scale, output_scale)
        x, scale = trace.output, output_scale
