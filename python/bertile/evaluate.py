"""Task scores of a packed encoder or of an FP32 model, without fine-tuning: sentence similarity."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from bertile.errors import BertileError
from bertile.inference import mean_pool

HiddenStates = Callable[[list[np.ndarray]], list[np.ndarray]]


@dataclass(frozen=True)
class SimilarityTask:
    """Sentence pairs with a similarity each."""

    first: list[str]
    second: list[str]
    similarity: np.ndarray


# Task name on the command line -> folder name in GLUE.
TASKS = {"stsb": "STS-B"}


def find_split(data: Path, task: str, split: str) -> Path:
    """`data/<split>.tsv`, or the same in the task's GLUE folder. Raises BertileError."""
    if task not in TASKS:
        raise BertileError(f"unknown task {task!r}; choose one of {', '.join(TASKS)}")
    candidates = [data / TASKS[task] / f"{split}.tsv", data / f"{split}.tsv"]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise BertileError(f"{data}: no {split}.tsv of {task}, neither there nor in {TASKS[task]}")


def read_similarity(path: Path) -> SimilarityTask:
    """A TSV with columns sentence1, sentence2 and label, no quoting. Raises BertileError naming the line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(read_rows(path, csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)))
    except UnicodeDecodeError:
        raise BertileError(f"{path}: not UTF-8 text") from None
    except csv.Error as error:
        raise BertileError(f"{path}: {error}") from None
    if len(rows) < 2:
        raise BertileError(f"{path}: fewer than two rows")
    first, second, labels = zip(*rows, strict=True)
    return SimilarityTask(list(first), list(second), np.array(labels))


def read_rows(path: Path, reader: csv.DictReader) -> Iterator[tuple[str, str, float]]:
    """Sentences and label of each row. Raises BertileError naming the line."""
    if not {"sentence1", "sentence2", "label"} <= set(reader.fieldnames or ()):
        raise BertileError(f"{path}: needs the columns sentence1, sentence2 and label")
    for row in reader:
        try:
            label = float(row["label"])
        except (TypeError, ValueError):
            label = np.nan
        if not np.isfinite(label):
            raise BertileError(f"{path}: line {reader.line_num}: no number in column label")
        if row["sentence1"] is None or row["sentence2"] is None:
            raise BertileError(f"{path}: line {reader.line_num}: a sentence is missing")
        yield row["sentence1"], row["sentence2"], label


def similarity_score(task: SimilarityTask, token_ids: list[np.ndarray], hidden_states: HiddenStates) -> float:
    """Spearman correlation of mean-pooled cosines with the labels; token_ids: first sentences, then second ones."""
    pooled = mean_pool(hidden_states(token_ids))
    cosine = (pooled[: len(task.first)] * pooled[len(task.first) :]).sum(axis=1)
    score = float(spearmanr(cosine, task.similarity).statistic)
    if not np.isfinite(score):
        raise BertileError("the score is not a number: all similarities or all labels are equal")
    return score
