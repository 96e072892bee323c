"""The FP32 reference: the Hugging Face model itself."""

from __future__ import annotations

import numpy as np
import torch

from bertile.inference import Keep, whole
from bertile.models.encoder import token_types
from bertile.models.load import Model, separator_of

BATCH = 32


@torch.inference_mode()
def run_fp32(
    model: Model, sequences: list[np.ndarray], progress=lambda done, total: None, keep: Keep = whole
) -> list[np.ndarray]:
    """Final hidden states [tokens, hidden] float32 of each sequence of token ids [tokens], in order: what `keep` keeps.

    Token types as in `Embeddings`.
    """
    separator = separator_of(model)
    order = sorted(range(len(sequences)), key=lambda index: len(sequences[index]))
    results: list[np.ndarray] = [np.empty(0)] * len(sequences)
    for first in range(0, len(order), BATCH):
        batch = order[first : first + BATCH]
        lengths = [len(sequences[index]) for index in batch]
        ids = torch.zeros(len(batch), max(lengths), dtype=torch.long)
        mask, types = torch.zeros_like(ids), torch.zeros_like(ids)
        if model.network.config.pad_token_id is not None:
            ids += model.network.config.pad_token_id  # RoBERTa counts positions by it
        for row, (index, length) in enumerate(zip(batch, lengths, strict=True)):
            ids[row, :length] = torch.from_numpy(sequences[index])
            mask[row, :length] = 1
            types[row, :length] = torch.from_numpy(token_types(sequences[index], separator))
        typed = {"token_type_ids": types} if separator >= 0 else {}  # not every network knows of types
        hidden = model.network(input_ids=ids, attention_mask=mask, **typed).last_hidden_state
        for row, (index, length) in enumerate(zip(batch, lengths, strict=True)):
            results[index] = keep(hidden[row, :length].numpy())
        progress(min(first + BATCH, len(order)), len(order))
    return results
