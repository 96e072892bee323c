"""What a task is: its sentences, its labels, the metrics that judge it. The nine of GLUE, and others by their TSVs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from bertile.errors import BertileError
from bertile.tasks.tsv import read_header, read_table

REGRESSION_METRICS = ("spearman", "pearson", "mse")
CLASS_METRICS = ("accuracy", "f1", "matthews")
LABEL_COLUMNS = ("label", "gold_label")
INTEGER = re.compile(r"[+-]?[0-9]+")


@dataclass(frozen=True)
class Hub:
    """Where the Hugging Face hub has a task: configuration of nyu-mll/glue, sentence columns, name of the dev split."""

    config: str
    columns: tuple[str, ...]
    dev: str = "validation"


@dataclass(frozen=True)
class Task:
    """Sentences or pairs of them, with a class or a value each."""

    name: str
    folder: str  # of the task inside a GLUE folder
    pair: bool  # two sentences
    labels: tuple[str, ...]  # class names in order of their index; () for a regression
    metrics: tuple[str, ...]  # the first is the one that decides
    span: tuple[float, float] | None = None  # allowed values of a regression's label
    hub: Hub | None = None  # None: only from TSVs

    @property
    def classes(self) -> int:
        """Outputs of the model: one a class, or one value."""
        return len(self.labels) or 1

    @property
    def regression(self) -> bool:
        """The label is a value, not a class."""
        return not self.labels


def glue_task(
    folder: str,
    columns: str,
    labels: str,
    metrics: str,
    span: tuple[float, float] | None = None,
    dev: str = "validation",
) -> Task:
    """A task of GLUE; several names are one text with spaces. The labels are in the order of the hub's indices."""
    name = plain_name(folder)
    hub = Hub(name, tuple(columns.split()), dev)
    return Task(name, folder, len(hub.columns) == 2, tuple(labels.split()), tuple(metrics.split()), span, hub)


def plain_name(name: str) -> str:
    """`STS-B`, `sts-b` and `stsb` are one task."""
    return re.sub(r"[-_ ]", "", name).lower()


GLUE = (
    glue_task("CoLA", "sentence", "unacceptable acceptable", "matthews"),
    glue_task("SST-2", "sentence", "negative positive", "accuracy"),
    glue_task("MRPC", "sentence1 sentence2", "not_equivalent equivalent", "accuracy f1"),
    glue_task("STS-B", "sentence1 sentence2", "", "spearman pearson", span=(0.0, 5.0)),
    glue_task("QQP", "question1 question2", "not_duplicate duplicate", "accuracy f1"),
    glue_task("MNLI", "premise hypothesis", "entailment neutral contradiction", "accuracy", dev="validation_matched"),
    glue_task("QNLI", "question sentence", "entailment not_entailment", "accuracy"),
    glue_task("RTE", "sentence1 sentence2", "entailment not_entailment", "accuracy"),
    glue_task("WNLI", "sentence1 sentence2", "not_entailment entailment", "accuracy"),
)
TASKS: Mapping[str, Task] = MappingProxyType({task.name: task for task in GLUE})


def find_task(name: str, metric: str | None = None, data: Path | None = None) -> Task:
    """A task of GLUE, its name in any case and with or without dashes, decided by `metric` where one is given.

    With a metric and `data`, any other name is the task of the TSVs in `data/name` or `data`: of pairs where they have
    a column sentence2, a regression for a metric of regressions, else of the classes in train.tsv. Raises BertileError.
    """
    metric = metric.lower() if metric is not None else None
    if metric is not None and metric not in REGRESSION_METRICS + CLASS_METRICS:
        raise BertileError(f"unknown metric {metric!r}; choose one of {', '.join(REGRESSION_METRICS + CLASS_METRICS)}")
    task = TASKS.get(plain_name(name))
    if task is not None:
        return task if metric is None else decided_by(task, metric)
    if metric is None or data is None:
        raise BertileError(
            f"unknown task {name!r}; choose one of {', '.join(TASKS)}, or give --metric and --data DIR for any other "
            "TSV task (train.tsv and dev.tsv in DIR)"
        )
    return custom_task(name, metric, data)


def decided_by(task: Task, metric: str) -> Task:
    """The task with `metric` first. Raises BertileError for a metric of regressions where there are classes, or so."""
    fitting = REGRESSION_METRICS if task.regression else CLASS_METRICS
    if metric not in fitting:
        raise BertileError(f"metric {metric} does not fit {task.name}; choose one of {', '.join(fitting)}")
    return replace(task, metrics=(metric, *(other for other in task.metrics if other != metric)))


def custom_task(name: str, metric: str, data: Path) -> Task:
    """The task of the TSVs in `data`, see `find_task`. Raises BertileError."""
    splits = {split: find_file(name, data, (f"{split}.tsv",)) for split in ("train", "dev")}
    path = splits["train"] or splits["dev"]
    if path is None:
        raise BertileError(
            f"{data}: no train.tsv or dev.tsv of {name!r}, which is no task of GLUE ({', '.join(TASKS)}) "
            "and so needs --metric and --data DIR with TSVs"
        )
    pair = "sentence2" in read_header(path)
    if metric in REGRESSION_METRICS:
        return Task(name, name, pair, (), (metric,))
    if splits["train"] is None:
        raise BertileError(f"{data}: no train.tsv of {name}; metric {metric} needs its classes")
    return Task(name, name, pair, read_classes(splits["train"]), (metric,))


def find_file(folder: str, data: Path, names: tuple[str, ...]) -> Path | None:
    """The first file of these names in `data/folder`, then in `data`, or None. Raises BertileError."""
    candidates = (place / name for place in (data / folder, data) for name in names)
    try:
        return next((path for path in candidates if path.is_file()), None)
    except OSError as error:  # a folder that may not be entered, a name too long
        raise BertileError(f"{data}: {error.strerror}") from None


def label_column(path: Path, header: list[str]) -> int:
    """Position of the label. Raises BertileError."""
    for name in LABEL_COLUMNS:
        if header.count(name) == 1:
            return header.index(name)
    raise BertileError(f"{path}: needs one column label, the header has {', '.join(header)}")


def read_classes(path: Path) -> tuple[str, ...]:
    """The distinct labels of a TSV: by number where all are integers, else as text. Raises BertileError."""
    rows = read_table(path)
    column = label_column(path, next(rows)[1])
    values = set()
    for line, fields in rows:
        if not fields[column]:
            raise BertileError(f"{path}: line {line}: the label is missing")
        values.add(fields[column])
    if len(values) < 2:
        raise BertileError(f"{path}: only one class, {values.pop()}")
    numeric = all(INTEGER.fullmatch(value) for value in values)
    return tuple(sorted(values, key=lambda value: (int(value) if numeric else 0, value)))
