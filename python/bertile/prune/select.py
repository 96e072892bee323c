"""From scores to masks: how many groups of each set go, and which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bertile.errors import BertileError
from bertile.prune.groups import GroupSet, Matrices, element_masks, zeroed_share
from bertile.prune.pattern import Pattern

SCOPES = ("uniform", "global")
PLANNED = "plan"  # the scope of masks whose shares a plan gives
# A sparsity counts as reached within this much, as a share of the weights.
TOLERANCE = 1e-3
Masks = dict[str, np.ndarray]
Arrays = Mapping[str, np.ndarray]  # [count] by set


def total_weights(tensors: Matrices) -> int:
    return sum(tensor.numel() for tensor in tensors.values())


def covered_weights(sets: Sequence[GroupSet]) -> int:
    return sum(group_set.count * group_set.weights for group_set in sets)


def component_sets(pattern: Pattern, sets: Sequence[GroupSet]) -> list[list[GroupSet]]:
    """The sets of each component."""
    return [[s for s in sets if s.component == index] for index in range(len(pattern.components))]


def component_shares(pattern: Pattern, sets: Sequence[GroupSet], total: int, sparsity: float) -> list[float]:
    """Share of its own groups that each component loses, so that `sparsity` of the `total` weights go.

    Components over the same matrices: all but one need an `@share`, and what they zero counts for the last one.
    Components over different matrices without a share have the same one. Raises BertileError for a sparsity outside
    [0, 1) or over what the components cover.
    """
    if not 0 <= sparsity < 1:
        raise BertileError(f"sparsity {sparsity} is not in [0, 1)")
    groups = component_sets(pattern, sets)
    covered = [{member.matrix for s in group for member in s.members} for group in groups]
    free = [index for index, component in enumerate(pattern.components) if component.share is None]
    overlap = any(covered[a] & covered[b] for a in free for b in free if a < b)
    if overlap:
        raise BertileError(
            f"pattern {pattern}: parts over the same weights need a share each but the last, as heads@0.25"
        )
    shares = [component.share or 0.0 for component in pattern.components]
    if not free:
        return shares
    own = sum(covered_weights(groups[index]) for index in free)
    over_free = set().union(*(covered[index] for index in free))
    beside = sum(
        share * covered_weights(group)
        for index, (share, group) in enumerate(zip(shares, groups, strict=True))
        if index not in free and not covered[index] & over_free
    )
    share = (sparsity * total - beside) / own
    if share > 1 + TOLERANCE:
        reach = (own + beside) / total
        raise BertileError(
            f"pattern {pattern} covers {reach:.1%} of the weights: a sparsity of {sparsity:g} is out of its reach"
        )
    return [min(1.0, max(0.0, share)) if index in free else value for index, value in enumerate(shares)]


def uniform_counts(sets: Sequence[GroupSet], share: float, live: Sequence[np.ndarray] | None = None) -> list[int]:
    """Groups to remove of each set: `share` of it rounded down, then one more here and there until the sum fits.

    live: weights of each group that are not zero yet, in the order in which groups go; default: all. A set that has
    more zeros than its share loses no live weight, and the rest lose less, so that the sum still fits.
    """
    live = live or [np.full(s.count, s.weights) for s in sets]
    totals = [s.count * s.weights for s in sets]
    zeros = [total - int(left.sum()) for total, left in zip(totals, live, strict=True)]
    counts, lacking = [], []
    for wanted, left, zero in zip(_even_shares(totals, zeros, share), live, zeros, strict=True):
        reached = zero + np.concatenate([[0], np.cumsum(left)])
        counts.append(int(np.searchsorted(reached, wanted + 1e-6, side="right")) - 1)
        lacking.append(wanted - reached[counts[-1]])
    missing = sum(lacking)
    following = [left[count] if count < left.size else np.inf for left, count in zip(live, counts, strict=True)]
    for index in sorted(range(len(sets)), key=lambda index: -lacking[index] / following[index]):
        if following[index] <= 2 * missing:
            counts[index] += 1
            missing -= following[index]
    return counts


def _even_shares(totals: Sequence[int], zeros: Sequence[int], share: float) -> list[float]:
    """Weights to be zero in each set: at least `zeros`, and else the same share of its total."""
    result = [float(zero) for zero in zeros]
    level = set(range(len(totals)))  # sets that get the same share
    while level:
        beside = sum(result[index] for index in range(len(totals)) if index not in level)
        even = (share * sum(totals) - beside) / sum(totals[index] for index in level)
        over = {index for index in level if zeros[index] > even * totals[index] + 1e-6}
        if not over:
            return [even * totals[index] if index in level else result[index] for index in range(len(totals))]
        level -= over
    return result


def global_masks(sets: Sequence[GroupSet], ranked: Arrays, share: float, live: Arrays) -> Masks:
    """One threshold over all sets: the weakest groups until `share` of the weights is closest."""
    order = np.argsort(np.concatenate([ranked[s.name] for s in sets]), kind="stable")
    left = np.concatenate([live[s.name] for s in sets])[order]
    total = covered_weights(sets)
    removed = total - left.sum() + np.concatenate([[0], np.cumsum(left)])
    count = int(np.abs(removed - share * total).argmin())
    keep = np.ones(left.size, bool)
    keep[order[: max(count, int((left == 0).sum()))]] = False
    parts = np.split(keep, np.cumsum([s.count for s in sets])[:-1])
    return {s.name: part.reshape(s.shape) for s, part in zip(sets, parts, strict=True)}


def _uniform_masks(sets: Sequence[GroupSet], ranked: Arrays, share: float, live: Arrays) -> Masks:
    """The weakest groups of each set; of equal ones, the first go."""
    orders = [np.argsort(ranked[s.name], kind="stable") for s in sets]
    counts = uniform_counts(sets, share, [live[s.name][order] for s, order in zip(sets, orders, strict=True)])
    masks = {}
    for group_set, order, count in zip(sets, orders, counts, strict=True):
        keep = np.ones(group_set.count, bool)
        keep[order[:count]] = False
        masks[group_set.name] = keep.reshape(group_set.shape)
    return masks


def _planned_masks(sets: Sequence[GroupSet], ranked: Arrays, shares: Mapping[str, float], live: Arrays) -> Masks:
    """The weakest groups of each set, until the share of its weights that is zero is closest to its own."""
    masks = {}
    for s in sets:
        order = np.argsort(ranked[s.name], kind="stable")
        left = live[s.name][order]
        total = s.count * s.weights
        zero = total - left.sum() + np.concatenate([[0], np.cumsum(left)])
        keep = np.ones(s.count, bool)
        keep[order[: max(int(np.abs(zero - shares[s.name] * total).argmin()), int((left == 0).sum()))]] = False
        masks[s.name] = keep.reshape(s.shape)
    return masks


def empty_groups(sets: Sequence[GroupSet], tensors: Matrices) -> Masks:
    """bool [count] by set: groups without a weight that is not zero."""
    return {s.name: (s.reduce(tensors, lambda weight: weight != 0) == 0).cpu().numpy() for s in sets}


def select_masks(
    pattern: Pattern,
    sets: Sequence[GroupSet],
    scores: Mapping[str, np.ndarray],
    tensors: Matrices,
    sparsity: float,
    scope: str = "uniform",
    empty: Masks | None = None,
    plan: Mapping[str, float] | None = None,
) -> Masks:
    """Masks, bool of each set's shape, True where a group is kept, that zero `sparsity` of all weights in `tensors`.

    scores: float64 [count] by set, per weight, larger is better. scope: `uniform`, the same share of every set, or
    `global`, one threshold over all (always so for whole layers). empty: bool [count] by set, groups that are never
    kept; they count for the sparsity. plan: share of zeros by set, in place of sparsity and scope. Raises BertileError
    as `component_shares` does, and for scores that are not finite.
    """
    if scope not in SCOPES and plan is None:
        raise BertileError(f"unknown scope {scope!r}; known are {', '.join(SCOPES)}")
    for s in sets:
        if not np.isfinite(scores[s.name]).all():
            raise BertileError(f"the scores of {s.name} are not finite")
    masks: Masks = {}
    chosen: list[GroupSet] = []
    shares = [0.0] * len(pattern.components)
    if plan is None:
        shares = component_shares(pattern, sets, total_weights(tensors), sparsity)
    groups = component_sets(pattern, sets)
    # Those with a share first, then from coarse to fine: the last one makes up for what the others rounded.
    free = [component.share is None for component in pattern.components]
    order = sorted(range(len(groups)), key=lambda index: (free[index], sum(s.count for s in groups[index])))
    for index in order:
        group, share = groups[index], shares[index]
        kept = element_masks(chosen, masks, tensors)
        if free[index] and index == order[-1] and plan is None:
            share = _share_left(group, kept, sparsity)
        live = {s.name: s.reduce(kept, lambda mask: mask).cpu().numpy() for s in group}
        if empty is not None:
            live = {name: np.where(empty[name], 0, left) for name, left in live.items()}
        ranked = {name: np.where(left == 0, -np.inf, scores[name]) for name, left in live.items()}
        whole = scope == "global" or pattern.components[index].name == "layers"
        if plan is not None:
            masks |= _planned_masks(group, ranked, plan, live)
        else:
            masks |= (global_masks if whole else _uniform_masks)(group, ranked, share, live)
        chosen += group
    return {s.name: masks[s.name] for s in sets}


def _share_left(group: Sequence[GroupSet], kept: Matrices, sparsity: float) -> float:
    """Share of its groups that a component loses to reach `sparsity`, beside what is zero in matrices of others."""
    covered = {member.matrix for s in group for member in s.members}
    beside = sum(mask.numel() - int(mask.sum()) for name, mask in kept.items() if name not in covered)
    share = (sparsity * total_weights(kept) - beside) / covered_weights(group)
    return min(1.0, max(0.0, share))


def check_reachable(
    pattern: Pattern,
    sets: Sequence[GroupSet],
    tensors: Matrices,
    sparsity: float,
    scope: str = "uniform",
    empty: Masks | None = None,
) -> None:
    """Raises BertileError, naming the nearest sparsity, where the pattern's groups are too coarse for `sparsity`.

    Also where more than that is empty already.
    """
    equal = {s.name: np.zeros(s.count) for s in sets}
    reached = zeroed_share(sets, select_masks(pattern, sets, equal, tensors, sparsity, scope, empty), tensors)
    if abs(reached - sparsity) > TOLERANCE:
        raise BertileError(f"pattern {pattern} cannot reach a sparsity of {sparsity:g}; the nearest is {reached:.4f}")
