"""A task and models small enough to be trained in a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fine_tuned import make_classifier
from tests.tiny_training import FILLER, write_task


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_task(folder, "train", 60, seed=0)  # 8 batches an epoch, the last one short
    lines = (folder / "train.tsv").read_text().splitlines()
    (folder / "dev.tsv").write_text("\n".join(lines[:25]) + "\n")  # to be learned by heart
    (folder / "text.txt").write_text("\n".join(f"sentence {n} of {FILLER[n % 9]} {FILLER[n % 7]}" for n in range(64)))
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    folder = tmp_path_factory.mktemp("source")

    def make(family: str = "bert") -> str:
        path = folder / family
        if not path.exists():
            make_classifier(path, family, ("0", "1"), task="films")
        return str(path)

    return make
