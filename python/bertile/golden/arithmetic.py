"""The law of numbers, one function a rule, on int64 tensors.

Written from docs/numerics.md, whose section names stand in the docstrings; never from a kernel.
"""

from __future__ import annotations

import torch

from bertile.config.spec import load_spec

SPEC = load_spec()
# Partial sums of a float32 product are exact while below 2^24: 255 * 128 * 512 is.
EXACT_INPUTS = 512


def rounding_shift(x: torch.Tensor, shift: torch.Tensor | int) -> torch.Tensor:
    """Rounding: divide by 2**shift, halves toward plus infinity."""
    shift = torch.as_tensor(shift, dtype=torch.int64)
    return (x + torch.where(shift > 0, 1 << (shift - 1).clamp(min=0), 0)) >> shift


def saturate(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Saturation to signed `bits`."""
    return x.clamp(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def requantize(acc: torch.Tensor, bias: torch.Tensor, multiplier: torch.Tensor, shift: torch.Tensor, bits: int):
    """Requantization: the accumulator [..., out] to signed `bits`; parameters [out]."""
    return saturate(rounding_shift((acc + bias) * multiplier, shift), bits)


def accumulate(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Accumulation: x [..., m, k] int64 (int8 or uint8 values) times weight [..., n, k] -> [..., m, n] int64, exact.

    Float32 matrix products over at most 512 inputs are exact and use the fast library.
    """
    total = None
    for first in range(0, x.shape[-1], EXACT_INPUTS):
        part = slice(first, first + EXACT_INPUTS)
        product = (x[..., part].float() @ weight[..., part].float().transpose(-1, -2)).to(torch.int64)
        total = product if total is None else total + product
    return total


def softmax(scores: torch.Tensor, table: torch.Tensor, numerator: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax: scores [..., m, keys] -> unnormalized probabilities [..., m, keys] and row scales [..., m, 1].

    numerator broadcasts against the row scales.
    """
    fraction_bits = SPEC.law.score_fraction_bits
    distance = scores.amax(dim=-1, keepdim=True) - scores
    whole = (distance >> fraction_bits).clamp(max=15)
    fraction = distance & ((1 << fraction_bits) - 1)
    probability = rounding_shift(table[fraction], whole + 8)
    total = probability.sum(dim=-1, keepdim=True)
    return probability, (numerator + (total >> 1)) // total


def context(acc: torch.Tensor, row_scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Context: the sum of values [..., m, d] times its row scale [..., m, 1], to int8."""
    return saturate(rounding_shift(acc * row_scale, shift), 8)


def integer_sqrt(x: torch.Tensor) -> torch.Tensor:
    """Floor of the square root of x < 2**50."""
    root = x.double().sqrt().long()
    root = torch.where(root * root > x, root - 1, root)
    return torch.where((root + 1) * (root + 1) <= x, root + 1, root)


def bit_length(x: torch.Tensor) -> torch.Tensor:
    """Bits of x, 0 < x < 2**53."""
    return torch.frexp(x.double()).exponent.long()


def reciprocal_sqrt(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Reciprocal square root: (mantissa r in 2**15..2**16, half exponent h) with 1/sqrt(x) ~ r / 2**(31 + h)."""
    exponent = ((bit_length(x) + 1) // 2) * 2 - SPEC.law.rsqrt_bits
    argument = torch.where(exponent >= 0, x >> exponent.clamp(min=0), x << (-exponent).clamp(min=0))
    return (1 << 31) // integer_sqrt(argument), exponent // 2


def residual_sum(y: torch.Tensor, x: torch.Tensor, multiplier: torch.Tensor, shift: int) -> torch.Tensor:
    """Residual: 16-bit y [m, hidden] plus the rescaled int8 residual x [m, hidden], saturated to 16 bits."""
    return saturate(y + rounding_shift(x * multiplier, shift), 16)


def layer_norm(z: torch.Tensor, gain: torch.Tensor, offset: torch.Tensor, shift: int, epsilon: int) -> torch.Tensor:
    """LayerNorm: z [m, hidden] 16-bit -> int8 [m, hidden]."""
    features = z.shape[-1]
    total = z.sum(dim=-1, keepdim=True)
    squares = (z * z).sum(dim=-1, keepdim=True)
    mantissa, half = reciprocal_sqrt(features * squares - total * total + epsilon)
    centered = (features * z - total) * mantissa
    normalized = saturate(rounding_shift(centered, 31 + half - SPEC.law.norm_fraction_bits), 16)
    return saturate(rounding_shift(normalized * gain + offset, shift), 8)
