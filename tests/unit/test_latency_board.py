"""Rows measured on a board: with a device of our own making, as there is no board here."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bertile.errors import DeviceError
from bertile.perf.latency import board, card
from bertile.perf.latency.plan import Case, Plan
from bertile.runtime.card import CardInfo

INFO = CardInfo("u200", "0000:03:00.1", Path("bertile_u200.xclbin"), False, ("encoder_1", "encoder_2", "encoder_3"))
PACKED = SimpleNamespace(config=SimpleNamespace(hidden=64))


class Device:
    """Takes 2 ms a launch, one after the other."""

    units = 3

    def __init__(self) -> None:
        self.launches: list[list[tuple[int, ...]]] = []

    def stream(self, launches):
        self.launches.append([tuple(len(sequence) for sequence in launch) for launch in launches])
        for launch in launches:
            time.sleep(0.002)
            yield np.zeros((len(launch), 64), np.int8)


def test_a_batch_is_spread_over_the_units_and_timed_as_a_whole():
    device = Device()
    times = board.time_requests(device, PACKED, Case(1, 6, 32, 0.0))
    assert len(times) == board.RUNS
    assert len(device.launches) == board.RUNS + board.WARM
    assert device.launches[0] == [(32, 32)] * 3
    assert min(times) >= 6.0


def test_a_row_says_where_it_was_measured():
    row = board.measured_row("bert-base", Case(12, 8, 128, 0.75), INFO, [float(n) for n in range(1, 100)])
    assert (row.kind, row.latency_ms, row.tokens, row.batch, row.sparsity) == ("measured", 50.0, 128, 8, 0.75)
    assert row.details == {"layers": 12, "together": False, "p10_ms": 10.0, "p90_ms": 90.0, "runs": 99}
    assert "0000:03:00.1" in row.source


def test_an_emulated_card_is_never_measured():
    with pytest.raises(DeviceError, match="emulated"):
        board.measured_row("bert-base", Case(1, 1, 32, 0.0), replace(INFO, emulated=True), [1.0, 2.0])


def test_the_board_goes_before_the_projection(monkeypatch):
    plan = Plan("bert-base", (), (Case(1, 1, 32, 0.0),), 1, 0.1, 1)
    monkeypatch.setattr(card, "find_board", lambda: Path("board.xclbin"))
    monkeypatch.setattr(card, "board_rows", lambda plan, xclbin, advance: [(xclbin.name, plan.card)])
    assert card.card_rows(plan, lambda text, steps: None) == [("board.xclbin", plan.card)]


def test_without_a_bitstream_there_is_no_board(monkeypatch, tmp_path):
    monkeypatch.setattr(board, "BITSTREAMS_DIR", tmp_path)
    assert board.find_board() is None
