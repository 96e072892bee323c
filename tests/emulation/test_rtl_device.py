"""The emulated compute unit with the Verilated RTL engine: the integer reference's bits, and cycles that repeat."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from tests.random_encoder import encoder_config, random_quantized

import bertile.devices.launch
import bertile.devices.rtl as rtl
from bertile.config.spec import load_spec
from bertile.config.target import load_target
from bertile.devices.launch import encode_launches
from bertile.devices.registry import DeviceOptions, open_device
from bertile.devices.rtl import RtlEncoder, layer_commands, timing_of
from bertile.errors import BertileError, DeviceError
from bertile.golden.integer import IntegerEncoder
from bertile.models.encoder import MATRICES
from bertile.pack.packer import pack_encoder

SPEC = load_spec()
SHAPES = {
    "heads of 32": lambda: random_quantized(encoder_config(64, 112, 2), 1),
    "heads of 64": lambda: random_quantized(encoder_config(128, 208, 2, activation="relu"), 2, {"query": 0.05}),
    "a matrix of zeros": lambda: random_quantized(encoder_config(64, 112, 2), 4, {"key": 0.0, "ffn_out": 0.0}),
    "split": lambda: random_quantized(encoder_config(768, 3072, 12, layers=1), 7, dict.fromkeys(MATRICES, 0.05)),
}


class Pair:
    """A packed random encoder, and its integer reference."""

    def __init__(self, shape: str):
        model = SHAPES[shape]()
        self.packed, self.integer = pack_encoder(model), IntegerEncoder(model)

    def sequences(self, lengths: list[int], seed: int = 0) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        return [rng.integers(-128, 128, (tokens, self.packed.config.hidden)).astype(np.int8) for tokens in lengths]

    def check(self, device: RtlEncoder, lengths: list[int]) -> rtl.LaunchCycles:
        """One launch equals the reference; its cycles."""
        sequences = self.sequences(lengths)
        expected, output = self.integer.run(sequences), device.run(sequences)
        assert output.shape == expected.shape
        assert int((output == expected).sum()) == expected.size > 0
        return device.cycles


@pytest.mark.parametrize("lengths", [[1], [33, 15, 64], [512]], ids=str)
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "split"])
def test_equals_the_integer_reference(shape, lengths):
    pair = Pair(shape)
    assert pair.check(RtlEncoder(pair.packed), lengths).total > 0


@pytest.mark.slow
def test_split_heads_and_row_chunks():
    pair = Pair("split")
    pair.check(RtlEncoder(pair.packed), [300, 40])


def test_cycles_repeat_and_add_up():
    """The model lives across launches: neither the launch before nor the scheduling of threads changes a cycle."""
    pair = Pair("heads of 32")
    device = RtlEncoder(pair.packed)
    first = pair.check(device, [70, 5])
    other = pair.check(device, [33])
    assert [pair.check(device, lengths) for lengths in ([70, 5], [33], [70, 5])] == [first, other, first]
    assert pair.check(RtlEncoder(pair.packed), [70, 5]) == first
    parts = first.idle + first.halt + first.gemm + first.scores + first.context + first.after
    assert parts == first.total
    # Four row blocks, two heads: every word of the streams is counted.
    hidden, ffn, row_blocks = 64, 112, 4
    gemm_results = 2 * row_blocks * (5 * hidden + ffn)
    score_results = 2 * 2 * (3 * 80 + 16)
    context_results = 2 * 2 * row_blocks * 32
    assert first.results == gemm_results + score_results + context_results + 1  # and the answer to halt
    assert first.words == gemm_results + score_results + context_results + 2 * 2 * row_blocks * 2 + row_blocks * hidden
    gemms = 6 + 4  # queries and what is not a projection in two parts: two row blocks go ahead
    assert first.commands == 2 * (gemms + 2 * 2 * row_blocks) + 1


def test_slower_memory_costs_cycles(monkeypatch):
    pair = Pair("heads of 64")
    target = load_target()
    slow = {**target, "ddr": {**target["ddr"], "gigabytes_per_second": 0.5, "latency_ns": 2000}}
    fast = pair.check(RtlEncoder(pair.packed), [40])
    monkeypatch.setattr(rtl, "load_target", lambda: slow)
    assert pair.check(RtlEncoder(pair.packed), [40]).total > 2 * fast.total


def test_a_stage_without_a_latency_is_named(monkeypatch):
    pair = Pair("heads of 32")
    target = load_target()
    latency = {name: cycles for name, cycles in target["latency"].items() if name != "NormApply"}
    monkeypatch.setattr(rtl, "load_target", lambda: {**target, "latency": latency})
    with pytest.raises(DeviceError, match="NormApply: the timing model has no latency"):
        RtlEncoder(pair.packed).run(pair.sequences([5]))


def test_assumptions_as_cycles():
    timing = timing_of(load_target())
    assert timing.memory_latency == 60
    assert timing.memory_bytes_per_cycle == pytest.approx(19.2 * 0.85 / 0.3)
    assert timing.period_picoseconds == 3333


def test_refused_launch_leaves_the_engine_usable(monkeypatch):
    pair = Pair("heads of 32")
    device = RtlEncoder(pair.packed)

    def broken(packed, launch, trace, units):
        table = encode_launches(packed, launch, trace, units)[0].copy()
        table[0, 0] ^= 1
        return [table]

    with monkeypatch.context() as patch:
        patch.setattr(bertile.devices.launch, "encode_launches", broken)
        with pytest.raises(DeviceError, match=r"error digest$"):
            device.run(pair.sequences([5]))
    pair.check(device, [5])


def test_standstill_is_an_error_that_names_streams():
    """A program that promises more tiles than it has: the engine waits for beats that never come."""
    pair = Pair("heads of 32")
    program = pair.packed.program.copy()
    records = program.reshape(-1).view(SPEC.records["descriptor"].dtype)
    end = np.flatnonzero(records["opcode"] == SPEC.opcode.end)[0]  # of the program for such short launches
    gemm = np.flatnonzero(records["opcode"][:end] == SPEC.opcode.gemm)[-1]
    records["tile_beats"][gemm] -= 1
    device = RtlEncoder(replace(pair.packed, program=program))
    with pytest.raises(DeviceError, match=r"deadlock .*engine_tiles \(empty\)"):
        device.run(pair.sequences([5]))
    device.packed = pair.packed
    pair.check(device, [5])  # on a fresh model


def test_commands_of_layers():
    """The ranges tile the launch, whatever its size, and cover all but halt."""
    for shape, layers in (("heads of 64", 2), ("split", 1)):
        pair = Pair(shape)
        for lengths in ([1], [200, 57], [512]):
            row_blocks = sum(-(-tokens // 32) for tokens in lengths)
            ranges = layer_commands(pair.packed, row_blocks)
            assert len(ranges) == layers
            assert ranges[0][0] == 0
            assert all(last + 1 == first for (_, last), (first, _) in pairwise(ranges))
            if shape != "split":
                assert pair.check(RtlEncoder(pair.packed), lengths).commands == ranges[-1][1] + 2


@pytest.mark.slow
def test_waves_of_one_layer(tmp_path):
    pair = Pair("heads of 32")
    device = RtlEncoder(pair.packed, tmp_path / "layer.fst", 1)
    assert pair.check(device, [5]) == pair.check(RtlEncoder(pair.packed), [5])
    size = (tmp_path / "layer.fst").stat().st_size
    assert size > 10_000
    pair.check(device, [7])
    assert (tmp_path / "layer.fst").stat().st_size == size  # the first launch alone


def test_bad_waves_are_refused(tmp_path):
    packed = Pair("heads of 32").packed
    with pytest.raises(BertileError, match="layers 0 to 1"):
        RtlEncoder(packed, tmp_path / "x.fst", 2)
    with pytest.raises(BertileError, match="no such folder"):
        RtlEncoder(packed, tmp_path / "missing" / "x.fst")
    with pytest.raises(BertileError, match="is a folder"):
        RtlEncoder(packed, tmp_path)
    with pytest.raises(BertileError, match="--waves goes with --device rtl"):
        open_device("csim", packed, DeviceOptions(waves=tmp_path / "x.fst"))
