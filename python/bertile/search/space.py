"""The space of a search: genes, the plan they stand for, and how a plan is made to fit a constraint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bertile.errors import BertileError
from bertile.models.encoder import MATRICES, EncoderConfig
from bertile.prune.groups import GroupSet, group_sets
from bertile.prune.pattern import Pattern
from bertile.prune.plan import Plan

# Ranges of the genes, logarithms of what is kept beside the rest: of a layer, of a kind of matrix, of one matrix.
LAYER, KIND, MATRIX = 0.4, 0.4, 0.3
TILT = 1.5  # along what the sensitivities, or global magnitudes, say
COARSE = 0.5  # share of the heads, neurons or layers that may go before the finer groups
BLOCKS = 0.75  # share of a matrix that may go in larger blocks before smaller ones
# A set keeps this share of its weights at least, where it has groups enough: an empty matrix is for whole layers,
# heads and neurons.
LEAST = 0.02
BISECTIONS = 14
Genes = Mapping[str, float]


@dataclass(frozen=True)
class Space:
    """Candidates for one encoder and pattern.

    A set that is fitted keeps a share in proportion to exp(its genes), all together as much as the constraint leaves.
    A coarse set, whose matrices a finer component covers, loses what its own gene says, before that.
    directions: by name ("sensitivity", "global"), the logarithm of what each fitted set should keep beside the rest.
    """

    pattern: Pattern
    sets: tuple[GroupSet, ...]
    layers: int
    directions: Mapping[str, Mapping[str, float]]

    def fitted(self) -> list[GroupSet]:
        return [s for s in self.sets if not self._is_coarse(s)]

    def coarse(self) -> list[GroupSet]:
        return [s for s in self.sets if self._is_coarse(s)]

    def _is_coarse(self, group_set: GroupSet) -> bool:
        own = {member.matrix for member in group_set.members}
        finer = (s for s in self.sets if s.component != group_set.component and s.weights < group_set.weights)
        return any(member.matrix in own for s in finer for member in s.members)

    def ranges(self, per_matrix: bool = True) -> dict[str, tuple[float, float]]:
        """Lowest and highest value of every gene; per_matrix: with one of every fitted set, which else is 0."""
        result = {f"tilt.{name}": (0.0, TILT) for name in self.directions}
        result |= {f"layer.{index}": (-LAYER, LAYER) for index in range(self.layers)}
        result |= {f"kind.{name}": (-KIND, KIND) for name in self._kinds()}
        if per_matrix:
            result |= {f"set.{s.name}": (-MATRIX, MATRIX) for s in self.fitted()}
        return result | {f"coarse.{s.name}": (0.0, self._most(s)) for s in self.coarse()}

    def _most(self, group_set: GroupSet) -> float:
        return COARSE if self.pattern.components[group_set.component].block is None else BLOCKS

    def neutral(self, **values: float) -> dict[str, float]:
        """Genes that are 0 but for the tilts named."""
        return {name: values.get(name.removeprefix("tilt."), 0.0) for name in self.ranges()}

    def barest(self) -> dict[str, float]:
        """Neutral genes, but with as much of the coarse groups gone as a candidate may lose."""
        return self.neutral() | {f"coarse.{s.name}": self._most(s) for s in self.coarse()}

    def _kinds(self) -> list[str]:
        return list(dict.fromkeys(_kind(s) for s in self.fitted()))

    def weights(self, genes: Genes) -> dict[str, float]:
        """How much each fitted set keeps beside the others."""
        result = {}
        for s in self.fitted():
            value = genes[f"layer.{s.layer}"] + genes[f"kind.{_kind(s)}"] + genes.get(f"set.{s.name}", 0.0)
            value += sum(genes[f"tilt.{name}"] * by_set[s.name] for name, by_set in self.directions.items())
            result[s.name] = float(np.exp(value))
        return result

    def plan(self, genes: Genes, scale: float) -> Plan:
        """The plan in which every fitted set keeps `scale` times its weight, within what is possible."""
        shares = {s.name: round(genes[f"coarse.{s.name}"] * s.count) / s.count for s in self.coarse()}
        # By matrix, what coarse groups take: the share of each counts what coarser ones took.
        gone: dict[str, float] = {}
        for s in self.coarse():
            for member in s.members:
                gone[member.matrix] = max(gone.get(member.matrix, 0.0), shares[s.name])
        weights = self.weights(genes)
        for s in self.fitted():
            most = 1 - max(gone.get(member.matrix, 0.0) for member in s.members)
            share = 1 - min(most, max(LEAST, scale * weights[s.name]))
            shares[s.name] = round(share * s.count) / s.count
        return Plan(str(self.pattern), self.sparsity(shares), {s.name: shares[s.name] for s in self.sets})

    def sparsity(self, shares: Mapping[str, float]) -> float:
        """Share of all weights that are zero."""
        sizes = [s.count * s.weights for s in self.fitted()]
        return sum(shares[s.name] * size for s, size in zip(self.fitted(), sizes, strict=True)) / sum(sizes)


def make_space(pattern: Pattern, config: EncoderConfig, directions: Mapping[str, Mapping[str, float]]) -> Space:
    """Raises BertileError where no overall sparsity can be met: fitted sets leave a matrix out, or have one group.

    And for a pattern whose shares are given: finding these is what a search is for.
    """
    fixed = [str(component) for component in pattern.components if component.share is not None]
    if fixed:
        raise BertileError(f"pattern {pattern} says the share of {fixed[0]}: a search finds it, leave it out")
    space = Space(pattern, tuple(group_sets(pattern, config)), config.layers, directions)
    covered = {member.matrix for s in space.fitted() for member in s.members}
    if len(covered) < config.layers * len(MATRICES):
        raise BertileError(f"pattern {pattern} leaves matrices out: a search needs one that covers all of them")
    whole = [s.name for s in space.fitted() if s.count == 1]
    if whole:
        raise BertileError(f"pattern {pattern} keeps or removes {whole[0]} as a whole: there is no share to search for")
    return space


def _kind(group_set: GroupSet) -> str:
    return group_set.name.rpartition(".")[2]


def fit_plan(space: Space, genes: Genes, measure: Callable[[Plan], float], limit: float) -> Plan | None:
    """The plan that keeps most with `measure` at most `limit`; None where even the smallest is over it.

    measure: grows with what is kept, such as 1 - sparsity or cycles.
    """
    weights = space.weights(genes)
    low, high = 0.0, 1 / min(weights.values())
    best = space.plan(genes, low)
    if measure(best) > limit:
        return None
    whole = space.plan(genes, high)
    if measure(whole) <= limit:
        return whole
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        plan = space.plan(genes, middle)
        if measure(plan) <= limit:
            low, best = middle, plan
        else:
            high = middle
    return best


def logarithms(keeps: Mapping[str, float], sets: Sequence[GroupSet]) -> dict[str, float]:
    """A direction from what each set keeps: logarithms around their mean."""
    values = {s.name: float(np.log(max(keeps[s.name], LEAST))) for s in sets}
    mean = float(np.mean(list(values.values())))
    return {name: value - mean for name, value in values.items()}
