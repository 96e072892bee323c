"""What a student shares with its teacher: soft logits, hidden states, attention (SparseBERT, TinyBERT)."""

from __future__ import annotations

import torch
from torch.nn import functional

from bertile.errors import BertileError


def logit_loss(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """Soft labels [batch, classes]: T^2 * KL(teacher || student) at temperature T (Hinton et al. 2015), batch mean.

    One output is a regression: mean squared difference.
    """
    student, teacher = student.float(), teacher.float()
    if student.shape[-1] == 1:
        return functional.mse_loss(student, teacher)
    log_student = functional.log_softmax(student / temperature, dim=-1)
    log_teacher = functional.log_softmax(teacher / temperature, dim=-1)
    return temperature**2 * functional.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)


def matched_layers(student: int, teacher: int) -> list[int]:
    """The teacher's layer, counted from 0, for each of the student's: evenly spread, the last for the last.

    Raises BertileError where the student is deeper.
    """
    if student > teacher:
        raise BertileError(f"the teacher has {teacher} layers, fewer than the student's {student}")
    return [(index + 1) * teacher // student - 1 for index in range(student)]


def hidden_loss(student: list[torch.Tensor], teacher: list[torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
    """Hidden states [batch, tokens, hidden] of matching layers: mean over layers of the relative squared error.

    |student - teacher|^2 / |teacher|^2, both summed over real tokens: mask [batch, tokens], 1 where there is one.
    """
    real = mask.bool()
    errors = []
    for ours, theirs in zip(student, teacher, strict=True):
        target = theirs[real].float()
        errors.append((ours[real].float() - target).square().sum() / target.square().sum())
    return torch.stack(errors).mean()


def attention_loss(student: list[torch.Tensor], teacher: list[torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
    """Attention [batch, heads, queries, keys] of matching layers: KL(teacher || student), mean over real queries.

    Probabilities, not raw scores: those of a masked key are minus infinity. mask: [batch, tokens].
    """
    real = mask.bool()
    losses = []
    for ours, theirs in zip(student, teacher, strict=True):
        ours, theirs = (
            p.float().transpose(1, 2)[real].clamp_min(1e-8) for p in (ours, theirs)
        )  # [queries, heads, keys]
        losses.append((theirs * (theirs.log() - ours.log())).sum(-1).mean())
    return torch.stack(losses).mean()
