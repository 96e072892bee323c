"""The host runtime on the emulated card: the integer reference's bits, in order, and nothing left behind."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bertile.config.spec import load_spec
from bertile.devices.launch import row_blocks_of
from bertile.inference import mean_pool
from bertile.runtime import plan_launches
from bertile.text import TextEncoder

from .host import REQUESTS, digest, requests

SPEC = load_spec()
MEBIBYTE = 1 << 20


def expected_digests(model, sequences: list[np.ndarray]) -> list[str]:
    return [digest([hidden]) for hidden in model.hidden_states(sequences)]


@pytest.mark.slow
def test_a_thousand_requests_on_three_units(card, tiny):
    """Each request has its own answer, and all units worked."""
    result = card.scenario("many", tiny.path, 300).result
    expected = expected_digests(tiny, requests(REQUESTS, tiny.packed.config.vocabulary))
    assert len(set(expected)) > 0.98 * REQUESTS  # so that two answers in each other's place would show
    assert result["digests"] == expected
    assert set(result["units"]) == {"encoder_1", "encoder_2", "encoder_3"}
    assert min(result["units"].values()) > REQUESTS / 10
    assert sum(result["units"].values()) == REQUESTS


def test_sequences_share_a_launch(card, tiny):
    result = card.scenario("shared", tiny.path).result
    assert result["digests"] == expected_digests(tiny, requests(12, tiny.packed.config.vocabulary))
    assert list(result["times"]) == ["queued", "embed", "to_card", "run", "noticed", "from_card", "result"]
    assert all(seconds > 0 for seconds in result["times"].values())
    assert sum(result["times"].values()) == pytest.approx(result["total"], rel=0.2, abs=0.005)


def test_texts_give_the_embeddings_of_the_reference(card, minilm):
    result = card.scenario("texts", minilm.path).result
    lines = ["A man plays the guitar.", "Shares fell.", "Someone plays music.", "The market lost."]
    ids = TextEncoder(minilm.packed.tokenizer, minilm.packed.config).encode(lines)
    assert np.array_equal(np.float32(result["plain"]), mean_pool(minilm.hidden_states(ids)))
    assert result["detailed_equal"] is True
    assert result["awaited_off"] < 1e-6  # a norm in float32, of one row and of four
    assert result["emulated"] is True
    assert result["units"] == ["encoder_1", "encoder_2", "encoder_3"]
    assert result["empty"] == [0, 384]


@pytest.mark.slow
def test_a_hundred_rounds_leave_nothing_behind(card, tiny):
    result = card.scenario("rounds", tiny.path, 200).result
    (files, memory), (files_later, memory_later) = result["seen"]
    assert files_later == files
    assert memory_later - memory < 8 * MEBIBYTE, "of 80 rounds, each with 10 MB of buffers"
    assert result["cards"] == []


def test_a_wrong_request_fails_alone(card, tiny):
    said = card.scenario("mistakes", tiny.path).result["said"]
    assert [said[0], said[2], said[5]] == ["answered"] * 3
    assert said[1] == "513 tokens: this model takes 1 to 512"
    assert "at least one sequence" in said[3]
    assert said[4] == "token ids 5 to 61: the vocabulary has 61"


def test_the_command_line_checks_every_unit(card, tiny):
    result = card.bertile("check", tiny.path, "--device", "xrt", "--xclbin", card.xclbin, "--json")
    report = json.loads(result.stdout)
    assert (result.returncode, result.stderr) == (0, "")
    rows = sum(row_blocks_of(tokens) for tokens in report["tokens"]) * SPEC.word.tokens
    assert report["compared"] == 3 * 2 * 64 * rows
    assert report["mismatches"] == 0
    assert report["launches"] == 3


def test_the_command_line_encodes_texts(card, minilm):
    text = card.folder / "text.txt"
    text.write_text("A man plays the guitar.\nShares fell.\n")
    outputs = [
        card.bertile("run", minilm.path, "--text", text, "--json", "--device", *device)
        for device in (["xrt", "--xclbin", card.xclbin], ["integer"])
    ]
    xrt, integer = (json.loads(output.stdout)["sentences"] for output in outputs)
    assert xrt == integer
    assert len(xrt) == 2


@pytest.mark.parametrize("units", [1, 3])
@pytest.mark.parametrize("lengths", [[5], [512, 512], [1] * 40, [33, 64, 1, 200, 90], [32] * 7, []], ids=len)
def test_launch_plans(lengths, units):
    groups = plan_launches(lengths, units)
    assert [index for group in groups for index in group] == list(range(len(lengths)))
    blocks = [[row_blocks_of(lengths[index]) for index in group] for group in groups]
    assert all(sum(group) <= SPEC.row_blocks and len(group) <= SPEC.capacity.sequences for group in blocks)
    total = sum(map(sum, blocks))
    if units == 3 and len(lengths) >= 3:
        assert len(groups) >= 3, "a unit idles"
    if units == 1 and total <= SPEC.row_blocks and len(lengths) <= SPEC.capacity.sequences:
        assert len(groups) <= 1
