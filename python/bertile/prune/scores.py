"""Scores: how much a group is worth. Larger is better; all are means over the group's weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from bertile.errors import BertileError
from bertile.prune.groups import GroupSet, Matrices

# From the weights alone, from what they read as well, and from gradients of the training loss.
WEIGHT_SCORES = ("l2", "l1", "random")
ACTIVATION = "activation"
GRADIENT_SCORES = ("movement", "taylor", "fisher")
SCORES = (*WEIGHT_SCORES, ACTIVATION, *GRADIENT_SCORES)
NO_GRADIENTS = "score {} needs gradients: training steps before the masks are chosen (prune.begin)"


def check_score(name: str) -> None:
    """Raises BertileError for a name that is no score."""
    if name not in SCORES:
        raise BertileError(f"unknown score {name!r}; known are {', '.join(SCORES)}")


def weight_scores(name: str, sets: Sequence[GroupSet], tensors: Matrices, seed: int = 0) -> dict[str, np.ndarray]:
    """float64 [count] by set: `l2` root mean square, `l1` mean magnitude, `random` seeded noise (the control)."""
    if name == "random":
        generator = np.random.default_rng(seed)
        return {s.name: generator.random(s.count) for s in sets}
    if name == "l1":
        return {s.name: _array(s.reduce(tensors, torch.abs) / s.weights) for s in sets}
    return {s.name: _array(torch.sqrt(s.reduce(tensors, torch.square) / s.weights)) for s in sets}


def activation_scores(sets: Sequence[GroupSet], tensors: Matrices, squares: Matrices) -> dict[str, np.ndarray]:
    """float64 [count] by set: root mean square over a group of weight times input (Wanda, Sun et al. 2024).

    squares: [in] by matrix, the mean square of every input feature.
    """
    return weight_scores("l2", sets, {name: tensor * squares[name].sqrt() for name, tensor in tensors.items()})


def _array(values: torch.Tensor) -> np.ndarray:
    return values.detach().cpu().double().numpy()


class GradientScores:
    """Scores that add up over training steps.

    movement: -sum of w * dL/dw, what the weights moved away from zero (Sanh et al. 2020, equation 4 up to the learning
    rate); it counts the whole training. taylor: mean over steps of |sum over the group of w * dL/dw|, the first-order
    change of the loss when the group goes (Molchanov et al. 2019). fisher: mean of (w * dL/dw)^2 / 2, the second-order
    change with the diagonal of the empirical Fisher matrix (oBERT, Kurtic et al. 2022, with blocks of one weight).
    """

    def __init__(self, name: str, sets: Sequence[GroupSet]):
        check_score(name)
        self.name, self.sets = name, sets
        self.sums = {s.name: torch.zeros(s.count, dtype=torch.float64) for s in sets}
        self.steps = 0

    @torch.no_grad()
    def observe(self, tensors: Matrices, gradients: Matrices) -> None:
        """Count one step: weights and their gradients [out, in] by matrix."""
        products = {name: tensors[name] * gradients[name] for name in tensors}
        for s in self.sets:
            if self.name == "fisher":
                change = s.reduce(products, torch.square) / 2
            else:
                change = s.reduce(products, lambda product: product)
                change = change.abs() if self.name == "taylor" else -change
            self.sums[s.name] += change.cpu()
        self.steps += 1

    def scores(self) -> dict[str, np.ndarray]:
        """float64 [count] by set. Raises BertileError before the first step."""
        if not self.steps:
            raise BertileError(NO_GRADIENTS.format(self.name))
        return {s.name: (self.sums[s.name] / self.steps / s.weights).numpy() for s in self.sets}

    def reset(self) -> None:
        """Forget what was seen, but for movement, which counts from the start."""
        if self.name != "movement":
            self.steps = 0
            for total in self.sums.values():
                total.zero_()

    def state(self) -> dict[str, torch.Tensor]:
        return {
            **{f"score.{name}": total for name, total in self.sums.items()},
            "score_steps": torch.tensor(self.steps),
        }

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        self.sums = {s.name: state[f"score.{s.name}"].clone() for s in self.sets}
        self.steps = int(state["score_steps"])
