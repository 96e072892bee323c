"""Genes, plans and constraints of a search."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.test_pruner import CONFIG, SIZES

from bertile.errors import BertileError
from bertile.models.encoder import MATRICES
from bertile.models.families import matrices
from bertile.models.load import embeddings, encoder_layers, random_model
from bertile.pack.packer import pack_encoder
from bertile.perf.estimate import estimate_cycles
from bertile.perf.masked import CycleModel
from bertile.prune.groups import element_masks, zeroed_share
from bertile.prune.magnitude import prune_magnitude
from bertile.prune.pattern import parse_pattern
from bertile.prune.select import select_masks
from bertile.quantize.quantizer import quantize_encoder
from bertile.search.constraint import Constraint, fit, make_constraint
from bertile.search.space import BLOCKS, LEAST, Space, logarithms, make_space

PATTERNS = ["1x4", "heads+1x4", "1x1", "4x4+1x4", "heads+4x4+1x4"]
TENSORS = {f"layers.{i}.{name}": torch.ones(SIZES[name]) for i in range(2) for name in MATRICES}


def space_of(text: str) -> Space:
    pattern = parse_pattern(text)
    plain = make_space(pattern, CONFIG, {})
    generator = np.random.default_rng(0)
    wanted = {s.name: generator.uniform(0.1, 0.9) for s in plain.fitted()}
    return make_space(pattern, CONFIG, {"global": logarithms(wanted, plain.fitted())})


def masks_of(space: Space, plan):
    sets = list(space.sets)
    scores = {s.name: np.random.default_rng(1).random(s.count) for s in sets}
    return select_masks(space.pattern, sets, scores, TENSORS, 0.0, plan=plan.shares)


def no_cycles(plan) -> int:
    raise AssertionError("a sparsity needs no cycles")


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), sparsity=st.floats(0.3, 0.9), text=st.sampled_from(PATTERNS))
def test_a_ratio_is_met(seed, sparsity, text):
    """At least as sparse as asked, and by less than 0.5 % of the weights more than the groups make it."""
    space = space_of(text)
    generator = np.random.default_rng(seed)
    genes = {name: generator.uniform(*bounds) for name, bounds in space.ranges().items()}
    # Coarse groups that take more than what is to go would make it sparser.
    genes |= {name: value * sparsity for name, value in genes.items() if name.startswith("coarse.")}
    plan = fit(Constraint("sparsity", sparsity), space, genes, no_cycles)
    reached = zeroed_share(list(space.sets), masks_of(space, plan), TENSORS)
    assert reached == pytest.approx(plan.sparsity, abs=2e-3)
    largest = max(s.weights for s in space.fitted()) * len(space.fitted()) / sum(t.numel() for t in TENSORS.values())
    assert sparsity - 2e-3 <= reached <= sparsity + 0.005 + largest


def test_plans_by_hand():
    space = make_space(parse_pattern("1x4"), CONFIG, {})
    genes = space.neutral()
    assert set(space.plan(genes, 0.25).shares.values()) == {0.75}
    genes["kind.ffn_in"] = float(np.log(2))
    shares = space.plan(genes, 0.25).shares
    assert {round(share, 2) for name, share in shares.items() if name.endswith("ffn_in")} == {0.5}
    assert {share for name, share in shares.items() if not name.endswith("ffn_in")} == {0.75}
    # 2 of 4.67 (in units of 144 weights) are ffn_in, 240 of 12 * 12 * 4 + 240 * 2 = 1056 weights a layer.
    assert space.plan(genes, 0.25).sparsity == pytest.approx(0.75 - 0.25 * 240 / 1056, abs=1e-2)
    assert max(space.plan(genes, 0.0).shares.values()) <= 1 - LEAST + 0.01
    assert set(space.plan(genes, 100.0).shares.values()) == {0.0}


def test_each_matrix_has_its_block_shape():
    """Of one matrix half goes in blocks of 4x4 and the rest of it in 1x4; of all others nothing goes in blocks."""
    space = make_space(parse_pattern("4x4+1x4"), CONFIG, {})
    assert [s.name for s in space.coarse()] == [f"4x4/{name}" for name in TENSORS]
    assert space.ranges()["coarse.4x4/layers.0.key"] == (0.0, BLOCKS)
    plan = space.plan(space.neutral() | {"coarse.4x4/layers.0.key": 5 / 9}, 0.25)
    assert {name for name, share in plan.shares.items() if share == 0} == {
        f"4x4/{name}" for name in TENSORS if name != "layers.0.key"
    }
    masks = masks_of(space, plan)
    assert masks["4x4/layers.0.key"].sum() == 4  # of 3 x 3 blocks
    kept = element_masks(list(space.sets), masks, TENSORS)
    assert {name: float(mask.float().mean()) for name, mask in kept.items()} == pytest.approx(
        dict.fromkeys(TENSORS, 0.25), abs=0.01
    )
    blocks = parse_pattern("4x4").components[0].block
    space = make_space(parse_pattern("heads+4x4+1x4"), CONFIG, {})
    genes = space.neutral() | {"coarse.heads/layers.0.heads": 1 / 3, "coarse.4x4/layers.0.key": 1 / 3}
    assert space.plan(genes, 100.0).shares["1x4/layers.0.key"] == pytest.approx(1 / 3)  # one head is three blocks
    empty = {name: int((blocks.sums(mask.float()) == 0).sum()) for name, mask in kept.items()}
    assert empty["layers.0.key"] >= 5
    assert empty["layers.0.query"] < 5


def test_coarse_groups_go_first():
    space = make_space(parse_pattern("heads+1x4"), CONFIG, {})
    assert [s.name for s in space.coarse()] == ["heads/layers.0.heads", "heads/layers.1.heads"]
    genes = space.neutral() | {"coarse.heads/layers.0.heads": 0.4}
    shares = space.plan(genes, 100.0).shares
    assert shares["heads/layers.0.heads"] == pytest.approx(1 / 3)  # whole heads: one of three
    assert shares["1x4/layers.0.query"] == pytest.approx(1 / 3)
    assert shares["1x4/layers.0.ffn_in"] == shares["1x4/layers.1.query"] == 0


def test_a_pattern_that_leaves_matrices_out():
    with pytest.raises(BertileError, match="pattern heads leaves matrices out"):
        make_space(parse_pattern("heads"), CONFIG, {})


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        ((None, None, None), "give one of"),
        ((0.5, 100, None), "give one of"),
        ((1.0, None, None), r"sparsity 1.0 is not in \[0, 1\)"),
        ((None, 0, None), "0 is not above 0"),
        ((None, None, -3.0), "-3.0 is not above 0"),
    ],
)
def test_constraints_that_cannot_be(given, cause):
    with pytest.raises(BertileError, match=cause):
        make_constraint(*given)


def test_constraints():
    assert str(make_constraint(0.75, None, None)) == "sparsity 0.75"
    assert make_constraint(None, None, 900.0) == make_constraint(None, 270_000, None)  # at 300 MHz


@pytest.fixture(scope="module")
def model():
    return random_model("minilm-l6", 1, 0)


@pytest.fixture(scope="module")
def space(model):
    return make_space(parse_pattern("1x16"), model.config, {})


@pytest.fixture(scope="module")
def count(model, space):
    cycle_model = CycleModel(model, 64)
    tensors = {name: linear.weight.data for name, linear in matrices(model.network, "bert").items()}
    sets = list(space.sets)
    scores = {s.name: np.random.default_rng(1).random(s.count) for s in sets}

    def cycles(plan) -> int:
        masks = select_masks(space.pattern, sets, scores, tensors, 0.0, plan=plan.shares)
        return cycle_model.cycles(element_masks(sets, masks, tensors))

    return cycles


def test_a_limit_is_met_and_used(space, count):
    dense = count(space.plan(space.neutral(), 100.0))
    plan = fit(Constraint("cycles", dense // 2), space, space.neutral(), count)
    assert 0.98 * (dense // 2) <= count(plan) <= dense // 2


def test_what_is_out_of_reach(space, count):
    least = count(space.plan(space.neutral(), 0.0))
    cause = f"100 cycles cannot be met with pattern 1x16: the bound is {least:,} cycles"
    with pytest.raises(BertileError, match=cause):
        fit(Constraint("cycles", 100), space, space.neutral(), count)
    with pytest.raises(BertileError, match=r"sparsity 0.99 cannot be met .*: the bound is a sparsity of 0.98"):
        fit(Constraint("sparsity", 0.99), space, space.neutral(), count)


def test_the_cycles_are_those_of_the_packed_model(model, space):
    """Pruned by magnitude, quantized with its own weights and packed: no vector rounds to zero here."""
    result = prune_magnitude(model, space.pattern, 0.7)
    pruned = result.model
    ids = [np.arange(64) + 1000]
    quantized = quantize_encoder(encoder_layers(pruned), pruned.config, embeddings(pruned), ids)
    weights = {f"layers.{i}.{n}": getattr(x, n).weight for i, x in enumerate(encoder_layers(pruned)) for n in MATRICES}
    kept = {name: torch.from_numpy(np.asarray(weight) != 0) for name, weight in weights.items()}
    for units in (1, 3):
        packed = pack_encoder(quantized, units=units)
        assert CycleModel(model, 64, units).cycles(kept) == estimate_cycles(packed, [64], units=units).total
