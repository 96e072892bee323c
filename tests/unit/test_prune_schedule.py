"""Sparsity by step for every method, by hand."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertile.errors import BertileError
from bertile.prune.schedule import METHODS, PruneSchedule


def updates(schedule: PruneSchedule) -> list[int]:
    return [step for step in range(schedule.steps + 1) if schedule.updates(step)]


@pytest.mark.parametrize("method", ["gradual", "once-for-all"])
def test_cubic(method):
    schedule = PruneSchedule(method, 40, 0.8, initial=0.2, warmup=4, end=24, interval=6)
    # 0.8 - 0.6 * (1 - (t - 4) / 20)^3 at t = 4, 9, 14, 24
    values = {0: 0.2, 3: 0.2, 4: 0.2, 9: 0.8 - 0.6 * 0.421875, 14: 0.8 - 0.6 * 0.125, 24: 0.8, 25: 0.8, 40: 0.8}
    assert {step: schedule.sparsity(step) for step in values} == pytest.approx(values)
    assert updates(schedule) == [4, 10, 16, 22, 24]
    assert [schedule.finished(step) for step in (23, 24, 25)] == [False, True, True]
    assert not any(schedule.regularizes(step) for step in range(41))
    assert [schedule.progress(step) for step in (0, 14, 24)] == pytest.approx([0, 0.875, 1])


def test_oneshot():
    schedule = PruneSchedule("oneshot", 20, 0.5, initial=0.1, warmup=7, end=12)
    assert [schedule.sparsity(step) for step in (0, 6, 7, 12, 20)] == [0.1, 0.1, 0.5, 0.5, 0.5]
    assert updates(schedule) == [7]
    assert [schedule.finished(step) for step in (6, 7)] == [False, True]
    assert updates(PruneSchedule("oneshot", 20, 0.5)) == [0]


def test_group_lasso():
    schedule = PruneSchedule("group-lasso", 20, 0.5, initial=0.1, warmup=3, end=9)
    assert [schedule.sparsity(step) for step in (0, 8, 9, 20)] == [0.1, 0.1, 0.5, 0.5]
    assert updates(schedule) == [9]
    assert [step for step in range(21) if schedule.regularizes(step)] == [3, 4, 5, 6, 7, 8]
    assert [schedule.finished(step) for step in (8, 9)] == [False, True]


def test_cyclic():
    schedule = PruneSchedule("cyclic", 30, 0.6, initial=0.2, warmup=2, end=20, cycles=3)
    # Six phases of 3 steps: sparse from 2, free from 5, sparse from 8 ...
    values = {0: 0.2, 2: 0.6, 4: 0.6, 5: 0.2, 7: 0.2, 8: 0.6, 11: 0.2, 14: 0.6, 17: 0.2, 19: 0.2, 20: 0.6, 30: 0.6}
    assert {step: schedule.sparsity(step) for step in values} == values
    assert updates(schedule) == [2, 5, 8, 11, 14, 17, 20]
    assert [schedule.finished(step) for step in (19, 20)] == [False, True]


def test_reconstruct_is_sparse_before_the_first_step():
    schedule = PruneSchedule("reconstruct", 10, 0.5, initial=0.1, warmup=2, end=5)
    assert {schedule.sparsity(step) for step in range(11)} == {0.5}
    assert updates(schedule) == []
    assert schedule.finished(0)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "reconstruct"])
def test_without_room_the_target_is_there_at_once(method):
    schedule = PruneSchedule(method, 10, 0.5, warmup=4, end=4)
    assert [schedule.sparsity(step) for step in (3, 4, 10)] == [0, 0.5, 0.5]
    assert updates(schedule) == [4]


def test_equal_initial_and_target():
    schedule = PruneSchedule("gradual", 10, 0.5, initial=0.5, end=8)
    assert {schedule.progress(step) for step in range(11)} == {1.0}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"method": "magic"},
            "unknown method 'magic'; known are oneshot, reconstruct, gradual, group-lasso, once-for-all, cyclic",
        ),
        ({"interval": 0}, "the schedule's interval and cycles are at least 1"),
        ({"cycles": 0}, "the schedule's interval and cycles are at least 1"),
        ({"warmup": 9, "end": 8}, "a schedule from step 9 to 8 does not fit 10 steps"),
        ({"warmup": -1}, "a schedule from step -1 to 0 does not fit 10 steps"),
        ({"end": 11}, "a schedule from step 0 to 11 does not fit 10 steps"),
    ],
)
def test_errors(settings, message):
    with pytest.raises(BertileError) as error:
        PruneSchedule(**{"method": "gradual", "steps": 10, "target": 0.5, **settings})
    assert str(error.value) == message


@given(
    method=st.sampled_from([name for name in METHODS if name != "reconstruct"]),
    points=st.lists(st.integers(0, 60), min_size=3, max_size=3).map(sorted),
    shares=st.lists(st.floats(0, 0.99), min_size=2, max_size=2).map(sorted),
    interval=st.integers(1, 20),
    cycles=st.integers(1, 5),
)
def test_all_schedules_end_at_their_target(method, points, shares, interval, cycles):
    (warmup, end, steps), (initial, target) = points, shares
    schedule = PruneSchedule(method, steps, target, initial, warmup, end, interval, cycles)
    values = [schedule.sparsity(step) for step in range(steps + 1)]
    assert values[-1] == target
    assert all(initial - 1e-12 <= value <= target + 1e-12 for value in values)
    if method != "cyclic":
        assert all(a <= b + 1e-12 for a, b in pairwise(values))
    chosen = updates(schedule)
    assert chosen[-1] == (warmup if method == "oneshot" else end)
    assert schedule.sparsity(chosen[-1]) == target
    assert schedule.finished(chosen[-1])
    assert not any(schedule.finished(step) for step in range(chosen[-1]))
    if method == "cyclic" and end > warmup:  # every change of the sparsity comes with new masks
        changes = [step for step in range(1, steps + 1) if values[step] != values[step - 1]]
        assert set(changes) <= set(chosen)
