"""How output tiles and heads are dealt to the units that share a request, and the order of features that follows."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.random_encoder import encoder_config, random_quantized

from bertile.config.spec import load_spec
from bertile.errors import CapacityError, FormatError
from bertile.pack.container import load_packed, save_packed
from bertile.pack.deal import UNITS, Deal, Hand, arrange, deal, deal_freely, deal_hidden, pass_cycles, restore
from bertile.pack.packer import pack_encoder, unpack_encoder
from bertile.perf.estimate import estimate_cycles

SPEC = load_spec()


def assert_same(a: object, b: object) -> int:
    """Equal arrays everywhere; how many were compared."""
    if is_dataclass(a):
        return sum(assert_same(getattr(a, field.name), getattr(b, field.name)) for field in fields(a))
    if isinstance(a, tuple):
        assert len(a) == len(b)
        return sum(assert_same(x, y) for x, y in zip(a, b, strict=True))
    np.testing.assert_array_equal(a, b)
    return 1


def test_the_longest_first_to_whom_has_least():
    """9 | 8 | 7, then 6 to the third (13), 5 to the second (13), 1 to the first (10). Tile 3 is dealt to nobody."""
    hand = deal_freely(np.array([1, 9, 5, 100, 7, 8, 6]), np.array([0, 1, 2, 4, 5, 6]), 7)
    assert hand == Hand((0, 1, 2, 5, 4, 6, 3), (2, 2, 2))
    assert [list(hand.of(unit)) for unit in range(UNITS)] == [[0, 1], [2, 3], [4, 5]]
    assert hand.features(2).tolist() == [0, 1, 2, 3, 4, 5, 10, 11, 8, 9, 12, 13, 6, 7]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), tiles=st.integers(3, 24), matrices=st.integers(1, 6))
def test_hidden_tiles_have_one_owner_in_all_layers(seed, tiles, matrices):
    """Every tile once, as many to each unit as can be, and no pair of tiles would gain by changing places."""
    works = np.random.default_rng(seed).integers(16, 200, (matrices, tiles))
    hand = deal_hidden(works)
    assert sorted(hand.order) == list(range(tiles))
    assert max(hand.counts) - min(hand.counts) <= 1
    owner = np.repeat(np.arange(UNITS), hand.counts)[np.argsort(hand.order)]

    def cost(owner: np.ndarray) -> int:
        return np.stack([works[:, owner == unit].sum(axis=1) for unit in range(UNITS)]).max(axis=0).sum()

    best = cost(owner)
    for first in range(tiles):
        for second in range(first):
            other = owner.copy()
            other[[first, second]] = other[[second, first]]
            assert cost(other) >= best


def test_passes_by_hand():
    """Nine vectors are three groups, but a pass lasts 16 cycles; 68 vectors are 17 groups."""
    weight = np.zeros((48, 100), np.int8)
    weight[3, :9] = 1
    weight[16:32, :68] = -5
    assert pass_cycles(weight).tolist() == [16, 17, 16]


def test_arranged_layers_are_restored():
    model = random_quantized(encoder_config(160, 112, 5), 3)
    dealt = deal(model)
    arranged = arrange(model.layers, dealt)
    assert assert_same(restore(arranged, dealt), model.layers) > 50
    with pytest.raises(AssertionError):
        assert_same(arranged, model.layers)
    place = dealt.hidden.order.index(3)  # of tile 3, and of its features in every layer
    for layer, ordered in zip(model.layers, arranged, strict=True):
        np.testing.assert_array_equal(ordered.ffn_norm.gain[16 * place : 16 * place + 16], layer.ffn_norm.gain[48:64])


def test_heads_and_neurons_that_nobody_reads_are_dealt_to_nobody():
    model = random_quantized(encoder_config(192, 160, 6), 5)
    for layer in model.layers:
        layer.attention_output.weight[:, 32:64] = 0
        layer.ffn_out.weight[:, 16:48] = 0
    dealt = deal(model)
    for heads, ffn in zip(dealt.heads, dealt.ffn, strict=True):
        assert (sum(heads.counts), heads.order[-1]) == (5, 1)
        assert (sum(ffn.counts), ffn.order[-2:]) == (8, (1, 2))
        assert max(heads.counts) <= 2
    assert_same(unpack_encoder(pack_encoder(model, units=UNITS)).layers, model.layers)


def test_a_file_keeps_the_deal(tmp_path):
    model = random_quantized(encoder_config(96, 112, 3), 6)
    packed = pack_encoder(model, units=UNITS)
    save_packed(packed, tmp_path / "three.bertile")
    loaded = load_packed(tmp_path / "three.bertile")
    assert loaded.deal == packed.deal == Deal.from_json(packed.deal.to_json())
    assert loaded.variants == packed.variants
    assert {(v.units, v.unit) for v in loaded.variants} == {(1, 0), (3, 0), (3, 1), (3, 2)}
    assert_same(unpack_encoder(loaded).layers, model.layers)
    save_packed(pack_encoder(model), tmp_path / "one.bertile")
    assert load_packed(tmp_path / "one.bertile").deal is None


def test_weights_are_stored_once():
    model = random_quantized(encoder_config(192, 208, 3), 7)
    one, three = pack_encoder(model), pack_encoder(model, units=UNITS)
    assert three.weights.nbytes == one.weights.nbytes
    assert three.parameters.nbytes == one.parameters.nbytes


def test_programs_that_wait_for_each_other_are_no_endless_estimate():
    """A join of more words than the other unit sends: on a card a standstill, here one line."""
    packed = pack_encoder(random_quantized(encoder_config(96, 112, 3), 9), units=UNITS)
    assert estimate_cycles(packed, [40], units=UNITS).total > 0
    program = packed.program.copy()
    records = program.reshape(-1).view(SPEC.records["descriptor"].dtype)
    records["peer_tiles_1"][np.flatnonzero(records["opcode"] == SPEC.opcode.join)[0]] += 1
    with pytest.raises(FormatError, match="wait for words that none of them sends"):
        estimate_cycles(replace(packed, program=program), [40], units=UNITS)


@pytest.mark.parametrize(("hidden", "units", "said"), [(32, UNITS, "hidden 32 has 2 tiles"), (96, 2, "2 units")])
def test_what_cannot_be_dealt(hidden, units, said):
    with pytest.raises(CapacityError, match=said):
        pack_encoder(random_quantized(encoder_config(hidden, 48, 1 if hidden == 32 else 3), 8), units=units)
