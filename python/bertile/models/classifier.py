"""Encoders with a task head, as Hugging Face trains them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, PreTrainedTokenizerBase

from bertile.errors import BertileError
from bertile.models.encoder import EncoderConfig
from bertile.models.families import matrices
from bertile.models.folder import find_folder, first_line
from bertile.models.load import load_model, quiet
from bertile.models.task_head import TaskHead, read_task_head
from bertile.tasks.glue import Task


@dataclass(frozen=True)
class TrainedModel:
    """A network that is trained: `network` with a task head, or without one where there is no task.

    has_head: the source brought a head for the task; else the head is random.
    """

    name: str
    network: nn.Module
    config: EncoderConfig
    tokenizer: PreTrainedTokenizerBase
    synthetic: bool
    has_head: bool

    def weights(self) -> dict[str, torch.Tensor]:
        """The six matrices [out, in] of every layer by name: the parameters themselves."""
        return {name: linear.weight for name, linear in matrices(self.network.base_model, self.config.family).items()}


def load_trainable(source: str, task: Task | None, seed: int) -> TrainedModel:
    """The model `source` with a head for `task`, its own one or else a seeded random one; without a task, no head.

    Raises BertileError as `load_model` does, for a model without a tokenizer. The head of another task is dropped.
    """
    model = load_model(source)
    if model.tokenizer is None:
        raise BertileError(f"{source} has no tokenizer: there is no text that it could be trained on")
    network, has_head = (model.network, False) if task is None else _with_head(source, task, seed)
    # Backwards in bfloat16, the fused attention takes several times as long on a processor.
    network.set_attn_implementation("sdpa" if torch.cuda.is_available() else "eager")
    return TrainedModel(model.name, network, model.config, model.tokenizer, model.synthetic, has_head)


def _with_head(source: str, task: Task, seed: int) -> tuple[nn.Module, bool]:
    folder = find_folder(source)
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    head = read_task_head(source)
    classes = list(task.labels) or ["LABEL_0"]
    own = head is not None and fits(head, task)
    config.id2label = dict(enumerate(classes))
    config.label2id = {name: index for index, name in enumerate(classes)}
    config.problem_type = "single_label_classification" if task.labels else "regression"
    config.bertile_task = task.name
    try:
        with quiet(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if own:
                network = AutoModelForSequenceClassification.from_pretrained(
                    folder, config=config, dtype=torch.float32, local_files_only=True
                )
                return network, True
            network = AutoModelForSequenceClassification.from_config(config).float()
            # The encoder's weights, its pooler where it has one; the head stays random.
            encoder = AutoModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
            network.base_model.load_state_dict(encoder.state_dict(), strict=False)
            return network, False
    except Exception as error:  # transformers has no common base for what a foreign file can cause
        raise BertileError(f"{source}: no classifier can be made of it: {first_line(error)}") from error


def fits(head: TaskHead, task: Task) -> bool:
    """Whether a model's classifier is one for the task: trained for it, or with its classes where no task is named."""
    if head.task:
        return head.task == task.name and len(head.labels) == len(task.labels)
    return bool(task.labels) and head.labels == task.labels


def with_own_head(source: str, encoder: nn.Module) -> nn.Module:
    """`encoder` behind the task head that the model `source` has; `encoder` itself where it has none."""
    if read_task_head(source) is None:
        return encoder
    with quiet():
        network = AutoModelForSequenceClassification.from_pretrained(
            find_folder(source), dtype=torch.float32, local_files_only=True
        )
    network.base_model.load_state_dict(encoder.state_dict(), strict=False)
    return network


def check_same_text(student: TrainedModel, teacher: TrainedModel) -> None:
    """Raises BertileError where the two do not read the same tokens."""
    if student.tokenizer.get_vocab() != teacher.tokenizer.get_vocab():
        raise BertileError(f"teacher {teacher.name} has another vocabulary than {student.name}")
