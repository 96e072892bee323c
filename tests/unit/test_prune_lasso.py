"""Reweighted group Lasso against autograd and by hand."""

from __future__ import annotations

import pytest
import torch

from bertile.models.encoder import MATRICES, EncoderConfig
from bertile.prune.groups import group_sets
from bertile.prune.pattern import parse_pattern
from bertile.prune.regularize import ReweightedGroupLasso

CONFIG = EncoderConfig("bert", 2, 12, 20, 3, "gelu", 1e-12, 16, 50)
SIZES = dict.fromkeys(MATRICES, (12, 12)) | {"ffn_in": (20, 12), "ffn_out": (12, 20)}


def random_tensors(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {f"layers.{i}.{n}": torch.randn(SIZES[n], generator=generator) for i in range(2) for n in MATRICES}


def make_lasso(text: str, strength: float = 0.3) -> ReweightedGroupLasso:
    return ReweightedGroupLasso(group_sets(parse_pattern(text), CONFIG), strength, 0.01)


@pytest.mark.parametrize("text", ["2x4", "1x4", "rows", "columns", "heads+neurons", "layers", "unstructured"])
def test_gradient_is_that_of_autograd(text):
    lasso = make_lasso(text)
    lasso.refresh(random_tensors(1))
    tensors = {name: t.double().requires_grad_() for name, t in random_tensors(2).items()}
    penalty = sum(
        (lasso.weights[s.name].double() * s.reduce(tensors, torch.square).sqrt()).sum() * lasso.strength
        for s in lasso.sets
    )
    penalty.backward()
    gradients = random_tensors(3)
    before = {name: t.clone() for name, t in gradients.items()}
    plain = {name: t.detach().float() for name, t in tensors.items()}
    assert lasso.add_gradient(plain, gradients, scale=0.5) == pytest.approx(penalty.item(), rel=1e-6)
    for name, t in tensors.items():
        torch.testing.assert_close(gradients[name], (before[name] + 0.5 * t.grad).float(), rtol=1e-5, atol=1e-6)


def test_by_hand():
    tensors = {name: torch.zeros_like(t) for name, t in random_tensors(0).items()}
    tensors["layers.0.query"][0:2, 5] = torch.tensor([3.0, 4.0])  # a group of norm 5
    lasso = make_lasso("1x2")
    lasso.refresh(tensors)
    weights = lasso.weights["layers.0.query"].view(6, 12)
    assert float(weights[0, 5]) == pytest.approx(1 / 5.01)
    assert float(weights[0, 4]) == pytest.approx(100)  # 1 / epsilon
    gradients = {name: torch.zeros_like(t) for name, t in tensors.items()}
    assert lasso.add_gradient(tensors, gradients) == pytest.approx(0.3 * 5 / 5.01)
    expected = 0.3 / 5.01 * torch.tensor([0.6, 0.8])
    torch.testing.assert_close(gradients["layers.0.query"][0:2, 5], expected)
    gradients["layers.0.query"][0:2, 5] = 0
    assert all((gradient == 0).all() for gradient in gradients.values())  # nothing, and no NaN, from zero groups


def test_weights_are_constant_between_refreshes():
    lasso = make_lasso("1x4")
    lasso.refresh(random_tensors(1))
    before = {name: t.clone() for name, t in lasso.weights.items()}
    other = random_tensors(2)
    lasso.add_gradient(other, {name: torch.zeros_like(t) for name, t in other.items()})
    assert all(torch.equal(lasso.weights[name], before[name]) for name in before)
    lasso.refresh(other)
    assert not any(torch.equal(lasso.weights[name], before[name]) for name in before)
    for name, norm in lasso.norms(other).items():
        torch.testing.assert_close(lasso.weights[name], 1 / (norm + 0.01))


def test_state():
    lasso, again = make_lasso("heads+neurons"), make_lasso("heads+neurons")
    lasso.refresh(random_tensors(1))
    again.load_state(lasso.state())
    assert lasso.weights.keys() == again.weights.keys()
    assert all(torch.equal(lasso.weights[name], again.weights[name]) for name in lasso.weights)
