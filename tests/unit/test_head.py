"""The head: its file, its data, its training, and its integers against exact arithmetic."""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from bertile.errors import BertileError, CapacityError, FormatError
from bertile.head.convert import pooler_multipliers
from bertile.head.data import label_indices, label_names, open_labelled, training_indices
from bertile.head.evaluate import HeadComparison
from bertile.head.fixed import (
    ACTIVATION_FRACTION,
    INPUT_FRACTION,
    Format,
    error_bound,
    fixed_logits,
    format_for,
    pool,
    quantize_head,
    round_shift,
    tanh_table,
    to_integers,
)
from bertile.head.model import Head, load_head, save_head
from bertile.head.train import Training, float_logits, pool_states, train_head
from bertile.pack.container import content_digest


def random_head(hidden: int = 11, features: int = 7, labels: int = 3, seed: int = 0, spread: float = 0.3) -> Head:
    """No dimension is a multiple of another."""
    rng = np.random.default_rng(seed)
    shapes = ((features, hidden), (features,), (labels, features), (labels,))
    tensors = [rng.normal(0, spread, shape).astype(np.float32) for shape in shapes]
    return Head(*tensors, labels=tuple(f"label {n}" for n in range(labels)), provenance={"model": "none"})


def exact_logits(head: Head, pooled: np.ndarray) -> np.ndarray:
    """[labels] float64 of a real pooled mean [hidden]; written out, from the head's definition."""
    features = [
        np.tanh(sum(float(w) * x for w, x in zip(row, pooled, strict=True)) + float(bias))
        for row, bias in zip(head.pooler_weight, head.pooler_bias, strict=True)
    ]
    return np.array(
        [
            sum(float(w) * f for w, f in zip(row, features, strict=True)) + float(bias)
            for row, bias in zip(head.classifier_weight, head.classifier_bias, strict=True)
        ]
    )


def test_a_head_returns_from_its_file(tmp_path):
    head = dataclasses.replace(random_head(), pooling="first")
    save_head(head, tmp_path / "head.safetensors")
    again = load_head(tmp_path / "head.safetensors")
    assert (again.labels, again.pooling, again.provenance) == (head.labels, "first", {"model": "none"})
    assert (again.hidden, again.features) == (11, 7)
    for name, tensor in head.tensors().items():
        np.testing.assert_array_equal(again.tensors()[name], tensor)
    assert [path.name for path in tmp_path.iterdir()] == ["head.safetensors"]


def test_files_that_are_no_heads(tmp_path):
    """Missing, a folder, cut, altered, of another kind, of another version."""
    good, bad = tmp_path / "good.safetensors", tmp_path / "bad.safetensors"
    save_head(random_head(), good)
    data = good.read_bytes()

    def refuse(cause: str, path: Path = bad) -> None:
        with pytest.raises(FormatError, match=cause):
            load_head(path)

    refuse("no such file")
    refuse("a folder", tmp_path)
    for cut in (b"", data[:7], data[: len(data) // 2]):
        bad.write_bytes(cut)
        refuse("not a complete head file")
    bad.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    refuse("altered since it was written")
    save_file({"x": np.zeros(3)}, bad)
    refuse("not a head that")
    with safe_open(good, "numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    save_file(tensors, bad, {**metadata, "format_version": "2"})
    refuse("version 2, this program reads 1")
    for change in ({"labels": '["a", "b"]'}, {"labels": '["a", "a", "b"]'}, {"pooling": "max"}, {"provenance": "{"}):
        changed = {**metadata, **change}
        save_file(tensors, bad, {**changed, "content_digest": content_digest(tensors, changed)})
        refuse("not a head|not a complete head file")
    del tensors["pooler.bias"]
    save_file(tensors, bad, {**metadata, "content_digest": content_digest(tensors, metadata)})
    refuse("not a complete head file")


@pytest.mark.parametrize(
    ("cause", "change"),
    [
        ("shapes", {"pooler_bias": np.zeros(8, np.float32)}),
        ("shapes", {"classifier_weight": np.zeros((3, 8), np.float32)}),
        ("not a matrix", {"pooler_weight": np.zeros(7, np.float32)}),
        ("not finite", {"classifier_bias": np.array([0, np.nan, 0], np.float32)}),
        ("2 label names for 3", {"labels": ("a", "b")}),
        ("one twice", {"labels": ("a", "b", "a")}),
        ("unknown pooling", {"pooling": "max"}),
    ],
)
def test_wrong_heads_are_not_written(cause, change, tmp_path):
    with pytest.raises(FormatError, match=cause):
        save_head(dataclasses.replace(random_head(), **change), tmp_path / "head.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(11, 7, 1), (11, 7, 17), (11, 1025, 3), (1025, 7, 3)])
def test_heads_that_the_kernel_cannot_be(shape, tmp_path):
    with pytest.raises(CapacityError):
        save_head(random_head(*shape), tmp_path / "head.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_head_needs_a_folder_to_be_written_to(tmp_path):
    with pytest.raises(FormatError, match="cannot write"):
        save_head(random_head(), tmp_path / "missing" / "head.safetensors")


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 31, 32, 45, 512]), st.sampled_from([1, 512]))
def test_pooling_is_exact(seed, tokens, pooled_tokens):
    """The mean of the pooled tokens, nearest step of 1/1024, halves up, in exact fractions."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(np.array([-128, 127, *rng.integers(-128, 128, 5)], np.int8), (tokens, 3))
    for column, got in zip(rows.T, pool(rows, pooled_tokens), strict=True):
        used = [int(value) for value in column[:pooled_tokens]]
        exact = Fraction(sum(used), len(used)) * 1024 + Fraction(1, 2)
        assert got == exact.__floor__()
        assert -(2**INPUT_FRACTION) <= got < 2**INPUT_FRACTION


@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-6, 0.01, 0.3, 4.0]))
def test_integers_stay_within_the_bound_of_exact_arithmetic(seed, spread):
    """Random, extreme and zero means; weights of many sizes. The bound holds, and is not loose without end."""
    rng = np.random.default_rng(seed)
    head = random_head(seed=seed % 1000, spread=spread)
    scale = rng.uniform(0.001, 0.05, head.hidden).astype(np.float32)
    fixed = quantize_head(head, scale)
    bound = error_bound(head, fixed, scale)
    assert (bound < 0.05 + 0.2 * np.abs(head.classifier_weight).sum(axis=1)).all()
    extremes = [np.full(11, -(2**17)), np.full(11, 127 * 1024), np.zeros(11, np.int64)]
    for pooled in [*extremes, *rng.integers(-(2**17), 127 * 1024 + 1, (5, 11))]:
        got = np.ldexp(fixed_logits(fixed, pooled).astype(float), -16)
        error = np.abs(got - exact_logits(head, pooled / 1024 * scale.astype(float)))
        assert (error <= bound + 1e-9).all(), (error, bound)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-7, 0.3, 40.0]))
def test_accumulators_never_overflow(seed, spread):
    """Even where every input has the sign of its weight; and a result fits its logit."""
    head = random_head(seed=seed % 1000, spread=spread)
    fixed = quantize_head(head, np.full(head.hidden, 0.02, np.float32))
    for layer, fraction in ((fixed.pooler, INPUT_FRACTION), (fixed.classifier, ACTIVATION_FRACTION)):
        shift = layer.accumulator.fraction - layer.bias_format.fraction
        assert shift >= 0
        largest = np.abs(layer.weight).sum(axis=1) * (1 << fraction) + (np.abs(layer.bias) << shift)
        assert int(largest.max()) < 1 << (layer.accumulator.bits - 1)
        assert np.abs(layer.weight).max() < 1 << 15
    assert fixed.logit.integer >= fixed.classifier.accumulator.integer
    assert fixed.logit.bits <= 32


def test_weights_that_no_format_holds():
    scale = np.full(11, 0.02, np.float32)
    with pytest.raises(CapacityError, match="too large"):
        quantize_head(random_head(spread=1e5), scale)
    with pytest.raises(CapacityError, match="too large"):
        quantize_head(dataclasses.replace(random_head(), pooler_bias=np.full(7, 1e9, np.float32)), scale)


def test_formats():
    """The largest value fits, with one bit to spare at most; nothing is finer than allowed."""
    assert format_for(np.array([0.9, -0.1]), 16, 24) == Format(16, 15)
    assert format_for(np.array([1.0]), 16, 24) == Format(16, 14)
    assert format_for(np.array([0.2]), 16, 24) == Format(16, 17)
    assert format_for(np.zeros(3), 16, 24) == Format(16, 24)
    assert format_for(np.array([1e-9]), 16, 24) == Format(16, 24)
    assert str(Format(16, 17)) == "ap_fixed<16,-1>"
    assert to_integers(np.array([0.99999, -1.0, 0.5]), Format(16, 15)).tolist() == [32767, -32768, 16384]


def test_rounding_halves_up_and_appending_zeros():
    assert round_shift(np.array([5, 6, 7, -5, -6, -7]), 2).tolist() == [1, 2, 2, -1, -1, -2]
    assert round_shift(np.array([5, -5]), 0).tolist() == [5, -5]
    assert round_shift(np.array([5, -5]), -2).tolist() == [20, -20]


def test_every_libm_makes_the_same_tanh_table():
    """No entry is within 16 steps of a float of the next rounding boundary; the tools compute it with tanhf."""
    inputs = np.arange(-512, 512) / 128
    scaled = np.tanh(inputs) * 2.0**ACTIVATION_FRACTION
    assert tanh_table().tolist() == np.rint(scaled).tolist()
    boundary = np.abs(scaled - np.floor(scaled) - 0.5)
    assert boundary.min() > 16 * 2.0 ** (ACTIVATION_FRACTION - 24)


def test_equal_numbers_have_equal_digests():
    scale = np.full(11, 0.02, np.float32)
    digest = quantize_head(random_head(), scale).digest
    assert quantize_head(random_head(), scale).digest == digest
    others = [
        quantize_head(random_head(seed=1), scale),
        quantize_head(random_head(), scale * 1.01),
        quantize_head(random_head(), scale * 2),  # the same integers in another format
        quantize_head(dataclasses.replace(random_head(), pooling="first"), scale),
    ]
    assert len({digest, *(other.digest for other in others)}) == 5


@pytest.mark.parametrize(("features", "count"), [(384, 64), (768, 64), (64, 64), (7, 7), (130, 26), (67, 1)])
def test_multipliers_divide_the_features(features, count):
    assert pooler_multipliers(features) == count


def test_float_logits_are_the_definition():
    head, pooled = random_head(), np.random.default_rng(3).normal(0, 1, (5, 11)).astype(np.float32)
    expected = np.stack([exact_logits(head, row.astype(float)) for row in pooled])
    np.testing.assert_allclose(float_logits(head, pooled), expected, atol=1e-5)


def test_pooled_states_are_means():
    states = [np.array([[1.0, 2.0], [3.0, 6.0]]), np.array([[5.0, 5.0]])]
    assert pool_states(states, "mean").tolist() == [[2.0, 4.0], [5.0, 5.0]]
    assert pool_states(states, "first").tolist() == [[1.0, 2.0], [5.0, 5.0]]


def test_training_learns_and_repeats():
    """Points on two sides of a plane, off centre and of unequal spread; the same weights twice, others by seed."""
    rng = np.random.default_rng(5)
    points = rng.normal(0, 1, (300, 11))
    pooled = (points * np.geomspace(0.01, 30, 11) + 2).astype(np.float32)
    targets = (points[:, 3] + points[:, 7] > 0).astype(np.int64)
    heads = [train_head(pooled, targets, ("a", "b"), "mean", Training(24, seed=seed), {}) for seed in (1, 1, 2)]
    assert (float_logits(heads[0], pooled).argmax(axis=1) == targets).mean() > 0.9
    np.testing.assert_array_equal(heads[0].pooler_weight, heads[1].pooler_weight)
    assert not np.array_equal(heads[0].pooler_weight, heads[2].pooler_weight)
    assert json.loads(json.dumps(heads[0].provenance))["training"]["seed"] == 1


def test_bundled_sentences_are_balanced():
    text = open_labelled(None, "train")
    assert len(text.sentences) == len(set(text.sentences)) == 40
    assert label_names(text, None) == ("negative", "positive")
    assert training_indices(text).sum() == 20
    np.testing.assert_array_equal(training_indices(text), label_indices(text, ("negative", "positive")))


def test_labels_of_a_file(tmp_path):
    file = tmp_path / "data.tsv"
    file.write_text('label\tsentence\n1\tgood "quotes\n0\tbad\n')
    text = open_labelled(file, "dev")
    assert text.sentences == ['good "quotes', "bad"]
    assert label_names(text, None) == ("0", "1")
    assert label_names(text, "bad, good") == ("bad", "good")
    assert label_indices(text, ("bad", "good")).tolist() == [1, 0]
    assert label_names(text.first(1), None) == ("1",)
    for names in ("one", "a,a", "a,", "a,b,c"):
        with pytest.raises(BertileError, match="2 labels"):
            label_names(text, names)
    with pytest.raises(BertileError, match="label '1' is none of x"):
        label_indices(text, ("x",))


def test_glue_names_its_labels(tmp_path):
    folder = tmp_path / "SST-2"
    folder.mkdir()
    (folder / "dev.tsv").write_text("sentence1\tlabel\nfine\t1\npoor\t0\n")
    for data in (tmp_path, folder):
        assert label_names(open_labelled(data, "dev"), None) == ("negative", "positive")
    with pytest.raises(BertileError, match=r"no train\.tsv"):
        open_labelled(tmp_path, "train")


@pytest.mark.parametrize(
    ("cause", "content"),
    [
        ("needs the columns", b"text\tlabel\na\t1\n"),
        ("line 3: a sentence or a label", b"sentence1\tlabel\na\t1\nb\n"),
        ("line 2: a sentence or a label", b"sentence1\tlabel\n \t1\n"),
        ("no sentences", b"sentence1\tlabel\n"),
        ("needs the columns", b""),
        ("not UTF-8", b"sentence1\tlabel\n\xff\t1\n"),
        ("field larger", b"sentence1\tlabel\n" + b"a" * 200_000 + b"\t1\n"),
    ],
)
def test_data_that_is_none(cause, content, tmp_path):
    file = tmp_path / "data.tsv"
    file.write_bytes(content)
    with pytest.raises(BertileError, match=cause):
        open_labelled(file, "train")


def test_a_comparison_that_is_not_a_number_fails():
    good = HeadComparison(2, 2, 0.01, 0.001, 0.05, 0.02, 0, None, None)
    assert good.passed
    for change in ({"max_error": float("nan")}, {"max_error": 0.03}, {"bound": 0.005}, {"differing_bits": 1}):
        assert not dataclasses.replace(good, **change).passed
