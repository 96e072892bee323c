"""Pruning patterns: the shape of what is kept or zeroed as one."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch

from bertile.errors import BertileError

Weights = TypeVar("Weights", np.ndarray, torch.Tensor)
# Patterns by name. Heads, neurons and layers span several matrices; the others are blocks of one.
NAMES = ("rows", "columns", "heads", "neurons", "layers", "unstructured")
SYNTAX = f"KxN (input by output features of a block), such as 1x16, or {', '.join(NAMES[:-1])} or {NAMES[-1]}"


@dataclass(frozen=True)
class BlockPattern:
    """Blocks of `inputs` input features by `outputs` output features; written `<inputs>x<outputs>`."""

    inputs: int
    outputs: int

    def __str__(self) -> str:
        return f"{self.inputs}x{self.outputs}"

    def blocks(self, weight: Weights, name: str = "weight") -> Weights:
        """View of weight [out, in] as [out / outputs, in / inputs, outputs, inputs].

        Raises BertileError, with `name`, where the blocks do not divide the matrix.
        """
        rows, columns = weight.shape
        self.check_divides((rows, columns), name)
        split = weight.reshape(rows // self.outputs, self.outputs, columns // self.inputs, self.inputs)
        return split.swapaxes(1, 2)

    def sums(self, weight: torch.Tensor) -> torch.Tensor:
        """Sum of every block of weight [out, in]: [out / outputs, in / inputs]."""
        sums = self.blocks(weight)
        # One axis after the other, and none of a single element: both at once take PyTorch several times as long.
        for size in (self.outputs, self.inputs):
            sums = sums.sum(2) if size > 1 else sums.squeeze(2)
        return sums

    def check_divides(self, shape: tuple[int, int], name: str) -> None:
        """Raises BertileError where the blocks do not divide a matrix [out, in] of this shape."""
        rows, columns = shape
        if rows % self.outputs or columns % self.inputs:
            raise BertileError(f"pattern {self} does not divide {name}: {columns} input by {rows} output features")


@dataclass(frozen=True)
class Component:
    """One kind of group: `name` is a key of `NAMES`, or "" for `block`. `share`: of its weights, None for the rest."""

    name: str
    block: BlockPattern | None
    share: float | None

    def __str__(self) -> str:
        return (self.name or str(self.block)) + ("" if self.share is None else f"@{self.share:g}")


@dataclass(frozen=True)
class Pattern:
    """One component, or several whose groups are pruned side by side: `heads+neurons`, `heads@0.25+1x16`."""

    components: tuple[Component, ...]

    def __str__(self) -> str:
        return "+".join(map(str, self.components))

    def scaled(self, factor: float) -> Pattern:
        """The pattern with every `@share` times `factor`: on the way to a target."""
        parts = (c if c.share is None else replace(c, share=c.share * factor) for c in self.components)
        return Pattern(tuple(parts))


def _parse_component(text: str, whole: str) -> Component:
    kind, at, share_text = text.strip().partition("@")
    match = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", kind)
    if kind not in NAMES and match is None:
        raise BertileError(f"pattern {whole!r} is not {SYNTAX}")
    share = None
    if at:
        try:
            share = float(share_text)
        except ValueError:
            share = -1.0
        if not 0 <= share < 1:
            raise BertileError(f"pattern {whole!r}: the share {share_text!r} of {kind} is not in [0, 1)")
    if kind == "unstructured":
        return Component("unstructured", BlockPattern(1, 1), share)
    return Component("" if match else kind, BlockPattern(int(match[1]), int(match[2])) if match else None, share)


def parse_pattern(text: str) -> Pattern:
    """A pattern from its text: `KxN`, a name in `NAMES`, or several joined by `+`, with an `@share` or without.

    Any block can be packed; only what empties whole vectors of 16 output features makes the accelerator faster. Raises
    BertileError for other text.
    """
    pattern = Pattern(tuple(_parse_component(part, text) for part in text.split("+")))
    kinds = [component.name or str(component.block) for component in pattern.components]
    if len(set(kinds)) < len(kinds):
        raise BertileError(f"pattern {text!r} names a component twice")
    return pattern
