"""Directions that a search starts from, and the candidates without a search that it is measured against."""

from __future__ import annotations

import numpy as np

from bertile.inference import Progress, no_progress
from bertile.prune.groups import GroupSet, element_masks
from bertile.prune.pattern import Pattern
from bertile.prune.select import select_masks
from bertile.search.judge import Judge
from bertile.search.space import Space, logarithms

# How much more a set keeps whose loss alone costs more: keeps go with the cost to this power.
SENSITIVITY_POWER = 0.25
BASELINES = ("uniform", "global", "sensitivity")
FRONT_SPARSITIES = (0.5, 0.65, 0.8, 0.9)


def sensitivities(
    judge: Judge, pattern: Pattern, sets: list[GroupSet], sparsity: float, progress: Progress = no_progress
) -> dict[str, float]:
    """The logit divergence when a set alone loses `sparsity` of its groups, without recovery."""
    scores = judge.scores(sets)
    costs = {}
    for number, s in enumerate(sets, 1):
        plan = {other.name: sparsity if other is s else 0.0 for other in sets}
        masks = select_masks(pattern, sets, scores, judge.tensors, 0.0, plan=plan)
        kept = element_masks(sets, masks, judge.tensors)
        costs[s.name] = judge.masked_divergence(kept)
        progress(number, len(sets))
    return costs


def directions(judge: Judge, space: Space, sparsity: float, costs: dict[str, float]) -> dict[str, dict[str, float]]:
    """`global`: what one threshold over all magnitudes keeps of each set; `sensitivity`: what their costs ask for."""
    sets = space.fitted()
    taken = judge.global_shares(sets, sparsity)
    powers = {s.name: float(np.power(max(costs[s.name], 1e-9), SENSITIVITY_POWER)) for s in sets}
    largest = max(powers.values())
    return {
        "global": logarithms({s.name: 1 - taken[s.name] for s in sets}, sets),
        "sensitivity": logarithms({name: value / largest for name, value in powers.items()}, sets),
    }


def baselines(space: Space) -> list[tuple[str, dict[str, float]]]:
    """(name, genes) of what a search under a constraint is measured against."""
    return [(name, space.neutral(**({} if name == "uniform" else {name: 1.0}))) for name in BASELINES]


def uniform_front(space: Space) -> list[tuple[str, dict[str, float]]]:
    """(name, genes) of what a front is measured against: the uniform plan at some sparsities."""
    return [("uniform", space.neutral() | {"sparsity": sparsity}) for sparsity in FRONT_SPARSITIES]
