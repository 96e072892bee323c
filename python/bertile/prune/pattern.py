"""Block patterns: the shape of what is kept or zeroed as one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from bertile.config.spec import load_spec
from bertile.errors import BertileError

Weights = TypeVar("Weights", np.ndarray, torch.Tensor)


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
        if rows % self.outputs or columns % self.inputs:
            raise BertileError(f"pattern {self} does not divide {name}: {columns} input by {rows} output features")
        split = weight.reshape(rows // self.outputs, self.outputs, columns // self.inputs, self.inputs)
        return split.swapaxes(1, 2)


def parse_pattern(text: str) -> BlockPattern:
    """`KxN`: K input by N output features. Raises BertileError for other text or an N that hardware cannot skip."""
    match = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text.strip())
    if match is None:
        raise BertileError(f"pattern {text!r} is not KxN (input by output features of a block), such as 1x16")
    pattern = BlockPattern(int(match[1]), int(match[2]))
    vector = load_spec().array.outputs
    if pattern.outputs % vector:
        raise BertileError(f"pattern {pattern}: {pattern.outputs} output features are not a multiple of {vector}")
    return pattern
