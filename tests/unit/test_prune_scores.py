"""Scores by hand: two matrices, one group set over both and one over the first alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bertile.errors import BertileError
from bertile.prune.groups import GroupSet, Member
from bertile.prune.pattern import BlockPattern
from bertile.prune.scores import SCORES, GradientScores, check_score, weight_scores

# Pairs of rows of a and of columns of b; blocks of 2 inputs by 1 output of a.
TIED = GroupSet("tied", (Member("a", BlockPattern(2, 2)), Member("b", BlockPattern(2, 1))), (2, 1), 6, 0)
PLAIN = GroupSet("plain", (Member("a", BlockPattern(2, 1)),), (4, 1), 2, 0)
A = torch.tensor([[1.0, -2], [3, 0], [0, 0], [4, -3]])
B = torch.tensor([[5.0, 0, -1, 2]])
WEIGHTS = {"a": A, "b": B}
GRADIENTS = {
    "a": torch.tensor([[1.0, 1], [-1, 7], [9, 9], [0.5, -1]]),
    "b": torch.tensor([[-1.0, 8, 2, 0]]),
}
# w * dL/dw: a [[1, -2], [-3, 0], [0, 0], [2, 3]], b [[-5, 0, -2, 0]]


def assert_scores(scores, tied, plain):
    assert list(scores) == ["tied", "plain"]
    assert all(score.dtype == np.float64 for score in scores.values())
    np.testing.assert_allclose(scores["tied"], tied, rtol=1e-6)
    np.testing.assert_allclose(scores["plain"], plain, rtol=1e-6)


def test_l1():
    tied = [(1 + 2 + 3 + 0 + 5 + 0) / 6, (0 + 0 + 4 + 3 + 1 + 2) / 6]
    assert_scores(weight_scores("l1", [TIED, PLAIN], WEIGHTS), tied, [1.5, 1.5, 0, 3.5])


def test_l2():
    tied = np.sqrt([(1 + 4 + 9 + 25) / 6, (16 + 9 + 1 + 4) / 6])
    plain = np.sqrt([5 / 2, 9 / 2, 0, 25 / 2])
    assert_scores(weight_scores("l2", [TIED, PLAIN], WEIGHTS), tied, plain)


def test_scores_do_not_look_at_gradients_of_parameters():
    weights = {name: torch.nn.Parameter(t.clone()) for name, t in WEIGHTS.items()}
    assert_scores(weight_scores("l1", [TIED, PLAIN], weights), [11 / 6, 10 / 6], [1.5, 1.5, 0, 3.5])


def test_random_is_seeded():
    one, again, other = (weight_scores("random", [TIED, PLAIN], WEIGHTS, seed) for seed in (3, 3, 4))
    assert_scores(one, again["tied"], again["plain"])
    assert not np.array_equal(one["plain"], other["plain"])
    assert len(np.unique(np.concatenate(list(one.values())))) == 6


@pytest.mark.parametrize(
    ("name", "tied", "plain"),
    [
        # Sums over groups: tied 1 - 2 - 3 - 5 = -9 and 2 + 3 - 2 = 3; plain -1, -3, 0, 5.
        ("movement", [9 / 6, -3 / 6], [1 / 2, 3 / 2, 0, -5 / 2]),
        ("taylor", [9 / 6, 3 / 6], [1 / 2, 3 / 2, 0, 5 / 2]),
        ("fisher", [(1 + 4 + 9 + 25) / 12, (4 + 9 + 4) / 12], [5 / 4, 9 / 4, 0, 13 / 4]),
    ],
)
def test_one_step(name, tied, plain):
    scores = GradientScores(name, [TIED, PLAIN])
    scores.observe(WEIGHTS, GRADIENTS)
    assert_scores(scores.scores(), tied, plain)


@pytest.mark.parametrize(
    ("name", "tied", "plain"),
    [
        # The second step has twice the gradients, the other way round.
        ("movement", [9 / 12 - 18 / 12, -3 / 12 + 6 / 12], [-1 / 4, -3 / 4, 0, 5 / 4]),
        ("taylor", [27 / 12, 9 / 12], [3 / 4, 9 / 4, 0, 15 / 4]),
        ("fisher", [39 * 5 / 24, 17 * 5 / 24], [25 / 8, 45 / 8, 0, 65 / 8]),
    ],
)
def test_two_steps_are_a_mean(name, tied, plain):
    scores = GradientScores(name, [TIED, PLAIN])
    scores.observe(WEIGHTS, GRADIENTS)
    scores.observe(WEIGHTS, {key: -2 * gradient for key, gradient in GRADIENTS.items()})
    assert_scores(scores.scores(), tied, plain)


def test_movement_is_what_sgd_moves():
    """-sum of w * dL/dw over two steps of SGD: to first order, how far w^2 / 2 grew, by the learning rate."""
    rate = 1e-4
    weight = torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.float64)
    target = torch.tensor([[3.0, -4.0], [0.0, 4.0]], dtype=torch.float64)
    rows = GroupSet("rows", (Member("w", BlockPattern(2, 1)),), (2, 1), 2, 0)
    scores, start = GradientScores("movement", [rows]), weight.clone()
    for _ in range(2):
        gradient = weight - target  # of |w - target|^2 / 2
        scores.observe({"w": weight}, {"w": gradient})
        weight = weight - rate * gradient
    grown = (weight.square() - start.square()).sum(1) / 2
    # Mean over two steps and two weights.
    np.testing.assert_allclose(scores.scores()["rows"], grown.numpy() / rate / 4, rtol=1e-3)
    assert scores.scores()["rows"][1] > 0  # -0.25 + 3: away from zero


def test_reset():
    for name in ("movement", "taylor", "fisher"):
        scores = GradientScores(name, [TIED, PLAIN])
        scores.observe(WEIGHTS, GRADIENTS)
        first = scores.scores()
        scores.reset()
        if name == "movement":  # counts from the start
            assert_scores(scores.scores(), first["tied"], first["plain"])
            continue
        with pytest.raises(BertileError, match=f"score {name} needs gradients: training steps before the masks are"):
            scores.scores()
        scores.observe(WEIGHTS, GRADIENTS)
        assert_scores(scores.scores(), first["tied"], first["plain"])


def test_state():
    scores, again = (GradientScores("taylor", [TIED, PLAIN]) for _ in range(2))
    scores.observe(WEIGHTS, GRADIENTS)
    state = {name: tensor.clone() for name, tensor in scores.state().items()}
    again.load_state(state)
    for one in (scores, again):
        one.observe(WEIGHTS, {key: 3 * gradient for key, gradient in GRADIENTS.items()})
    assert_scores(again.scores(), scores.scores()["tied"], scores.scores()["plain"])
    assert float(state["score.tied"][0]) == 9  # what was read is not written to


def test_unknown():
    with pytest.raises(BertileError) as error:
        check_score("l3")
    assert str(error.value) == "unknown score 'l3'; known are l2, l1, random, activation, movement, taylor, fisher"
    for name in SCORES:
        check_score(name)
