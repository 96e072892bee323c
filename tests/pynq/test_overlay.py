"""The PYNQ overlay on the emulated card: the integer reference's bits on every unit, and one line for what is wrong."""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.runtime.conftest import Host, Outcome, PackedFile, pack_dealt, pack_minilm, pack_tiny

from bertile.config.kernels import ENCODER, load_link
from bertile.config.paths import BUILD_DIR
from bertile.config.spec import load_spec
from bertile.emulation.xclbin import encode_xclbin
from bertile.errors import DeviceError
from bertile.golden.integer import IntegerEncoder
from bertile.inference import mean_pool
from bertile.pack.packer import unpack_encoder
from bertile.text import TextEncoder

from .host import LENGTHS, TEXTS, digest, inputs, requests

SPEC = load_spec()
PYTHON = BUILD_DIR / "pynq" / "venv" / "bin" / "python"
HOST = Path(__file__).with_name("host.py")
UNITS = ["encoder_1", "encoder_2", "encoder_3"]
XRT_LINE = re.compile(r"(CRITICAL WARNING|ERROR): \[SW-EM")


class PynqCard:
    """An emulated card of one test, and host programs for it in PYNQ's environment."""

    def __init__(self, xclbin: Path, folder: Path):
        self.xclbin, self.folder, self.marks = xclbin, folder, 0

    def start(self, scenario: str, model: Path, **environment: str) -> Host:
        """Start a scenario of host.py in a session of its own, as XRT may signal its whole process group."""
        self.marks += 1
        mark = os.getpid() * 1000 + 500 + self.marks
        variables = {"BERTILE_TEST_HOST": str(mark), "BERTILE_EMU_LOG": str(self.folder / "card.log")}
        process = subprocess.Popen(
            [str(PYTHON), str(HOST), scenario, str(self.xclbin), str(model)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env={**os.environ, **variables, **environment},
            start_new_session=True,
        )
        return Host(process, mark)

    def run(self, scenario: str, model: Path, **environment: str) -> Outcome:
        """To its end, which must come and leave no card process."""
        return self.start(scenario, model, **environment).wait()

    def failed(self, scenario: str, model: Path, **environment: str) -> str:
        """The one line of a program that must fail; XRT may have said something before."""
        outcome = self.run(scenario, model, **environment)
        assert outcome.returncode == 2, (outcome.returncode, outcome.stdout, outcome.stderr)
        *before, last = outcome.stderr.strip().splitlines()
        assert all(XRT_LINE.match(line) for line in before), outcome.stderr
        kind, _, message = last.partition(": ")
        assert kind == "error"
        return message


@pytest.fixture(scope="session")
def built_card() -> Path:
    """The emulated card's xclbin; without PYNQ's environment or XRT, the tests are skipped and say so."""
    from bertile.emulation.build import build_emulation, xrt_libraries

    if not PYTHON.exists():
        pytest.skip("NO PYNQ: the PYNQ overlay was NOT tested; make pynq installs its environment")
    try:
        xrt_libraries()
    except DeviceError as error:
        pytest.skip(f"NO XRT: the PYNQ overlay was NOT tested ({error})")
    return build_emulation("csim")


@pytest.fixture
def card(built_card: Path, tmp_path: Path) -> PynqCard:
    folder = tmp_path / "card"
    folder.mkdir()
    xclbin = folder / built_card.name
    xclbin.write_bytes(built_card.read_bytes())
    return PynqCard(xclbin, folder)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> PackedFile:
    return pack_tiny(tmp_path_factory.mktemp("packed"))


@pytest.fixture(scope="session")
def minilm(tmp_path_factory: pytest.TempPathFactory, built_card: Path) -> PackedFile:
    return pack_minilm(tmp_path_factory.mktemp("packed"))


def expected_layers(model: PackedFile, launches: int) -> list[list[str]]:
    """Digests of each layer's output, and of all layers together before these, by the integer reference."""
    reference = IntegerEncoder(unpack_encoder(model.packed))
    outputs = [reference.run(inputs(model.packed.config.hidden, number)) for number in range(launches)]
    assert all(output.shape[0] == model.packed.config.layers for output in outputs)
    return [[digest(output), *map(digest, output)] for output in outputs]


def sound(result: dict) -> dict:
    """A scenario's result, when the card was whole afterwards."""
    assert (result.pop("after"), result.pop("cards")) == ("answered", [])
    return result


@pytest.mark.parametrize("pack", [pack_tiny, pack_dealt])
def test_every_layer_on_every_unit(card, pack, tmp_path):
    """Also of a file with an order of features of its own."""
    model = pack(tmp_path)
    result = sound(card.run("units", model.path).result)
    expected = [together for together, *_ in expected_layers(model, 3)]
    assert len(set(expected)) == 3
    assert result == {"digests": expected, "units": UNITS, "overlay": UNITS}


def test_ragged_requests_share_launches_on_all_units(card, tiny):
    result = sound(card.run("hidden", tiny.path).result)
    expected = [digest(states) for states in tiny.hidden_states(requests(tiny.packed.config.vocabulary))]
    assert len(set(expected)) == len(LENGTHS)
    assert result == {"together": expected, "alone": expected, "none": []}


def test_texts_give_the_embeddings_of_the_reference(card, minilm):
    result = sound(card.run("texts", minilm.path).result)
    ids = TextEncoder(minilm.packed.tokenizer, minilm.packed.config).encode(list(TEXTS))
    expected = mean_pool(minilm.hidden_states(ids))
    assert np.float32(result["embeddings"]).shape == (4, 384)
    assert not np.abs(np.float32(result["embeddings"]) - expected).max() > 1e-6  # two versions of NumPy


def test_a_wrong_request_runs_nothing_and_spoils_nothing(card, tiny):
    said = sound(card.run("mistakes", tiny.path).result)["said"]
    assert said[1:5] == [
        "513 tokens: this model takes 1 to 512",
        "0 tokens: this model takes 1 to 512",
        "token ids 5 to 61: the vocabulary has 61",
        "token ids -1 to -1: the vocabulary has 61",
    ]
    assert said[5].startswith("17 sequences in 17 row blocks; a launch holds")
    assert (said[0], said[6]) == ("answered", "answered")


def test_streams_in_turns_and_one_left_in_the_middle(card, tiny):
    result = sound(card.run("leftover", tiny.path).result)
    assert result == {"digests": [layers[-1] for layers in expected_layers(tiny, 10)], "running": 2}


def test_many_rounds_leave_nothing_behind(card, tiny):
    result = card.run("rounds", tiny.path).result
    ((outputs, _),) = result["seen"]
    assert outputs == expected_layers(tiny, 1)[0][0]
    assert result["cards"] == []


def test_an_xclbin_of_another_spec(card, tiny):
    mine, other = (struct.pack("<Q", digest) for digest in (SPEC.digest_word, SPEC.digest_word ^ 1))
    data = card.xclbin.read_bytes()
    assert mine in data
    card.xclbin.write_bytes(data.replace(mine, other))
    message = card.failed("units", tiny.path)
    assert f"built for spec {SPEC.digest_word ^ 1:016x}, this program has {SPEC.digest_word:016x}" in message


def test_a_model_of_another_spec(card, tiny, tmp_path):
    model = tmp_path / "other.bertile"
    model.write_bytes(tiny.path.read_bytes().replace(SPEC.digest.encode(), b"0" * len(SPEC.digest)))
    assert "packed for spec 000000000000, this program has" in card.failed("units", model)


def test_an_xclbin_of_another_program(card, tiny):
    link = load_link()
    kernel = link.kernels[ENCODER]
    renamed = replace(kernel, arguments=(replace(kernel.arguments[0], name="weights_only"), *kernel.arguments[1:]))
    link = replace(link, kernels={**link.kernels, ENCODER: renamed})
    card.xclbin.write_bytes(encode_xclbin(link, b"", "csim"))
    assert "has the arguments weights_only, weights" in card.failed("units", tiny.path)


def test_no_xclbin(card, tiny):
    card.xclbin.unlink()
    assert f"cannot read {card.xclbin}" in card.failed("units", tiny.path)


def test_a_model_too_large_for_the_card(card, minilm):
    message = card.failed("texts", minilm.path, BERTILE_EMU_BANK="4M")
    assert re.match(r"encoder_1: \d+ bytes for weights in DDR\[\d\]: Allocate failed", message)


def test_a_card_lost_in_mid_run(card, tiny):
    before, after = sound(card.run("lost", tiny.path).result)["said"]
    assert before == "answered"
    assert "the card was lost" in after


def test_a_kernel_that_never_finishes(card, tiny):
    """The second launch of the unit: the first is the probe."""
    result = sound(card.run("hanging", tiny.path, BERTILE_EMU_FAULT="hang:encoder_2:2").result)
    assert result == {"said": "encoder_2 does not finish: no end after 1.5 s"}


def test_two_processes_on_one_card(card, tiny):
    first = card.start("opened", tiny.path)
    first.await_line("running")
    assert card.failed("units", tiny.path) == f"the card is in use by process {first.process.pid}"
    first.process.stdin.write("\n")
    sound(first.wait().result)


def test_a_host_that_dies_takes_its_card_with_it(card, tiny):
    first = card.start("opened", tiny.path)
    first.await_line("running")
    first.process.kill()
    assert first.wait(30).returncode == -signal.SIGKILL
