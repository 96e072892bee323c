"""What happens when the emulated card or its host fails, and that nothing is left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.emulation.card_hosts import GONE, STATUS, alive, assert_lost, await_true, left_behind

from bertile.config.kernels import ENCODER, load_link
from bertile.emulation import build
from bertile.emulation.environment import FAULT_VARIABLE

UNITS = [unit.encoder for unit in load_link().units]
ARGUMENTS = [argument.name for argument in load_link().kernels[ENCODER].arguments]


@pytest.mark.parametrize("name", ["address in no buffer", "address of no memory", "address of another bank"])
def test_address_outside_the_buffers_loses_the_card(start_host, launches, log, name):
    host, unit = start_host(), UNITS[1]
    first = host.use(unit, launches[1])[0]
    for other in (UNITS[0], UNITS[2]):
        host.use(other, launches[1])
    end = first + (1 << 30)
    address = {"address in no buffer": end, "address of no memory": 1 << 60, "address of another bank": 4096}[name]
    host(f"start {unit} {ARGUMENTS.index('weights')} {address}")
    host.wait(unit)
    assert_lost(host, unit)
    assert_lost(host, UNITS[0])
    (line,) = log.read_text().splitlines()
    assert f"host {host.process.pid}: card lost: {unit} " in line
    assert f"device address {address:#x}" in line
    host("close")
    host.open()
    host.run(unit, launches[1])


@pytest.mark.parametrize("name", ["input_words", "output_words"])
def test_leaving_a_buffer_loses_the_card(start_host, launches, log, name):
    """Ten kibibytes of words, read from or written to a page behind which XRT itself has one at most."""
    host, unit = start_host(), UNITS[0]
    host.use(unit, launches[0])
    address = int(host("allocate 4096 0")[0])
    host(f"start {unit} {ARGUMENTS.index(name)} {address}")
    host.wait(unit)
    assert_lost(host, unit)
    found = re.search(rf"card lost: {unit} accessed device address (0x\w+), which is in no buffer", log.read_text())
    assert int(found[1], 16) in (address + 4096, address + 8192)


def test_killed_card_answers_with_ones(start_host, launches, log):
    host, unit = start_host(), UNITS[0]
    host.run(unit, launches[0])
    os.kill(host.card(), signal.SIGKILL)
    assert_lost(host, unit)
    (line,) = log.read_text().splitlines()
    assert line.endswith(f"host {host.process.pid}: card lost: its process was killed by signal 9")
    host("close")
    host.open()  # another card
    host.run(unit, launches[0])


def test_card_killed_during_runs(start_host, launches):
    host = start_host(**{FAULT_VARIABLE: "slow:5000"})
    for unit, launch in zip(UNITS, launches, strict=True):
        host.use(unit, launch)
        host(f"start {unit}")
    time.sleep(0.2)  # XRT starts them from another thread
    begin = time.monotonic()
    os.kill(host.card(), signal.SIGKILL)
    for unit in UNITS:
        host.wait(unit)
    assert time.monotonic() - begin < 3
    for unit in UNITS:
        assert_lost(host, unit)


@pytest.mark.parametrize("verb", ["copy 20000000 1", f"repeat {UNITS[0]} 100"])
def test_card_killed_at_any_moment(start_host, launches, verb):
    """In the middle of messages and of launches: the host always goes on."""
    host, kills = start_host(), 12
    for kill in range(kills):
        host.use(UNITS[0], launches[0])
        host(f"start {UNITS[0]}")
        host.wait(UNITS[0])
        card = host.card()
        host.send(verb)
        time.sleep(0.007 * kill + 0.001)
        os.kill(card, signal.SIGKILL)
        assert host.reply().startswith("ok")
        assert_lost(host, UNITS[0])
        host("close")
        host.open()
    host.run(UNITS[0], launches[0])
    assert kills == 12


def test_hanging_unit_leaves_the_others_alone(start_host, launches, log):
    host = start_host(**{FAULT_VARIABLE: f"hang:{UNITS[1]}"})
    host.use(UNITS[1], launches[1])
    host(f"start {UNITS[1]}")
    host.run(UNITS[0], launches[0])
    host.run(UNITS[2], launches[2])
    host.send(f"wait {UNITS[1]} 60000")
    with pytest.raises(subprocess.TimeoutExpired):
        host.process.wait(1)  # it waits
    os.kill(host.card(), signal.SIGKILL)
    assert host.reply().startswith("ok")
    assert host.read(UNITS[1], STATUS) == GONE
    assert f"{UNITS[1]} hangs: as BERTILE_EMU_FAULT says" in log.read_text()
    host("close")
    host.open()
    for unit, launch in zip(UNITS, launches, strict=True):  # faults are for the first card
        host.run(unit, launch)


def test_crashing_unit_is_named(start_host, launches, log):
    host = start_host(**{FAULT_VARIABLE: f"slow:1,crash:{UNITS[2]}"})
    host.run(UNITS[0], launches[0])
    host.use(UNITS[2], launches[2])
    host(f"start {UNITS[2]}")
    host.wait(UNITS[2])
    assert_lost(host, UNITS[2])
    assert f"card lost: {UNITS[2]} accessed device address" in log.read_text()


def test_unknown_fault_is_told(start_host, launches, log):
    host = start_host(**{FAULT_VARIABLE: "hing:encoder_1"})
    host.use(UNITS[0], launches[0])
    assert host.read(UNITS[0], STATUS) == GONE
    assert "not a fault: hing:encoder_1" in log.read_text()


def test_nothing_is_left_behind(start_host, launches):
    host = start_host()
    card = host.card()
    host.run(UNITS[0], launches[0])
    assert left_behind(host)  # while it is open
    begin = time.monotonic()
    host("close")
    assert time.monotonic() - begin < 3  # XRT alone sleeps for five seconds
    host.end()
    assert left_behind(host) == []
    assert not alive(card)


def test_host_that_never_closes(start_host, launches):
    host = start_host()
    card = host.card()
    host.run(UNITS[0], launches[0])
    host.end()
    assert await_true(lambda: not alive(card))
    assert await_true(lambda: left_behind(host) == [])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_card_ends_with_a_killed_host(start_host, launches, number):
    host = start_host(**{FAULT_VARIABLE: "slow:60000"})
    card = host.card()
    host.use(UNITS[0], launches[0])
    host(f"start {UNITS[0]}")
    time.sleep(0.2)  # XRT starts it from another thread
    os.killpg(host.process.pid, number)
    host.process.wait(5)
    assert await_true(lambda: not alive(card))
    assert await_true(lambda: left_behind(host) == [])


def test_folder_of_a_lost_card_and_a_killed_host_is_swept(start_host, launches):
    host = start_host()
    os.kill(host.card(), signal.SIGKILL)
    os.killpg(host.process.pid, signal.SIGKILL)
    host.process.wait(5)
    temporary = host.temporary
    assert len(list(temporary.iterdir())) == 1
    other = start_host(TMPDIR=str(temporary))
    (folder,) = temporary.iterdir()
    other.run(UNITS[0], launches[0])
    assert folder.exists()
    other.end()
    assert list(temporary.iterdir()) == []


def test_terminal_interrupt_does_not_reach_the_card(start_host, launches):
    host = start_host()
    assert os.getsid(host.card()) == host.card() != host.process.pid
    assert len(os.listdir(f"/proc/{host.card()}/fd")) == 4  # standard ones and the socket: nothing of the host's
    os.kill(host.card(), signal.SIGINT)
    host.run(UNITS[0], launches[0])


def test_hundred_rounds_leak_no_descriptor(start_host, launches):
    host = start_host()
    host.run(UNITS[0], launches[0])
    host("close")
    counts = set()
    for _ in range(100):
        host.open()
        host.use(UNITS[0], launches[0])
        host("close")
        counts.add(host("descriptors")[0])
        assert host.cards() == []
    assert len(counts) == 1
    host.open()
    host.run(UNITS[0], launches[0])


def test_long_folder_for_temporary_files(start_host, launches, tmp_path):
    """The path of a socket is short: another folder is taken."""
    folder = tmp_path / ("long" * 20)
    folder.mkdir()
    host = start_host(TMPDIR=str(folder))
    host.run(UNITS[0], launches[0])
    assert list(folder.iterdir()) == []


def start_with(start_host, folder: Path, card: str, **variables: str):
    """A host whose card process is this shell command."""
    program = folder / build.CARD_PROGRAM.relative_to(build.FARM)
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\n{card}\n")
    program.chmod(0o755)
    return start_host(XILINX_VITIS=str(folder), **variables)


@pytest.mark.parametrize("card", ["exit 3", "kill -9 $$"])
def test_card_that_does_not_come_up(start_host, launches, log, tmp_path, card):
    """Ended before it has connected: the slot is empty from the start."""
    begin = time.monotonic()
    host = start_with(start_host, tmp_path / "vitis", card)
    host.use(UNITS[0], launches[0])
    assert_lost(host, UNITS[0])
    assert time.monotonic() - begin < 10
    assert "card lost: its process " in log.read_text()


@pytest.mark.parametrize("cut", [0, 4, 9, 10, 14, 17, 1000, 20016])
def test_card_that_ends_in_the_middle_of_an_answer(start_host, launches, tmp_path, cut):
    """What has come of it is kept, the rest is ones."""
    breaking = Path(__file__).with_name("breaking_card.py")
    host = start_with(start_host, tmp_path / "vitis", f"exec {sys.executable} {breaking}", CUT=str(cut))
    host.use(UNITS[0], launches[0])
    host("copy 20000 1")
    assert_lost(host, UNITS[0])


def test_programs_that_the_host_starts_do_not_keep_the_card(start_host, launches):
    """The socket is closed in them."""
    host = start_host()
    host.run(UNITS[0], launches[0])
    sleeper = int(host("spawn")[0])
    card = host.card()
    os.kill(host.process.pid, signal.SIGKILL)
    host.process.wait(5)
    assert alive(sleeper)
    assert await_true(lambda: not alive(card))
    os.kill(sleeper, signal.SIGKILL)
