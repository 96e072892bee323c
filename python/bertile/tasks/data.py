"""Examples of a task from TSVs or from the Hugging Face hub, and texts without labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bertile.errors import BertileError
from bertile.tasks.glue import INTEGER, TASKS, Task, find_file, label_column
from bertile.tasks.tsv import read_lines, read_table
from bertile.text import Text

HUB_DATASET = "nyu-mll/glue"
# Column names of one or two sentences, in the order in which they are looked for.
SINGLE_COLUMNS = (("sentence1",), ("sentence",))
PAIR_COLUMNS = (("sentence1", "sentence2"), ("sentence", "sentence2"))
# In the name of a file that scores a model, or may: texts that prepare it must not come from there. MRPC's original
# files (msr_paraphrase_train.txt) hold the dev split, too.
HELD_OUT = ("dev", "test", "valid", "msr_")


@dataclass(frozen=True)
class Split:
    """Examples of one split."""

    first: list[str]
    second: list[str] | None  # None where the task has one sentence
    labels: np.ndarray  # [examples] int64 class indices, or float32 values of a regression
    source: str  # what it was read from, for messages and logs

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.first)

    def texts(self) -> list[Text]:
        """A sentence an example, or a pair of them: what a tokenizer takes."""
        return list(self.first) if self.second is None else list(zip(self.first, self.second, strict=True))


def read_split(task: Task, data: Path | None, split: str) -> Split:
    """Split "train" or "dev" from `data/<task.folder>` or `data` (MNLI: also dev_matched.tsv), from the hub without.

    Columns sentence1 (or sentence), sentence2 for pairs, and label: a class name, its index, or a number.
    Raises BertileError in one line that names the file and the line of what is wrong, and ValueError for other splits.
    """
    if split not in ("train", "dev"):
        raise ValueError(f"split {split!r}")
    if data is None:
        return download_split(task, split)
    names = (f"{split}.tsv", "dev_matched.tsv") if (task.name, split) == ("mnli", "dev") else (f"{split}.tsv",)
    path = find_file(task.folder, data, names)
    if path is None:
        raise BertileError(f"{data}: no {' or '.join(names)} of {task.name}, neither there nor in {task.folder}")
    return read_labelled(task, path)


def read_labelled(task: Task, path: Path) -> Split:
    """All examples of a TSV; `read_split` says what is in it. Raises BertileError."""
    rows = read_table(path)
    header = next(rows)[1]
    sentences, label = sentence_columns(task, path, header), label_column(path, header)
    value_of = label_reader(task)
    texts: list[list[str]] = [[] for _ in sentences]
    labels = []
    for line, fields in rows:
        for column, column_texts in zip(sentences, texts, strict=True):
            if not fields[column]:
                raise BertileError(f"{path}: line {line}: {header[column]} is missing")
            column_texts.append(fields[column])
        try:
            labels.append(value_of(fields[label]))
        except ValueError as error:
            raise BertileError(f"{path}: line {line}: {error}") from None
    return make_split(task, texts, labels, str(path))


def make_split(task: Task, texts: list[list[str]], labels: Iterable[float], source: str) -> Split:
    """A split of the task's label type; texts: one list, or two for pairs."""
    dtype = np.float32 if task.regression else np.int64
    return Split(texts[0], texts[1] if task.pair else None, np.array(labels, dtype), source)


def sentence_columns(task: Task, path: Path, header: list[str]) -> list[int]:
    """Positions of the task's one or two sentences. Raises BertileError, also for pairs where one is expected."""
    # GLUE's own names first: in QNLI, `sentence` is the second of the pair.
    choices = ((task.hub.columns,) if task.hub else ()) + (PAIR_COLUMNS if task.pair else SINGLE_COLUMNS)
    found = first_present(choices, header)
    if found is None:
        raise BertileError(f"{path}: needs the columns {expected_columns(task)}, the header has {', '.join(header)}")
    if not task.pair and "sentence2" in header:
        raise BertileError(f"{path}: has sentence2, but {task.name} is a task of single sentences")
    return [header.index(name) for name in found]


def first_present(choices: Iterable[tuple[str, ...]], header: list[str]) -> tuple[str, ...] | None:
    """The first choice of column names that are all in the header, once each."""
    return next((names for names in choices if all(header.count(name) == 1 for name in names)), None)


def expected_columns(task: Task) -> str:
    """The columns of the task's TSV, in words."""
    return "sentence1, sentence2 and label" if task.pair else "sentence1 (or sentence) and label"


def label_reader(task: Task) -> Callable[[str], float]:
    """A function from a label's text to its class index or value; it raises ValueError saying what is wrong."""
    indices = {label: index for index, label in enumerate(task.labels)}
    # Where the classes are integers themselves (1 to 5 stars), an index would be ambiguous.
    if not any(INTEGER.fullmatch(label) for label in task.labels):
        indices |= {str(index): index for index in range(len(task.labels))}

    def read_class(text: str) -> int:
        if text not in indices:
            raise ValueError(f"label {text!r} is none of {', '.join(task.labels)}" if text else "the label is missing")
        return indices[text]

    def read_value(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"label {text!r} is not a number" if text else "the label is missing") from None
        if not abs(value) <= float(np.finfo(np.float32).max):  # so that NaN fails too
            raise ValueError(f"label {text!r} is not a finite number")
        if task.span is not None and not task.span[0] <= value <= task.span[1]:
            raise ValueError(f"label {text} is outside {task.span[0]:g} to {task.span[1]:g}")
        return value

    return read_value if task.regression else read_class


def download_split(task: Task, split: str) -> Split:
    """A split of GLUE from the hub or from its cache. Raises BertileError where there is no way to it."""
    if task.hub is None:
        raise BertileError(f"{task.name} is no task of GLUE: give --data DIR with its TSVs")
    part = task.hub.dev if split == "dev" else split
    source = f"{HUB_DATASET} {task.hub.config} {part}"
    try:
        import datasets  # seconds, and only for those who download

        table = datasets.load_dataset(HUB_DATASET, task.hub.config, split=part)
    except Exception as error:  # httpx, hub, file system, cache: without a common base
        cause = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise BertileError(f"cannot download {source} ({cause}); give --data DIR with its TSVs") from None
    # A few questions of QQP are empty as published; they count like any other.
    texts = [[text.strip() for text in table[column]] for column in task.hub.columns]
    value_of = label_reader(task)
    try:
        labels = [value_of(str(label)) for label in table["label"]]
    except ValueError as error:
        raise BertileError(f"{source}: {error}") from None
    return make_split(task, texts, labels, source)


def read_texts(paths: list[Path]) -> list[Text]:
    """Texts without labels, or pairs of them, from text files (one a line), TSVs (by header) and folders of both.

    Empty lines are skipped, and so is the label column. A row is a pair where it has two sentences. Of a folder, its
    *.tsv and *.txt in order of their names, but none that may hold what scores the model: `HELD_OUT` in its name. A
    split given as a file itself is read. Raises BertileError naming file and line.
    """
    texts: list[Text] = []
    for path in paths:
        for file in list_files(path):
            texts += read_rows(file) if file.suffix.lower() == ".tsv" else read_plain(file)
    return texts


def list_files(path: Path) -> list[Path]:
    """What `read_texts` reads of a folder; a file is itself. Raises BertileError for a folder with nothing to read."""
    try:
        if not path.is_dir():
            return [path]
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in (".tsv", ".txt") and file.is_file())
    except OSError as error:
        raise BertileError(f"{path}: {error.strerror}") from None
    files = [file for file in files if not any(word in file.stem.lower() for word in HELD_OUT)]
    if not files:
        raise BertileError(f"{path}: no *.tsv or *.txt, apart from dev and test splits")
    return files


def read_plain(path: Path) -> list[Text]:
    """One text a line. Raises BertileError naming the line, or where there is no text."""
    texts: list[Text] = [text for line in read_lines(path) if (text := line.strip())]
    if not texts:
        raise BertileError(f"{path}: no text")
    return texts


def read_rows(path: Path) -> list[Text]:
    """Sentences or pairs of a TSV, whatever GLUE calls their columns. Raises BertileError naming the line."""
    rows = read_table(path)
    header = next(rows)[1]
    known = tuple(task.hub.columns for task in TASKS.values() if task.hub)
    pairs = PAIR_COLUMNS + tuple(names for names in known if len(names) == 2)
    names = first_present(pairs + SINGLE_COLUMNS, header)
    if names is None:
        raise BertileError(f"{path}: needs the column sentence1 (or sentence), the header has {', '.join(header)}")
    columns = [header.index(name) for name in names]
    texts: list[Text] = []
    for line, fields in rows:
        sentences = [fields[column] for column in columns]
        if not sentences[0]:
            raise BertileError(f"{path}: line {line}: {names[0]} is missing")
        texts.append((sentences[0], sentences[1]) if len(sentences) == 2 and sentences[1] else sentences[0])
    return texts
