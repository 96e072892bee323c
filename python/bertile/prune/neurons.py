"""FFN neurons may stand in any order, so those that are left move together: then their tiles of 16 are full."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from bertile.prune.groups import GroupSet
from bertile.prune.pattern import Pattern


@torch.no_grad()
def gather_neurons(
    pattern: Pattern, linears: Mapping[str, nn.Linear], sets: list[GroupSet], masks: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Move kept neurons to the front in every layer, in place; returns the masks that go with it.

    The network computes the same function. Nothing moves where the pattern has no neurons, or where another of its
    components has groups in the same matrices, which the new order would tear apart.
    """
    masks = dict(masks)
    for s in sets:
        if pattern.components[s.component].name != "neurons" or _shared(s, sets):
            continue
        kept = masks[s.name].ravel()
        order = torch.from_numpy(np.argsort(~kept, kind="stable"))
        first, second = (linears[member.matrix] for member in s.members)
        first.weight.copy_(first.weight[order])
        first.bias.copy_(first.bias[order])
        second.weight.copy_(second.weight[:, order])
        masks[s.name] = kept[order.numpy()].reshape(s.shape)
    return masks


def _shared(group_set: GroupSet, sets: list[GroupSet]) -> bool:
    own = {member.matrix for member in group_set.members}
    return any(s is not group_set and own & {member.matrix for member in s.members} for s in sets)
