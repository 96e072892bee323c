"""Estimated cycles of a packed encoder on one compute unit (docs/architecture.md, Cycles).

An estimate from counts of work, not a simulation: it leaves out pipeline latency, memory stalls, the first tile of each
gemm, the last drain of each command, and the loading of keys and values.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from bertile.config.paths import TARGETS_DIR
from bertile.config.spec import load_spec
from bertile.models.encoder import MATRICES
from bertile.pack.packer import PackedModel, kept_vectors

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SPEC = load_spec()


@dataclass(frozen=True)
class CycleEstimate:
    """Cycles of one launch, by where they go."""

    gemm: int
    attention: int
    layernorm: int

    @property
    def total(self) -> int:
        return self.gemm + self.attention + self.layernorm


def pass_cycles(vectors: np.ndarray | int) -> np.ndarray | int:
    """Cycles of a pass over `vectors` weight vectors: four a cycle, at least as many as its results need to leave."""
    return np.maximum(-(-np.asarray(vectors) // SPEC.array.inputs), SPEC.array.outputs)


def attention_cycles(head_size: int, tokens: int) -> int:
    """Scores and context of one head of a sequence of `tokens`."""
    row_blocks = -(-tokens // SPEC.word.tokens)
    scores = -(-tokens // SPEC.array.outputs) * int(pass_cycles(head_size))
    context = head_size // SPEC.array.outputs * int(pass_cycles(tokens))
    return row_blocks * (scores + context)


def estimate_cycles(packed: PackedModel, lengths: list[int]) -> CycleEstimate:
    """Estimate for one launch of sequences of `lengths` tokens."""
    config = packed.config
    row_blocks = sum(-(-tokens // SPEC.word.tokens) for tokens in lengths)
    gemm = sum(
        int(pass_cycles(kept_vectors(packed, layer, matrix).sum(axis=1)).sum()) * row_blocks
        for layer in range(config.layers)
        for matrix in MATRICES
    )
    attention = config.layers * config.heads * sum(attention_cycles(config.head_size, tokens) for tokens in lengths)
    # The second pass of a LayerNorm overlaps with nothing.
    layernorm = config.layers * 2 * row_blocks * config.hidden
    return CycleEstimate(gemm, attention, layernorm)


def target_clocks(name: str = "u200") -> list[int]:
    """Clock frequencies, in MHz, for which latencies of a target are projected."""
    with (TARGETS_DIR / f"{name}.toml").open("rb") as file:
        return tomllib.load(file)["clock"]["megahertz"]
