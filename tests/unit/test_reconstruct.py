"""Pruning in closed form: least squares by hand, scores by hand, and what it gains on small encoders."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from tests.tiny_training import final_weights, make_job
from tests.unit.test_pruner import CONFIG, SIZES
from torch import nn

from bertile.errors import BertileError
from bertile.models.classifier import load_trainable
from bertile.models.families import matrices
from bertile.prune.groups import element_masks, group_sets, zeroed_share
from bertile.prune.pattern import parse_pattern
from bertile.prune.pruner import Pruner
from bertile.prune.reconstruct import (
    Reconstructor,
    least_squares,
    prune_reconstructing,
)
from bertile.prune.schedule import PruneSchedule
from bertile.prune.scores import activation_scores
from bertile.train.run import run_job


def linear(weight: list, bias: list) -> nn.Linear:
    result = nn.Linear(len(weight[0]), len(weight))
    result.weight.data, result.bias.data = torch.tensor(weight), torch.tensor(bias)
    return result


def test_least_squares_by_hand():
    """Target 3 a + b with a lost: b takes over what it shares with a, 3 cov(a, b) / var(b) = 3, plus its own 1."""
    inputs = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [2.0, 1.0]])
    targets = 3 * inputs[:, :1] + inputs[:, 1:] + 5
    module = linear([[0.0, 1.0]], [0.0])
    least_squares(module, torch.tensor([[False, True]]), inputs, targets, ridge=0.0)
    assert module.weight.tolist() == [[0.0, pytest.approx(4.0)]]
    assert module.bias.item() == pytest.approx(float(targets.mean()) - 4.0 * 0.5)


def test_the_ridge_pulls_towards_the_weights_that_are_there():
    inputs, targets = torch.tensor([[-1.0], [1.0]]), torch.tensor([[-3.0], [3.0]])
    module = linear([[1.0]], [0.0])
    least_squares(module, torch.tensor([[True]]), inputs, targets, ridge=1.0)
    assert module.weight.item() == pytest.approx(2.0)  # (2 * 3 + 2 * 1) / (2 + 2): as far from 3 as from 1


def test_rows_with_other_masks_are_solved_apart():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 4, generator=generator)
    kept = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)
    truth = torch.randn(4, 4, generator=generator) * kept
    module = nn.Linear(4, 4)
    least_squares(module, kept, inputs, inputs @ truth.T + 2, ridge=0.0)
    assert torch.allclose(module.weight, truth, atol=1e-5)
    assert torch.allclose(module.bias, torch.tensor(2.0), atol=1e-5)
    assert (module.weight[~kept] == 0).all()


def test_activation_scores_by_hand():
    sets = group_sets(parse_pattern("1x2"), CONFIG)
    weight = torch.zeros(12, 12)
    weight[:2, :2] = torch.tensor([[3.0, 1.0], [4.0, 1.0]])
    tensors = {
        member.matrix: torch.zeros(SIZES[member.matrix.rpartition(".")[2]]) for s in sets for member in s.members
    }
    tensors["layers.0.query"] = weight
    squares = {name: torch.ones(tensor.shape[1]) for name, tensor in tensors.items()}
    squares["layers.0.query"][1] = 100.0
    scores = activation_scores(sets, tensors, squares)["layers.0.query"]
    assert scores[:3] == pytest.approx([np.sqrt(12.5), 10.0, 0.0])  # the smaller weights read larger inputs


def worker_of(folder: str, sparsity_texts: int = 24) -> tuple[Reconstructor, nn.Module, object]:
    model = load_trainable(folder, None, 0)
    network = model.network.eval()
    texts = [f"sentence {n} of a {'good' if n % 2 else 'bad'} film " * (1 + n % 3) for n in range(sparsity_texts)]
    batches = [
        dict(model.tokenizer(texts[i : i + 8], padding=True, truncation=True, max_length=64, return_tensors="pt"))
        for i in range(0, len(texts), 8)
    ]
    return Reconstructor(copy.deepcopy(network), network, model.config.family, batches), network, model.config


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
@pytest.mark.parametrize("pattern", ["1x16", "heads+neurons"])
def test_reconstruction_comes_closer_to_the_dense_network(family, pattern, source):
    worker, _, config = worker_of(source(family))
    before = {name: weight.clone() for name, weight in worker.dense.state_dict().items()}
    parsed = parse_pattern(pattern)
    sets = group_sets(parsed, config)
    pruner = Pruner(parsed, sets, worker.weights, PruneSchedule("reconstruct", 1, 0.5), "activation")
    prune_reconstructing(worker, pruner, rounds=2)
    kept = element_masks(sets, pruner.masks, worker.weights)
    assert all((worker.weights[name][~kept[name]] == 0).all() for name in kept)
    assert zeroed_share(sets, pruner.masks, worker.weights) == pytest.approx(0.5, abs=1e-3)
    assert all(torch.equal(before[name], tensor) for name, tensor in worker.dense.state_dict().items())
    # The same masks without least squares.
    plain, network, _ = worker_of(source(family))
    for name, weight in plain.weights.items():
        weight.mul_(kept[name])
    states = theirs = plain.replay.inputs
    for layer in range(config.layers):
        states, _ = plain.replay.run(network, layer, states)
        theirs, _ = plain.replay.run(plain.dense, layer, theirs)
    target = plain.replay.flat(theirs)
    masked = float((plain.replay.flat(states) - target).square().sum() / target.square().sum())
    assert worker.errors[-1] < 0.75 * masked


def test_nothing_pruned_changes_nothing(source):
    worker, network, config = worker_of(source())
    pattern = parse_pattern("1x16")
    pruner = Pruner(pattern, group_sets(pattern, config), worker.weights, PruneSchedule("reconstruct", 1, 0.0))
    prune_reconstructing(worker, pruner, rounds=1)
    assert max(worker.errors) < 1e-8
    for name, weight in network.state_dict().items():
        assert torch.allclose(weight, worker.dense.state_dict()[name], atol=1e-3), name


def test_a_run_starts_from_the_reconstruction(source, data, tmp_path):
    """One step at a learning rate of nearly nothing leaves what the closed form gave."""
    prune = {"method": "reconstruct", "score": "activation", "sparsity": 0.5, "reconstruct_texts": 40}
    job = make_job(source(), tmp_path / "out", data, {"max_steps": 1, "learning_rate": 1e-9}, prune=prune)
    lines: list[str] = []
    run_job(job, say=lines.append)
    assert lines[0].startswith("reconstructed from 40 texts: relative squared error of the layers 0.")
    weight = final_weights(tmp_path / "out")["bert.encoder.layer.1.output.dense.weight"]
    dense = final_weights(tmp_path.__class__(source()))["bert.encoder.layer.1.output.dense.weight"]
    assert float((weight == 0).float().mean()) == pytest.approx(0.5, abs=1e-3)
    assert not torch.allclose(weight[weight != 0], dense[weight != 0], atol=1e-3)


def test_both_networks_are_sorted_alike(source):
    worker, _, config = worker_of(source())
    dense = {name: linear.weight.clone() for name, linear in matrices(worker.dense, "bert").items()}
    worker.order(config)
    sorted_ones = {name: linear.weight for name, linear in matrices(worker.dense, "bert").items()}
    for name, weight in worker.weights.items():
        assert torch.equal(weight, sorted_ones[name])
        assert not torch.equal(weight, dense[name])
    carried = worker.input_squares()["layers.1.ffn_out"] * worker.weights["layers.1.ffn_out"].square().sum(0)
    assert (carried.diff() <= 1e-6 * carried[0]).all()
    worker.weights["layers.0.query"][0] = 0.0  # pruned before: nothing moves
    worker.weights["layers.1.ffn_out"].copy_(worker.weights["layers.1.ffn_out"].flip(1))
    before = {name: weight.clone() for name, weight in worker.weights.items()}
    worker.order(config)
    assert all(torch.equal(weight, before[name]) for name, weight in worker.weights.items())


def test_a_run_sorts_features_unless_told_not_to(source, data, tmp_path):
    """With a ridge that leaves weights as they are, each is the dense network's: in its place, or in another."""
    prune = {"method": "reconstruct", "score": "activation", "sparsity": 0.1, "reconstruct_texts": 16, "ridge": 1e9}
    weights = []
    for order in (True, False):
        options = {"max_steps": 1, "learning_rate": 1e-9}
        job = make_job(source(), tmp_path / str(order), data, options, prune=prune | {"order": order})
        run_job(job)
        weights.append(final_weights(tmp_path / str(order))["bert.encoder.layer.0.output.dense.weight"])
    dense = final_weights(tmp_path.__class__(source()))["bert.encoder.layer.0.output.dense.weight"]
    close = [float((weight - dense)[weight != 0].abs().lt(1e-4).float().mean()) for weight in weights]
    assert close[0] < 0.1
    assert close[1] > 0.99


@pytest.mark.parametrize(
    ("prune", "cause"),
    [
        ({"method": "gradual", "score": "activation"}, "score activation is one of method reconstruct"),
        ({"method": "reconstruct", "score": "taylor"}, "score taylor needs gradients"),
        ({"method": "reconstruct", "rounds": 0}, "prune.rounds: 0 is not above 0"),
        ({"method": "reconstruct", "ridge": -1.0}, "prune.ridge: -1.0 is below 0"),
    ],
)
def test_what_cannot_be(prune, cause, source, data, tmp_path):
    with pytest.raises(BertileError, match=cause):
        run_job(make_job(source(), tmp_path / "out", data, prune=prune))
