"""Units of the emulated card that run a launch together: started one by one, they wait for each other."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tests.emulation.card_hosts import ARGUMENTS, OUTPUT, STATUS, Host
from tests.random_encoder import encoder_config, random_quantized

from bertile.config.kernels import load_link
from bertile.config.spec import load_spec
from bertile.devices.launch import SharedLaunch, lay_out
from bertile.golden.integer import IntegerEncoder
from bertile.pack.packer import pack_encoder

SPEC = load_spec()
UNITS = [unit.encoder for unit in load_link().units]


@dataclass(frozen=True)
class Part:
    """The buffers of one unit, as `Host.use` takes them."""

    files: list[Path]


class SharedFiles:
    """The buffers of a launch that all units share, and what must come out."""

    def __init__(self, folder: Path, lengths: list[int]):
        model = random_quantized(encoder_config(64, 112, 2), 2)
        packed, rng = pack_encoder(model, units=len(UNITS)), np.random.default_rng(2)
        sequences = [rng.integers(-128, 128, (tokens, 64)).astype(np.int8) for tokens in lengths]
        self.expected = IntegerEncoder(model).run(sequences)
        self.shared = SharedLaunch(packed, lay_out(sequences), len(UNITS))
        self.parts = []
        for unit, name in enumerate(UNITS):
            mine = [getattr(self.shared, kind)[unit] for kind in ("tables", "inputs", "outputs", "statuses")]
            (folder / name).mkdir(parents=True)
            files = [folder / name / argument for argument in ARGUMENTS]
            for file, image in zip(files, [packed.program, packed.weights, packed.parameters, *mine], strict=True):
                image.tofile(file)
            self.parts.append(Part(files))

    def use(self, host: Host) -> None:
        for unit, part in zip(UNITS, self.parts, strict=True):
            host.use(unit, part)

    def check(self, host: Host) -> None:
        """Wait for every unit; the result they have made together."""
        for number, unit in enumerate(UNITS):
            host.wait(unit)
            self.shared.outputs[number][:] = np.frombuffer(host.read(unit, OUTPUT), np.int8).reshape(
                self.shared.outputs[number].shape
            )
            self.shared.statuses[number][:] = np.frombuffer(host.read(unit, STATUS), np.uint8)
        assert np.array_equal(self.shared.result(), self.expected)


def error_in(status: bytes) -> int:
    return int(SPEC.records["status"].decode(status)[0]["error"])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> SharedFiles:
    return SharedFiles(tmp_path_factory.mktemp("shared"), [33, 15, 64])


def test_units_started_in_any_order(start_host, shared, launches):
    """Launch after launch, one of a unit alone between them."""
    host = start_host()
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        shared.use(host)
        for unit in order:
            host(f"start {UNITS[unit]}")
        shared.check(host)
        host.run(UNITS[order[0]], launches[0])


def test_who_waits_says_that_it_has_begun(start_host, shared):
    host = start_host()
    shared.use(host)
    begun = [UNITS[0], UNITS[2]]
    for unit in begun:
        host(f"start {unit}")
    deadline = time.monotonic() + 10
    while not all(any(host.read(unit, STATUS)) for unit in begun):
        assert time.monotonic() < deadline
    time.sleep(0.1)
    assert [error_in(host.read(unit, STATUS)) for unit in begun] == [SPEC.error.running] * 2
    assert not any(host.read(UNITS[1], STATUS))
    host(f"start {UNITS[1]}")
    shared.check(host)
