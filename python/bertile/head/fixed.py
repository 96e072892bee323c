"""A head on integers: the formats that hls4ml is told to use, and what the kernel computes with them, to the bit.

Every sum is exact; a value is rounded in four places only: weights, pooled mean, input of tanh, logits (docs/head.md).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from bertile.config.spec import load_spec
from bertile.errors import CapacityError
from bertile.head.model import POOLINGS, Head

SPEC = load_spec()
WEIGHT_BITS, BIAS_BITS = 16, 24
# Smaller weights would make the accumulators wider for nothing.
WEIGHT_FRACTION_MAX, ACCUMULATOR_BITS_MAX = 24, 60
# The pooled mean, as a share of full scale (128 steps of the encoder's output): ap_fixed<18, 1>.
INPUT_BITS, INPUT_FRACTION = 18, 17
STEPS = 128
# hls4ml's tanh table covers [-4, 4). Its index cuts fraction bits off, so tanh's input has none to cut.
TANH_RANGE, TANH_INTEGER, TANH_FRACTION = 4, 3, 7
TABLE_SIZE = 2 * TANH_RANGE << TANH_FRACTION
# Its entries are computed with the compiler's tanhf: so coarse that none is near a rounding boundary (17 float steps at
# least, the others from 0.2 to 14 for 9 to 17 fraction bits), so every libm and HLS tool makes the same table.
ACTIVATION_BITS, ACTIVATION_FRACTION = 14, 12
LOGIT_FRACTION = 16
LOGIT_BITS_MAX = 32


@dataclass(frozen=True)
class Format:
    """ap_fixed<bits, integer>: a signed integer times 2^-fraction."""

    bits: int
    fraction: int

    @property
    def integer(self) -> int:
        return self.bits - self.fraction

    def __str__(self) -> str:
        return f"ap_fixed<{self.bits},{self.integer}>"


@dataclass(frozen=True)
class FixedLayer:
    """A dense layer: weight [out, in] and bias [out] int64 in their formats; the accumulator never overflows."""

    weight: np.ndarray
    bias: np.ndarray
    weight_format: Format
    bias_format: Format
    accumulator: Format


@dataclass(frozen=True)
class FixedHead:
    """Pooler and classifier on integers; logit: the format of the result."""

    pooler: FixedLayer
    classifier: FixedLayer
    logit: Format
    pooled_tokens: int

    @property
    def hidden(self) -> int:
        return self.pooler.weight.shape[1]

    @property
    def features(self) -> int:
        return self.pooler.weight.shape[0]

    @property
    def labels(self) -> int:
        return self.classifier.weight.shape[0]

    @property
    def digest(self) -> str:
        """SHA-256 of every number: two kernels with the same digest give the same logits."""
        sizes = (INPUT_BITS, INPUT_FRACTION, TANH_INTEGER, TANH_FRACTION, ACTIVATION_BITS, ACTIVATION_FRACTION)
        digest = hashlib.sha256(repr((self.pooled_tokens, self.logit, sizes)).encode())
        for layer in (self.pooler, self.classifier):
            digest.update(repr((layer.weight.shape, layer.weight_format, layer.bias_format)).encode())
            digest.update(layer.weight.tobytes() + layer.bias.tobytes())
        return digest.hexdigest()

    @property
    def digest_word(self) -> int:
        """The first eight bytes of the digest, as the kernel reports them."""
        return int(self.digest[:16], 16)


def format_for(values: np.ndarray, bits: int, fraction_max: int) -> Format:
    """The format of that many bits that holds all values with the most fraction bits, but no more than fraction_max."""
    largest = float(np.abs(values).max(initial=0.0))
    integer = math.floor(math.log2(largest)) + 2 if largest > 0 else bits - fraction_max
    return Format(bits, min(bits - integer, fraction_max))


def to_integers(values: np.ndarray, target: Format) -> np.ndarray:
    """Round to nearest, saturate: the largest value may round up to the first that does not fit."""
    limit = 1 << (target.bits - 1)
    return np.clip(np.rint(np.ldexp(values.astype(np.float64), target.fraction)), -limit, limit - 1).astype(np.int64)


def quantize_layer(weight: np.ndarray, bias: np.ndarray, source: Format) -> FixedLayer:
    """weight [out, in], bias [out] real, for an input in `source` of magnitude one at most. Raises CapacityError."""
    weight_format = format_for(weight, WEIGHT_BITS, WEIGHT_FRACTION_MAX)
    fraction = source.fraction + weight_format.fraction
    bias_format = format_for(bias, BIAS_BITS, fraction)
    integers, offsets = to_integers(weight, weight_format), to_integers(bias, bias_format)
    bound = np.ldexp(np.abs(integers).sum(axis=1), -weight_format.fraction)
    bound += np.ldexp(np.abs(offsets), -bias_format.fraction)
    accumulator = Format(fraction + max(2, math.floor(math.log2(max(bound.max(), 1.0))) + 2), fraction)
    if accumulator.bits > ACCUMULATOR_BITS_MAX:
        raise CapacityError(f"the head's weights are too large: its sums need {accumulator.bits} bits")
    return FixedLayer(integers, offsets, weight_format, bias_format, accumulator)


def quantize_head(head: Head, output_scale: np.ndarray) -> FixedHead:
    """Fold the scales of the encoder's output [hidden] into the pooler, and round. Raises CapacityError.

    So the kernel pools integers and needs no scale, and a head belongs to one packed model's scales.
    """
    folded = head.pooler_weight.astype(np.float64) * output_scale * STEPS
    pooler = quantize_layer(folded, head.pooler_bias, Format(INPUT_BITS, INPUT_FRACTION))
    activation = Format(ACTIVATION_BITS, ACTIVATION_FRACTION)
    classifier = quantize_layer(head.classifier_weight, head.classifier_bias, activation)
    logit = Format(classifier.accumulator.integer + LOGIT_FRACTION, LOGIT_FRACTION)
    if logit.bits > LOGIT_BITS_MAX:
        raise CapacityError("the classifier's weights are too large: its logits leave 16 integer bits")
    return FixedHead(pooler, classifier, logit, POOLINGS[head.pooling])


def pool(rows: np.ndarray, pooled_tokens: int) -> np.ndarray:
    """Mean [hidden] int64 in ap_fixed<18, 1> of the first tokens of rows [tokens, hidden] int8; halves toward +inf."""
    used = rows[:pooled_tokens].astype(np.int64)
    doubled = used.sum(axis=0) * (2 << INPUT_FRACTION) // STEPS
    return (doubled + len(used)) // (2 * len(used))


def tanh_table() -> np.ndarray:
    """[TABLE_SIZE] int64: tanh of -4, -4 + 2^-7, ..., in ap_fixed<14, 2>, halves up."""
    inputs = np.arange(-TABLE_SIZE // 2, TABLE_SIZE // 2) / (1 << TANH_FRACTION)
    return np.floor(np.ldexp(np.tanh(inputs), ACTIVATION_FRACTION) + 0.5).astype(np.int64)


def accumulate(layer: FixedLayer, x: np.ndarray) -> np.ndarray:
    """weight @ x + bias, [out] exact, with the accumulator's fraction bits."""
    return layer.weight @ x + (layer.bias << (layer.accumulator.fraction - layer.bias_format.fraction))


def round_shift(x: np.ndarray, bits: int) -> np.ndarray:
    """Drop fraction bits, halves up, as AP_RND; or append zeros."""
    return x << -bits if bits <= 0 else (x + (1 << (bits - 1))) >> bits


def fixed_logits(fixed: FixedHead, pooled: np.ndarray) -> np.ndarray:
    """Logits [labels] int64 in the logit format, of one pooled mean [hidden] (`pool`)."""
    raw = accumulate(fixed.pooler, pooled)
    index = round_shift(raw, fixed.pooler.accumulator.fraction - TANH_FRACTION)
    index = np.clip(index, -TABLE_SIZE // 2, TABLE_SIZE // 2 - 1)
    activated = tanh_table()[index + TABLE_SIZE // 2]
    return round_shift(accumulate(fixed.classifier, activated), fixed.classifier.accumulator.fraction - LOGIT_FRACTION)


def error_bound(head: Head, fixed: FixedHead, output_scale: np.ndarray) -> np.ndarray:
    """[labels]: how far a logit of the kernel can be from the head's in exact arithmetic, whatever the input.

    tanh is never steeper than 1, so the error of its input passes through at most.
    """
    folded = head.pooler_weight.astype(np.float64) * output_scale * STEPS
    half_step = 2.0 ** -(INPUT_FRACTION + 1)
    before = np.abs(folded - np.ldexp(fixed.pooler.weight, -fixed.pooler.weight_format.fraction)).sum(axis=1)
    before += np.abs(folded).sum(axis=1) * half_step + 2.0 ** -(TANH_FRACTION + 1)
    before += np.abs(head.pooler_bias - np.ldexp(fixed.pooler.bias, -fixed.pooler.bias_format.fraction))
    # The table ends at +-4, and its entries are rounded.
    activated = before + 1 - math.tanh(TANH_RANGE - 2.0**-TANH_FRACTION) + 2.0 ** -(ACTIVATION_FRACTION + 1)
    layer = fixed.classifier
    after = np.abs(head.classifier_weight - np.ldexp(layer.weight, -layer.weight_format.fraction)).sum(axis=1)
    after += np.abs(head.classifier_weight) @ np.minimum(activated, 2.0)
    return after + np.abs(head.classifier_bias - np.ldexp(layer.bias, -layer.bias_format.fraction)) + 2.0**-17
