"""The pruner in a training loop: what stays zero, what comes back, what a resumed run does."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from bertile.errors import BertileError
from bertile.models.encoder import MATRICES, EncoderConfig
from bertile.prune.groups import element_masks, group_sets
from bertile.prune.pattern import parse_pattern
from bertile.prune.pruner import Masking, Pruner
from bertile.prune.regularize import ReweightedGroupLasso
from bertile.prune.schedule import PruneSchedule

CONFIG = EncoderConfig("bert", 2, 12, 20, 3, "gelu", 1e-12, 16, 50)
SIZES = dict.fromkeys(MATRICES, (12, 12)) | {"ffn_in": (20, 12), "ffn_out": (12, 20)}
OPTIMIZERS = {
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.05, weight_decay=0.1),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=0.1),
}


class Toy:
    """Matrices that an optimizer pulls to random targets; the pruner does what the training loop has it do."""

    def __init__(self, text: str, method: str = "gradual", optimizer: str = "adamw", zeros=None, **settings):
        generator = torch.Generator().manual_seed(0)
        names = [f"layers.{i}.{n}" for i in range(2) for n in MATRICES]
        size = {name: SIZES[name.rpartition(".")[2]] for name in names}
        self.targets = {name: torch.randn(size[name], generator=generator) for name in names}
        self.tensors = {name: torch.nn.Parameter(torch.randn(size[name], generator=generator)) for name in names}
        if zeros is not None:
            with torch.no_grad():
                for name, kept in zeros.items():
                    self.tensors[name].mul_(kept)
        plan = {"steps": 24, "target": 0.5, "warmup": 2, "end": 18, "interval": 4, "cycles": 2}
        plan |= {key: settings.pop(key) for key in [*plan, "initial"] if key in settings}
        sets = group_sets(parse_pattern(text), CONFIG)
        lasso = ReweightedGroupLasso(sets, 0.01, 1e-3) if method == "group-lasso" else None
        schedule = PruneSchedule(method, **plan)
        self.pruner = Pruner(parse_pattern(text), sets, self.tensors, schedule, lasso=lasso, refresh=5, **settings)
        self.optimizer = OPTIMIZERS[optimizer](self.tensors.values())
        self.step = 0
        self.pruner.after_step(0, self.tensors)

    def run(self, steps: int) -> Toy:
        for _ in range(steps):
            self.optimizer.zero_grad()
            sum((t - self.targets[name]).square().sum() for name, t in self.tensors.items()).backward()
            gradients = {name: t.grad for name, t in self.tensors.items()}
            self.pruner.regularize(self.step, self.tensors, gradients, 1.0)
            self.pruner.observe(self.step, self.tensors, gradients)
            self.optimizer.step()
            self.step += 1
            self.pruner.after_step(self.step, self.tensors)
        return self

    def kept(self) -> dict[str, torch.Tensor]:
        return element_masks(self.pruner.sets, self.pruner.masks, self.tensors)

    def sparsity(self) -> float:
        return self.pruner.masking.sparsity(self.tensors)

    def copy_to(self, other: Toy) -> None:
        """What a checkpoint keeps."""
        with torch.no_grad():
            for name, tensor in self.tensors.items():
                other.tensors[name].copy_(tensor)
        other.optimizer.load_state_dict(copy.deepcopy(self.optimizer.state_dict()))
        other.pruner.load_state({name: tensor.clone() for name, tensor in self.pruner.state().items()})
        other.step = self.step


def live_weights(toy: Toy) -> dict[str, torch.Tensor]:
    return {name: t.detach().clone() for name, t in toy.tensors.items()}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("text", ["1x4", "heads+neurons", "unstructured", "heads@0.34+2x1"])
@pytest.mark.parametrize("method", ["oneshot", "gradual"])
def test_pruned_weights_stay_zero(text, optimizer, method):
    toy = Toy(text, method, optimizer)
    zeros = 0
    for step in range(1, 25):
        toy.run(1)
        for name, kept in toy.kept().items():
            assert torch.equal(toy.tensors[name] != 0, kept)
            zeros += int((~kept).sum())
        if text == "1x4":  # the others are too coarse on the way
            last = max((k for k in range(step + 1) if toy.pruner.schedule.updates(k)), default=0)
            assert toy.sparsity() == pytest.approx(toy.pruner.schedule.sparsity(last), abs=2e-3)
    assert zeros > 0
    assert toy.sparsity() == pytest.approx(0.5, abs=1e-3)


def test_masking_without_zeros_changes_nothing():
    toy = Toy("1x4")
    before = live_weights(toy)
    masking = Masking(toy.pruner.sets, {s.name: np.ones(s.shape, bool) for s in toy.pruner.sets})
    masking.apply(toy.tensors)
    assert all(torch.equal(toy.tensors[name], before[name]) for name in before)
    assert masking.sparsity(toy.tensors) == 0


@pytest.mark.parametrize("text", ["1x4", "heads+neurons", "heads@0.34+2x1"])
def test_a_group_that_returns_has_what_it_left_with(text):
    """Sparse from step 2, free from 6, sparse from 10, free from 14."""
    toy = Toy(text, "cyclic")
    toy.run(1)
    assert toy.sparsity() == 0
    left = None
    for first in (2, 10):
        if left is None:
            toy.run(1)
        else:
            toy.run(first - toy.step)
        assert toy.step == first
        gone = {name: ~kept for name, kept in toy.kept().items()}
        assert toy.sparsity() == pytest.approx(0.5, abs=2e-3)
        left = {name: t.clone() for name, t in toy.pruner.left.items()}
        assert all((left[name][gone[name]] != 0).all() for name in gone)
        toy.run(3)
        assert all((toy.tensors[name][gone[name]] == 0).all() for name in gone)
        toy.run(1)
        assert toy.sparsity() == 0
        returned = sum(int(mask.sum()) for mask in gone.values())
        assert returned > 400
        assert all(torch.equal(toy.tensors[name][gone[name]], left[name][gone[name]]) for name in gone)
    toy.run(24 - toy.step)
    assert toy.sparsity() == pytest.approx(0.5, abs=1e-3)
    assert toy.pruner.left == {}


def test_without_rewinding_groups_regrow_from_zero():
    toy = Toy("1x4", "cyclic", rewind=False)
    toy.run(5)
    gone = {name: ~kept for name, kept in toy.kept().items()}
    toy.run(1)
    assert toy.sparsity() == 0
    assert all((toy.tensors[name][gone[name]] == 0).all() for name in gone)
    toy.run(1)
    assert all((toy.tensors[name][gone[name]] != 0).all() for name in gone)


def test_rewinding_ranks_what_left_by_what_it_was_worth():
    """A group that was just pruned and is worth more than one that shrank meanwhile takes its place."""
    toy = Toy("unstructured", "gradual", initial=0.0, warmup=0, end=8, interval=4, target=0.5)
    toy.run(4)
    name = "layers.0.query"
    gone = ~toy.kept()[name]
    with torch.no_grad():
        toy.tensors[name].mul_(1e-3)  # the living ones are next to nothing now
    strongest = toy.pruner.left[name].abs().masked_fill(~gone, 0).argmax()
    toy.pruner.choose(6, toy.tensors)
    assert bool(toy.kept()[name].flatten()[strongest])
    assert toy.tensors[name].flatten()[strongest].item() == toy.pruner.left[name].flatten()[strongest].item() != 0


def test_a_living_weight_of_zero_is_not_taken_for_a_pruned_one():
    toy = Toy("unstructured", "gradual")
    toy.run(2 + 4)
    name = "layers.1.value"
    first = int(toy.kept()[name].flatten().int().argmax())
    with torch.no_grad():
        toy.tensors[name].view(-1)[first] = 0
    toy.pruner.choose(10, toy.tensors)
    assert not bool(toy.kept()[name].flatten()[first])
    assert float(toy.pruner.left[name].flatten()[first]) == 0


@pytest.mark.parametrize(
    ("text", "method", "score", "at"),
    [
        ("1x4", "gradual", "l2", 8),
        ("1x4", "gradual", "movement", 9),
        ("heads+neurons", "gradual", "taylor", 12),
        ("2x4", "group-lasso", "l2", 9),
        ("2x4", "group-lasso", "fisher", 1),
        ("1x4", "cyclic", "l1", 11),
        ("heads@0.34+2x1", "once-for-all", "random", 7),
        ("1x4", "oneshot", "fisher", 1),
        ("1x4", "oneshot", "l2", 20),
    ],
)
def test_a_resumed_run_goes_on_identically(text, method, score, at):
    straight = Toy(text, method, score=score).run(at)
    resumed = Toy(text, method, score=score)
    straight.copy_to(resumed)
    straight.run(24 - at)
    resumed.run(24 - at)
    assert all(torch.equal(t, resumed.tensors[name]) for name, t in straight.tensors.items())
    assert all(np.array_equal(mask, resumed.pruner.masks[name]) for name, mask in straight.pruner.masks.items())
    assert straight.sparsity() == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("score", ["l2", "random", "movement", "taylor"])
@pytest.mark.parametrize("method", ["oneshot", "gradual", "group-lasso", "cyclic"])
@pytest.mark.parametrize("scopes", [("global", "uniform"), ("uniform", "global")])
def test_a_pruned_model_is_pruned_further(method, score, scopes):
    zeros = Toy("1x4", "oneshot", scope=scopes[0]).run(2).kept()
    toy = Toy("1x4", method, score=score, scope=scopes[1], zeros=zeros, initial=0.5, target=0.75)
    assert toy.sparsity() == pytest.approx(0.5, abs=1e-3)
    for _ in range(24):
        toy.run(1)
        assert all((toy.tensors[name][~kept] == 0).all() for name, kept in zeros.items())
    assert toy.sparsity() == pytest.approx(0.75, abs=1e-3)


def test_a_pruned_model_cannot_get_denser():
    zeros = Toy("1x4", "oneshot").run(2).kept()
    with pytest.raises(BertileError, match=r"cannot reach a sparsity of 0.25; the nearest is 0.5"):
        Toy("1x4", "gradual", zeros=zeros, target=0.25)


def test_the_regularizer_shrinks_groups():
    plain, lasso = Toy("2x4", "gradual", warmup=17), Toy("2x4", "group-lasso")
    lasso.pruner.lasso.strength = 1.0
    norms = [
        sum(float(norm.sum()) for norm in lasso.pruner.lasso.norms(toy.run(17).tensors).values())
        for toy in (plain, lasso)
    ]
    assert norms[1] < 0.98 * norms[0]


def test_the_regularizer_refreshes_on_time():
    toy = Toy("2x4", "group-lasso")
    seen = []
    for _ in range(24):
        toy.run(1)
        seen.append(toy.pruner.lasso.weights.get("layers.0.query"))
    changes = [step for step in range(1, 24) if seen[step] is not seen[step - 1]]
    assert seen[1] is None
    assert changes == [2, 7, 12, 17]  # steps that follow 2, 7 ... done ones; end is 18
    gradients = {name: torch.zeros_like(t) for name, t in toy.tensors.items()}
    assert toy.pruner.regularize(18, toy.tensors, gradients, 1.0) == 0
    assert not any(gradient.any() for gradient in gradients.values())


def test_shares_rise_with_the_sparsity():
    toy = Toy("heads@0.34+2x1", "gradual", warmup=0, end=18, interval=1)
    heads = []
    for _ in range(18):
        toy.run(1)
        heads.append(sum(int((~m).sum()) for name, m in toy.pruner.masks.items() if name.endswith("heads")))
    assert heads == sorted(heads)
    assert (heads[0], heads[-1]) == (0, 2)
    assert 1 in heads


@pytest.mark.parametrize("method", ["oneshot", "cyclic"])
def test_gradient_scores_need_steps(method):
    with pytest.raises(BertileError, match="score movement needs gradients: training steps before the masks"):
        Toy("1x4", method, score="movement", warmup=0)


@pytest.mark.parametrize("score", ["movement", "taylor", "fisher"])
def test_gradient_scores_from_the_first_step(score):
    toy = Toy("1x4", "gradual", score=score, warmup=0).run(24)
    assert toy.sparsity() == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"score": "l3"}, "unknown score 'l3'"),
        ({"scope": "local"}, "unknown scope 'local'"),
        ({"text": "layers", "target": 0.3}, "pattern layers cannot reach a sparsity of 0.3; the nearest is 0.5"),
        ({"text": "neurons", "target": 0.9}, "pattern neurons covers"),
    ],
)
def test_errors(settings, message):
    with pytest.raises(BertileError, match=message):
        Toy(**{"text": "1x4", **settings})
