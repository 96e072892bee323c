"""The model of the bench, and the requests: seeded, so that every runtime and the card get the same."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import nn

from bertile.models.load import Model, random_model
from bertile.prune.magnitude import PruneResult, prune_magnitude
from bertile.prune.pattern import parse_pattern

MODEL_SEED, REQUEST_SEED, CALIBRATION_SEED = 0, 1, 2
CALIBRATION_TOKENS = 128


@lru_cache(maxsize=1)
def pruned_model(shape: str, layers: int, sparsity: float) -> PruneResult:
    """Seeded random weights, pruned in one shot: the same model as in `bertile.perf.rtl_bench`.

    Raises BertileError for an unknown shape.
    """
    result = prune_magnitude(random_model(shape, layers, MODEL_SEED), parse_pattern("1x16"), sparsity)
    result.model.network.set_attn_implementation("sdpa")
    return result


class EncoderStack(nn.Module):
    """The layers alone, from embedded words to hidden states: [batch, tokens, hidden] float32, no padding, no mask."""

    def __init__(self, model: Model):
        super().__init__()
        self.layers = model.network.encoder.layer

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            hidden = layer(hidden)
            if isinstance(hidden, tuple):
                hidden = hidden[0]
        return hidden


@torch.inference_mode()
def embed(model: Model, token_ids: np.ndarray) -> np.ndarray:
    """Embedded words [batch, tokens, hidden] float32 of token ids [batch, tokens]."""
    return model.network.embeddings(input_ids=torch.from_numpy(token_ids)).numpy()


def token_ids(model: Model, batch: int, tokens: int, seed: int) -> np.ndarray:
    """Seeded random token ids [batch, tokens] int64."""
    return np.random.default_rng(seed).integers(0, model.config.vocabulary, (batch, tokens))


def requests(model: Model, batch: int, tokens: int) -> np.ndarray:
    """What is timed: embedded words [batch, tokens, hidden] float32."""
    return embed(model, token_ids(model, batch, tokens, REQUEST_SEED))


def calibration(model: Model, sequences: int) -> list[np.ndarray]:
    """What static quantizers see, never what is timed: embedded words [1, tokens, hidden] float32 a sequence."""
    ids = token_ids(model, sequences, CALIBRATION_TOKENS, CALIBRATION_SEED)
    return [embed(model, row[None]) for row in ids]
