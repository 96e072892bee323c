"""Groups: what a pattern keeps or zeroes as one, whatever its shape. Scores, masks and penalties know groups alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from bertile.models.encoder import MATRICES, EncoderConfig
from bertile.prune.pattern import BlockPattern, Component, Pattern

ATTENTION = ("query", "key", "value", "attention_output")
Matrices = Mapping[str, torch.Tensor]  # [out, in] by name, `layers.0.query` ...


@dataclass(frozen=True)
class Member:
    """Where a group set lies in one matrix: its block i, in row-major order, belongs to group i."""

    matrix: str
    block: BlockPattern


@dataclass(frozen=True)
class GroupSet:
    """Groups of equal size that are ranked together: those of a matrix, or of a layer.

    shape: of the mask, product = number of groups. weights: of one group. component: index in the pattern.
    """

    name: str
    members: tuple[Member, ...]
    shape: tuple[int, int]
    weights: int
    component: int

    @property
    def count(self) -> int:
        return self.shape[0] * self.shape[1]

    @property
    def layer(self) -> int:
        return int(self.members[0].matrix.split(".")[1])

    def reduce(self, tensors: Matrices, function: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Sum of function(weight) over each group: [count], in the dtype of `function`, whole numbers for bool.

        `function` maps a matrix to one of its shape.
        """
        return sum(member.block.sums(function(tensors[member.matrix])).flatten() for member in self.members)

    def spread(self, values: torch.Tensor, member: Member, matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(blocks of `matrix`, a view; `values` [count] beside them so that they broadcast)."""
        blocks = member.block.blocks(matrix)
        return blocks, values.to(matrix.device, matrix.dtype).view(blocks.shape[0], blocks.shape[1], 1, 1)


def _sizes(config: EncoderConfig) -> dict[str, tuple[int, int]]:
    """(output, input) features of each matrix of a layer."""
    hidden, ffn = config.hidden, config.ffn
    return dict.fromkeys(ATTENTION, (hidden, hidden)) | {"ffn_in": (ffn, hidden), "ffn_out": (hidden, ffn)}


def _layer_members(component: Component, config: EncoderConfig, layer: int) -> list[tuple[str, list[Member]]]:
    """(name, members) of the component's sets in one layer."""
    prefix, sizes, hidden, head = f"layers.{layer}", _sizes(config), config.hidden, config.head_size
    if component.name == "heads":
        inward, outward = BlockPattern(hidden, head), BlockPattern(head, hidden)
        members = [Member(f"{prefix}.{name}", inward) for name in ATTENTION[:3]]
        return [(f"{prefix}.heads", [*members, Member(f"{prefix}.attention_output", outward)])]
    if component.name == "neurons":
        inward, outward = BlockPattern(hidden, 1), BlockPattern(1, hidden)
        return [(f"{prefix}.neurons", [Member(f"{prefix}.ffn_in", inward), Member(f"{prefix}.ffn_out", outward)])]
    if component.name == "layers":
        return [(prefix, [Member(f"{prefix}.{name}", BlockPattern(*sizes[name][::-1])) for name in MATRICES])]
    sets = []
    for name in MATRICES:
        rows, columns = sizes[name]
        lines = {"rows": BlockPattern(columns, 1), "columns": BlockPattern(1, rows)}
        block = lines.get(component.name, component.block)
        block.check_divides((rows, columns), f"{prefix}.{name}")
        sets.append((f"{prefix}.{name}", [Member(f"{prefix}.{name}", block)]))
    return sets


def group_sets(pattern: Pattern, config: EncoderConfig) -> list[GroupSet]:
    """All group sets of `pattern` in an encoder. Raises BertileError where a block does not divide a matrix."""
    sizes = _sizes(config)
    result = []
    for index, component in enumerate(pattern.components):
        for layer in range(config.layers):
            for name, members in _layer_members(component, config, layer):
                block = members[0].block
                rows, columns = sizes[members[0].matrix.rpartition(".")[2]]
                # Every member has as many blocks; those of the first one give the mask its shape.
                shape = (rows // block.outputs, columns // block.inputs)
                weights = sum(member.block.inputs * member.block.outputs for member in members)
                full = name if len(pattern.components) == 1 else f"{component}/{name}"
                result.append(GroupSet(full, tuple(members), shape, weights, index))
    return result


def element_masks(sets: list[GroupSet], masks: Mapping[str, np.ndarray], tensors: Matrices) -> dict[str, torch.Tensor]:
    """bool [out, in] by matrix: True where every group that holds the weight is kept."""
    kept = {name: torch.ones_like(tensor, dtype=torch.bool) for name, tensor in tensors.items()}
    for group_set in sets:
        mask = torch.from_numpy(np.ascontiguousarray(masks[group_set.name])).flatten()
        for member in group_set.members:
            blocks, beside = group_set.spread(mask, member, kept[member.matrix])
            blocks &= beside
    return kept


def zeroed_share(sets: list[GroupSet], masks: Mapping[str, np.ndarray], tensors: Matrices) -> float:
    """Share of the weights of all matrices that the masks zero."""
    kept = element_masks(sets, masks, tensors)
    return 1 - sum(int(mask.sum()) for mask in kept.values()) / sum(mask.numel() for mask in kept.values())
