"""Labelled sentences: a TSV file, a GLUE folder, or the few that come with the package."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from bertile.errors import BertileError

GLUE_FOLDER, GLUE_LABELS = "SST-2", ("negative", "positive")
BUNDLED = "sentiment.tsv"
SENTENCE_COLUMNS = ("sentence1", "sentence")


@dataclass(frozen=True)
class LabelledText:
    """Sentences, the values of their label column, and where they came from."""

    sentences: list[str]
    values: list[str]
    source: str
    is_glue: bool = False

    def first(self, count: int) -> LabelledText:
        """The first sentences, all of them where there are fewer."""
        return LabelledText(self.sentences[:count], self.values[:count], self.source, self.is_glue)


def read_labelled(path: Path, source: str, is_glue: bool) -> LabelledText:
    """A TSV with columns sentence1 (or sentence) and label, no quoting. Raises BertileError naming the line."""
    sentences, values = [], []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            column = next((name for name in SENTENCE_COLUMNS if name in (reader.fieldnames or ())), None)
            if column is None or "label" not in reader.fieldnames:
                raise BertileError(f"{path}: needs the columns sentence1 (or sentence) and label")
            for row in reader:
                if not (row[column] or "").strip() or not (row["label"] or "").strip():
                    raise BertileError(f"{path}: line {reader.line_num}: a sentence or a label is missing")
                sentences.append(row[column].strip())
                values.append(row["label"].strip())
    except OSError as error:
        raise BertileError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BertileError(f"{path}: not UTF-8 text") from None
    except csv.Error as error:
        raise BertileError(f"{path}: {error}") from None
    if not sentences:
        raise BertileError(f"{path}: no sentences")
    return LabelledText(sentences, values, source, is_glue)


def open_labelled(data: Path | None, split: str) -> LabelledText:
    """`data` itself where it is a file, a split of SST-2 where it is a GLUE folder, the bundled sentences without."""
    if data is None:
        with resources.as_file(resources.files("bertile") / "data" / BUNDLED) as path:
            return read_labelled(path, f"bundled {BUNDLED}", is_glue=False)
    if data.is_file():
        return read_labelled(data, data.name, is_glue=False)
    for folder in (data / GLUE_FOLDER, data):
        if (path := folder / f"{split}.tsv").is_file():
            is_glue = folder.name == GLUE_FOLDER
            return read_labelled(path, f"{folder.name} {split}", is_glue)
    raise BertileError(f"{data}: not a file, and no {split}.tsv of SST-2, neither there nor in {GLUE_FOLDER}")


def label_names(text: LabelledText, names: str | None) -> tuple[str, ...]:
    """The labels: `names` (comma separated) for the sorted values of the column, or the values themselves."""
    values = tuple(sorted(set(text.values)))
    if names is None:
        return GLUE_LABELS if text.is_glue and values == ("0", "1") else values
    labels = tuple(name.strip() for name in names.split(","))
    if len(labels) != len(values) or len(set(labels)) != len(labels) or "" in labels:
        raise BertileError(f"--labels {names!r}: {text.source} has {len(values)} labels ({', '.join(values)})")
    return labels


def label_indices(text: LabelledText, labels: tuple[str, ...]) -> np.ndarray:
    """[sentences] int64. A value is a label, or its number. Raises BertileError for another."""
    known = {label: number for number, label in enumerate(labels)}
    known = {**{str(number): number for number in range(len(labels))}, **known}
    unknown = next((value for value in text.values if value not in known), None)
    if unknown is not None:
        raise BertileError(f"{text.source}: label {unknown!r} is none of {', '.join(labels)}")
    return np.array([known[value] for value in text.values])


def training_indices(text: LabelledText) -> np.ndarray:
    """[sentences] int64: positions in the sorted values of the column."""
    return np.unique(text.values, return_inverse=True)[1].astype(np.int64)
