"""golden/arithmetic.py against plain Python integers and fractions, and close to PyTorch's floats."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bertile.config.spec import load_spec
from bertile.golden import arithmetic as law
from bertile.quantize.scales import exponential_table

SPEC = load_spec()
TABLE = torch.from_numpy(exponential_table().astype(np.int64))
int8, uint8, int16 = st.integers(-128, 127), st.integers(0, 255), st.integers(-32768, 32767)
int32, uint16 = st.integers(-(2**31), 2**31 - 1), st.integers(0, 65535)
shifts = st.integers(0, SPEC.law.shift_max)


def tensor(values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


def rounded(value: int, shift: int) -> int:
    """The nearest integer to value / 2**shift, halves toward plus infinity."""
    return math.floor(Fraction(value, 2**shift) + Fraction(1, 2))


def clipped(value: int, bits: int) -> int:
    return max(-(2 ** (bits - 1)), min(2 ** (bits - 1) - 1, value))


@given(st.lists(st.tuples(st.integers(-(2**55), 2**55), shifts), min_size=1))
def test_rounding_shift(pairs):
    values, by = zip(*pairs, strict=True)
    assert law.rounding_shift(tensor(values), tensor(by)).tolist() == [rounded(*pair) for pair in pairs]


@pytest.mark.parametrize(
    ("value", "shift", "result"),
    [
        (1, 1, 1),
        (-1, 1, 0),
        (3, 1, 2),
        (-3, 1, -1),
        (5, 2, 1),
        (6, 2, 2),
        (-6, 2, -1),
        (-7, 2, -2),
        (7, 0, 7),
        (-7, 0, -7),
    ],
)
def test_halves_go_up(value, shift, result):
    assert law.rounding_shift(tensor(value), shift).item() == rounded(value, shift) == result


@given(st.lists(st.integers(-(2**50), 2**50), min_size=1), st.sampled_from([8, 10, 16]))
def test_saturate(values, bits):
    assert law.saturate(tensor(values), bits).tolist() == [clipped(value, bits) for value in values]


@given(st.lists(st.tuples(st.integers(-(2**30), 2**30), st.integers(-(2**30), 2**30), uint16, shifts), min_size=1))
def test_requantize(rows):
    acc, bias, multiplier, shift = (tensor(column) for column in zip(*rows, strict=True))
    for bits in (8, 10, 16):
        expected = [clipped(rounded((a + b) * m, s), bits) for a, b, m, s in rows]
        assert law.requantize(acc, bias, multiplier, shift, bits).tolist() == expected


@pytest.mark.parametrize("inputs", [1, 511, 512, 513, 1024, 4095, 4096])
@pytest.mark.parametrize(("x", "weight"), [(255, 127), (255, -128), (-128, -128), (127, 127), (-128, 127), (254, -127)])
def test_accumulate_is_exact_at_the_ends(inputs, x, weight):
    """The largest sums, and with one product taken away, so that a lost last bit shows."""
    row = torch.full((3, inputs), x)
    row[1, -1] = 1
    row[2, 0] = 0
    weights = torch.full((2, inputs), weight)
    weights[1, inputs // 2] = 1
    expected = [[sum(a * b for a, b in zip(r, w, strict=True)) for w in weights.tolist()] for r in row.tolist()]
    assert law.accumulate(row, weights).tolist() == expected


@given(st.integers(0, 2**32 - 1), st.integers(1, 1500), st.booleans())
def test_accumulate(seed, inputs, unsigned):
    """Batches of [m, k] x [n, k] with leading axes, against 64-bit integer products."""
    rng = np.random.default_rng(seed)
    low, high = (0, 256) if unsigned else (-128, 128)
    x, weight = rng.integers(low, high, (2, 3, inputs)), rng.integers(-128, 128, (2, 5, inputs))
    actual = law.accumulate(torch.from_numpy(x), torch.from_numpy(weight))
    assert np.array_equal(actual.numpy(), np.einsum("bmk,bnk->bmn", x, weight))


def softmax_of(scores: list[int], numerator: int) -> tuple[list[int], int]:
    """docs/numerics.md, Softmax, for one row."""
    table, top = TABLE.tolist(), max(scores)
    probability = [rounded(table[(top - s) & 255], 8 + min((top - s) >> 8, 15)) for s in scores]
    total = sum(probability)
    return probability, (numerator + (total >> 1)) // total


@given(st.lists(st.lists(int16, min_size=7, max_size=7), min_size=1, max_size=5), st.integers(1, 255 * 65535))
def test_softmax(rows, numerator):
    probability, scale = law.softmax(tensor(rows), TABLE, tensor(numerator))
    expected = [softmax_of(row, numerator) for row in rows]
    assert probability.tolist() == [row for row, _ in expected]
    assert scale.squeeze(-1).tolist() == [scale for _, scale in expected]


@given(int16, st.integers(1, 512))
def test_softmax_of_equal_scores(score, keys):
    probability, scale = law.softmax(torch.full((1, keys), score), TABLE, tensor(255 * 65535))
    assert probability.tolist() == [[SPEC.law.probability_max] * keys]
    assert scale.item() == (255 * 65535 + 255 * keys // 2) // (255 * keys)


def test_softmax_is_close_to_float():
    rng = np.random.default_rng(2)
    compared = 0
    for keys in (1, 15, 33, 100, 512):
        scores = torch.from_numpy(rng.normal(0, 700, (64, keys)).round().astype(np.int64))
        probability, scale = law.softmax(scores, TABLE, tensor(1 << 23))
        actual = probability.double() * scale / (1 << 23)
        exact = torch.softmax(scores.double() * math.log(2) / (1 << SPEC.law.score_fraction_bits), dim=-1)
        # Each of the integers is off by half at most, and so is the row scale.
        total = probability.sum(dim=-1, keepdim=True)
        bound = (0.51 + 0.51 * keys * exact) / total + 0.51 * exact / scale + 1e-4
        assert not ((actual - exact).abs() > bound).any()
        assert not ((actual.sum(dim=-1) - 1).abs() > 0.01).any()
        compared += actual.numel()
    assert compared == 64 * 661


@given(st.lists(st.tuples(st.integers(-(2**24), 2**24), uint16), min_size=1), st.integers(8, 40))
def test_context(pairs, shift):
    acc, scale = (tensor(column).view(-1, 1) for column in zip(*pairs, strict=True))
    expected = [clipped(rounded(a * s, shift), 8) for a, s in pairs]
    assert law.context(acc, scale, tensor(shift)).flatten().tolist() == expected


squares_and_neighbours = st.builds(lambda root, delta: max(0, root * root + delta), st.integers(0, 2**25 - 1), int8)


@given(st.lists(st.one_of(st.integers(0, 2**50 - 1), squares_and_neighbours), min_size=1))
def test_integer_sqrt(values):
    values = [min(value, 2**50 - 1) for value in values]
    assert law.integer_sqrt(tensor(values)).tolist() == [math.isqrt(value) for value in values]


@given(st.lists(st.integers(1, 2**53 - 1), min_size=1))
def test_bit_length(values):
    assert law.bit_length(tensor(values)).tolist() == [value.bit_length() for value in values]


def test_bit_length_around_powers_of_two():
    values = [2**bit + delta for bit in range(2, 52) for delta in (-1, 0, 1)]
    assert law.bit_length(tensor(values)).tolist() == [value.bit_length() for value in values]


def reciprocal_of(variance: int) -> tuple[int, int]:
    """docs/numerics.md, Reciprocal square root: scale to 31 or 32 bits by a power of four."""
    half = 0
    while variance >> (2 * half) >= 1 << SPEC.law.rsqrt_bits:
        half += 1
    while half <= 0 and variance << (2 * (1 - half)) < 1 << SPEC.law.rsqrt_bits:
        half -= 1
    argument = variance >> (2 * half) if half >= 0 else variance << (-2 * half)
    return 2**31 // math.isqrt(argument), half


@given(st.lists(st.integers(1, 2**50 + 2**40), min_size=1))
def test_reciprocal_sqrt(values):
    mantissa, half = law.reciprocal_sqrt(tensor(values))
    assert list(zip(mantissa.tolist(), half.tolist(), strict=True)) == [reciprocal_of(value) for value in values]
    for value, m, h in zip(values, mantissa.tolist(), half.tolist(), strict=True):
        assert 2**15 <= m <= 2**16
        error = abs(m / 2.0 ** (31 + h) * math.sqrt(value) - 1)
        assert not (error > 2.0**-14), (value, error)


@given(st.lists(st.tuples(int16, int8, uint16), min_size=1), st.integers(0, 20))
def test_residual_sum(columns, shift):
    y, x, multiplier = (tensor(column) for column in zip(*columns, strict=True))
    expected = [clipped(a + rounded(b * m, shift), 16) for a, b, m in columns]
    assert law.residual_sum(y, x, multiplier, shift).tolist() == expected


def layer_norm_of(z: list[int], gain: list[int], offset: list[int], shift: int, epsilon: int) -> list[int]:
    """docs/numerics.md, LayerNorm, for one row."""
    features, total = len(z), sum(z)
    mantissa, half = reciprocal_of(features * sum(value * value for value in z) - total * total + epsilon)
    result = []
    for value, g, o in zip(z, gain, offset, strict=True):
        centered = (features * value - total) * mantissa
        normalized = clipped(rounded(centered, 31 + half - SPEC.law.norm_fraction_bits), 16)
        result.append(clipped(rounded(normalized * g + o, shift), 8))
    return result


@given(
    st.lists(st.lists(int16, min_size=32, max_size=32), min_size=1, max_size=4),
    st.lists(st.integers(-32767, 32767), min_size=32, max_size=32),
    st.lists(st.integers(-(2**28), 2**28), min_size=32, max_size=32),
    st.integers(0, 25),
    st.integers(1, 2**40),
)
def test_layer_norm(rows, gain, offset, shift, epsilon):
    actual = law.layer_norm(tensor(rows), tensor(gain), tensor(offset), shift, epsilon)
    assert actual.tolist() == [layer_norm_of(row, gain, offset, shift, epsilon) for row in rows]


@pytest.mark.parametrize("features", [32, 384, 1024])
@pytest.mark.parametrize("kind", ["alternating ends", "one off", "constant", "constant but one"])
def test_layer_norm_at_the_ends(features, kind):
    """The largest and the smallest variances there are; a constant row gives the offset alone."""
    row = [32767 if i % 2 else -32768 for i in range(features)] if kind == "alternating ends" else [-32768] * features
    if kind == "one off":
        row[5] = 32767
    if kind == "constant but one":
        row[7] += 1
    gain, offset = [20000 - i for i in range(features)], [(i - 40) << 12 for i in range(features)]
    actual = law.layer_norm(tensor([row]), tensor(gain), tensor(offset), 18, 1).tolist()[0]
    assert actual == layer_norm_of(row, gain, offset, 18, 1)
    if kind == "constant":
        assert actual == [clipped(rounded(o, 18), 8) for o in offset]


@pytest.mark.parametrize("features", [48, 384, 1024])
def test_layer_norm_is_close_to_float(features):
    rng = np.random.default_rng(features)
    z = torch.from_numpy(np.clip(rng.normal(300, 4000, (40, features)).round(), -32768, 32767).astype(np.int64))
    gain, bias = rng.uniform(10, 30, features), rng.normal(0, 5, features)  # to int8 steps
    shift = 18
    fixed_gain = torch.from_numpy(np.rint(gain * 2 ** (shift - SPEC.law.norm_fraction_bits)).astype(np.int64))
    fixed_offset = torch.from_numpy(np.rint(bias * 2**shift).astype(np.int64))
    actual = law.layer_norm(z, fixed_gain, fixed_offset, shift, 1)
    exact = torch.nn.functional.layer_norm(
        z.double(), (features,), torch.from_numpy(gain), torch.from_numpy(bias), 0.0
    ).clamp(-128, 127)
    error = (actual.double() - exact).abs().max().item()
    assert not (error > 0.56), error  # half a step of rounding, and what gain and normalization round
