"""Pruning in closed form, layer by layer: no gradient, some hundred texts, about a minute.

What a group is worth: its weights times what they read (Wanda, Sun et al. 2024, over groups). What the others make up
for it: least squares, layer by layer, each on inputs that the pruned layers before it give, towards what the dense
network computes (He et al. 2017 for channels; Kwon et al. 2022 for BERT). In rounds of rising sparsity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import nn

from bertile.models.encoder import MATRICES, EncoderConfig
from bertile.models.families import layer_modules, matrices
from bertile.prune.groups import GroupSet, Matrices, element_masks
from bertile.prune.order import feature_orders, order_features
from bertile.prune.pruner import Pruner
from bertile.prune.replay import Replay, States
from bertile.prune.scores import ACTIVATION, activation_scores, weight_scores

# Pull towards the weights as they are, as a share of the inputs' mean square.
RIDGE = 1e-2
BIAS_ONLY = math.inf  # a ridge that leaves the weights as they are
INPUT_PROJECTIONS = ("query", "key", "value")


def least_squares(
    linear: nn.Linear, kept: torch.Tensor, inputs: torch.Tensor, targets: torch.Tensor, ridge: float
) -> None:
    """Set weight and bias so that the kept weights (bool [out, in]) map inputs [n, in] closest to targets [n, out].

    Least squares with the mean taken out, plus `ridge` times the mean square of an input times the squared distance
    from the weights that are there. Rows with the same kept inputs are solved together.
    """
    mean_input, mean_target = inputs.mean(0), targets.mean(0)
    if ridge == BIAS_ONLY:
        linear.bias.data.copy_(mean_target - linear.weight.data @ mean_input)
        return
    centred, wanted = inputs - mean_input, targets - mean_target
    gram, cross = centred.T @ centred, centred.T @ wanted
    pull = ridge * gram.diagonal().mean()
    solved = torch.zeros_like(linear.weight)
    masks, which = torch.unique(kept, dim=0, return_inverse=True)
    for index, mask in enumerate(masks):
        columns, rows = mask.nonzero().squeeze(1), (which == index).nonzero().squeeze(1)
        if len(columns) == 0:
            continue
        left = gram[columns][:, columns]
        left.diagonal().add_(pull)
        right = cross[columns][:, rows] + pull * linear.weight.data[rows][:, columns].T
        solved[rows.unsqueeze(1), columns] = torch.linalg.solve(left, right).T
    linear.weight.data.copy_(solved)
    linear.bias.data.copy_(mean_target - solved @ mean_input)


class Reconstructor:
    """A dense network, an equal one that is to be pruned, and texts to compare them on.

    The networks are encoders without a head, on one device; `dense` is left as it is.
    """

    def __init__(
        self, dense: nn.Module, student: nn.Module, family: str, batches: Iterable[Mapping[str, torch.Tensor]]
    ):
        self.dense, self.student, self.family = dense, student, family
        self.replay = Replay(dense, family, batches)
        self.linears = matrices(student, family)
        self.weights: Matrices = {name: linear.weight.data for name, linear in self.linears.items()}
        self.errors: list[float] = []  # of each layer's output, as reconstructed or measured: |s - d|^2 / |d|^2

    def input_squares(self) -> dict[str, torch.Tensor]:
        """Mean square of each input feature of every matrix of the student, [in]."""
        squares, states = {}, self.replay.inputs
        for layer in range(len(layer_modules(self.student, self.family))):
            states, seen = self.replay.run(self.student, layer, states, MATRICES)
            squares |= {f"layers.{layer}.{name}": read.square().mean(0) for name, (read, _) in seen.items()}
        return squares

    def scores(self, sets: list[GroupSet], score: str, seed: int) -> dict:
        """What the groups of the student are worth now."""
        if score == ACTIVATION:
            return activation_scores(sets, self.weights, self.input_squares())
        return weight_scores(score, sets, self.weights, seed)

    def order(self, config: EncoderConfig) -> None:
        """Sort the features of both networks alike, by what they carry in the student (`prune/order.py`).

        A student that has zeros stays as it is: another order would tear the groups apart that were pruned before.
        """
        if any(bool((weight == 0).any()) for weight in self.weights.values()):
            return
        orders = feature_orders(self.weights, self.input_squares(), config)
        for network in (self.dense, self.student):
            order_features(matrices(network, self.family), orders)

    @torch.no_grad()
    def reconstruct(self, kept: Matrices, ridge: float) -> None:
        """Least squares for all matrices of the student, from the first layer to the last; the rest is zero."""
        self.errors = []
        ours = theirs = self.replay.inputs
        for layer in range(len(layer_modules(self.student, self.family))):
            ours, theirs = self._layer(layer, ours, theirs, kept, ridge)
            self._compare(ours, theirs)

    @torch.no_grad()
    def measure(self) -> None:
        """The errors of the student as it is."""
        self.errors = []
        ours = theirs = self.replay.inputs
        for layer in range(len(layer_modules(self.student, self.family))):
            (ours, _), (theirs, _) = (
                self.replay.run(network, layer, states)
                for network, states in ((self.student, ours), (self.dense, theirs))
            )
            self._compare(ours, theirs)

    def _compare(self, ours: States, theirs: States) -> None:
        target = self.replay.flat(theirs)
        error = (self.replay.flat(ours) - target).square().sum() / target.square().sum()
        self.errors.append(float(error))

    def _layer(self, layer: int, ours: States, theirs: States, kept: Matrices, ridge: float) -> tuple[States, States]:
        """One layer; returns the states behind it, of the student and of the dense network."""
        flat = self.replay.flat
        after, dense = self.replay.run(self.dense, layer, theirs, MATRICES)

        def solve(names: tuple[str, ...], beside: torch.Tensor | float = 0.0) -> torch.Tensor:
            """Solve matrices that read the same; `beside`: what the residual lacks. Returns what they read."""
            _, seen = self.replay.run(self.student, layer, ours, names, stop=True)
            for name in names:
                key = f"layers.{layer}.{name}"
                least_squares(self.linears[key], kept[key], seen[name][0], dense[name][1] + beside, ridge)
            return seen[names[0]][0]

        solve(INPUT_PROJECTIONS)
        solve(("attention_output",), flat(theirs) - flat(ours))
        read = solve(("ffn_in",))
        solve(("ffn_out",), dense["ffn_in"][0] - read)
        return self.replay.run(self.student, layer, ours)[0], after


def prune_reconstructing(
    worker: Reconstructor,
    pruner: Pruner,
    rounds: int,
    ridge: float = RIDGE,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Prune the student of `worker` in place, in rounds (cubic, as gradual pruning), each reconstructed.

    pruner: says what goes, and has the masks in the end. Groups that are zero before stay zero, and count. progress
    counts rounds.
    """
    schedule, sets = pruner.schedule, pruner.sets
    empty = pruner.empty
    for number in range(1, rounds + 1):
        share = 1 - (1 - number / rounds) ** 3
        asked = schedule.initial + (schedule.target - schedule.initial) * share
        scores = worker.scores(sets, pruner.score, pruner.seed)
        pruner.masking.set(pruner.select(scores, worker.weights, asked, share, empty))
        pruner.masking.apply(worker.weights)
        worker.reconstruct(element_masks(sets, pruner.masks, worker.weights), ridge)
        empty = {name: ~mask.ravel() for name, mask in pruner.masks.items()}
        progress(number, rounds)
