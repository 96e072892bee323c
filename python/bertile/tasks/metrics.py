"""Scores of a model's outputs on a split: GLUE's official metrics, what guessing scores, and how much pruning keeps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from bertile.errors import BertileError
from bertile.tasks.data import Split
from bertile.tasks.glue import Task


def compute_metrics(task: Task, outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The task's metrics of outputs [examples, classes] (logits; column 0 is a regression's value), labels [examples].

    All are fractions or correlations, mse is in squared units of the label. Raises BertileError for outputs that are
    not finite and for correlations with labels that are all equal, ValueError for shapes that do not fit.
    """
    outputs, labels = np.asarray(outputs), np.asarray(labels)
    if outputs.shape != (len(labels), task.classes) or not len(labels):
        raise ValueError(f"outputs {outputs.shape} for {labels.shape} labels and {task.classes} classes")
    if not np.isfinite(outputs).all():
        bad = int((~np.isfinite(outputs).all(axis=1)).sum())
        raise BertileError(
            f"{task.name}: the model's outputs of {bad} of {len(labels)} examples are not finite numbers"
        )
    if task.regression:
        predicted, labels = outputs[:, 0].astype(np.float64), labels.astype(np.float64)
    else:
        predicted = outputs.argmax(axis=1)
    return {metric: METRICS[metric](task, predicted, labels) for metric in task.metrics}


def f1(task: Task, predicted: np.ndarray, labels: np.ndarray) -> float:
    """F1 of class 1 where there are two, else the mean of all classes'; 0 where a class is never right."""
    positive = [1] if task.classes == 2 else list(range(task.classes))
    return float(f1_score(labels, predicted, labels=positive, average="macro", zero_division=0))


def matthews(task: Task, predicted: np.ndarray, labels: np.ndarray) -> float:
    """Matthews correlation of class indices; 0 for a constant prediction, about which scikit-learn may warn."""
    return 0.0 if np.ptp(predicted) == 0 else float(matthews_corrcoef(labels, predicted))


def correlate(task: Task, statistic: Callable, predicted: np.ndarray, labels: np.ndarray) -> float:
    """`pearsonr` or `spearmanr`; 0 for a constant prediction, where they are undefined. Raises BertileError."""
    if np.ptp(labels) == 0:
        raise BertileError(f"{task.name}: all {len(labels)} labels are equal, so nothing correlates with them")
    return 0.0 if np.ptp(predicted) == 0 else float(statistic(predicted, labels).statistic)


METRICS = {
    "accuracy": lambda task, predicted, labels: float(accuracy_score(labels, predicted)),
    "f1": f1,
    "matthews": matthews,
    "pearson": lambda task, predicted, labels: correlate(task, pearsonr, predicted, labels),
    "spearman": lambda task, predicted, labels: correlate(task, spearmanr, predicted, labels),
    "mse": lambda task, predicted, labels: float(np.mean((predicted - labels) ** 2)),
}


def decisive(task: Task, metrics: dict[str, float]) -> float:
    """The metric that decides, so that more is better: an error (mse) is negated."""
    value = metrics[task.metrics[0]]
    return -value if task.metrics[0] == "mse" else value


def constant_score(task: Task, train: Split, dev: Split) -> dict[str, float]:
    """Metrics on dev of one answer for all: the majority class of train (the first of equals) or its mean label."""
    if task.regression:
        answer = np.array([train.labels.mean(dtype=np.float64)])
    else:
        answer = np.eye(task.classes)[np.bincount(train.labels, minlength=task.classes).argmax()]
    return compute_metrics(task, np.tile(answer, (len(dev), 1)), dev.labels)


def retention(score: float, constant: float, dense: float) -> float:
    """How much of what the dense model knows beyond a constant answer is left: 1 all, 0 nothing, fractions of scores.

    Raises ValueError where the dense model is no better than the constant answer.
    """
    if not dense > constant:
        raise ValueError(f"the dense model scores {dense:.4f}, a constant answer {constant:.4f}")
    return (score - constant) / (dense - constant)
