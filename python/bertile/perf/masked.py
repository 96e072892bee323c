"""Clock cycles of a network that is not trained yet: its masks alone decide them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from bertile.errors import CapacityError
from bertile.models.classifier import TrainedModel
from bertile.models.encoder import MATRICES
from bertile.models.load import Model, embeddings, encoder_layers
from bertile.models.quantized import QuantizedEncoder, QuantizedLinear
from bertile.pack.packer import PackedModel, pack_encoder
from bertile.perf.estimate import estimate_cycles
from bertile.prune.groups import GroupSet, element_masks
from bertile.prune.order import gather_masks
from bertile.prune.pattern import Pattern, parse_pattern
from bertile.prune.plan import CountCycles, Plan
from bertile.quantize.quantizer import quantize_encoder
from bertile.text import token_limit


class CycleModel:
    """Packs an encoder with masks but without weights, and estimates its cycles for one request of `tokens`.

    units: that share the request, 1 or all of the card. A weight that is kept counts even where it would round to zero,
    so the network itself never takes more.
    """

    def __init__(self, model: Model, tokens: int, units: int = 1):
        """Raises CapacityError for a number of tokens or units, or an encoder, that cannot be."""
        limit = token_limit(model.config)
        if not 1 <= tokens <= limit:
            raise CapacityError(f"{tokens} tokens: this model takes 1 to {limit}")
        self.tokens, self.units = tokens, units
        # Scales decide no cycle: any text will do.
        ids = [np.zeros(tokens, np.int64)]
        self.encoder = quantize_encoder(encoder_layers(model), model.config, embeddings(model), ids)
        self.shapes = {
            f"layers.{index}.{name}": torch.empty(getattr(layer, name).weight.shape, dtype=torch.bool)
            for index, layer in enumerate(self.encoder.layers)
            for name in MATRICES
        }
        pack_encoder(self.encoder, units=units)  # what cannot be is said at once

    def packed(self, kept: Mapping[str, torch.Tensor]) -> PackedModel:
        """What would be packed of a network with these weights left, bool [out, in] by matrix."""
        layers = []
        for index, layer in enumerate(self.encoder.layers):
            linears: dict[str, QuantizedLinear] = {}
            for name in MATRICES:
                weight = kept[f"layers.{index}.{name}"].numpy().astype(np.int8)
                linears[name] = replace(getattr(layer, name), weight=weight)
            layers.append(replace(layer, **linears))
        encoder: QuantizedEncoder = replace(self.encoder, layers=tuple(layers))
        return pack_encoder(encoder, units=self.units)

    def cycles_of(self, pattern: Pattern, sets: list[GroupSet], masks: Mapping[str, np.ndarray]) -> int:
        """Of the network that pruning with these masks ends with, its kept neurons gathered."""
        moved, _ = gather_masks(pattern, sets, masks)
        return self.cycles(element_masks(sets, moved, self.shapes))

    def cycles(self, kept: Mapping[str, torch.Tensor]) -> int:
        """Estimated clock cycles at the target's first clock."""
        return estimate_cycles(self.packed(kept), [self.tokens], units=self.units).total


def counter_of(plan: Plan | None, model: Model | TrainedModel, sets: list[GroupSet]) -> CountCycles | None:
    """Counts for the limit of a plan; None where it has none."""
    if plan is None or plan.limit is None:
        return None
    encoder = Model(model.name, model.network.base_model, model.config, model.tokenizer, model.synthetic)
    counted = CycleModel(encoder, plan.limit.tokens, plan.limit.units)
    return lambda masks: counted.cycles_of(parse_pattern(plan.pattern), sets, masks)
