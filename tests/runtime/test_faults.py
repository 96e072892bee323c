"""What goes wrong with a card: one clear line, no hang, no process left, every request answered or failed."""

from __future__ import annotations

import os
import re
import signal
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from bertile.config.kernels import ENCODER, load_link
from bertile.config.spec import load_spec
from bertile.emulation.axlf import FRONT
from bertile.emulation.build import FARM
from bertile.emulation.xclbin import encode_xclbin, read_xclbin_header

from .conftest import HOST, Card

SPEC = load_spec()
XRT_LINE = re.compile(r"(CRITICAL WARNING|ERROR): \[SW-EM")


def failed(outcome) -> str:
    """The one line of a run that ended with exit code 2; XRT may have said something before."""
    assert outcome.returncode == 2, (outcome.returncode, outcome.stdout, outcome.stderr)
    assert outcome.stdout == ""
    *before, last = outcome.stderr.strip().splitlines()
    assert all(XRT_LINE.match(line) for line in before), outcome.stderr
    kind, _, message = last.partition(": ")
    assert kind == "error"
    return message


def check(card: Card, model: Path, *arguments: object, **environment: str) -> str:
    return failed(card.bertile("check", model, "--device", "xrt", "--xclbin", card.xclbin, *arguments, **environment))


def test_no_xrt(card, tiny):
    """Without the compiled module."""
    hide = "import sys; sys.modules['bertile.runtime._xrt'] = None; from bertile.cli.main import app_main; app_main()"
    host = card.start("-c", hide, "check", tiny.path, "--device", "xrt", "--xclbin", card.xclbin)
    assert "XRT" in failed(host.wait())


def test_no_card(card, tiny):
    """A bitstream, and no board in this machine: without AMD's XRT, and with one."""
    patch_mode(card.xclbin, 0)
    assert read_xclbin_header(card.xclbin).mode == "hw"
    assert "its driver and XRT are not in /opt/xilinx/xrt" in check(card, tiny.path)
    assert check(card, tiny.path, XILINX_XRT=str(FARM)) == "no card 0: XRT finds 0 in this machine"


def patch_mode(xclbin: Path, mode: int) -> None:
    """Set axlf_header.m_mode (xclbin.h)."""
    data = bytearray(xclbin.read_bytes())
    struct.pack_into("<H", data, FRONT.size + struct.calcsize("<QQQHBB"), mode)
    xclbin.write_bytes(data)


def test_no_such_index(card, tiny):
    assert check(card, tiny.path, "--card", 7) == "no card 7: XRT finds 1 in this machine"


def test_no_xclbin(card, tiny):
    card.xclbin.unlink()
    assert str(card.xclbin) in check(card, tiny.path)


def test_a_file_that_is_no_xclbin(card, tiny):
    card.xclbin.write_bytes(b"xclbin2" + bytes(1000))
    assert str(card.xclbin) in check(card, tiny.path)


def test_an_xclbin_of_another_spec(card, tiny):
    """Kernel and engine that were built with another digest refuse, and are named."""
    mine = struct.pack("<Q", SPEC.digest_word)
    other = struct.pack("<Q", SPEC.digest_word ^ 1)
    data = card.xclbin.read_bytes()
    assert mine in data
    card.xclbin.write_bytes(data.replace(mine, other))
    message = check(card, tiny.path)
    assert f"built for spec {SPEC.digest_word ^ 1:016x}" in message
    assert f"this program has {SPEC.digest_word:016x}" in message


def test_an_xclbin_of_another_program(card, tiny):
    link = load_link()
    kernel = link.kernels[ENCODER]
    renamed = replace(kernel, arguments=(replace(kernel.arguments[0], name="weights_only"), *kernel.arguments[1:]))
    link = replace(link, kernels={**link.kernels, ENCODER: renamed})
    card.xclbin.write_bytes(encode_xclbin(link, b"", "csim"))
    assert "has the arguments weights_only, weights" in check(card, tiny.path)


def unanswered(said: list[str]) -> set[str]:
    """What was said of requests without an answer."""
    return {text for text in said if text != "answered"}


def test_a_card_lost_in_mid_run(card, tiny):
    result = card.scenario("lost", tiny.path).result
    assert len(result["said"]) == 60
    assert result["said"][:4] == ["answered"] * 4
    (message,) = unanswered(result["said"])
    assert "the card was lost" in message
    assert result["refusal"] == message
    assert (result["after"], result["cards"]) == ("answered", 1)


def test_a_card_that_stops_answering(card, tiny):
    result = card.scenario("stopped", tiny.path).result
    assert len(result["said"]) == 60
    (message,) = unanswered(result["said"])
    assert "1.5 s" in message
    assert result["refusal"] == message
    assert (result["after"], result["cards"]) == ("answered", 1)


def test_a_kernel_that_never_finishes(card, tiny):
    result = card.scenario("hanging", tiny.path, BERTILE_EMU_FAULT="hang:encoder_2:2").result
    assert "answered" in result["said"]
    (message,) = unanswered(result["said"])
    assert message == "encoder_2 does not finish: no end after 1.5 s"
    assert (result["after"], result["cards"]) == ("answered", 1)


def test_a_unit_that_does_not_answer_at_all(card, tiny):
    message = check(card, tiny.path, "--timeout", 1, BERTILE_EMU_FAULT="hang:encoder_3")
    assert message == "encoder_3 does not answer: no end after 1 s"
    assert card.bertile("check", tiny.path, "--device", "xrt", "--xclbin", card.xclbin).returncode == 0


def test_a_kernel_that_crashes(card, tiny):
    assert "the card was lost" in check(card, tiny.path, BERTILE_EMU_FAULT="crash:encoder_1")


def test_a_model_too_large_for_the_card(card, minilm):
    message = check(card, minilm.path, BERTILE_EMU_BANK="4M")
    assert "allocating" in message
    assert "encoder_1" in message
    assert "memory" in message


def test_no_memory_for_the_buffers(card, tiny):
    """The model fits, launches with every layer do not."""
    message = check(card, tiny.path, BERTILE_EMU_BANK="64K")
    assert "allocating" in message
    assert "memory" in message


def test_two_processes_on_one_card(card, tiny):
    first = card.start(HOST, "opened", card.xclbin, tiny.path)
    first.await_line("opening")
    first.await_line("running")
    message = check(card, tiny.path)
    assert message == f"the card is in use by process {first.process.pid}"
    first.process.stdin.write("\n")
    assert first.wait().returncode == 0
    assert card.bertile("check", tiny.path, "--device", "xrt", "--xclbin", card.xclbin).returncode == 0


@pytest.mark.parametrize("to_group", [False, True], ids=["process", "group"])
def test_an_interrupt_in_mid_run(card, tiny, to_group):
    """As a terminal does it, for the whole group; and as `kill` does."""
    host = card.start(HOST, "endless", card.xclbin, tiny.path)
    host.await_line("running")
    (os.killpg if to_group else os.kill)(host.process.pid, signal.SIGINT)
    outcome = host.wait(30)
    assert (outcome.returncode, outcome.stderr) == (130, "interrupted\n")


def test_a_host_that_dies_takes_its_card_with_it(card, tiny):
    host = card.start(HOST, "endless", card.xclbin, tiny.path)
    host.await_line("running")
    host.process.kill()
    assert host.wait(30).returncode == -signal.SIGKILL
    assert sorted(path.name for path in card.folder.iterdir()) == ["bertile_u200.xclbin", "card.lock", "card.log"]
