"""The arithmetic of the host's benchmark: spans of stages, and what of them overlaps."""

from __future__ import annotations

import pytest

from bertile.perf.host_bench import inside, merged, milliseconds, span
from bertile.runtime.jobs import Answer, StageTimes


def test_stages_follow_each_other():
    times = StageTimes(queued=9.0, embed=1.0, to_card=2.0, run=4.0, noticed=8.0, from_card=16.0, result=32.0)
    answer = Answer(None, 100.0, times, "encoder_1", 0)
    assert span(answer, "embed") == (100.0, 101.0)
    assert span(answer, "run") == (103.0, 107.0)
    assert span(answer, "result") == (131.0, 163.0)
    assert (times.total, times.host) == (72.0, 33.0)


def test_overlapping_spans_count_once():
    runs = merged([(5.0, 9.0), (0.0, 2.0), (1.0, 3.0), (6.0, 7.0)])
    assert runs == [(0.0, 3.0), (5.0, 9.0)]
    assert inside((2.0, 6.0), runs) == 2.0
    assert inside((3.5, 4.5), runs) == 0.0
    assert inside((-1.0, 20.0), runs) == 7.0


def test_percentiles():
    table = milliseconds([number / 1e3 for number in range(1, 100)])
    assert table == pytest.approx({"median_ms": 50.0, "p10_ms": 10.0, "p90_ms": 90.0})
