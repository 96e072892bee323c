"""From scores to masks: shares, counts, thresholds, what is out of reach."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bertile.errors import BertileError
from bertile.models.encoder import MATRICES, EncoderConfig
from bertile.prune.groups import GroupSet, Member, element_masks, group_sets, zeroed_share
from bertile.prune.pattern import BlockPattern, parse_pattern
from bertile.prune.select import (
    TOLERANCE,
    check_reachable,
    component_shares,
    empty_groups,
    select_masks,
    uniform_counts,
)

CONFIG = EncoderConfig("bert", 3, 32, 80, 4, "gelu", 1e-12, 16, 50)
SIZES = dict.fromkeys(MATRICES, (32, 32)) | {"ffn_in": (80, 32), "ffn_out": (32, 80)}
ATTENTION, FFN = 4 * 32 * 32, 2 * 32 * 80  # weights of a layer
TOTAL = 3 * (ATTENTION + FFN)
TENSORS = {f"layers.{i}.{n}": torch.ones(SIZES[n]) for i in range(3) for n in MATRICES}


def scores_of(sets, seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {s.name: generator.random(s.count) for s in sets}


def select(text: str, sparsity: float, scope: str = "uniform", seed: int = 0, empty=None):
    pattern = parse_pattern(text)
    sets = group_sets(pattern, CONFIG)
    return sets, select_masks(pattern, sets, scores_of(sets, seed), TENSORS, sparsity, scope, empty)


def shares(text: str, sparsity: float) -> list[float]:
    pattern = parse_pattern(text)
    return component_shares(pattern, group_sets(pattern, CONFIG), TOTAL, sparsity)


def single(count: int, weights: int, name: str) -> GroupSet:
    return GroupSet(name, (Member(name, BlockPattern(1, weights)),), (1, count), weights, 0)


@pytest.mark.parametrize(
    ("text", "sparsity", "expected"),
    [
        ("1x16", 0.3, [0.3]),
        ("neurons", 0.25, [0.25 * TOTAL / (3 * FFN)]),
        ("heads+neurons", 0.4, [0.4, 0.4]),  # disjoint: the same share
        ("heads@0.25+neurons", 0.4, [0.25, (0.4 * TOTAL - 0.25 * 3 * ATTENTION) / (3 * FFN)]),
        ("heads@0.25+1x16", 0.5, [0.25, 0.5]),  # overlapping: what goes with the heads counts
        ("heads@0.25+neurons@0.5", 0.4, [0.25, 0.5]),
        ("heads@0.75+neurons", 0.1, [0.75, 0.0]),
    ],
)
def test_component_shares(text, sparsity, expected):
    assert shares(text, sparsity) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "sparsity", "message"),
    [
        ("1x16", 1.0, "sparsity 1.0 is not in [0, 1)"),
        ("1x16", float("nan"), "sparsity nan is not in [0, 1)"),
        ("heads+1x16", 0.5, "pattern heads+1x16: parts over the same weights need a share each but the last"),
        ("neurons", 0.6, "pattern neurons covers 55.6% of the weights: a sparsity of 0.6 is out of its reach"),
        ("heads", 0.5, "pattern heads covers 44.4% of the weights: a sparsity of 0.5 is out of its reach"),
        ("heads@0.5+neurons", 0.9, "pattern heads@0.5+neurons covers 77.8% of the weights: a sparsity of 0.9 is out"),
    ],
)
def test_shares_that_cannot_be(text, sparsity, message):
    with pytest.raises(BertileError) as error:
        shares(text, sparsity)
    assert str(error.value).startswith(message)


def test_uniform_counts_by_hand():
    sets = [single(10, 4, "a"), single(7, 4, "b"), single(5, 4, "c")]
    # Exact 3.5, 2.45, 1.75: rounded down 6 of 7.7, so that two more go to the largest remainders.
    assert uniform_counts(sets, 0.35) == [4, 2, 2]
    assert uniform_counts(sets, 0.0) == [0, 0, 0]
    assert uniform_counts(sets, 1.0) == [10, 7, 5]
    # 10 thirds of 30: floating point may not lose one.
    assert uniform_counts([single(30, 1, "a")], 0.1 + 0.2) == [9]


def test_uniform_counts_with_unequal_groups():
    sets = [single(3, 10, "large"), single(9, 1, "small")]
    # Exact 1.2 and 3.6 (15.6 weights): 1 and 3 zero 13; one of 10 more would overshoot, small ones fit.
    assert uniform_counts(sets, 0.4) == [1, 4]
    # Exact 1.8 and 5.4 (23.4 weights): 1 and 5 zero 15, one large more 25.
    assert uniform_counts(sets, 0.6) == [2, 5]


def test_uniform_counts_with_empty_groups():
    sets = [single(10, 1, "a"), single(10, 1, "b"), single(20, 1, "c")]

    def counts(*empty: int) -> list[int]:
        live = [np.where(np.arange(s.count) < n, 0, 1) for s, n in zip(sets, empty, strict=True)]
        return uniform_counts(sets, 0.5, live)

    assert counts(0, 5, 10) == [5, 5, 10]
    assert counts(10, 0, 0) == [10, 3, 7]  # 10 of the 20 are left to 30 groups
    assert counts(8, 9, 1) == [8, 9, 3]
    assert counts(10, 10, 5) == [10, 10, 5]  # more than asked for


def test_uniform_counts_with_groups_that_are_half_empty():
    sets = [single(4, 4, "a"), single(4, 4, "b")]
    # 16 of 32 weights: a has 6 zeros, so 8 - 6 from its first group of 2 live ones; b loses 2 groups of 4.
    assert uniform_counts(sets, 0.5, [np.array([2, 2, 2, 4]), np.full(4, 4)]) == [1, 2]


def test_global_threshold_with_unequal_groups():
    sets = [single(2, 10, "a"), single(4, 5, "b")]
    tensors = {"a": torch.ones(10, 2), "b": torch.ones(5, 4)}
    scores = {"a": np.array([0.3, 0.9]), "b": np.array([0.2, 0.1, 0.8, 0.7])}
    # In order of score 5, 5, 10, 5, 5, 10 weights: 0, 5, 10, 20, 25, 30 or 40 of 40.
    for sparsity, gone in ((0.25, "b1 b0"), (0.5, "b1 b0 a0"), (0.62, "b1 b0 a0 b3"), (0.1, "b1"), (0.0, "")):
        masks = select_masks(parse_pattern("1x16"), sets, scores, tensors, sparsity, "global")
        assert {f"{name}{i}" for name, mask in masks.items() for i in np.flatnonzero(~mask)} == set(gone.split())


def test_equal_scores_go_in_order():
    sets = group_sets(parse_pattern("1x16"), CONFIG)
    equal = {s.name: np.zeros(s.count) for s in sets}
    masks = select_masks(parse_pattern("1x16"), sets, equal, TENSORS, 0.25, "global")
    flat = np.concatenate([mask.ravel() for mask in masks.values()])
    np.testing.assert_array_equal(flat, np.arange(flat.size) >= flat.size // 4)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_scores_are_numbers(value):
    sets = group_sets(parse_pattern("1x16"), CONFIG)
    scores = scores_of(sets)
    scores["layers.1.value"][3] = value
    with pytest.raises(BertileError, match=r"the scores of layers\.1\.value are not finite"):
        select_masks(parse_pattern("1x16"), sets, scores, TENSORS, 0.5)


def test_unknown_scope():
    with pytest.raises(BertileError, match="unknown scope 'local'; known are uniform, global"):
        select("1x16", 0.5, "local")


@pytest.mark.parametrize("scope", ["uniform", "global"])
@pytest.mark.parametrize("text", ["heads@0.25+1x16", "1x16+heads@0.25", "layers@0.34+1x16", "neurons@0.5+2x1"])
def test_what_goes_first_counts_for_the_rest(text, scope):
    sets, masks = select(text, 0.5, scope)
    assert zeroed_share(sets, masks, TENSORS) == pytest.approx(0.5, abs=TOLERANCE)
    first = [s for s in sets if s.name.partition("/")[0] in ("heads@0.25", "layers@0.34", "neurons@0.5")]
    rest = [s for s in sets if s not in first]
    removed = sum(int((~masks[s.name]).sum()) for s in first)
    assert removed == {"heads": 3, "layer": 1, "neuro": 120}[first[0].name[:5]]
    emptied = empty_groups(rest, element_masks(first, masks, TENSORS))
    for s in rest:
        assert not (masks[s.name].ravel() & emptied[s.name]).any()


def test_fine_components_make_up_for_coarse_ones():
    # 0.3 of 12 heads is 3.6; the four that go are more than a share, so fewer neurons go.
    for text in ("heads+neurons", "neurons+heads", "heads@0.3+neurons"):
        sets, masks = select(text, 0.3)
        removed = {s.name[-5:]: 0 for s in sets}
        for s in sets:
            removed[s.name[-5:]] += int((~masks[s.name]).sum())
        assert removed == {"heads": 4, "urons": round((0.3 * TOTAL - 4 * ATTENTION / 4) / 64)}
        assert zeroed_share(sets, masks, TENSORS) == pytest.approx(0.3, abs=TOLERANCE)


def test_parts_with_a_share_go_first():
    sets, masks = select("8x16+unstructured@0.2", 0.5)
    removed = sum(int((~masks[s.name]).sum()) for s in sets if s.weights == 1)
    assert removed == round(0.2 * TOTAL)  # of all weights, not of those that the blocks leave
    assert zeroed_share(sets, masks, TENSORS) == pytest.approx(0.5, abs=64 / TOTAL)


def test_empty_groups_are_never_kept():
    tensors = {name: t.clone() for name, t in TENSORS.items()}
    tensors["layers.0.query"][:16] = 0
    tensors["layers.2.ffn_in"][:, ::2] = 0
    sets = group_sets(parse_pattern("1x16"), CONFIG)
    empty = empty_groups(sets, tensors)
    assert empty["layers.0.query"].tolist() == [True] * 32 + [False] * 32
    assert empty["layers.2.ffn_in"].reshape(5, 32)[3].tolist() == [True, False] * 16
    assert sum(int(mask.sum()) for mask in empty.values()) == 32 + 80
    for scope in ("uniform", "global"):
        for sparsity in (0.3, 0.6):
            _, masks = select("1x16", sparsity, scope, 1, empty)
            assert all(not (masks[s.name].ravel() & empty[s.name]).any() for s in sets)
            assert zeroed_share(sets, masks, TENSORS) == pytest.approx(sparsity, abs=TOLERANCE)
    for scope in ("uniform", "global"):  # more than asked for is empty
        _, masks = select("1x16", 0.05, scope, 1, empty)
        assert all(np.array_equal(~masks[s.name].ravel(), empty[s.name]) for s in sets)
    with pytest.raises(BertileError, match=r"cannot reach a sparsity of 0.05; the nearest is 0\.0648"):
        check_reachable(parse_pattern("1x16"), sets, tensors, 0.05, "uniform", empty)


@pytest.mark.parametrize(
    ("text", "sparsity", "nearest"),
    [
        ("layers", 0.5, "0.3333"),
        ("32x16", 0.5001, None),
        ("heads", 0.25, "0.2593"),
        ("heads@0.5+neurons@0.5", 0.3, "0.5"),
    ],
)
def test_nearest_sparsity(text, sparsity, nearest):
    pattern = parse_pattern(text)
    sets = group_sets(parse_pattern(text), CONFIG) if text != "32x16" else group_sets(parse_pattern("8x16"), CONFIG)
    if nearest is None:
        check_reachable(pattern, sets, TENSORS, sparsity)
        return
    with pytest.raises(BertileError) as error:
        check_reachable(pattern, sets, TENSORS, sparsity)
    message = f"pattern {text} cannot reach a sparsity of {sparsity:g}; the nearest is {nearest}"
    assert str(error.value).startswith(message)
    check_reachable(pattern, sets, TENSORS, float(str(error.value).rpartition(" ")[2]))  # and that one it can


PATTERNS = ["1x16", "8x16", "unstructured", "rows", "columns", "neurons@0.5+1x16", "heads@0.25+2x4", "heads+neurons"]


@settings(max_examples=25)
@given(
    text=st.sampled_from(PATTERNS),
    sparsity=st.floats(0.35, 0.95),
    scope=st.sampled_from(["uniform", "global"]),
    seed=st.integers(0, 99),
)
def test_total_is_within_half_a_group(text, sparsity, scope, seed):
    sets, masks = select(text, sparsity, scope, seed)
    assert {s.name: s.shape for s in sets} == {name: mask.shape for name, mask in masks.items()}
    last = [s for s in sets if s.component == len(parse_pattern(text).components) - 1]
    largest = max(s.weights for s in last)
    assert abs(zeroed_share(sets, masks, TENSORS) - sparsity) * TOTAL <= largest / 2 + 1e-6
    if scope == "uniform" and "+" not in text:
        for s in sets:
            assert abs((~masks[s.name]).sum() - sparsity * s.count) < 1 + 1e-6
            weak, strong = (scores_of(sets, seed)[s.name][m.ravel()] for m in (~masks[s.name], masks[s.name]))
            assert weak.max(initial=-1) <= strong.min(initial=2)


@given(text=st.sampled_from(PATTERNS[:5]), low=st.floats(0, 0.99), high=st.floats(0, 0.99), seed=st.integers(0, 9))
def test_global_masks_are_nested(text, low, high, seed):
    low, high = sorted((low, high))
    (_, before), (_, after), (_, again) = (select(text, sparsity, "global", seed) for sparsity in (low, high, high))
    for name in before:
        assert not (after[name] & ~before[name]).any()
        np.testing.assert_array_equal(after[name], again[name])
