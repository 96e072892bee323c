"""One-shot magnitude pruning: the blocks with the smallest norm go."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch

from bertile.errors import BertileError
from bertile.models.families import matrices
from bertile.models.folder import first_line, new_folder, read_marker
from bertile.models.load import Model, write_model
from bertile.prune.pattern import BlockPattern

SCOPES = ("uniform", "global")
NORMS = ("l1", "l2")
MASKS_FILE = "masks.safetensors"


@dataclass(frozen=True)
class Provenance:
    """How a model was pruned. Sparsities are shares of the weights of the six matrices of every layer."""

    pattern: str
    sparsity_asked: float
    sparsity: float
    scope: str
    norm: str
    source: str


@dataclass(frozen=True)
class PruneResult:
    """A pruned copy of a model.

    masks: bool [out / outputs, in / inputs] by matrix name (`layers.0.query` ...), True where a block is kept.
    matrix_sparsity: share of zeroed blocks by matrix name. sparsity: the same over all matrices.
    """

    model: Model
    masks: dict[str, np.ndarray]
    matrix_sparsity: dict[str, float]
    sparsity: float
    provenance: Provenance


def block_scores(weight: torch.Tensor, pattern: BlockPattern, norm: str, name: str = "weight") -> np.ndarray:
    """Root mean square (l2) or mean magnitude (l1) of every block: [out / outputs, in / inputs] float64."""
    blocks = pattern.blocks(weight.detach().cpu().numpy().astype(np.float64), name)
    if norm == "l2":
        return np.sqrt(np.square(blocks).mean(axis=(2, 3)))
    return np.abs(blocks).mean(axis=(2, 3))


def _keep(scores: np.ndarray, sparsity: float) -> np.ndarray:
    """Mask without the round(sparsity x blocks) smallest scores [blocks]; of equal ones, the first go."""
    mask = np.ones(scores.size, bool)
    mask[np.argsort(scores, kind="stable")[: round(sparsity * scores.size)]] = False
    return mask


def prune_magnitude(
    model: Model, pattern: BlockPattern, sparsity: float, scope: str = "uniform", norm: str = "l2"
) -> PruneResult:
    """Zero round(`sparsity` x blocks) blocks of the encoder's matrices in a copy of `model`.

    scope: `uniform`, the same share of every matrix, or `global`, the weakest blocks wherever they are. Raises
    BertileError for a sparsity outside [0, 1), an unknown scope or norm, or a pattern that does not divide a matrix.
    """
    if not 0 <= sparsity < 1:
        raise BertileError(f"sparsity {sparsity} is not in [0, 1)")
    for kind, value, known in (("scope", scope, SCOPES), ("norm", norm, NORMS)):
        if value not in known:
            raise BertileError(f"unknown {kind} {value!r}; known are {', '.join(known)}")
    weights = {name: linear.weight for name, linear in matrices(model.network, model.config.family).items()}
    scores = {name: block_scores(weight, pattern, norm, name) for name, weight in weights.items()}
    if scope == "global":
        flat = _keep(np.concatenate([score.ravel() for score in scores.values()]), sparsity)
        ends = np.cumsum([score.size for score in scores.values()])[:-1]
        flats = dict(zip(scores, np.split(flat, ends), strict=True))
    else:
        flats = {name: _keep(score.ravel(), sparsity) for name, score in scores.items()}
    masks = {name: flats[name].reshape(score.shape) for name, score in scores.items()}
    pruned = replace(model, network=copy.deepcopy(model.network))
    apply_masks(pruned, pattern, masks)
    zeroed = sum(int((~mask).sum()) for mask in masks.values()) / sum(mask.size for mask in masks.values())
    provenance = Provenance(str(pattern), float(sparsity), zeroed, scope, norm, model.name)
    shares = {name: float((~mask).mean()) for name, mask in masks.items()}
    return PruneResult(pruned, masks, shares, zeroed, provenance)


def apply_masks(model: Model, pattern: BlockPattern, masks: dict[str, np.ndarray]) -> None:
    """Zero, in the network of `model` itself, every block whose mask is False."""
    with torch.no_grad():
        for name, linear in matrices(model.network, model.config.family).items():
            dropped = torch.from_numpy(~masks[name])[:, :, None, None]
            pattern.blocks(linear.weight.data, name).masked_fill_(dropped, 0.0)


def save_pruned(result: PruneResult, directory: str | Path) -> None:
    """As `save_model`, with the masks in `masks.safetensors` and the provenance in `bertile.json`."""
    model = result.model
    with new_folder(directory, model.name, model.synthetic, asdict(result.provenance)) as folder:
        write_model(model, folder)
        safetensors.numpy.save_file(result.masks, folder / MASKS_FILE)


def read_pruning(directory: str | Path) -> dict | None:
    """Provenance of the model in `directory`, with the keys of `Provenance`; None where it is not a pruned one."""
    marker = read_marker(directory)
    return marker["pruning"] if marker else None


def read_masks(directory: str | Path) -> dict[str, np.ndarray]:
    """Masks of the pruned model in `directory`, as in `PruneResult`. Raises BertileError where there are none."""
    try:
        return safetensors.numpy.load_file(Path(directory) / MASKS_FILE)
    except (OSError, safetensors.SafetensorError) as error:
        raise BertileError(f"{directory} has no readable masks: {first_line(error)}") from error
