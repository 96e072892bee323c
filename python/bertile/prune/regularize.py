"""Reweighted group Lasso (Li et al. 2020, block pruning of transformers; Candes et al. 2008 for the reweighting)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from bertile.prune.groups import GroupSet, Matrices


class ReweightedGroupLasso:
    """penalty = strength * sum over groups of r_g * ||W_g||_2, with r_g = 1 / (||W_g||_2 + epsilon).

    The weights r_g are constants between refreshes: their own dependence on W is not differentiated.
    """

    def __init__(self, sets: Sequence[GroupSet], strength: float, epsilon: float):
        self.sets, self.strength, self.epsilon = sets, strength, epsilon
        self.weights: dict[str, torch.Tensor] = {}  # r_g [count] by set

    @torch.no_grad()
    def norms(self, tensors: Matrices) -> dict[str, torch.Tensor]:
        """||W_g||_2 [count] by set."""
        return {s.name: torch.sqrt(s.reduce(tensors, torch.square)) for s in self.sets}

    def refresh(self, tensors: Matrices) -> None:
        """Set every r_g from the weights as they are."""
        self.weights = {name: 1 / (norm + self.epsilon) for name, norm in self.norms(tensors).items()}

    @torch.no_grad()
    def add_gradient(self, tensors: Matrices, gradients: Matrices, scale: float = 1.0) -> float:
        """Add scale * d penalty / dW to `gradients` in place; returns the penalty. A zero group adds nothing.

        By hand rather than by autograd, which would keep a copy of every matrix: strength * r_g * W / ||W_g||_2.
        """
        penalty = 0.0
        for s in self.sets:
            norm = torch.sqrt(s.reduce(tensors, torch.square))
            weight = self.weights[s.name].to(norm.device)
            penalty += float((weight * norm).sum())
            factor = (weight / norm).masked_fill_(norm == 0, 0.0).mul_(scale * self.strength)
            for member in s.members:
                blocks, beside = s.spread(factor, member, tensors[member.matrix])
                member.block.blocks(gradients[member.matrix]).addcmul_(blocks, beside)
        return self.strength * penalty

    def state(self) -> dict[str, torch.Tensor]:
        return {f"lasso.{name}": weight for name, weight in self.weights.items()}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        self.weights = {s.name: state[f"lasso.{s.name}"].clone() for s in self.sets}
