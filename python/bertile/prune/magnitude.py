"""One-shot pruning by the weights alone: no data, no training."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from bertile.errors import BertileError
from bertile.models.families import matrices
from bertile.models.folder import new_folder
from bertile.models.load import Model, write_model
from bertile.prune.folder import Provenance, write_masks
from bertile.prune.groups import element_masks, group_sets, zeroed_share
from bertile.prune.order import gather_neurons
from bertile.prune.pattern import Pattern
from bertile.prune.plan import CountCycles, Plan, keep_within
from bertile.prune.pruner import Masking
from bertile.prune.scores import WEIGHT_SCORES, weight_scores
from bertile.prune.select import Masks, check_reachable, empty_groups, select_masks


@dataclass(frozen=True)
class PruneResult:
    """A pruned copy of a model.

    masks: bool by group set (`layers.0.query` ... for blocks), True where a group is kept. matrix_sparsity: share of
    zeroed weights by matrix name. sparsity: the same over all matrices.
    """

    model: Model
    masks: dict[str, np.ndarray]
    matrix_sparsity: dict[str, float]
    sparsity: float
    provenance: Provenance


def prune_magnitude(
    model: Model,
    pattern: Pattern,
    sparsity: float,
    scope: str = "uniform",
    score: str = "l2",
    seed: int = 0,
    plan: Plan | None = None,
    count_cycles: CountCycles | None = None,
) -> PruneResult:
    """Zero the weakest groups of the encoder's matrices in a copy of `model`, `sparsity` of all their weights.

    scope: `uniform`, the same share of every group set, or `global`, the weakest wherever they are. score: one of
    `WEIGHT_SCORES`. plan: what goes, in place of sparsity and scope; count_cycles: for a plan with a limit.

    Raises BertileError for a sparsity outside [0, 1) or out of the pattern's reach, an unknown scope or score, or a
    pattern that does not divide a matrix.
    """
    if score not in WEIGHT_SCORES:
        known = ", ".join(WEIGHT_SCORES)
        raise BertileError(f"score {score!r} is not one of {known}, which need no data")
    pruned = replace(model, network=copy.deepcopy(model.network))
    linears = matrices(pruned.network, model.config.family)
    tensors = {name: linear.weight.data for name, linear in linears.items()}
    sets = group_sets(pattern, model.config)
    empty = empty_groups(sets, tensors)  # in a model that was pruned before
    if plan is None:
        check_reachable(pattern, sets, tensors, sparsity, scope, empty)
    scores = weight_scores(score, sets, tensors, seed)

    def choose(shares: Mapping[str, float] | None) -> Masks:
        return select_masks(pattern, sets, scores, tensors, sparsity, scope, empty, shares)

    masks = keep_within(plan, choose, count_cycles) if plan else choose(None)
    Masking(sets, masks).apply(tensors)
    masks = gather_neurons(pattern, linears, sets, masks)
    kept = element_masks(sets, masks, tensors)
    shares = {name: 1 - float(mask.double().mean()) for name, mask in kept.items()}
    zeroed = zeroed_share(sets, masks, tensors)
    provenance = Provenance(str(pattern), float(sparsity), zeroed, scope, score, "oneshot", model.name)
    return PruneResult(pruned, masks, shares, zeroed, provenance)


def save_pruned(result: PruneResult, directory: str | Path, calibration: Path | None = None) -> None:
    """As `save_model`, with the masks in `masks.safetensors` and the provenance in `bertile.json`.

    calibration: the lines that a trained source left to calibrate on, where it did.
    """
    model = result.model
    with new_folder(directory, model.name, model.synthetic, asdict(result.provenance)) as folder:
        write_model(model, folder)
        write_masks(result.masks, folder)
        if calibration is not None and calibration.is_file():
            shutil.copyfile(calibration, folder / calibration.name)
