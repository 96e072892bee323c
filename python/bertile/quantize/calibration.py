"""What the encoder's activations look like: a float forward pass that keeps every tensor the quantizer needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from transformers.activations import ACT2FN

from bertile.models.encoder import EncoderConfig, EncoderLayer, Linear, Norm


def linear(x: torch.Tensor, matrix: Linear) -> torch.Tensor:
    return torch.nn.functional.linear(x, torch.from_numpy(matrix.weight), torch.from_numpy(matrix.bias))


def norm(x: torch.Tensor, parameters: Norm, epsilon: float) -> torch.Tensor:
    return torch.nn.functional.layer_norm(
        x, x.shape[-1:], torch.from_numpy(parameters.gain), torch.from_numpy(parameters.bias), epsilon
    )


@dataclass(frozen=True)
class LayerTrace:
    """Float activations of one layer over all calibration tokens, each [tokens, features] float32."""

    x: torch.Tensor  # input
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    context: torch.Tensor
    attention_sum: torch.Tensor  # before the first LayerNorm
    middle: torch.Tensor  # after it
    ffn_index: torch.Tensor  # before the activation function
    ffn_hidden: torch.Tensor  # after it
    ffn_sum: torch.Tensor  # before the second LayerNorm
    output: torch.Tensor


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
    """Attention of one sequence [tokens, hidden]."""
    split = [t.view(len(t), heads, -1).transpose(0, 1) for t in (q, k, v)]
    return torch.nn.functional.scaled_dot_product_attention(*split).transpose(0, 1).reshape(q.shape)


@torch.inference_mode()
def trace_layer(layer: EncoderLayer, config: EncoderConfig, x: torch.Tensor, lengths: list[int]) -> LayerTrace:
    """Run one layer over sequences laid end to end: x [sum of lengths, hidden] float32."""
    q, k, v = (linear(x, matrix) for matrix in (layer.query, layer.key, layer.value))
    pieces = zip(*(t.split(lengths) for t in (q, k, v)), strict=True)
    context = torch.cat([attend(*piece, config.heads) for piece in pieces])
    attention_sum = x + linear(context, layer.attention_output)
    middle = norm(attention_sum, layer.attention_norm, config.norm_epsilon)
    ffn_index = linear(middle, layer.ffn_in)
    ffn_hidden = ACT2FN[config.activation](ffn_index)
    ffn_sum = middle + linear(ffn_hidden, layer.ffn_out)
    output = norm(ffn_sum, layer.ffn_norm, config.norm_epsilon)
    return LayerTrace(x, q, k, v, context, attention_sum, middle, ffn_index, ffn_hidden, ffn_sum, output)


def join_sequences(sequences: list[np.ndarray]) -> tuple[torch.Tensor, list[int]]:
    """Embedded sequences [tokens, hidden] as one tensor and their lengths."""
    return torch.from_numpy(np.concatenate(sequences)), [len(sequence) for sequence in sequences]
