"""The integer reference: the executable form of docs/numerics.md, fast enough for a whole data set."""

from __future__ import annotations

import numpy as np
import torch

from bertile.config.spec import load_spec
from bertile.devices.launch import lay_out
from bertile.golden import arithmetic as law
from bertile.models.quantized import QuantizedEncoder, QuantizedLayer, QuantizedLinear, QuantizedNorm

SPEC = load_spec()


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array).astype(np.int64))


class Linear:
    """A quantized matrix as tensors."""

    def __init__(self, linear: QuantizedLinear):
        self.weight = torch.from_numpy(linear.weight).float()
        self.bias, self.multiplier, self.shift = map(tensor, (linear.bias, linear.multiplier, linear.shift))

    def __call__(self, x: torch.Tensor, bits: int) -> torch.Tensor:
        """x [m, in] -> [m, out], both int64; the result saturated to `bits`."""
        acc = law.accumulate(x, self.weight)
        return law.requantize(acc, self.bias, self.multiplier, self.shift, bits)


class Norm:
    """Residual addition and LayerNorm."""

    def __init__(self, norm: QuantizedNorm):
        self.residual_multiplier, self.gain, self.offset = map(
            tensor, (norm.residual_multiplier, norm.gain, norm.offset)
        )
        self.residual_shift, self.output_shift, self.epsilon = norm.residual_shift, norm.output_shift, norm.epsilon

    def __call__(self, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """y [m, hidden] 16-bit, residual x [m, hidden] int8 -> int8."""
        z = law.residual_sum(y, x, self.residual_multiplier, self.residual_shift)
        return law.layer_norm(z, self.gain, self.offset, self.output_shift, self.epsilon)


class Layer:
    """One transformer layer on a launch of several sequences."""

    def __init__(self, layer: QuantizedLayer, heads: int, exponential_table: torch.Tensor):
        self.heads, self.exponential_table = heads, exponential_table
        self.query, self.key, self.value = Linear(layer.query), Linear(layer.key), Linear(layer.value)
        self.attention_output, self.ffn_in, self.ffn_out = map(
            Linear, (layer.attention_output, layer.ffn_in, layer.ffn_out)
        )
        self.attention_norm, self.ffn_norm = Norm(layer.attention_norm), Norm(layer.ffn_norm)
        self.activation_table = tensor(layer.activation_table)
        self.score_multiplier, self.score_shift, self.context_numerator, self.context_shift = (
            tensor(values).view(-1, 1, 1)
            for values in (
                layer.attention.score_multiplier,
                layer.attention.score_shift,
                layer.attention.context_numerator,
                layer.attention.context_shift,
            )
        )

    def split(self, x: torch.Tensor) -> torch.Tensor:
        """[m, hidden] -> [heads, m, head size]."""
        return x.view(x.shape[0], self.heads, -1).transpose(0, 1)

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, tokens: int) -> torch.Tensor:
        """Attention of one sequence: q, k, v [m, hidden] with padding rows; only the first `tokens` rows are keys."""
        q, k, v = self.split(q), self.split(k[:tokens]), self.split(v[:tokens])
        acc = law.accumulate(q, k)  # [heads, m, tokens]
        scores = law.requantize(acc, torch.tensor(0), self.score_multiplier, self.score_shift, 16)
        probability, row_scale = law.softmax(scores, self.exponential_table, self.context_numerator)
        acc = law.accumulate(probability, v.transpose(1, 2))  # [heads, m, head size]
        result = law.context(acc, row_scale, self.context_shift)
        return result.transpose(0, 1).reshape(result.shape[1], -1)

    def __call__(self, x: torch.Tensor, spans: list[tuple[int, int, int]]) -> torch.Tensor:
        """x [rows, hidden] int8; spans: (first row, end row, tokens) of each sequence."""
        q, k, v = self.query(x, 8), self.key(x, 8), self.value(x, 8)
        attended = [self.attend(q[first:end], k[first:end], v[first:end], tokens) for first, end, tokens in spans]
        x = self.attention_norm(self.attention_output(torch.cat(attended), 16), x)
        index = self.ffn_in(x, SPEC.law.gelu_index_bits) + (1 << (SPEC.law.gelu_index_bits - 1))
        return self.ffn_norm(self.ffn_out(self.activation_table[index], 16), x)


class IntegerEncoder:
    """The whole encoder on integers; one object serves any number of runs."""

    name = "integer"

    def __init__(self, model: QuantizedEncoder):
        table = tensor(model.exponential_table)
        self.layers = [Layer(layer, model.config.heads, table) for layer in model.layers]

    @torch.inference_mode()
    def run(self, sequences: list[np.ndarray]) -> np.ndarray:
        """Every layer's output: [layers, rows, hidden] int8 for sequences [tokens, hidden] int8.

        Rows are those of `lay_out`, padding included: hardware computes these, too.
        """
        launch = lay_out(sequences)
        x = tensor(launch.rows)
        outputs = []
        for layer in self.layers:
            x = layer(x, launch.spans)
            outputs.append(x.to(torch.int8).numpy())
        return np.stack(outputs)
