"""Who computes what when compute units share a request: output tiles and heads dealt to the units by their work.

Tiles of a unit lie side by side, so features are put in another order inside the packed images. Outside of them the
order is that of the model: `arrange` on the way in, `restore` on the way out. Sums of whole numbers do not mind.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from bertile.config.spec import load_spec
from bertile.models.encoder import EncoderConfig
from bertile.models.quantized import (
    QuantizedAttention,
    QuantizedEncoder,
    QuantizedLayer,
    QuantizedLinear,
    QuantizedNorm,
)
from bertile.pack.program import OUTPUTS, PROJECTIONS, LayerWork

SPEC = load_spec()
UNITS = SPEC.cooperation.units
INPUTS = SPEC.array.inputs
TOKENS = 128  # of the request whose attention is weighed against weights


@dataclass(frozen=True)
class Hand:
    """Things (tiles or heads) in the order of the packed images, those of unit 0 first.

    order: numbers in the model; counts: of each unit; what is left behind the last one is computed by nobody.
    """

    order: tuple[int, ...]
    counts: tuple[int, ...]

    def of(self, unit: int) -> range:
        """Places of a unit's things."""
        first = sum(self.counts[:unit])
        return range(first, first + self.counts[unit])

    def features(self, size: int) -> np.ndarray:
        """The order of features, `size` of each thing: [count * size]."""
        return (np.array(self.order)[:, None] * size + np.arange(size)).ravel()


@dataclass(frozen=True)
class Deal:
    """hidden: tiles of the hidden size, the same for all layers, since a unit adds the residual it has itself.

    heads, ffn: of each layer, heads and tiles of the FFN's hidden features.
    """

    hidden: Hand
    heads: tuple[Hand, ...]
    ffn: tuple[Hand, ...]

    def to_json(self) -> dict:
        return {name: [vars(hand) for hand in hands] for name, hands in (("heads", self.heads), ("ffn", self.ffn))} | {
            "hidden": vars(self.hidden)
        }

    @classmethod
    def from_json(cls, data: dict) -> Deal:
        def hand(value: dict) -> Hand:
            return Hand(tuple(value["order"]), tuple(value["counts"]))

        return cls(hand(data["hidden"]), tuple(map(hand, data["heads"])), tuple(map(hand, data["ffn"])))


def pass_cycles(weight: np.ndarray) -> np.ndarray:
    """Cycles of each output tile of a matrix [out, in] over one row block: [tiles]."""
    vectors = weight.reshape(-1, OUTPUTS, weight.shape[1]).any(axis=1).sum(axis=1)
    return np.maximum(-(-vectors // INPUTS), OUTPUTS)


def deal_freely(work: np.ndarray, things: np.ndarray, count: int) -> Hand:
    """Each to the unit that has least so far, the longest first. things: numbers of those that are dealt."""
    hands: list[list[int]] = [[] for _ in range(UNITS)]
    loads = [0] * UNITS
    for thing in sorted(things.tolist(), key=lambda thing: (-work[thing], thing)):
        unit = loads.index(min(loads))
        hands[unit].append(thing)
        loads[unit] += int(work[thing])
    dealt = [thing for hand in hands for thing in sorted(hand)]
    return Hand((*dealt, *sorted(set(range(count)) - set(dealt))), tuple(map(len, hands)))


def deal_hidden(works: np.ndarray) -> Hand:
    """Tiles to units, as many to each as can be, so that the slowest of every matrix add up to least.

    works: [matrices, tiles], the work of each tile in every matrix that ends in the hidden size. Tiles change places in
    pairs until no pair gains.
    """
    tiles = works.shape[1]
    owner = np.zeros(tiles, int)
    by_work = np.argsort(-works.sum(axis=0), kind="stable")
    owner[by_work] = np.arange(tiles) % UNITS
    loads = np.stack([works[:, owner == unit].sum(axis=1) for unit in range(UNITS)])
    cost = loads.max(axis=0).sum()
    gained = True
    while gained:
        gained = False
        for first in range(tiles):
            for second in range(first):
                if owner[first] == owner[second]:
                    continue
                moved = loads.copy()
                difference = works[:, first] - works[:, second]
                moved[owner[first]] -= difference
                moved[owner[second]] += difference
                if (total := moved.max(axis=0).sum()) < cost:
                    owner[[first, second]] = owner[[second, first]]
                    loads, cost, gained = moved, total, True
    hands = [np.flatnonzero(owner == unit).tolist() for unit in range(UNITS)]
    return Hand(tuple(tile for hand in hands for tile in hand), tuple(map(len, hands)))


def attention_cycles(config: EncoderConfig) -> int:
    """Of a head and a row block of queries, at TOKENS keys."""
    scores = -(-TOKENS // OUTPUTS) * max(config.head_size // INPUTS, OUTPUTS)
    return scores + config.head_size // OUTPUTS * max(-(-TOKENS // INPUTS), OUTPUTS)


def deal(model: QuantizedEncoder) -> Deal:
    """Balance the units: within each phase of a layer, they wait for the slowest."""
    config, heads, ffn, hidden = model.config, [], [], []
    for layer in model.layers:
        work = LayerWork.of(layer)
        projections = sum(pass_cycles(getattr(layer, name).weight).reshape(config.heads, -1) for name in PROJECTIONS)
        head_work = projections.sum(axis=1) + attention_cycles(config)
        heads.append(deal_freely(head_work, np.flatnonzero(work.heads), config.heads))
        read = layer.ffn_out.weight.any(axis=0).reshape(-1, OUTPUTS).any(axis=1)
        ffn.append(deal_freely(pass_cycles(layer.ffn_in.weight), np.flatnonzero(read), len(read)))
        hidden += [pass_cycles(layer.attention_output.weight), pass_cycles(layer.ffn_out.weight)]
    return Deal(deal_hidden(np.stack(hidden)), tuple(heads), tuple(ffn))


def _reorder(linear: QuantizedLinear, outputs: np.ndarray, inputs: np.ndarray) -> QuantizedLinear:
    vectors = {name: getattr(linear, name)[outputs] for name in ("bias", "multiplier", "shift")}
    return QuantizedLinear(np.ascontiguousarray(linear.weight[np.ix_(outputs, inputs)]), **vectors)


def _reorder_norm(norm: QuantizedNorm, order: np.ndarray) -> QuantizedNorm:
    vectors = {name: getattr(norm, name)[order] for name in ("residual_multiplier", "gain", "offset")}
    return replace(norm, **vectors)


def _reorder_layer(layer: QuantizedLayer, x: np.ndarray, heads: np.ndarray, ffn: np.ndarray) -> QuantizedLayer:
    """x, ffn: orders of features; heads: of heads."""
    size = len(x) // len(heads)
    context = (heads[:, None] * size + np.arange(size)).ravel()
    attention = {field.name: getattr(layer.attention, field.name)[heads] for field in fields(QuantizedAttention)}
    return replace(
        layer,
        **{name: _reorder(getattr(layer, name), context, x) for name in PROJECTIONS},
        attention=QuantizedAttention(**attention),
        attention_output=_reorder(layer.attention_output, x, context),
        attention_norm=_reorder_norm(layer.attention_norm, x),
        ffn_in=_reorder(layer.ffn_in, ffn, x),
        ffn_out=_reorder(layer.ffn_out, x, ffn),
        ffn_norm=_reorder_norm(layer.ffn_norm, x),
    )


def arrange(layers: tuple[QuantizedLayer, ...], deal: Deal) -> tuple[QuantizedLayer, ...]:
    """Layers with their features in the order of the packed images."""
    x = deal.hidden.features(OUTPUTS)
    return tuple(
        _reorder_layer(layer, x, np.array(heads.order), ffn.features(OUTPUTS))
        for layer, heads, ffn in zip(layers, deal.heads, deal.ffn, strict=True)
    )


def restore(layers: tuple[QuantizedLayer, ...], deal: Deal) -> tuple[QuantizedLayer, ...]:
    """The inverse of `arrange`."""
    x = np.argsort(deal.hidden.features(OUTPUTS))
    return tuple(
        _reorder_layer(layer, x, np.argsort(heads.order), np.argsort(ffn.features(OUTPUTS)))
        for layer, heads, ffn in zip(layers, deal.heads, deal.ffn, strict=True)
    )
