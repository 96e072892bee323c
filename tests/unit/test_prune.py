"""Block pruning: what is zeroed, how many, which, and what is written down about it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModel

from bertile.errors import BertileError
from bertile.models.encoder import MATRICES
from bertile.models.families import matrices
from bertile.models.load import encoder_layers, load_model, save_model
from bertile.prune.magnitude import block_scores, prune_magnitude, read_masks, read_pruning, save_pruned
from bertile.prune.pattern import BlockPattern, parse_pattern


def weights_of(model) -> dict[str, np.ndarray]:
    """Every matrix as extraction gives it: another way than the pruner's."""
    return {
        f"layers.{index}.{name}": getattr(layer, name).weight
        for index, layer in enumerate(encoder_layers(model))
        for name in MATRICES
    }


def expand(mask: np.ndarray, pattern: BlockPattern) -> np.ndarray:
    return mask.repeat(pattern.outputs, axis=0).repeat(pattern.inputs, axis=1)


@pytest.mark.parametrize(("text", "inputs", "outputs"), [("1x16", 1, 16), ("32x48", 32, 48), (" 4x16 ", 4, 16)])
def test_parse_pattern(text, inputs, outputs):
    pattern = parse_pattern(text)
    assert (pattern.inputs, pattern.outputs) == (inputs, outputs)
    assert parse_pattern(str(pattern)) == pattern


@pytest.mark.parametrize("text", ["", "16", "x16", "1x", "0x16", "1x0", "-1x16", "1X16", "1x16x2", "1.5x16", "axb"])
def test_bad_pattern_text(text):
    with pytest.raises(BertileError, match="is not KxN"):
        parse_pattern(text)


@pytest.mark.parametrize("text", ["16x1", "1x8", "16x24"])
def test_pattern_must_be_made_of_weight_vectors(text):
    with pytest.raises(BertileError, match="output features are not a multiple of 16"):
        parse_pattern(text)


def test_blocks_are_where_they_should_be():
    weight = np.arange(48 * 6).reshape(48, 6)
    blocks = BlockPattern(2, 16).blocks(weight)
    assert blocks.shape == (3, 3, 16, 2)
    np.testing.assert_array_equal(blocks[1, 2], weight[16:32, 4:6])
    blocks[2, 0] = -1  # a view
    assert (weight[32:48, 0:2] == -1).all()
    assert (weight == -1).sum() == 32


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("1x32", r"1x32 does not divide layers\.0\.ffn_in: 64 input by 112 output"),
        ("5x16", r"5x16 does not divide layers\.0\.query: 64 input by 64 output"),
        ("64x16", r"64x16 does not divide layers\.0\.ffn_out: 112 input by 64 output"),
    ],
)
def test_pattern_must_divide_every_matrix(tiny_model, pattern, message):
    with pytest.raises(BertileError, match=message):
        prune_magnitude(tiny_model("bert"), parse_pattern(pattern), 0.5)


def test_scores_by_hand():
    weight = torch.zeros(32, 4)
    weight[16:, 2:] = torch.tensor([3.0, -1.0]).repeat(16, 1)
    pattern = BlockPattern(2, 16)
    np.testing.assert_allclose(block_scores(weight, pattern, "l2"), [[0, 0], [0, np.sqrt(5)]])
    np.testing.assert_allclose(block_scores(weight, pattern, "l1"), [[0, 0], [0, 2]])


PATTERNS = st.sampled_from(["1x16", "2x16", "4x16", "16x16"]).map(parse_pattern)
SPARSITIES = st.floats(0, 1, exclude_max=True)


@given(
    pattern=PATTERNS,
    sparsity=SPARSITIES,
    scope=st.sampled_from(["uniform", "global"]),
    norm=st.sampled_from(["l1", "l2"]),
    family=st.sampled_from(["bert", "roberta", "distilbert"]),
)
def test_invariants(tiny_model, pattern, sparsity, scope, norm, family):
    model = tiny_model(family)
    before = weights_of(model)
    result = prune_magnitude(model, pattern, sparsity, scope, norm)
    after = weights_of(result.model)
    assert list(result.masks) == list(after) == list(result.matrix_sparsity)
    assert len(after) == 18
    kept_scores, dropped_scores = {}, {}
    for name, mask in result.masks.items():
        np.testing.assert_array_equal(weights_of(model)[name], before[name])  # the original is untouched
        np.testing.assert_array_equal(after[name], before[name] * expand(mask, pattern))
        rows, columns = before[name].shape
        assert mask.shape == (rows // pattern.outputs, columns // pattern.inputs)
        assert result.matrix_sparsity[name] == pytest.approx(np.mean(~mask))
        score = np.abs(pattern.blocks(before[name].astype(np.float64)))
        score = score.sum(axis=(2, 3)) if norm == "l1" else np.linalg.norm(score, axis=(2, 3))
        kept_scores[name], dropped_scores[name] = score[mask], score[~mask]
        if scope == "uniform":
            assert (~mask).sum() == round(sparsity * mask.size)
            assert dropped_scores[name].max(initial=-1) <= kept_scores[name].min(initial=np.inf) * (1 + 1e-12)
    zeroed, total = (sum(f(mask) for mask in result.masks.values()) for f in (lambda m: (~m).sum(), np.size))
    assert result.sparsity == pytest.approx(zeroed / total)
    if scope == "global":
        assert zeroed == round(sparsity * total)
        dropped, kept = (np.concatenate(list(scores.values())) for scores in (dropped_scores, kept_scores))
        assert dropped.max(initial=-1) <= kept.min(initial=np.inf) * (1 + 1e-12)


@given(pattern=PATTERNS, low=SPARSITIES, high=SPARSITIES)
def test_masks_are_nested_and_repeatable(tiny_model, pattern, low, high):
    low, high = sorted((low, high))
    model = tiny_model("bert")
    masks = [prune_magnitude(model, pattern, sparsity, "global").masks for sparsity in (low, high, high)]
    for name in masks[0]:
        assert not (masks[1][name] & ~masks[0][name]).any()
        np.testing.assert_array_equal(masks[1][name], masks[2][name])


def test_equal_scores_go_in_order(tiny_model):
    model = prune_magnitude(tiny_model("bert"), parse_pattern("1x16"), 0).model
    with torch.no_grad():
        for linear in matrices(model.network, "bert").values():
            linear.weight.fill_(0.5)
    result = prune_magnitude(model, parse_pattern("1x16"), 0.25, "global")
    flat = np.concatenate([mask.ravel() for mask in result.masks.values()])
    np.testing.assert_array_equal(flat, np.arange(flat.size) >= round(0.25 * flat.size))


def test_global_spares_the_strong_matrix(tiny_model):
    model = prune_magnitude(tiny_model("bert"), parse_pattern("1x16"), 0).model
    with torch.no_grad():
        matrices(model.network, "bert")["layers.1.value"].weight.mul_(1000)
    shares = [prune_magnitude(model, parse_pattern("1x16"), 0.5, scope) for scope in ("global", "uniform")]
    assert [result.matrix_sparsity["layers.1.value"] for result in shares] == [0.0, 0.5]


def test_only_the_matrices_change(tiny_model):
    model = tiny_model("bert")
    pruned = prune_magnitude(model, parse_pattern("16x16"), 0.9).model
    ours = {f"{id(linear.weight)}" for linear in matrices(pruned.network, "bert").values()}
    changed = 0
    for (name, before), after in zip(model.network.named_parameters(), pruned.network.parameters(), strict=True):
        if str(id(after)) in ours:
            changed += not torch.equal(before, after)
        else:
            assert torch.equal(before, after), name
    assert changed == 18


@pytest.mark.parametrize("sparsity", [-0.1, 1, 1.5, float("nan")])
def test_bad_sparsity(tiny_model, sparsity):
    with pytest.raises(BertileError, match=r"is not in \[0, 1\)"):
        prune_magnitude(tiny_model("bert"), parse_pattern("1x16"), sparsity)


def test_unknown_scope_and_norm(tiny_model):
    with pytest.raises(BertileError, match="unknown scope 'local'; known are uniform, global"):
        prune_magnitude(tiny_model("bert"), parse_pattern("1x16"), 0.5, scope="local")
    with pytest.raises(BertileError, match="unknown norm 'l3'; known are l1, l2"):
        prune_magnitude(tiny_model("bert"), parse_pattern("1x16"), 0.5, norm="l3")


def test_saved_folder(tiny_model, tmp_path):
    result = prune_magnitude(tiny_model("roberta"), parse_pattern("2x16"), 0.6, "global", "l1")
    save_pruned(result, tmp_path / "pruned")
    assert read_pruning(tmp_path / "pruned") == {
        "pattern": "2x16",
        "sparsity_asked": 0.6,
        "sparsity": result.sparsity,
        "scope": "global",
        "norm": "l1",
        "source": "tiny-roberta",
    }
    assert result.sparsity == pytest.approx(0.6, abs=1e-3)
    marker = json.loads((tmp_path / "pruned" / "bertile.json").read_text())
    assert set(marker) == {"name", "synthetic", "pruning", "files"}
    assert marker["files"] == ["config.json", "masks.safetensors", "model.safetensors"]
    masks = read_masks(tmp_path / "pruned")
    assert masks.keys() == result.masks.keys()
    back = load_model(str(tmp_path / "pruned"))
    assert back.synthetic
    for name, weight in weights_of(back).items():
        np.testing.assert_array_equal(masks[name], result.masks[name])
        assert masks[name].dtype == bool
        np.testing.assert_array_equal(weight, weights_of(result.model)[name])
    plain = AutoModel.from_pretrained(tmp_path / "pruned")
    assert float((plain.encoder.layer[0].output.dense.weight == 0).float().mean()) > 0.3


def test_unpruned_folders_have_no_pruning(tiny_model, tmp_path):
    assert read_pruning(tmp_path) is None
    save_model(tiny_model("bert"), tmp_path / "dense")
    assert read_pruning(tmp_path / "dense") is None
    with pytest.raises(BertileError, match="no readable masks"):
        read_masks(tmp_path / "dense")
