"""From real scales to the integers of the law: multipliers and shifts, tables, and quantized weights."""

from __future__ import annotations

import numpy as np
import torch
from transformers.activations import ACT2FN

from bertile.config.spec import load_spec
from bertile.errors import BertileError
from bertile.models.quantized import QuantizedLinear

SPEC = load_spec()
INT32_MAX = 2**31 - 1


def fixed_point(scale: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Each scale > 0 as `multiplier / 2**shift`, the multiplier with `bits` significant bits.

    Raises BertileError for a scale that 0 <= shift <= shift_max cannot express.
    """
    scale = np.asarray(scale, np.float64)
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise BertileError("quantization: a scale is zero, negative or not finite")
    mantissa, exponent = np.frexp(scale)
    multiplier = np.rint(mantissa * 2.0**bits).astype(np.int64)
    carry = multiplier == 1 << bits
    multiplier = np.where(carry, multiplier >> 1, multiplier)
    shift = bits - exponent - carry
    # A scale too small for the shift loses leading bits of its multiplier instead.
    excess = np.maximum(shift - SPEC.law.shift_max, 0)
    multiplier, shift = np.rint(multiplier / 2.0**excess).astype(np.int64), shift - excess
    if (shift < 0).any():
        raise BertileError(f"quantization: a scale of {scale.max():.3g} is beyond the multiplier's range")
    return multiplier, shift


def shared_shift(values: np.ndarray, bits: int) -> tuple[np.ndarray, int]:
    """Values as integers of at most `bits` magnitude bits over one power of two: `round(value * 2**shift)`."""
    limit = float(np.abs(values).max())
    shift = SPEC.law.shift_max if limit == 0 else min(SPEC.law.shift_max, bits - int(np.frexp(limit)[1]))
    if shift < 0:
        raise BertileError(f"quantization: a scale of {limit:.3g} is beyond the multiplier's range")
    largest = (1 << bits) - 1
    return np.clip(np.rint(values * 2.0**shift), -largest, largest).astype(np.int64), shift


def quantize_weight(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """INT8 weight [out, in] and scale [out], symmetric; a row of zeros gets scale 1."""
    limit = np.abs(weight).max(axis=1)
    scale = np.where(limit > 0, limit / 127, 1.0)
    return np.clip(np.rint(weight / scale[:, None]), -127, 127).astype(np.int8), scale


def quantize_linear(
    weight: np.ndarray,
    bias: np.ndarray,
    source_scale: np.ndarray,
    source_zero: int,
    target_scale: np.ndarray | float,
    target_offset: float = 0.0,
) -> QuantizedLinear:
    """A matrix between two activations.

    weight [out, in], bias [out] real; source real = source_scale [in] * (q - source_zero); target integer =
    real / target_scale [out] + target_offset.
    """
    integer, weight_scale = quantize_weight(weight * source_scale)
    target_scale = np.broadcast_to(target_scale, bias.shape).astype(np.float64)
    # A row without weights is a constant; a coarse step keeps its bias in 32 bits.
    empty = ~integer.any(axis=1)
    weight_scale = np.where(empty, target_scale / 256, weight_scale)
    real_bias = (bias + target_offset * target_scale) / weight_scale
    fixed_bias = np.rint(real_bias) - source_zero * integer.astype(np.int64).sum(axis=1)
    reach = np.abs(fixed_bias) + 255 * np.abs(integer.astype(np.int64)).sum(axis=1)
    if not (reach <= INT32_MAX).all():
        raise BertileError("quantization: a bias and its accumulator do not fit 32 bits")
    multiplier, shift = fixed_point(weight_scale / target_scale, SPEC.law.multiplier_bits)
    return QuantizedLinear(integer, fixed_bias.astype(np.int32), multiplier.astype(np.uint16), shift.astype(np.uint8))


def exponential_table() -> np.ndarray:
    """Softmax: 255 * 256 * 2**(-f / entries) for every fraction f."""
    entries = 1 << SPEC.law.score_fraction_bits
    return np.rint(SPEC.law.probability_max * 256 * 2.0 ** (-np.arange(entries) / entries)).astype(np.uint16)


def activation_table(name: str, index_scale: float, index_offset: float, scale: float, zero: int) -> np.ndarray:
    """The activation function as uint8 for every index: real input = index_scale * (index - offset)."""
    bits = SPEC.law.gelu_index_bits
    index = np.arange(1 << bits) - (1 << (bits - 1))
    real = torch.from_numpy(index_scale * (index - index_offset))
    return np.clip(np.rint(ACT2FN[name](real).numpy() / scale) + zero, 0, 255).astype(np.uint8)
