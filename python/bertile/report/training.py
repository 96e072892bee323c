"""`python -m bertile.report.training FOLDER -o FILE.png`: a training log as curves."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from bertile.config.paths import TRAINING_LOG
from bertile.errors import BertileError, run_program
from bertile.report.picture import save_picture

CLOCKS = ("step", "epoch", "seconds")  # they only say when
SUMMARY = ("train_", "total_flos")  # of a whole run, which Hugging Face's trainer logs at its end
LOSSES = ("loss", "regularizer")  # what the name of a part of the loss holds
FIRST = ("sparsity", "learning_rate")  # of the panels below
COLOURS = ("#1f5f8b", "#c0392b", "#b8780f", "#2e7d4f", "#7d4f9e", "#5d6d6e")
Curve = tuple[np.ndarray, np.ndarray]  # steps, values


@dataclass
class TrainingCurves:
    """What a log holds, as (steps, values) by name: parts of the loss, scores of evaluations, and all the rest."""

    losses: dict[str, Curve] = field(default_factory=dict)
    others: dict[str, Curve] = field(default_factory=dict)
    scores: dict[str, Curve] = field(default_factory=dict)


def numbers(entry: dict) -> dict[str, float]:
    """The numeric values of a log entry; a loss that diverged to NaN stays one, as a gap in its curve."""
    return {
        key: float(value)
        for key, value in entry.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
        if key not in CLOCKS and not key.startswith(SUMMARY)
    }


def kind_of(key: str, other: str) -> str:
    return "losses" if any(part in key for part in LOSSES) else other


def read_training(log: Path) -> TrainingCurves:
    """The curves of a folder's training.json, or of that file. Raises BertileError when it is not such a log."""
    file = log / TRAINING_LOG if log.is_dir() else log
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BertileError(f"{file}: not a training log: {error}") from None
    history = data.get("history") if isinstance(data, dict) else None
    if not isinstance(history, list) or not all(isinstance(e, dict) and "step" in e for e in history):
        raise BertileError(f"{file}: not a training log: no history of steps")
    curves = TrainingCurves()
    points: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for entry in history:
        evaluation = entry.get("eval") if isinstance(entry.get("eval"), dict) else {}
        named = [(kind_of(key, "others"), key, value) for key, value in numbers(entry).items()]
        for key, value in numbers(evaluation).items():
            kind = kind_of(key, "scores")
            named.append((kind, key if kind == "scores" else f"{key} of evaluations", value))
        for kind, key, value in named:
            points.setdefault((kind, key), []).append((float(entry["step"]), value))
    if not points:
        raise BertileError(f"{file}: nothing was logged yet")
    for (kind, key), rows in points.items():
        steps, values = np.array(sorted(rows, key=lambda row: row[0])).T
        getattr(curves, kind)[key] = (steps, values)
    order = {name: place for place, name in enumerate(FIRST)}
    curves.others = dict(sorted(curves.others.items(), key=lambda item: order.get(item[0], len(order))))
    return curves


def mark(steps: np.ndarray) -> dict:
    """A line of one point is none: it needs a mark."""
    return {"marker": "o", "markersize": 4} if len(steps) == 1 else {}


def draw_losses(axis: plt.Axes, losses: dict[str, Curve]) -> None:
    """Parts of the loss over a logarithmic axis, where a part that is zero has a gap; the whole is drawn thicker."""
    for number, (name, (steps, values)) in enumerate(losses.items()):
        visible = np.where(values > 0, values, np.nan)
        width = 1.8 if name == "loss" else 1.0
        style = {"marker": "o", "markersize": 4} if name.endswith("of evaluations") else mark(steps)
        axis.plot(steps, visible, color=COLOURS[number % len(COLOURS)], linewidth=width, label=name, **style)
    if any((values > 0).any() for _, values in losses.values()):
        axis.set_yscale("log")
    axis.set_ylabel("loss")
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8.5, frameon=False)


def draw_scores(axis: plt.Axes, scores: dict[str, Curve]) -> None:
    """Points of the evaluations, each curve with its last value beside it."""
    for number, (name, (steps, values)) in enumerate(scores.items()):
        label = f"{name}: {values[-1]:.4f} at last"
        axis.plot(steps, values, color=COLOURS[number % len(COLOURS)], marker="o", markersize=4, label=label)
    axis.set_ylabel("evaluation")
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8.5, frameon=False)


def draw_training(log: Path, file: Path) -> None:
    """Write a PNG: losses, evaluations, then sparsity, learning rate and whatever else was logged, over steps.

    log: a folder with a training.json, or that file. Raises BertileError for another, or an unwritable picture.
    """
    curves = read_training(log)
    heights = [3.0] * bool(curves.losses) + [2.0] * bool(curves.scores) + [1.2] * len(curves.others)
    figure, axes = plt.subplots(
        len(heights), 1, figsize=(10, 0.9 + sum(heights)), sharex=True, squeeze=False, layout="constrained",
        gridspec_kw={"height_ratios": heights},
    )  # fmt: skip
    rows = iter(axes[:, 0])
    if curves.losses:
        draw_losses(next(rows), curves.losses)
    if curves.scores:
        draw_scores(next(rows), curves.scores)
    for name, (steps, values) in curves.others.items():
        axis = next(rows)
        axis.plot(steps, values, color=COLOURS[0], linewidth=1.2, **mark(steps))
        axis.set_ylabel(name.replace("_", "\n"), fontsize=9)
        if name == "sparsity":
            axis.set_ylim(-0.03, 1.03)
    for axis in axes[:, 0]:
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1, 0].set_xlabel("step")
    figure.suptitle(f"Training of {(log if log.is_dir() else log.parent).resolve().name}", fontsize=11)
    save_picture(figure, file)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bertile.report.training", description=__doc__)
    parser.add_argument("log", type=Path, metavar="FOLDER", help="folder with a training.json, or the file")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="PNG to write")
    options = parser.parse_args(arguments)
    draw_training(options.log, options.output)
    return 0


if __name__ == "__main__":
    run_program(main)
