"""The order of features that no one outside sees: FFN neurons, and inside a head its values, and its queries with keys.

A network computes the same in any of them. Sorted by what they carry, the features of a block are alike: all are worth
keeping, or none. Gathered, those that are left fill their tiles of 16.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from bertile.models.encoder import EncoderConfig
from bertile.prune.groups import GroupSet, Matrices
from bertile.prune.pattern import Pattern

# By kind of feature: matrices that write them, and the one that reads them.
NEURONS, VALUES, PRODUCTS = "neurons", "values", "products"
WRITERS = {NEURONS: ("ffn_in",), VALUES: ("value",), PRODUCTS: ("query", "key")}
READER = {NEURONS: "ffn_out", VALUES: "attention_output"}
Orders = Mapping[tuple[int, str], torch.Tensor]  # by layer and kind: the feature that comes to each place


@torch.no_grad()
def feature_orders(tensors: Matrices, squares: Matrices, config: EncoderConfig) -> Orders:
    """Features by what they carry, most first; those of a head stay its own.

    squares: [in] by matrix, the mean square of every input feature. A neuron or a value carries its mean square times
    the squares of the weights that read it; a pair of query and key features, the product of theirs.
    """

    def read(layer: int, kind: str) -> torch.Tensor:
        name = f"layers.{layer}.{READER[kind]}"
        return squares[name] * tensors[name].square().sum(0)

    def written(layer: int, name: str) -> torch.Tensor:
        name = f"layers.{layer}.{name}"
        return (tensors[name].square() * squares[name]).sum(1)

    orders = {}
    for layer in range(config.layers):
        orders[layer, NEURONS] = torch.argsort(read(layer, NEURONS), descending=True, stable=True)
        product = written(layer, "query") * written(layer, "key")
        first = torch.arange(0, config.hidden, config.head_size, device=product.device)
        for kind, carried in ((VALUES, read(layer, VALUES)), (PRODUCTS, product)):
            inside = torch.argsort(carried.view(config.heads, -1), dim=1, descending=True, stable=True)
            orders[layer, kind] = (first.unsqueeze(1) + inside).flatten()
    return orders


@torch.no_grad()
def order_features(linears: Mapping[str, nn.Linear], orders: Orders) -> None:
    """Move features to their places, in place."""
    for (layer, kind), order in orders.items():
        for name in WRITERS[kind]:
            linear = linears[f"layers.{layer}.{name}"]
            linear.weight.copy_(linear.weight[order])
            linear.bias.copy_(linear.bias[order])
        if kind in READER:
            weight = linears[f"layers.{layer}.{READER[kind]}"].weight
            weight.copy_(weight[:, order])


def gather_masks(
    pattern: Pattern, sets: list[GroupSet], masks: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], Orders]:
    """Masks with the kept neurons of every layer in front, and the orders that bring them there.

    Nothing moves where the pattern has no neurons, or where another of its components has groups in the same matrices,
    which the new order would tear apart.
    """
    moved, orders = dict(masks), {}
    for s in sets:
        if pattern.components[s.component].name != NEURONS or _shared(s, sets):
            continue
        kept = masks[s.name].ravel()
        order = np.argsort(~kept, kind="stable")
        orders[s.layer, NEURONS] = torch.from_numpy(order)
        moved[s.name] = kept[order].reshape(s.shape)
    return moved, orders


def gather_neurons(
    pattern: Pattern, linears: Mapping[str, nn.Linear], sets: list[GroupSet], masks: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Move kept neurons to the front in every layer, in place; returns the masks that go with it (`gather_masks`)."""
    moved, orders = gather_masks(pattern, sets, masks)
    order_features(linears, orders)
    return moved


def _shared(group_set: GroupSet, sets: list[GroupSet]) -> bool:
    own = {member.matrix for member in group_set.members}
    return any(s is not group_set and own & {member.matrix for member in s.members} for s in sets)
