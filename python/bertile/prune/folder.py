"""Masks and provenance of a pruned model, in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy

from bertile.errors import BertileError
from bertile.models.encoder import EncoderConfig
from bertile.models.folder import first_line, read_marker
from bertile.prune.groups import GroupSet, group_sets
from bertile.prune.pattern import Pattern, parse_pattern

MASKS_FILE = "masks.safetensors"


@dataclass(frozen=True)
class Provenance:
    """How a model was pruned. Sparsities are shares of the weights of the six matrices of every layer."""

    pattern: str
    sparsity_asked: float
    sparsity: float
    scope: str
    score: str
    method: str
    source: str


def write_masks(masks: Mapping[str, np.ndarray], folder: Path) -> None:
    safetensors.numpy.save_file({name: np.ascontiguousarray(mask) for name, mask in masks.items()}, folder / MASKS_FILE)


def read_pruning(directory: str | Path) -> dict | None:
    """Provenance of the model in `directory`, with the keys of `Provenance`; None where it is not a pruned one."""
    marker = read_marker(directory)
    return marker["pruning"] if marker else None


def read_masks(directory: str | Path) -> dict[str, np.ndarray]:
    """Masks of the pruned model in `directory`: bool by group set. Raises BertileError where there are none."""
    try:
        return safetensors.numpy.load_file(Path(directory) / MASKS_FILE)
    except (OSError, safetensors.SafetensorError) as error:
        raise BertileError(f"{directory} has no readable masks: {first_line(error)}") from error


def check_same_pattern(directory: str | Path, pattern: Pattern) -> None:
    """Raises BertileError where the model in `directory` is pruned already, in another pattern: zeros would be lost."""
    pruning = read_pruning(directory)
    if pruning is not None and pruning["pattern"] != str(pattern):
        raise BertileError(f"{directory} is pruned as {pruning['pattern']}: go on with it, or start from a dense model")


def read_groups(directory: str | Path, config: EncoderConfig) -> tuple[list[GroupSet], dict[str, np.ndarray]] | None:
    """Group sets and masks of the pruned model in `directory`; None where it is not a pruned one.

    Raises BertileError where masks and pattern do not belong together.
    """
    pruning = read_pruning(directory)
    if pruning is None:
        return None
    sets, masks = group_sets(parse_pattern(pruning["pattern"]), config), read_masks(directory)
    if {s.name: s.shape for s in sets} != {name: mask.shape for name, mask in masks.items()}:
        raise BertileError(f"{directory}: its masks are not those of pattern {pruning['pattern']}")
    return sets, masks
