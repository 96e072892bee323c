"""Fake quantization: a float network that rounds as the integer one will, and trains through it (straight-through)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from bertile.config.spec import load_spec
from bertile.models.encoder import MATRICES
from bertile.models.families import layer_modules
from bertile.models.load import Model, embeddings, encoder_layers
from bertile.quantize.calibration import join_sequences
from bertile.quantize.layer_scales import LayerScales, measure_scales

SPEC = load_spec()


class _RoundThrough(torch.autograd.Function):
    """x / scale to whole steps, saturated; the gradient is the identity's inside the range and zero outside."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, scale: torch.Tensor, zero: float, low: int, high: int) -> torch.Tensor:
        steps = x.float() / scale  # float32 also under autocast: bfloat16 cannot count to 512
        steps.add_(zero).round_()
        ctx.save_for_backward((steps >= low) & (steps <= high), scale)
        ctx.dtype = x.dtype
        return steps.clamp_(low, high).sub_(zero)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        inside, scale = ctx.saved_tensors
        return (gradient * inside / scale).to(ctx.dtype), None, None, None, None


@dataclass(frozen=True)
class Grid:
    """Integers low..high with real value `scale * (q - zero)`; scale [features] or a scalar, float32."""

    scale: torch.Tensor
    low: int
    high: int
    zero: float = 0.0

    def steps(self, x: torch.Tensor) -> torch.Tensor:
        """`q - zero` of x [..., features], float32."""
        return _RoundThrough.apply(x, self.scale, self.zero, self.low, self.high)

    def round(self, x: torch.Tensor) -> torch.Tensor:
        """The nearest value that the grid has, of x's type."""
        return (self.steps(x) * self.scale).to(x.dtype)


def weight_steps(weight: torch.Tensor, source: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight [out, in] behind inputs of scale `source` as `quantize_weight` rounds it: integers, and a step [out]."""
    limit = (weight.detach() * source).abs().amax(dim=1)
    step = torch.where(limit > 0, limit / 127, 1.0)
    return _RoundThrough.apply(weight, step[:, None] / source, 0.0, -127, 127), step


def rounded_forward(linear: nn.Linear, source: Grid, target: Grid) -> Callable[[torch.Tensor], torch.Tensor]:
    """A forward pass for `linear` between two grids, with the weights that it has at the time."""

    def forward(x: torch.Tensor) -> torch.Tensor:
        weight, step = weight_steps(linear.weight, source.scale)
        # A product of integers of at most 8 bits: autocast's bfloat16 holds its factors exactly.
        acc = functional.linear(source.steps(x), weight)
        return target.round(acc.float() * step + linear.bias).to(acc.dtype)

    return forward


def layer_grids(scales: LayerScales, device: torch.device) -> dict[str, Grid]:
    """The grid of every tensor of a layer, by the names of `LayerScales`; hidden and index without their step."""

    def grid(scale: np.ndarray | float, bits: int, zero: float = 0.0, unsigned: bool = False) -> Grid:
        low = 0 if unsigned else -(1 << (bits - 1))
        return Grid(torch.as_tensor(scale, dtype=torch.float32, device=device), low, low + (1 << bits) - 1, zero)

    names = ("input", "query", "key", "value", "context", "middle", "output")
    return {
        **{name: grid(getattr(scales, name), 8) for name in names},
        "attention_sum": grid(scales.attention_sum, 16),
        "index": grid(scales.index_step, SPEC.law.gelu_index_bits, scales.index_offset),
        "hidden": grid(scales.hidden_step, 8, scales.hidden_zero, unsigned=True),
        "ffn_sum": grid(scales.ffn_sum, 16),
    }


# Between which tensors each matrix stands.
BETWEEN = {
    "query": ("input", "query"),
    "key": ("input", "key"),
    "value": ("input", "value"),
    "attention_output": ("context", "attention_sum"),
    "ffn_in": ("middle", "index"),
    "ffn_out": ("hidden", "ffn_sum"),
}


class FakeQuantizer:
    """Rounds the tensors of a Hugging Face encoder while it is enabled; its parameters keep their names and values.

    Scores, softmax and the inside of a LayerNorm stay float: PyTorch's fused forms have no place to round them.
    """

    def __init__(self, network: nn.Module, family: str, scales: list[LayerScales]):
        """network: without a task head, the base model. scales: one a layer."""
        self.network, self.family, self.scales = network, family, scales
        self._linears: list[nn.Linear] = []
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    @classmethod
    def from_state(cls, network: nn.Module, family: str, state: Mapping[str, torch.Tensor]) -> FakeQuantizer:
        """The one whose `state` this is."""
        count = 1 + max(int(name.split(".")[1]) for name in state)
        scales = []
        for index in range(count):
            values = {field.name: state[f"layers.{index}.{field.name}"] for field in fields(LayerScales)}
            scales.append(LayerScales(**{k: v.numpy() if v.dim() else v.item() for k, v in values.items()}))
        return cls(network, family, scales)

    def state(self) -> dict[str, torch.Tensor]:
        """The scales, exactly."""
        return {
            f"layers.{index}.{field.name}": torch.from_numpy(np.array(getattr(scales, field.name)))
            for index, scales in enumerate(self.scales)
            for field in fields(LayerScales)
        }

    @property
    def enabled(self) -> bool:
        return bool(self._linears)

    def enable(self) -> None:
        """Round from now on."""
        self.disable()
        layers = layer_modules(self.network, self.family)
        for index, (modules, scales) in enumerate(zip(layers, self.scales, strict=True)):
            grids = layer_grids(scales, modules["query"].weight.device)
            for name in MATRICES:
                source, target = (grids[tensor] for tensor in BETWEEN[name])
                # Not a parametrization: that renames the weights in every checkpoint.
                modules[name].forward = rounded_forward(modules[name], source, target)
                self._linears.append(modules[name])
            # The residuals read what the matrices read.
            if index == 0:
                self._round_output(self.network.embeddings, grids["input"])
            self._round_output(modules["attention_norm"], grids["middle"])
            self._round_output(modules["ffn_norm"], grids["output"])

    def _round_output(self, module: nn.Module, grid: Grid) -> None:
        self._hooks.append(module.register_forward_hook(lambda module, inputs, output: grid.round(output)))

    def disable(self) -> None:
        """Leave the network as it was found."""
        for linear in self._linears:
            del linear.forward
        for hook in self._hooks:
            hook.remove()
        self._linears, self._hooks = [], []


def calibrate(model: Model, sequences: list[np.ndarray]) -> list[LayerScales]:
    """The scales of every layer with the weights of now, from `sequences` of token ids [tokens]."""
    embed = embeddings(model).embed
    x, lengths = join_sequences([embed(ids) for ids in sequences])
    return list(measure_scales(encoder_layers(model), model.config, x, lengths))
