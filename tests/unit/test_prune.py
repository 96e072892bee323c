"""Block pruning: what is zeroed, how many, which, and what is written down about it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel

from bertile.errors import BertileError
from bertile.models.encoder import MATRICES
from bertile.models.families import matrices
from bertile.models.load import encoder_layers, load_model, save_model
from bertile.prune.folder import read_groups, read_masks, read_pruning
from bertile.prune.groups import element_masks
from bertile.prune.magnitude import prune_magnitude, save_pruned
from bertile.prune.pattern import BlockPattern, Pattern, parse_pattern


def weights_of(model) -> dict[str, np.ndarray]:
    """Every matrix as extraction gives it: another way than the pruner's."""
    return {
        f"layers.{index}.{name}": getattr(layer, name).weight
        for index, layer in enumerate(encoder_layers(model))
        for name in MATRICES
    }


def block_of(pattern: Pattern) -> BlockPattern:
    return pattern.components[0].block


def expand(mask: np.ndarray, pattern: Pattern) -> np.ndarray:
    return mask.repeat(block_of(pattern).outputs, axis=0).repeat(block_of(pattern).inputs, axis=1)


def copy_of(model):
    return prune_magnitude(model, parse_pattern("1x16"), 0).model


PATTERNS = st.sampled_from(["1x16", "2x16", "4x16", "16x1", "2x2", "8x8"]).map(parse_pattern)
SPARSITIES = st.floats(0, 1, exclude_max=True)


@settings(max_examples=30)
@given(
    pattern=PATTERNS,
    sparsity=SPARSITIES,
    scope=st.sampled_from(["uniform", "global"]),
    score=st.sampled_from(["l1", "l2"]),
    family=st.sampled_from(["bert", "roberta", "distilbert"]),
)
def test_invariants(tiny_model, pattern, sparsity, scope, score, family):
    model, block = tiny_model(family), block_of(pattern)
    before = weights_of(model)
    result = prune_magnitude(model, pattern, sparsity, scope, score)
    after = weights_of(result.model)
    assert list(result.masks) == list(after) == list(result.matrix_sparsity)
    assert len(after) == 18
    kept, dropped = {}, {}
    for name, mask in result.masks.items():
        np.testing.assert_array_equal(weights_of(model)[name], before[name])  # the original is untouched
        np.testing.assert_array_equal(after[name], before[name] * expand(mask, pattern))
        rows, columns = before[name].shape
        assert mask.shape == (rows // block.outputs, columns // block.inputs)
        assert result.matrix_sparsity[name] == pytest.approx(np.mean(~mask))
        worth = np.abs(block.blocks(before[name].astype(np.float64)))
        worth = worth.sum(axis=(2, 3)) if score == "l1" else np.linalg.norm(worth, axis=(2, 3))
        kept[name], dropped[name] = worth[mask], worth[~mask]
        if scope == "uniform":  # within one group of the exact share
            assert abs((~mask).sum() - sparsity * mask.size) < 1 + 1e-6
            assert dropped[name].max(initial=-1) <= kept[name].min(initial=np.inf) * (1 + 1e-5)
    zeroed, total = (sum(f(mask) for mask in result.masks.values()) for f in (lambda m: (~m).sum(), np.size))
    assert result.sparsity == pytest.approx(zeroed / total)
    assert abs(zeroed - sparsity * total) <= 0.5 + 1e-6
    if scope == "global":
        weak, strong = (np.concatenate(list(worths.values())) for worths in (dropped, kept))
        assert weak.max(initial=-1) <= strong.min(initial=np.inf) * (1 + 1e-5)


@settings(max_examples=15)
@given(pattern=PATTERNS, low=SPARSITIES, high=SPARSITIES)
def test_masks_are_nested_and_repeatable(tiny_model, pattern, low, high):
    low, high = sorted((low, high))
    model = tiny_model("bert")
    masks = [prune_magnitude(model, pattern, sparsity, "global").masks for sparsity in (low, high, high)]
    for name in masks[0]:
        assert not (masks[1][name] & ~masks[0][name]).any()
        np.testing.assert_array_equal(masks[1][name], masks[2][name])


def test_global_spares_the_strong_matrix(tiny_model):
    model = copy_of(tiny_model("bert"))
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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scope": "local"}, "unknown scope 'local'; known are uniform, global"),
        ({"score": "l3"}, "score 'l3' is not one of l2, l1, random, which need no data"),
        ({"score": "movement"}, "score 'movement' is not one of l2, l1, random, which need no data"),
        ({"pattern": "1x32"}, "pattern 1x32 does not divide layers.0.ffn_in: 64 input by 112 output features"),
        ({"pattern": "heads"}, "pattern heads covers 53.3% of the weights: a sparsity of 0.6 is out of its reach"),
        ({"pattern": "layers"}, "pattern layers cannot reach a sparsity of 0.6; the nearest is 0.6667"),
    ],
)
def test_refused(tiny_model, settings, message):
    pattern = parse_pattern(settings.pop("pattern", "1x16"))
    with pytest.raises(BertileError) as error:
        prune_magnitude(tiny_model("bert"), pattern, 0.6, **settings)
    assert str(error.value) == message


@pytest.mark.parametrize("score", ["l2", "random"])
def test_a_pruned_model_is_pruned_further(tiny_model, score):
    first = prune_magnitude(tiny_model("bert"), parse_pattern("1x16"), 0.5, "global")
    second = prune_magnitude(first.model, parse_pattern("1x16"), 0.75, "uniform", score, seed=3)
    assert second.sparsity == pytest.approx(0.75, abs=1e-3)
    for name, mask in second.masks.items():
        assert not (mask & ~first.masks[name]).any()
    with pytest.raises(BertileError, match=r"cannot reach a sparsity of 0.3; the nearest is 0\.5"):
        prune_magnitude(first.model, parse_pattern("1x16"), 0.3)


@pytest.mark.parametrize("text", ["rows", "columns", "heads+neurons", "unstructured", "layers", "neurons@0.5+1x16"])
def test_other_patterns(tiny_model, tmp_path, text):
    sparsity = 1 / 3 if text == "layers" else 0.5
    result = prune_magnitude(tiny_model("bert"), parse_pattern(text), sparsity)
    zeros = np.mean(np.concatenate([weight.ravel() == 0 for weight in weights_of(result.model).values()]))
    assert result.sparsity == pytest.approx(zeros, abs=1e-9)
    assert zeros == pytest.approx(sparsity, abs=1e-3)
    save_pruned(result, tmp_path / "pruned")
    back = load_model(str(tmp_path / "pruned"))
    sets, masks = read_groups(tmp_path / "pruned", back.config)
    weights = {name: linear.weight for name, linear in matrices(back.network, "bert").items()}
    kept = element_masks(sets, masks, weights)
    assert all(torch.equal(weight != 0, kept[name]) for name, weight in weights.items())


def test_saved_folder(tiny_model, tmp_path):
    result = prune_magnitude(tiny_model("roberta"), parse_pattern("2x16"), 0.6, "global", "l1")
    save_pruned(result, tmp_path / "pruned")
    assert read_pruning(tmp_path / "pruned") == {
        "pattern": "2x16",
        "sparsity_asked": 0.6,
        "sparsity": result.sparsity,
        "scope": "global",
        "score": "l1",
        "method": "oneshot",
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


def test_masks_of_another_pattern_are_refused(tiny_model, tmp_path):
    save_pruned(prune_magnitude(tiny_model("bert"), parse_pattern("1x16"), 0.5), tmp_path / "pruned")
    marker = tmp_path / "pruned" / "bertile.json"
    marker.write_text(marker.read_text().replace('"1x16"', '"16x1"'))
    with pytest.raises(BertileError, match="its masks are not those of pattern 16x1"):
        read_groups(tmp_path / "pruned", tiny_model("bert").config)
    save_model(tiny_model("bert"), tmp_path / "dense")
    assert read_groups(tmp_path / "dense", tiny_model("bert").config) is None
