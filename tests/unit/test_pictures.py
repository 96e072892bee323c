"""The data behind the pictures of weight tiles and of training logs, and that the pictures are written."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tests.random_encoder import encoder_config, random_quantized

from bertile.errors import BertileError
from bertile.models.encoder import MATRICES
from bertile.pack.packer import PackedModel, kept_vectors, pack_encoder
from bertile.report import tiles, training

HISTORY = [
    {"step": 5, "epoch": 0.1, "loss": 0.9, "task_loss": 0.6, "regularizer": 0.0, "learning_rate": 5e-5, "sparsity": 0},
    {"step": 10, "epoch": 0.2, "loss": 0.8, "task_loss": 0.5, "hidden_loss": 0.3, "learning_rate": 4e-5},
    {"step": 10, "eval": {"accuracy": 0.71, "loss": 0.66}, "sparsity": 0.5},
    {"step": 15, "loss": 0.7, "grad_norm": 1.5, "learning_rate": 3e-5},
    {"step": 15, "eval": {"accuracy": 0.75, "f1": 0.8}, "sparsity": 0.75},
    {"step": 15, "train_loss": 0.8, "train_runtime": 12.0, "total_flos": 1e9},
]


@pytest.fixture(scope="module")
def packed() -> PackedModel:
    """Two layers, hidden 128, FFN 1,104: more tiles in `ffn_in`, more inputs in `ffn_out` than a map has cells."""
    return pack_encoder(random_quantized(encoder_config(128, 1104, 2), 1))


def test_a_map_averages_the_vectors_of_its_cells():
    kept = np.zeros((5, 7), bool)
    kept[0, 0] = kept[4, 5] = kept[4, 6] = True
    # 5 rows as 2 + 3, 7 columns as 2 + 2 + 3.
    np.testing.assert_allclose(tiles.density_map(kept, 2, 3), [[1 / 4, 0, 0], [0, 0, 2 / 9]])
    np.testing.assert_array_equal(tiles.density_map(kept, 5, 7), kept)
    np.testing.assert_array_equal(tiles.density_map(kept, 64, 192), kept)
    assert tiles.density_map(np.ones((100, 1000), bool)).min() == 1
    assert tiles.density_map(np.ones((100, 1000), bool)).shape == (64, 192)


def test_the_maps_of_a_network_have_its_density(packed):
    maps = tiles.model_maps(packed)
    assert len(maps) == packed.config.layers
    compared = 0
    for layer, panels in enumerate(maps):
        assert list(panels) == list(MATRICES)
        for matrix, (density, share) in panels.items():
            kept = kept_vectors(packed, layer, matrix)
            assert density.shape == (min(len(kept), tiles.MAP_TILES), min(kept.shape[1], tiles.MAP_INPUTS))
            assert share == kept.mean()
            # Cells differ by at most one vector a side, so their plain mean is near that of all vectors.
            assert density.mean() == pytest.approx(share, abs=0.02)
            compared += 1
    assert compared == 2 * 6
    assert {round(share, 6) for panels in maps for _, share in panels.values()} != {1.0}


def drawn(monkeypatch, module) -> list:
    """Figures that a module's drawing made, kept open until it saved them."""
    figures = []
    original = module.plt.subplots

    def subplots(*arguments, **options):
        figure, axes = original(*arguments, **options)
        figures.append(figure)
        return figure, axes

    monkeypatch.setattr(module.plt, "subplots", subplots)
    return figures


def test_the_picture_of_a_network_shows_its_maps(packed, tmp_path, monkeypatch):
    figures = drawn(monkeypatch, tiles)
    tiles.draw_model_tiles(packed, tmp_path / "all.png")
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")
    panels = [axis for axis in figures[0].axes if axis.images]
    names = [name for row in tiles.PANELS for name in row]
    expected = [layer[name] for layer in tiles.model_maps(packed) for name in names]
    assert len(panels) == len(expected) == 12
    for panel, (density, share) in zip(panels, expected, strict=True):
        np.testing.assert_array_equal(panel.images[0].get_array(), density)
        assert panel.get_xlabel() == f"{share:.1%} kept"


def test_pictures_that_cannot_be_written(packed, tmp_path):
    with pytest.raises(BertileError, match="is a folder"):
        tiles.draw_model_tiles(packed, tmp_path)
    with pytest.raises(BertileError, match="cannot write"):
        tiles.draw_model_tiles(packed, tmp_path / "none" / "all.png")


def write_log(folder, history) -> None:
    (folder / "training.json").write_text(json.dumps({"options": {}, "history": history}))


def as_lists(curves: dict) -> dict[str, list[list[float]]]:
    return {name: [steps.tolist(), values.tolist()] for name, (steps, values) in curves.items()}


def test_a_log_becomes_curves(tmp_path):
    """Keys vary from line to line; the clocks and the summary at the end are no curves."""
    write_log(tmp_path, HISTORY)
    curves = training.read_training(tmp_path)
    assert as_lists(curves.losses) == {
        "loss": [[5, 10, 15], [0.9, 0.8, 0.7]],
        "task_loss": [[5, 10], [0.6, 0.5]],
        "regularizer": [[5], [0.0]],
        "hidden_loss": [[10], [0.3]],
        "loss of evaluations": [[10], [0.66]],
    }
    assert as_lists(curves.scores) == {"accuracy": [[10, 15], [0.71, 0.75]], "f1": [[15], [0.8]]}
    assert as_lists(curves.others) == {
        "sparsity": [[5, 10, 15], [0, 0.5, 0.75]],
        "learning_rate": [[5, 10, 15], [5e-5, 4e-5, 3e-5]],
        "grad_norm": [[15], [1.5]],
    }
    assert list(curves.others) == ["sparsity", "learning_rate", "grad_norm"]


def test_the_picture_of_a_log_shows_its_curves(tmp_path, monkeypatch):
    write_log(tmp_path, HISTORY)
    figures = drawn(monkeypatch, training)
    assert training.main([str(tmp_path), "-o", str(tmp_path / "log.png")]) == 0
    assert (tmp_path / "log.png").read_bytes().startswith(b"\x89PNG")
    losses, scores, *others = figures[0].axes
    assert losses.get_yscale() == "log"
    assert [line.get_label() for line in losses.lines][:2] == ["loss", "task_loss"]
    assert losses.lines[0].get_ydata().tolist() == [0.9, 0.8, 0.7]
    assert scores.lines[0].get_ydata().tolist() == [0.71, 0.75]
    assert [axis.get_ylabel() for axis in others] == ["sparsity", "learning\nrate", "grad\nnorm"]


@pytest.mark.parametrize("history", [HISTORY[:1], HISTORY[2:3], [{"step": 3, "regularizer": 0.0}]])
def test_short_logs_are_drawn(tmp_path, history):
    write_log(tmp_path, history)
    training.draw_training(tmp_path / "training.json", tmp_path / "log.png")
    assert (tmp_path / "log.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not a training log"),
        ("[]", "no history of steps"),
        ('{"history": [{"loss": 1}]}', "no history of steps"),
        ('{"history": []}', "nothing was logged yet"),
    ],
)
def test_what_is_no_log(tmp_path, text, reason):
    (tmp_path / "training.json").write_text(text)
    with pytest.raises(BertileError, match=reason):
        training.draw_training(tmp_path, tmp_path / "log.png")
    with pytest.raises(BertileError, match=r"training\.json: not a training log"):
        training.draw_training(tmp_path / "nowhere" / "training.json", tmp_path / "log.png")
