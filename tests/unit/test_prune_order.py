"""Moving features: the network computes the same, what carries most comes first, what is left stands together."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from bertile.models.encoder import EncoderConfig
from bertile.models.families import matrices
from bertile.prune.groups import element_masks, group_sets
from bertile.prune.magnitude import prune_magnitude
from bertile.prune.order import NEURONS, PRODUCTS, VALUES, feature_orders, gather_neurons, order_features
from bertile.prune.pattern import parse_pattern
from bertile.prune.pruner import Masking

IDS = torch.tensor([[2, 5, 31, 90, 7, 3, 0, 0], [2, 11, 12, 13, 14, 15, 16, 3]])


def states(network) -> torch.Tensor:
    with torch.no_grad():
        return network(IDS, attention_mask=(IDS > 0).long()).last_hidden_state


def random_masks(sets, seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {s.name: generator.random(s.shape) < 0.6 for s in sets}


def gather(model, text: str):
    """(sets, network with masks, its masks; the same after gathering)."""
    pattern = parse_pattern(text)
    sets = group_sets(pattern, model.config)
    before, masks = copy.deepcopy(model.network), random_masks(sets)
    Masking(sets, masks).apply({n: m.weight for n, m in matrices(before, model.config.family).items()})
    after = copy.deepcopy(before)
    with torch.no_grad():  # a neuron's bias moves with it
        for network in (before, after):
            for name, linear in matrices(network, model.config.family).items():
                linear.bias.copy_(torch.linspace(-1, 1, linear.bias.numel()) * (len(name) % 3 - 1.5))
    return sets, before, masks, after, gather_neurons(pattern, matrices(after, model.config.family), sets, masks)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_the_network_computes_the_same(tiny_model, family):
    model = tiny_model(family)
    sets, before, masks, after, moved = gather(model, "heads+neurons")
    seen = states(after)
    torch.testing.assert_close(seen, states(before), rtol=0, atol=1e-5)
    assert float((seen - states(model.network)).abs().max()) > 1e-2  # the masks did something
    weights = {name: linear.weight for name, linear in matrices(after, family).items()}
    kept = element_masks(sets, moved, weights)
    assert all(torch.equal(weight != 0, kept[name]) for name, weight in weights.items())
    assert moved.keys() == masks.keys()
    for name, mask in moved.items():
        assert mask.shape == masks[name].shape
        if name.endswith("neurons"):
            count = int(masks[name].sum())
            np.testing.assert_array_equal(mask.ravel(), np.arange(112) < count)
        else:
            assert mask is masks[name]


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_a_network_in_another_order_computes_the_same(tiny_model, family):
    model, generator = tiny_model(family), torch.Generator().manual_seed(0)
    network, config = copy.deepcopy(model.network), model.config
    linears = matrices(network, family)
    for linear in linears.values():
        linear.bias.data.copy_(torch.randn(linear.bias.shape, generator=generator))
    before = states(network)
    squares = {name: torch.rand(linear.in_features, generator=generator) for name, linear in linears.items()}
    weights = {name: linear.weight.data for name, linear in linears.items()}
    old = {name: weight.clone() for name, weight in weights.items()}
    orders = feature_orders(weights, squares, config)
    order_features(linears, orders)
    torch.testing.assert_close(states(network), before, rtol=0, atol=1e-5)
    for layer in range(config.layers):
        for name in ("query", "key", "value", "ffn_in"):
            assert not torch.equal(weights[f"layers.{layer}.{name}"], old[f"layers.{layer}.{name}"])
        for kind in (VALUES, PRODUCTS):  # every head keeps its features
            heads = orders[layer, kind].view(config.heads, -1) // config.head_size
            assert torch.equal(heads, torch.arange(config.heads).unsqueeze(1).expand_as(heads))


def test_what_carries_most_comes_first():
    """Two heads of two, three neurons; by hand."""
    config = EncoderConfig("bert", 1, 4, 3, 2, "gelu", 1e-12, 16, 50)
    tensors = {f"layers.0.{name}": torch.ones(4, 4) for name in ("query", "key", "value", "attention_output")}
    tensors |= {"layers.0.ffn_in": torch.ones(3, 4), "layers.0.ffn_out": torch.tensor([[1.0, 3.0, 2.0]] * 4)}
    squares = {name: torch.ones(tensor.shape[1]) for name, tensor in tensors.items()}
    squares["layers.0.ffn_out"] = torch.tensor([5.0, 1.0, 1.0])  # times 4, 36, 16: 20, 36, 16
    squares["layers.0.attention_output"] = torch.tensor([1.0, 2.0, 8.0, 7.0])
    tensors["layers.0.query"] = torch.tensor([1.0, 2.0, 1.0, 5.0]).unsqueeze(1).expand(4, 4)
    tensors["layers.0.key"] = torch.tensor([9.0, 1.0, 2.0, 1.0]).unsqueeze(1).expand(4, 4)
    orders = feature_orders(tensors, squares, config)
    assert {kind: order.tolist() for (_, kind), order in orders.items()} == {
        NEURONS: [1, 0, 2],
        VALUES: [1, 0, 2, 3],
        PRODUCTS: [0, 1, 3, 2],  # 81 against 4, 4 against 25
    }


def test_kept_neurons_keep_their_order(tiny_model):
    _, before, masks, after, _ = gather(tiny_model("bert"), "neurons")
    kept = masks["layers.0.neurons"].ravel()
    old, new = (matrices(network, "bert")["layers.0.ffn_in"] for network in (before, after))
    assert torch.equal(new.weight[: kept.sum()], old.weight[kept])
    assert torch.equal(new.bias[: kept.sum()], old.bias[kept])
    assert torch.equal(new.bias[kept.sum() :], old.bias[~kept])


@pytest.mark.parametrize("text", ["neurons@0.5+1x16", "1x16", "heads@0.5+neurons@0.5+4x16"])
def test_nothing_moves_under_other_groups(tiny_model, text):
    _, before, masks, after, moved = gather(tiny_model("bert"), text)
    for one, other in zip(before.parameters(), after.parameters(), strict=True):
        assert torch.equal(one, other)
    assert all(moved[name] is masks[name] for name in masks)


def test_pruning_gathers(tiny_model):
    result = prune_magnitude(tiny_model("bert"), parse_pattern("neurons"), 0.4)
    for name, mask in result.masks.items():
        count = int(mask.sum())
        assert 0 < count < 112
        np.testing.assert_array_equal(mask.ravel(), np.arange(112) < count)
        rows = matrices(result.model.network, "bert")[name.replace("neurons", "ffn_in")].weight.any(1)
        np.testing.assert_array_equal(rows.numpy(), mask.ravel())
