"""From real scales to integers: error bounds, refusals, equalization, and a whole encoder close to its float one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.random_encoder import ONE_VECTOR, encoder_config, random_layers
from transformers.activations import ACT2FN

from bertile.config.spec import load_spec
from bertile.errors import BertileError
from bertile.golden.integer import IntegerEncoder
from bertile.models.encoder import MATRICES
from bertile.models.quantized import dequantize_output, quantize_input
from bertile.quantize.calibration import join_sequences, trace_layer
from bertile.quantize.equalize import COARSEST_RATIO, equalized_scale
from bertile.quantize.quantizer import quantize_encoder
from bertile.quantize.scales import (
    activation_table,
    exponential_table,
    fixed_point,
    quantize_linear,
    quantize_weight,
    shared_shift,
)

SPEC = load_spec()
BITS = SPEC.law.multiplier_bits


@given(st.lists(st.floats(2.0**-31, 65535.0), min_size=1))
def test_fixed_point_is_within_half_a_unit_of_its_last_bit(values):
    scale = np.array(values)
    multiplier, shift = fixed_point(scale, BITS)
    assert ((multiplier >= 1 << (BITS - 1)) & (multiplier < 1 << BITS)).all()
    assert ((shift >= 0) & (shift <= SPEC.law.shift_max)).all()
    error = np.abs(multiplier / 2.0**shift / scale - 1)
    assert not (error.max() > 2.0**-BITS)


@pytest.mark.parametrize("bits", [8, 15, 16])
def test_fixed_point_carries_into_the_next_power(bits):
    multiplier, shift = fixed_point(np.array([1 - 2.0**-30, 0.5, 2.0**-5 - 2.0**-40]), bits)
    assert multiplier.tolist() == [1 << (bits - 1)] * 3
    assert shift.tolist() == [bits - 1, bits, bits + 4]


def test_fixed_point_of_tiny_scales_loses_bits_and_not_the_shift():
    scale = 2.0 ** -np.arange(30, 60) * 1.3
    multiplier, shift = fixed_point(scale, BITS)
    assert shift.max() == SPEC.law.shift_max
    error = np.abs(multiplier / 2.0**shift - scale)
    bound = np.maximum(2.0**-BITS * scale, 2.0 ** -(SPEC.law.shift_max + 1))
    assert not (error > 1.01 * bound).any()


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_fixed_point_refuses_what_is_no_scale(bad):
    with pytest.raises(BertileError, match="zero, negative or not finite"):
        fixed_point(np.array([1.0, bad]), BITS)


def test_fixed_point_refuses_a_scale_beyond_the_multiplier():
    assert fixed_point(np.array([65535.0]), BITS)[0] == 65535
    with pytest.raises(BertileError, match="beyond the multiplier's range"):
        fixed_point(np.array([1.0, 65536.0]), BITS)


@given(st.lists(st.floats(-30000.0, 30000.0), min_size=1), st.sampled_from([15, 16]))
def test_shared_shift_is_within_half_a_step(values, bits):
    values = np.array(values)
    integer, shift = shared_shift(values, bits)
    assert 0 <= shift <= SPEC.law.shift_max
    assert np.abs(integer).max() < 1 << bits
    assert not (np.abs(integer - values * 2.0**shift).max() > 1.0)  # 0.5, or 1 where the largest was cut
    assert shift == SPEC.law.shift_max or np.abs(integer).max() >= (1 << (bits - 1)) - 1


def test_shared_shift_refuses_a_value_beyond_its_bits():
    with pytest.raises(BertileError, match="beyond the multiplier's range"):
        shared_shift(np.array([1.0, 70000.0]), 16)


def test_quantize_weight_is_symmetric_and_within_half_a_step():
    weight = np.random.default_rng(1).standard_normal((48, 70)) * np.logspace(-6, 3, 48)[:, None]
    weight[5] = 0
    integer, scale = quantize_weight(weight)
    assert integer.dtype == np.int8
    assert (np.abs(integer.astype(int)).max(axis=1) == np.where(np.arange(48) == 5, 0, 127)).all()
    assert scale[5] == 1
    assert not ((np.abs(integer * scale[:, None] - weight) / scale[:, None]).max() > 0.5 + 1e-9)


def apply(linear, q: np.ndarray) -> np.ndarray:
    """The law for one matrix, without saturation: q [tokens, in] -> [tokens, out]."""
    acc = q.astype(np.int64) @ linear.weight.astype(np.int64).T + linear.bias
    half = np.where(linear.shift > 0, 1 << np.maximum(linear.shift.astype(np.int64) - 1, 0), 0)
    return (acc * linear.multiplier + half) >> linear.shift.astype(np.int64)


@pytest.mark.parametrize("zero", [0, 7, 255])
def test_quantize_linear_follows_the_float_matrix(zero):
    """Per-feature scales on both sides, a zero point, an offset, and rows without weights."""
    rng = np.random.default_rng(zero)
    weight = rng.standard_normal((32, 90)).astype(np.float32)
    weight[3:5] = 0
    bias = rng.standard_normal(32).astype(np.float32)
    source_scale, target_scale = rng.uniform(0.01, 0.05, 90), rng.uniform(0.05, 0.3, 32)
    q = rng.integers(0, 256, (50, 90))
    linear = quantize_linear(weight, bias, source_scale, zero, target_scale, -17.0)
    assert linear.weight.dtype == np.int8
    assert np.abs(linear.weight.astype(int)).max() == 127
    x = source_scale * (q - zero)
    exact = (x @ weight.T + bias) / target_scale - 17.0
    # A weight is off by half a step at most, the result by another half.
    step = np.abs(weight * source_scale).max(axis=1) / 127
    bound = 0.51 + np.abs(q - zero).sum(axis=1)[:, None] * (step / 2 / target_scale) + np.abs(exact) * 2.0**-15
    error = np.abs(apply(linear, q) - exact)
    assert not (error > bound).any()
    assert error.size == 50 * 32
    constant = bias[3:5] / target_scale[3:5] - 17.0
    assert not (np.abs(apply(linear, q)[:, 3:5] - constant).max() > 0.51)


def test_quantize_linear_refuses_a_sum_beyond_32_bits():
    weight, bias = np.full((16, 8), 1e-6, np.float32), np.zeros(16, np.float32)
    quantize_linear(weight, bias, np.ones(8), 0, 1e-3)
    bias[7] = 20.0  # 2.5e9 steps of weight x source
    with pytest.raises(BertileError, match="do not fit 32 bits"):
        quantize_linear(weight, bias, np.ones(8), 0, 1e-3)
    bias[7] = np.nan
    with pytest.raises(BertileError, match="do not fit 32 bits"):
        quantize_linear(weight, bias, np.ones(8), 0, 1e-3)


def test_exponential_table_is_the_rounded_exponential():
    table = exponential_table()
    assert len(table) == 1 << SPEC.law.score_fraction_bits
    assert table[0] == 255 * 256
    exact = 255 * 256 * np.exp2(-np.arange(len(table)) / len(table))
    assert not (np.abs(table - exact).max() > 0.5)
    # Every probability fits 8 bits after rounding.
    assert (table.astype(int) + 128).max() >> 8 == 255


@pytest.mark.parametrize("name", ["gelu", "gelu_new", "relu", "silu"])
def test_activation_table_is_the_rounded_function(name):
    bits, scale, zero, index_scale, offset = SPEC.law.gelu_index_bits, 0.02, 9, 0.015, -100.0
    table = activation_table(name, index_scale, offset, scale, zero)
    half = 1 << (bits - 1)
    assert table.shape == (2 * half,)
    assert table.dtype == np.uint8
    real = torch.arange(-half, half).double().sub(offset).mul(index_scale)
    exact = (ACT2FN[name](real).numpy() / scale + zero).clip(0, 255)
    assert not (np.abs(table - exact).max() > 0.501)


def matrix_error(x: np.ndarray, weight: np.ndarray, scale: np.ndarray) -> float:
    """Mean squared error of x @ weight.T with INT8 activations of `scale` and INT8 weights."""
    integer, weight_scale = quantize_weight(weight * scale)
    q = np.clip(np.rint(x / scale), -128, 127)
    return float((((q @ integer.T.astype(float)) * weight_scale - x @ weight.T) ** 2).mean())


def outlier_case() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    x = rng.standard_normal((300, 64)).astype(np.float32)
    x[:, 11] *= 80
    return x, rng.standard_normal((48, 64)).astype(np.float32)


def test_equalization_lowers_the_error_of_an_outlier():
    """Against one scale for all features, and against each feature's own range."""
    x, weight = outlier_case()
    scale = equalized_scale(torch.from_numpy(x), weight)
    assert (np.abs(x) <= scale * 127.01).all()  # nothing is clipped
    one_scale = np.full(64, np.abs(x).max() / 127)
    own_range = np.abs(x).max(axis=0) / 127
    error = matrix_error(x, weight, scale)
    assert not (error > 0.5 * matrix_error(x, weight, one_scale))
    assert not (error > 0.9 * matrix_error(x, weight, own_range))


def test_equalization_keeps_the_residual_fine():
    """The residual reads features that no weight reads: these keep their range, and weak ones nearly."""
    x, weight = outlier_case()
    weight[:, 20:30] = 0
    weight[:, 30:35] *= 1e-6
    scale = equalized_scale(torch.from_numpy(x), weight)
    own_range = np.abs(x).max(axis=0) / 127
    assert np.allclose(scale[20:30], own_range[20:30], rtol=1e-6)
    assert not ((scale / own_range).max() > COARSEST_RATIO * 1.001)
    assert equalized_scale(torch.from_numpy(x), 0 * weight) == pytest.approx(own_range)
    assert equalized_scale(torch.zeros(5, 64), weight).tolist() == [1.0] * 64


def cosines(actual: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Cosine of each token's two vectors."""
    return (actual * exact).sum(axis=1) / np.linalg.norm(actual, axis=1) / np.linalg.norm(exact, axis=1)


@pytest.mark.parametrize(
    ("shape", "densities"),
    [
        ((64, 112, 2, 2, "gelu"), {}),
        ((128, 208, 2, 2, "relu"), dict.fromkeys(MATRICES, 1.0)),
        ((96, 160, 3, 3, "gelu_new"), dict.fromkeys(MATRICES, 0.1)),
        ((64, 112, 2, 2, "gelu"), {"key": 0.0, "ffn_in": 0.0}),
        ((64, 112, 1, 2, "gelu"), dict.fromkeys(MATRICES, ONE_VECTOR)),
    ],
    ids=["sparse", "dense", "10 %", "zeros", "one vector"],
)
def test_quantized_encoder_is_close_to_float(shape, densities):
    hidden, ffn, heads, layers, activation = shape
    config = encoder_config(hidden, ffn, heads, layers, activation)
    float_layers, embeddings, calibration = random_layers(config, hidden, densities)
    model = quantize_encoder(float_layers, config, embeddings, calibration)
    ids = [np.random.default_rng(seed).integers(config.vocabulary, size=tokens) for seed, tokens in ((8, 29), (9, 64))]
    x, lengths = join_sequences([embeddings.embed(tokens) for tokens in ids])
    runs = [IntegerEncoder(model).run([quantize_input(embeddings.embed(tokens), model.input_scale)]) for tokens in ids]
    for number, layer in enumerate(float_layers):
        x = trace_layer(layer, config, x, lengths).output
        rows = [run[number][: len(tokens)] for run, tokens in zip(runs, ids, strict=True)]
        cosine = cosines(dequantize_output(np.concatenate(rows), model.output_scale[number]), x.numpy())
        assert cosine.shape == (93,)
        assert not (cosine.mean() <= 0.99)
        assert not (cosine.min() <= 0.9)  # random queries and keys make a few tokens attend to one other token


def test_unequal_heads_keep_their_scales_apart():
    """A head a thousand times larger than the other does not cost the smaller one its precision."""
    config = encoder_config(64, 112, 2, layers=1)
    layers, embeddings, calibration = random_layers(config, 3, {})
    value = layers[0].value
    gain = np.repeat([1.0, 1000.0], 32).astype(np.float32)
    output = replace(layers[0].attention_output, weight=layers[0].attention_output.weight / gain)
    layer = replace(
        layers[0],
        value=replace(value, weight=value.weight * gain[:, None], bias=value.bias * gain),
        attention_output=output,
    )
    model = quantize_encoder([layer], config, embeddings, calibration)
    ids = calibration[2]
    x, lengths = join_sequences([embeddings.embed(ids)])
    exact = trace_layer(layer, config, x, lengths).output.numpy()
    actual = IntegerEncoder(model).run([quantize_input(embeddings.embed(ids), model.input_scale)])[0]
    actual = dequantize_output(actual, model.output_scale[0])
    assert not (cosines(actual[: len(ids)], exact).min() <= 0.98)
