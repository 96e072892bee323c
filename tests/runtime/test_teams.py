"""Units that run a launch together: the integer reference's bits in both modes, chosen as said, and no unit left."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bertile.config.kernels import load_link
from bertile.config.spec import load_spec
from bertile.devices.launch import row_blocks_of
from bertile.devices.registry import DeviceOptions, open_device
from bertile.emulation.axlf import Section, decode_container
from bertile.emulation.xclbin import encode_xclbin
from bertile.errors import CapacityError
from bertile.pack.container import save_packed

from .host import digest, requests
from .team_host import BURST, LAUNCHES, LONE, PRESSED, TIMEOUT, launch_ids
from .test_encoder import expected_digests
from .test_faults import check

SPEC = load_spec()
PROGRAM = Path(__file__).with_name("team_host.py")
UNITS = [unit.encoder for unit in load_link().units]
ALL = "+".join(UNITS)
NEVER = "encoder_1, encoder_2 and encoder_3 do not finish: no end after 1.5 s; never began: encoder_2"


def scenario(card, name: str, model, **environment: str) -> dict:
    return card.scenario(name, model.path, program=PROGRAM, **environment).result


def test_both_modes_equal_the_reference(card, dealt):
    result = scenario(card, "modes", dealt)
    ids = launch_ids(dealt.packed.config.vocabulary)
    expected = expected_digests(dealt, [one for sequences in ids for one in sequences])
    assert len(set(expected)) == len(expected)
    for mode in result.values():
        assert mode["digests"] == expected
    assert set(result["False"]["units"]) == set(UNITS)
    assert result["True"]["units"] == result["None"]["units"] == [ALL] * len(LAUNCHES)


def test_a_queue_fills_the_units_and_a_lone_request_takes_all(card, dealt):
    result = scenario(card, "burst", dealt)
    expected = expected_digests(dealt, requests(BURST + 2 * LONE, dealt.packed.config.vocabulary, 130))
    assert len(set(expected)) > 0.9 * len(expected)
    assert result["digests"] == expected
    units = result["units"]
    assert units[:LONE] == units[-LONE:] == [ALL] * LONE
    queue = units[LONE:-LONE]
    assert set(UNITS) <= set(queue)
    assert queue.count(ALL) < BURST / 4


def test_every_launch_together(card, dealt):
    result = scenario(card, "pressed", dealt)
    assert result["digests"] == expected_digests(dealt, requests(PRESSED, dealt.packed.config.vocabulary, 130))
    assert set(result["units"]) == {ALL}


def test_texts_of_one_call_are_not_alone(card, dealt):
    result = scenario(card, "texts_at_once", dealt)
    assert sorted(result["None"]) == UNITS
    assert result["True"] == [ALL] * 3


@pytest.mark.parametrize("units", [1, 3])
def test_the_command_line_checks_every_layer(card, dealt, units):
    result = card.bertile("check", dealt.path, "--device", "xrt", "--xclbin", card.xclbin, "--units", units, "--json")
    report = json.loads(result.stdout)
    assert (result.returncode, result.stderr) == (0, "")
    rows = sum(row_blocks_of(tokens) for tokens in report["tokens"]) * 32
    launches = {1: 3, 3: 1}[units]
    assert (report["mismatches"], report["launches"]) == (0, launches)
    assert report["compared"] == launches * 2 * 64 * rows


def test_a_refused_launch_names_the_unit_that_refused(card, dealt):
    said = scenario(card, "refused", dealt)["said"]
    assert said[::2] == [f"{unit}: the kernel reports error digest" for unit in UNITS]
    _, second = requests(2, dealt.packed.config.vocabulary)
    assert said[1::2] == [digest(dealt.hidden_states([second]))] * 3


def test_a_unit_that_never_begins(card, dealt):
    """The others wait for it: all are named, and the one that is missing."""
    result = scenario(card, "hanging", dealt, BERTILE_EMU_FAULT="hang:encoder_2:4")
    assert result["said"] == ["answered"] * 2 + [NEVER] * 6
    assert result["seconds"] < TIMEOUT + 5
    assert result["refusal"] == NEVER
    assert (result["after"], result["cards"]) == ("answered", 1)


@pytest.mark.parametrize(
    ("field", "change", "said"),
    [
        # Indices behind the source: an error flag of the second engine, and the launch ends.
        ("source_stride", -16, "encoder_2: the engine reports error index"),
        # A tile too few is asked for: the second engine waits for ever, and the others for its words.
        ("tile_beats", -1, "encoder_1, encoder_2 and encoder_3 do not finish: no end after 1.5 s"),
    ],
)
def test_a_fault_in_the_middle_of_a_shared_launch(card, dealt, tmp_path, field, change, said):
    """It ends within the host's limit, on all units, and the next requests run."""
    packed = dealt.packed
    variant = next(v for v in packed.variants if (v.units, v.unit) == (3, 1))  # the one for short launches
    program = packed.program.copy()
    records = program.reshape(-1).view(SPEC.records["descriptor"].dtype)[variant.offset :]
    end = np.flatnonzero(records["opcode"] == SPEC.opcode.end)[0]
    last = np.flatnonzero(records["opcode"][:end] == SPEC.opcode.gemm)[-1]
    records[field][last] = int(records[field][last]) + change
    save_packed(replace(packed, program=program), tmp_path / "flawed.bertile")
    result = card.scenario("flawed", tmp_path / "flawed.bertile", program=PROGRAM).result
    assert result["said"].startswith(said)
    assert result["seconds"] < TIMEOUT + 5
    ids = requests(4, packed.config.vocabulary)
    assert result["after"] == expected_digests(dealt, ids)


def test_a_card_lost_while_units_wait(card, dealt):
    result = scenario(card, "lost", dealt, BERTILE_EMU_FAULT="hang:encoder_3:2")
    (message,) = set(result["said"])
    assert message.startswith("the card was lost")
    assert (result["after"], result["cards"]) == ("answered", 1)


def test_closing_while_units_wait(card, dealt):
    result = scenario(card, "closed", dealt, BERTILE_EMU_FAULT="hang:encoder_1:2")
    assert result["said"][0] == f"the card was closed while {ALL} ran this request"
    assert all(text.startswith("the card was closed") for text in result["said"])
    assert result["seconds"] < 8
    assert (result["cards"], result["after"]) == (0, "answered")


@pytest.mark.parametrize("fault", ["slow:1", "hang:encoder_2:3"])
def test_an_interrupt(card, dealt, fault):
    host = card.start(PROGRAM, "endless", card.xclbin, dealt.path, BERTILE_EMU_FAULT=fault)
    host.await_line("running")
    time.sleep(0.5)
    os.kill(host.process.pid, signal.SIGINT)
    outcome = host.wait(30)
    assert (outcome.returncode, outcome.stderr) == (130, "interrupted\n")


def test_a_card_with_one_unit(card, dealt):
    kernels = decode_container(card.xclbin.read_bytes(), str(card.xclbin)).sections[Section.BITSTREAM]
    link = load_link()
    card.xclbin.write_bytes(encode_xclbin(replace(link, units=link.units[:1]), kernels, "csim"))
    message = check(card, dealt.path, "--units", 3)
    assert message == "this file was packed for 3 units; the card has 1"
    result = scenario(card, "chosen", dealt)
    assert result["unit"] == UNITS[0]
    assert result["digests"] == expected_digests(dealt, launch_ids(dealt.packed.config.vocabulary)[2])


@pytest.mark.parametrize(
    ("units", "message"),
    [
        (3, "the file is packed for one unit: bertile pack --units 3 makes one for 3"),
        (2, "2 units: one runs a launch alone, or 3 together"),
    ],
)
def test_a_file_for_one_unit(tiny, units, message):
    """Said before XRT is looked for."""
    with pytest.raises(CapacityError) as raised:
        open_device("xrt", tiny.packed, DeviceOptions(units=units))
    assert str(raised.value) == message
