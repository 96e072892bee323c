"""Patterns and their groups: what they cover, what they tie together, how their sums add up."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bertile.errors import BertileError
from bertile.models.encoder import MATRICES, EncoderConfig
from bertile.prune.groups import element_masks, group_sets, zeroed_share
from bertile.prune.pattern import BlockPattern, parse_pattern

CONFIG = EncoderConfig("bert", 2, 12, 20, 3, "gelu", 1e-12, 16, 50)
SIZES = dict.fromkeys(MATRICES, (12, 12)) | {"ffn_in": (20, 12), "ffn_out": (12, 20)}
TOTAL = 2 * (4 * 144 + 2 * 240)


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {f"layers.{i}.{n}": torch.randn(SIZES[n], generator=generator) for i in range(2) for n in MATRICES}


def keep_all(sets) -> dict[str, np.ndarray]:
    return {s.name: np.ones(s.shape, bool) for s in sets}


@pytest.mark.parametrize(
    ("text", "kind"),
    [("1x16", (1, 16)), ("32x48", (32, 48)), (" 4x16 ", (4, 16)), ("16x1", (16, 1)), ("3x5", (3, 5))],
)
def test_parse_blocks(text, kind):
    pattern = parse_pattern(text)
    (component,) = pattern.components
    assert (component.name, component.block, component.share) == ("", BlockPattern(*kind), None)
    assert parse_pattern(str(pattern)) == pattern


@pytest.mark.parametrize(
    ("text", "names", "shares"),
    [
        ("heads", ["heads"], [None]),
        ("unstructured", ["unstructured"], [None]),
        ("heads+neurons", ["heads", "neurons"], [None, None]),
        ("heads@0.25+1x16", ["heads", ""], [0.25, None]),
        ("layers@0.5 + neurons@.25 + rows", ["layers", "neurons", "rows"], [0.5, 0.25, None]),
    ],
)
def test_parse_names_and_combinations(text, names, shares):
    pattern = parse_pattern(text)
    assert [c.name for c in pattern.components] == names
    assert [c.share for c in pattern.components] == shares
    assert parse_pattern(str(pattern)) == pattern


@pytest.mark.parametrize(
    "text", ["", "16", "x16", "1x", "0x16", "1x0", "-1x16", "1X16", "1x16x2", "1.5x16", "head", "heads+", "+1x16"]
)
def test_bad_pattern_text(text):
    with pytest.raises(BertileError, match="is not KxN"):
        parse_pattern(text)


@pytest.mark.parametrize("share", ["", "1", "-0.1", "nan", "half", "1.5"])
def test_bad_share(share):
    with pytest.raises(BertileError, match=rf"the share '{share}' of heads is not in \[0, 1\)"):
        parse_pattern(f"heads@{share}+1x16")


@pytest.mark.parametrize("text", ["heads+heads", "1x16+1x16", "heads@0.2+heads"])
def test_a_component_stands_once(text):
    with pytest.raises(BertileError, match="names a component twice"):
        parse_pattern(text)


def test_scaled_shares():
    assert str(parse_pattern("heads@0.5+1x16").scaled(0.5)) == "heads@0.25+1x16"


def test_blocks_are_where_they_should_be():
    weight = np.arange(48 * 6).reshape(48, 6)
    blocks = BlockPattern(2, 16).blocks(weight)
    assert blocks.shape == (3, 3, 16, 2)
    np.testing.assert_array_equal(blocks[1, 2], weight[16:32, 4:6])
    blocks[2, 0] = -1  # a view
    assert (weight[32:48, 0:2] == -1).all()
    assert (weight == -1).sum() == 32


@pytest.mark.parametrize("kind", [(1, 16), (2, 16), (3, 1), (1, 1), (6, 48)])
def test_block_sums(kind):
    weight = torch.randn(48, 6, dtype=torch.float64)
    pattern = BlockPattern(*kind)
    torch.testing.assert_close(pattern.sums(weight), pattern.blocks(weight).sum((2, 3)))


def test_blocks_of_a_transposed_matrix_are_a_view():
    weight = torch.zeros(6, 48).T
    BlockPattern(2, 16).blocks(weight)[2, 1] = 1
    assert weight[32:48, 2:4].eq(1).all()
    assert int(weight.sum()) == 32


@pytest.mark.parametrize(
    ("text", "count", "weights"),
    [
        ("2x4", 2 * (4 * 18 + 2 * 30), {8}),
        ("rows", 2 * (4 * 12 + 20 + 12), {12, 20}),
        ("columns", 2 * (4 * 12 + 12 + 20), {12, 20}),
        ("unstructured", TOTAL, {1}),
        ("heads+neurons", 2 * (3 + 20), {4 * 4 * 12, 24}),
        ("layers", 2, {TOTAL // 2}),
    ],
)
def test_every_weight_is_in_one_group(text, count, weights):
    sets = group_sets(parse_pattern(text), CONFIG)
    assert sum(s.count for s in sets) == count
    assert {s.weights for s in sets} == weights
    assert len({s.name for s in sets}) == len(sets)
    seen = {name: torch.zeros(SIZES[name.rpartition(".")[2]]) for name in tensors()}
    for s in sets:
        for index in range(s.count):
            only = torch.zeros(s.count)
            only[index] = 1
            before = sum(float(t.sum()) for t in seen.values())
            for member in s.members:
                blocks, beside = s.spread(only, member, seen[member.matrix])
                blocks += beside
            assert sum(float(t.sum()) for t in seen.values()) - before == s.weights
    assert all((t == 1).all() for t in seen.values())


def test_a_head_ties_rows_to_columns():
    (first, _) = group_sets(parse_pattern("heads"), CONFIG)
    assert (first.name, first.shape) == ("layers.0.heads", (3, 1))
    masks = keep_all(group_sets(parse_pattern("heads"), CONFIG))
    masks["layers.0.heads"][1] = False  # features 4 to 7
    kept = element_masks(group_sets(parse_pattern("heads"), CONFIG), masks, tensors())
    for name in ("query", "key", "value"):
        gone = ~kept[f"layers.0.{name}"]
        assert gone[4:8].all()
        assert int(gone.sum()) == 48
    gone = ~kept["layers.0.attention_output"]
    assert gone[:, 4:8].all()
    assert int(gone.sum()) == 48
    assert all(mask.all() for name, mask in kept.items() if "layers.1" in name or "ffn" in name)


def test_a_neuron_ties_a_row_to_a_column():
    sets = group_sets(parse_pattern("neurons"), CONFIG)
    masks = keep_all(sets)
    masks["layers.1.neurons"][17] = False
    kept = element_masks(sets, masks, tensors())
    assert not kept["layers.1.ffn_in"][17].any()
    assert not kept["layers.1.ffn_out"][:, 17].any()
    assert sum(int((~mask).sum()) for mask in kept.values()) == 24
    assert zeroed_share(sets, masks, tensors()) == pytest.approx(24 / TOTAL)


def test_overlapping_parts_count_once():
    sets = group_sets(parse_pattern("heads@0.25+2x4"), CONFIG)
    assert sets[0].name == "heads@0.25/layers.0.heads"
    masks = keep_all(sets)
    masks["heads@0.25/layers.0.heads"][0] = False  # rows 0 to 3 of the query
    masks["2x4/layers.0.query"][0, :] = False  # the same rows
    masks["2x4/layers.0.query"][2, 5] = False  # rows 8 to 11, columns 10 and 11
    assert zeroed_share(sets, masks, tensors()) == pytest.approx((4 * 48 + 8) / TOTAL)
    assert not element_masks(sets, masks, tensors())["layers.0.query"][8:12, 10:12].any()


def test_layers_go_as_one():
    sets = group_sets(parse_pattern("layers"), CONFIG)
    masks = keep_all(sets)
    masks["layers.1"][:] = False
    kept = element_masks(sets, masks, tensors())
    assert all(bool(mask.any()) == name.startswith("layers.0") for name, mask in kept.items())
    assert zeroed_share(sets, masks, tensors()) == 0.5


@pytest.mark.parametrize("text", ["2x4", "rows", "heads+neurons", "layers", "unstructured"])
def test_sums_over_groups(text):
    values = {name: t.double() for name, t in tensors().items()}
    sets = group_sets(parse_pattern(text), CONFIG)
    total = sum(float(s.reduce(values, torch.square).sum()) for s in sets)
    assert total == pytest.approx(sum(float(t.square().sum()) for t in values.values()), rel=1e-12)
    for s in sets:
        assert s.reduce(values, lambda t: t > 0).dtype == torch.int64
        assert s.reduce(values, torch.ones_like).eq(s.weights).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1x8", r"1x8 does not divide layers\.0\.query: 12 input by 12 output"),
        ("1x12", r"1x12 does not divide layers\.0\.ffn_in: 12 input by 20 output"),
        ("12x4", r"12x4 does not divide layers\.0\.ffn_out: 20 input by 12 output"),
    ],
)
def test_pattern_must_divide_every_matrix(text, message):
    with pytest.raises(BertileError, match=message):
        group_sets(parse_pattern(text), CONFIG)
