"""A card that is interrupted, forked, shared or left open: every request has its end, and the process its own."""

from __future__ import annotations

import os
import signal
import time

import pytest

from .conftest import HOST
from .test_faults import check


def test_a_run_that_xrt_calls_failed_fails_every_request(card, tiny):
    """A board reports such states; the emulation does not."""
    said = card.scenario("failing", tiny.path).result["said"]
    assert said == ["encoder_1 failed: XRT command state 5"] * 6


def test_a_process_that_ends_without_closing(card, tiny):
    result = card.scenario("unclosed", tiny.path)
    assert (result.returncode, result.stderr) == (0, "")


def test_cancelled_and_settled_at_once(card, tiny):
    """Callers cancel while the pipeline closes: all futures end, and all waiters are told."""
    assert card.scenario("cancelling", tiny.path).result == {"unsettled": 0}


def test_use_after_closing_and_by_mistake(card, minilm):
    said = card.scenario("misused", minilm.path).result
    assert said["closed"] == "the card was closed before this request ran"
    assert said["twice"] is None
    assert said["second"].startswith("the card is in use by process")
    assert "close its other Encoder first" in said["second"]
    assert said["text"] == "a list of texts is needed, not one text"
    assert said["floats"].startswith("token ids of type float64")
    assert said["from_callback"] == "a callback of a request cannot close the card"


def test_a_forked_process_leaves_the_card_alone(card, tiny):
    result = card.scenario("forking", tiny.path).result
    assert result["child"] == "refused"
    assert result["parent"] == "answered"
    assert result["after_reset"] == "answered"


@pytest.mark.parametrize("folder", ["", "missing/"])
def test_a_lock_that_cannot_be_made(card, tiny, folder, monkeypatch):
    from bertile.errors import DeviceError
    from bertile.runtime.card import CardLock

    lock = CardLock(card.folder / "a.lock")
    assert oct((card.folder / "a.lock").stat().st_mode & 0o777) == "0o666"
    lock.release()
    if folder:
        with pytest.raises(DeviceError, match="cannot be locked"):
            CardLock(card.folder / folder / "a.lock")


@pytest.mark.parametrize("timeout", ["inf", "1e12"])
def test_a_timeout_that_is_none(card, tiny, timeout):
    assert "at most 86400" in check(card, tiny.path, "--timeout", timeout)


def interrupt(host, times: int, pause: float) -> None:
    for _ in range(times):
        os.kill(host.process.pid, signal.SIGINT)
        time.sleep(pause)


@pytest.mark.parametrize("times", [1, 3])
def test_interrupts_while_closing(card, tiny, times):
    host = card.start(HOST, "endless", card.xclbin, tiny.path, BERTILE_EMU_FAULT="slow:100")
    host.await_line("running")
    interrupt(host, times, 0.1)
    assert host.wait(30).returncode == 130


def test_an_interrupt_while_a_unit_is_asked(card, tiny):
    """A unit that never answers must not keep the caller."""
    environment = {"BERTILE_EMU_FAULT": "hang:encoder_1"}
    host = card.start(HOST, "opened", card.xclbin, tiny.path, **environment)
    host.await_line("opening")
    time.sleep(2.0)
    interrupt(host, 1, 0.0)
    assert host.wait(20).returncode == 130
