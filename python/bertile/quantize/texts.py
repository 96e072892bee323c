"""Texts to calibrate on: some of a training set, which stay in the folder of the model that it trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bertile.text import PAIR_SEPARATOR, Text

CALIBRATION_FILE = "calibration.txt"
CALIBRATION_TEXTS = 256


def spread_indices(count: int, chosen: int = CALIBRATION_TEXTS) -> list[int]:
    """At most `chosen` of 0..count-1, evenly spaced: data sets are sorted by where they come from."""
    return np.unique(np.linspace(0, count - 1, min(count, chosen)).astype(int)).tolist()


def calibration_lines(texts: Sequence[Text], max_words: int) -> list[str]:
    """Some of the texts as lines that `read_lines` reads, a sentence cut to `max_words`; none that are empty."""
    lines = []
    for index in spread_indices(len(texts)):
        text = texts[index]
        sentences = [" ".join(part.split()[:max_words]) for part in ((text,) if isinstance(text, str) else text)]
        if all(sentences):
            lines.append(PAIR_SEPARATOR.join(sentences))
    return lines


def own_calibration(folder: Path) -> Path | None:
    """The calibration text of a model folder, None where it has none."""
    file = folder / CALIBRATION_FILE
    return file if file.is_file() else None
