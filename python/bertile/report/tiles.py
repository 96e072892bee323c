"""Pictures of weight tiles: which vectors the packed matrices hold, of one layer or of the whole network."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np

from bertile.errors import BertileError
from bertile.models.encoder import MATRICES
from bertile.pack.packer import PackedModel, kept_vectors
from bertile.report.picture import save_picture

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.colors import LinearSegmentedColormap, ListedColormap

GONE, KEPT = "#f2efe9", "#1f4e79"
COLOURS = ListedColormap([GONE, KEPT])
SHADES = LinearSegmentedColormap.from_list("kept", [GONE, KEPT])
PANELS = (("query", "key", "value"), ("attention_output", "ffn_in", "ffn_out"))
# Cells of a matrix in the picture of the whole network: about its pixels there.
MAP_TILES, MAP_INPUTS = 64, 192


def check_picture(path: Path) -> None:
    """Raises BertileError for a folder."""
    if path.is_dir():
        raise BertileError(f"{path} is a folder; a picture is a file")


def pattern_of(packed: PackedModel) -> str:
    return (packed.provenance.get("pruning") or {}).get("pattern", "unpruned")


def draw_tiles(packed: PackedModel, layer: int, path: Path) -> None:
    """Write a PNG: a panel a matrix, a row an output tile (16 features), a column an input feature, dark where kept.

    Raises BertileError when the file cannot be written.
    """
    check_picture(path)
    assert {name for row in PANELS for name in row} == set(MATRICES)
    figure, axes = plt.subplots(2, 3, figsize=(14, 7.5), layout="constrained")
    for axis, matrix in zip(axes.flat, [name for row in PANELS for name in row], strict=True):
        kept = kept_vectors(packed, layer, matrix)
        axis.imshow(kept, aspect="auto", cmap=COLOURS, vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(f"{matrix}: {1 - kept.mean():.0%} of {kept.size:,} vectors removed", fontsize=11)
        axis.set_xlabel("input feature")
        axis.set_ylabel("output tile")
    model = packed.provenance.get("model")
    figure.suptitle(f"{model}, layer {layer}, {pattern_of(packed)}: weight vectors in the packed tiles")
    save_picture(figure, path)


def density_map(kept: np.ndarray, tiles: int = MAP_TILES, inputs: int = MAP_INPUTS) -> np.ndarray:
    """Share of [tiles, in] bool kept in each cell, of at most `tiles` by `inputs` cells of about equal size."""
    rows, columns = (
        np.linspace(0, size, min(size, most) + 1).astype(int)
        for size, most in zip(kept.shape, (tiles, inputs), strict=True)
    )
    sums = np.add.reduceat(np.add.reduceat(kept.astype(np.float64), rows[:-1], axis=0), columns[:-1], axis=1)
    return sums / np.outer(np.diff(rows), np.diff(columns))


def model_maps(packed: PackedModel) -> list[dict[str, tuple[np.ndarray, float]]]:
    """Of each layer, by matrix: its density map, and the share of all its vectors that are kept."""
    kept = [
        {matrix: kept_vectors(packed, layer, matrix) for matrix in MATRICES} for layer in range(packed.config.layers)
    ]
    return [{name: (density_map(vectors), float(vectors.mean())) for name, vectors in layer.items()} for layer in kept]


def draw_model_tiles(packed: PackedModel, path: Path) -> None:
    """Write a PNG of the whole network. Raises BertileError when the file cannot be written."""
    check_picture(path)
    save_picture(model_tiles_figure(packed), path)


def model_tiles_figure(packed: PackedModel) -> plt.Figure:
    """The whole network: a row a layer, a column a matrix, darker where more vectors are kept."""
    names = [name for row in PANELS for name in row]
    maps = model_maps(packed)
    figure, axes = plt.subplots(
        len(maps), len(names), figsize=(12, 1.1 + 1.05 * len(maps)), layout="constrained", squeeze=False
    )
    for layer, (row, panels) in enumerate(zip(axes, maps, strict=True)):
        for axis, matrix in zip(row, names, strict=True):
            density, share = panels[matrix]
            image = axis.imshow(density, aspect="auto", cmap=SHADES, vmin=0, vmax=1, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_xlabel(f"{share:.1%} kept", fontsize=9, labelpad=2)
            if layer == 0:
                axis.set_title(matrix, fontsize=11)
        row[0].set_ylabel(f"layer {layer}", fontsize=10)
    figure.colorbar(image, ax=axes, shrink=min(1.0, 3 / len(maps)), aspect=14, label="share of vectors kept", pad=0.01)
    figure.suptitle(
        f"{packed.provenance.get('model')}, {pattern_of(packed)}: weight vectors in the packed tiles\n"
        "down: output tiles, across: input features",
        fontsize=11,
    )
    return figure
