"""Distillation losses by hand."""

from __future__ import annotations

import math

import pytest
import torch

from bertile.errors import BertileError
from bertile.train.distill import attention_loss, hidden_loss, logit_loss, matched_layers

MASK = torch.tensor([[1, 1, 0], [1, 0, 0]])


def test_logits_by_hand():
    # At temperature 2: student softmax(0, 0) = (1/2, 1/2); teacher softmax(ln 3, 0) = (3/4, 1/4).
    student, teacher = torch.zeros(1, 2), torch.tensor([[2 * math.log(3), 0.0]])
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert float(logit_loss(student, teacher, 2.0)) == pytest.approx(4 * divergence)
    both = logit_loss(torch.cat([student, teacher]), torch.cat([teacher, teacher]), 2.0)
    assert float(both) == pytest.approx(4 * divergence / 2)  # mean over the batch
    assert float(logit_loss(teacher, teacher, 2.0)) == pytest.approx(0, abs=1e-7)
    # Not symmetric: KL(student || teacher) the other way round.
    other = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert float(logit_loss(teacher, student, 2.0)) == pytest.approx(4 * other)


def test_one_logit_is_a_regression():
    student, teacher = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [5.0]])
    assert float(logit_loss(student, teacher, 7.0)) == 5


def test_logits_of_bfloat16():
    student, teacher = torch.randn(4, 3).bfloat16(), torch.randn(4, 3).bfloat16()
    assert logit_loss(student, teacher, 2.0).dtype == torch.float32


@pytest.mark.parametrize(
    ("student", "teacher", "layers"),
    [
        (3, 3, [0, 1, 2]),
        (3, 6, [1, 3, 5]),
        (2, 6, [2, 5]),
        (4, 6, [0, 2, 3, 5]),
        (1, 12, [11]),
        (6, 7, [0, 1, 2, 3, 4, 6]),
    ],
)
def test_matched_layers(student, teacher, layers):
    assert matched_layers(student, teacher) == layers


def test_a_student_is_not_deeper():
    with pytest.raises(BertileError, match="the teacher has 2 layers, fewer than the student's 3"):
        matched_layers(3, 2)


def test_hidden_states():
    teacher = [torch.randn(2, 3, 5) for _ in range(2)]
    assert float(hidden_loss(teacher, teacher, MASK)) == 0
    assert float(hidden_loss([torch.zeros_like(t) for t in teacher], teacher, MASK)) == pytest.approx(1)
    assert float(hidden_loss([3 * teacher[0], teacher[1]], teacher, MASK)) == pytest.approx((4 + 0) / 2)


def test_hidden_states_by_hand():
    teacher = torch.tensor([[[3.0, 4.0], [1.0, 0.0], [9.0, 9.0]], [[0.0, 2.0], [8.0, 8.0], [7.0, 7.0]]])
    student = torch.tensor([[[3.0, 1.0], [0.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]])
    assert float(hidden_loss([student], [teacher], MASK)) == pytest.approx((9 + 2 + 4) / (25 + 1 + 4))


def test_padding_does_not_count():
    teacher, student = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    weights = [torch.randn(2, 4, 3, 3).softmax(-1) for _ in range(2)]
    losses = hidden_loss([student], [teacher], MASK), attention_loss([weights[0]], [weights[1]], MASK)
    padded = MASK == 0
    student[padded] = 1e6
    teacher[padded] = -1e6
    weights[0].transpose(1, 2)[padded] = 0.2
    assert float(hidden_loss([student], [teacher], MASK)) == float(losses[0])
    assert float(attention_loss([weights[0]], [weights[1]], MASK)) == float(losses[1])


def test_attention_by_hand():
    # [batch 1, heads 2, queries 2, keys 2]; the second query is padding.
    theirs = torch.tensor([[[[0.75, 0.25], [0.1, 0.9]], [[1.0, 0.0], [0.5, 0.5]]]])
    ours = torch.tensor([[[[0.5, 0.5], [0.9, 0.1]], [[0.25, 0.75], [0.5, 0.5]]]])
    first = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    second = math.log(4)
    mask = torch.tensor([[1, 0]])
    assert float(attention_loss([ours], [theirs], mask)) == pytest.approx((first + second) / 2, rel=1e-5)
    assert float(attention_loss([ours, theirs], [theirs, theirs], mask)) == pytest.approx(
        (first + second) / 4, rel=1e-5
    )
    assert float(attention_loss([theirs], [theirs], mask)) == 0


def test_losses_have_gradients():
    student = torch.randn(2, 3, 5, requires_grad=True)
    scores = torch.randn(2, 4, 3, 3, requires_grad=True)
    logits = torch.randn(2, 3, requires_grad=True)
    loss = hidden_loss([student], [torch.randn(2, 3, 5)], MASK)
    loss = loss + attention_loss([scores.softmax(-1)], [torch.randn(2, 4, 3, 3).softmax(-1)], MASK)
    (loss + logit_loss(logits, torch.randn(2, 3), 2.0)).backward()
    for tensor in (student, scores, logits):
        assert torch.isfinite(tensor.grad).all()
        assert tensor.grad.any()
    assert (student.grad[MASK == 0] == 0).all()
