"""Tiny training runs: a task that one word decides, and runs that die in their midst."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bertile.tasks.glue import find_task
from bertile.train.options import make_options
from bertile.train.prepare import Job
from bertile.train.trainer import BertileTrainer

GOOD, BAD = ("good", "fine", "great"), ("bad", "poor", "awful")
TEXT = "the film is a story of two people in town who talk about it for hours"
FILLER = TEXT.split()
LEARN = {"max_steps": 80, "dropout": 0.0}
SMALL = {"max_steps": 12, "batch_size": 8, "learning_rate": 1e-3, "save_steps": 4, "log_steps": 2, "precision": "fp32"}


def write_task(folder: Path, name: str, count: int, seed: int) -> None:
    """Sentences whose label one word decides, of many lengths."""
    generator = np.random.default_rng(seed)
    lines = ["sentence1\tlabel"]
    for index in range(count):
        words = list(generator.choice(FILLER, generator.integers(1, 12)))
        words.insert(generator.integers(0, len(words) + 1), str(generator.choice(GOOD if index % 2 else BAD)))
        lines.append(f"{' '.join(words)}\t{index % 2}")
    (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")


def make_job(source: str, output: Path, data: Path, train: dict | None = None, **sections: dict) -> Job:
    """A job on the films task, or on text where the task weighs nothing."""
    options = make_options(None, {"train": SMALL | (train or {}), **sections}, "prune" in sections)
    return Job(source, output, options, find_task("films", "accuracy", data), data)


def final_weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


class Stop(Exception):
    """Stands for a kill."""


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The run dies in the midst of step `step` + 1."""
    original = BertileTrainer.training_step

    def training_step(self, *arguments, **named):
        if self.state.global_step == step:
            raise Stop
        return original(self, *arguments, **named)

    monkeypatch.setattr(BertileTrainer, "training_step", training_step)
