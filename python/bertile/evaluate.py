"""Task scores: through a model's classifier, or by the similarity of its sentence embeddings where it has none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bertile.errors import BertileError
from bertile.inference import Keep, first_token, mean_pool
from bertile.models.encoder import EncoderConfig
from bertile.models.task_head import TaskHead
from bertile.tasks.data import Split
from bertile.tasks.glue import Task, plain_name
from bertile.tasks.metrics import compute_metrics
from bertile.text import TextEncoder

# The one task that needs no training: cosines of sentence embeddings against similarities.
SIMILARITY_TASK = "stsb"
# Sequences of token ids [tokens] to what is kept of the hidden states of each.
HiddenStates = Callable[[list[np.ndarray], Keep], list[np.ndarray]]
Warn = Callable[[str], None]


@dataclass(frozen=True)
class Target:
    """A model on a device, to be scored; tokenizer: the text of a tokenizer.json, "" without one."""

    name: str
    tokenizer: str
    config: EncoderConfig
    head: TaskHead | None
    hidden_states: HiddenStates


def check_head(head: TaskHead | None, task: Task) -> None:
    """Raises BertileError where a model with this classifier, or without one, cannot be scored on the task."""
    if head is None:
        if task.name != SIMILARITY_TASK:
            raise BertileError(f"{task.name} needs a classifier, and this model has none: fine-tune it first (train)")
        if "mse" in task.metrics:
            raise BertileError(f"without a classifier, {task.name} is scored by cosines, which have no mse")
        return
    if head.task and plain_name(head.task) != plain_name(task.name):
        raise BertileError(f"the model was trained for {head.task}, not for {task.name}")
    outputs = len(head.output.bias)
    if outputs != task.classes or bool(head.labels) != bool(task.labels):
        raise BertileError(f"{task.name} needs {described(task.labels)}, the model has {described(head.labels)}")
    if head.labels != task.labels and set(head.labels) == set(task.labels):
        raise BertileError(f"{task.name} has its classes in another order than the model ({', '.join(head.labels)})")


def described(labels: tuple[str, ...]) -> str:
    """What a classifier with these labels gives."""
    return f"{len(labels)} classes" if labels else "one value"


def take_first(split: Split, count: int | None) -> Split:
    """The first examples of a split, all of them without a count."""
    second = None if split.second is None else split.second[:count]
    return Split(split.first[:count], second, split.labels[:count], split.source)


def similarity_outputs(split: Split, token_ids: list[np.ndarray], hidden_states: HiddenStates) -> np.ndarray:
    """Cosines [examples, 1] of mean-pooled pairs; token_ids: first sentences, then second ones."""
    pooled = np.stack(hidden_states(token_ids, lambda states: mean_pool([states])[0]))
    return (pooled[: len(split)] * pooled[len(split) :]).sum(axis=1, keepdims=True)


def task_outputs(target: Target, split: Split, max_tokens: int | None, warn: Warn) -> np.ndarray:
    """Logits [examples, classes] of the target's classifier, or cosines [examples, 1] without one."""
    cut: list[str] = []
    encoder = TextEncoder(target.tokenizer, target.config, max_tokens)
    texts = [*split.first, *(split.second or ())] if target.head is None else split.texts()
    token_ids = encoder.encode(texts, cut.append)
    if cut:
        warn(f"{len(cut)} of {len(texts)} texts were cut to {encoder.limit} tokens")
    if target.head is None:
        return similarity_outputs(split, token_ids, target.hidden_states)
    return target.head.logits(np.stack(target.hidden_states(token_ids, first_token)))


def evaluate_task(
    target: Target, task: Task, split: Split, max_tokens: int | None = None, warn: Warn = lambda message: None
) -> dict[str, float]:
    """The task's metrics on a split. Raises BertileError where target and task do not go together."""
    check_head(target.head, task)
    return compute_metrics(task, task_outputs(target, split, max_tokens, warn), split.labels)
