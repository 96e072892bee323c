"""A picture of a layer's weight tiles: which vectors the packed matrices hold."""

from __future__ import annotations

from pathlib import Path

import matplotlib

from bertile.errors import BertileError
from bertile.models.encoder import MATRICES
from bertile.pack.packer import PackedModel, kept_vectors

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.colors import ListedColormap

COLOURS = ListedColormap(["#f2efe9", "#1f4e79"])
PANELS = (("query", "key", "value"), ("attention_output", "ffn_in", "ffn_out"))


def draw_tiles(packed: PackedModel, layer: int, path: Path) -> None:
    """Write a PNG: a panel a matrix, a row an output tile (16 features), a column an input feature, dark where kept.

    Raises BertileError when the file cannot be written.
    """
    if path.is_dir():
        raise BertileError(f"{path} is a folder; a picture is a file")
    assert {name for row in PANELS for name in row} == set(MATRICES)
    figure, axes = plt.subplots(2, 3, figsize=(14, 7.5), layout="constrained")
    for axis, matrix in zip(axes.flat, [name for row in PANELS for name in row], strict=True):
        kept = kept_vectors(packed, layer, matrix)
        axis.imshow(kept, aspect="auto", cmap=COLOURS, vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(f"{matrix}: {1 - kept.mean():.0%} of {kept.size:,} vectors removed", fontsize=11)
        axis.set_xlabel("input feature")
        axis.set_ylabel("output tile")
    pattern = (packed.provenance.get("pruning") or {}).get("pattern", "unpruned")
    figure.suptitle(f"{packed.provenance.get('model')}, layer {layer}, {pattern}: weight vectors in the packed tiles")
    try:
        figure.savefig(path, dpi=110, format="png")
    except OSError as error:
        raise BertileError(f"cannot write {path}: {error.strerror}") from None
    finally:
        plt.close(figure)
