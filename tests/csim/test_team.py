"""Three units that run a launch together in C-simulation: every value of every layer, as on one unit alone."""

from __future__ import annotations

import numpy as np
import pytest
from tests.csim.conftest import SHAPES
from tests.random_encoder import encoder_config, random_quantized

import bertile.devices.launch
from bertile.config.spec import load_spec
from bertile.devices.csim import CsimEncoder
from bertile.devices.launch import encode_launches
from bertile.errors import CapacityError, DeviceError
from bertile.golden.integer import IntegerEncoder
from bertile.models.encoder import MATRICES
from bertile.models.quantized import QuantizedEncoder
from bertile.pack.packer import PackedModel, kept_vectors, pack_encoder

SPEC = load_spec()
UNITS = SPEC.cooperation.units


def without_heads(model: QuantizedEncoder) -> QuantizedEncoder:
    """Nobody reads the heads of the first layer but one, nor those of the second, nor any of its neurons."""
    for number, layer in enumerate(model.layers):
        size = model.config.head_size
        layer.attention_output.weight[:, size * (number == 0) :] = 0
        if number == 1:
            layer.ffn_out.weight[:] = 0
    return model


TEAM_SHAPES = {
    **{name: SHAPES[name] for name in ("heads of 64", "three heads of 32", "a matrix of zeros", "base")},
    # Tiles and heads that three units cannot share evenly.
    "uneven": lambda: random_quantized(encoder_config(160, 112, 5), 11, {"query": 0.05, "ffn_in": 0.9}),
    "removed": lambda: without_heads(random_quantized(encoder_config(96, 112, 3), 12)),
    "largest": SHAPES["largest"],
}


class Team:
    def __init__(self, name: str):
        self.model = TEAM_SHAPES[name]()
        self.packed: PackedModel = pack_encoder(self.model, units=UNITS)
        self.integer = IntegerEncoder(self.model)

    def sequences(self, lengths: list[int], seed: int = 0) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        return [rng.integers(-128, 128, (tokens, self.model.config.hidden)).astype(np.int8) for tokens in lengths]


@pytest.fixture(scope="module")
def team():
    cache: dict[str, Team] = {}

    def make(name: str) -> Team:
        if name not in cache:
            cache[name] = Team(name)
        return cache[name]

    return make


def assert_equal_run(team: Team, device: CsimEncoder, sequences: list[np.ndarray]) -> None:
    expected, actual = team.integer.run(sequences), device.run(sequences)
    assert actual.shape == expected.shape
    assert int((actual == expected).sum()) == expected.size > 0


@pytest.mark.parametrize("units", [1, UNITS])
@pytest.mark.parametrize("lengths", [[1], [33], [40, 3, 200, 32, 100], [512]], ids=str)
@pytest.mark.parametrize("shape", ["heads of 64", "three heads of 32", "a matrix of zeros", "uneven", "removed"])
def test_equals_the_integer_reference(team, shape, lengths, units):
    encoder = team(shape)
    assert_equal_run(encoder, CsimEncoder(encoder.packed, units=units), encoder.sequences(lengths))


# 256 tokens: the longest LayerNorm that no gemm awaits, which hangs with streams between units that do not hold it.
@pytest.mark.parametrize(
    ("shape", "lengths"), [("base", [128]), ("base", [256]), ("base", [200, 57]), ("largest", [512])]
)
def test_chunks_of_row_blocks(team, shape, lengths):
    """More row blocks than the FFN fits at once: words of a chunk come between those of others."""
    encoder = team(shape)
    assert_equal_run(encoder, CsimEncoder(encoder.packed, units=UNITS), encoder.sequences(lengths))


@pytest.mark.parametrize(
    ("shape", "lengths"),
    [("heads of 64", [40, 3, 200]), ("uneven", [33]), ("removed", [77]), ("base", [200, 57])],
)
def test_every_command_awaits_the_words_of_all_units(team, shape, lengths):
    """Words of each unit arrive only when the engine waits for one: a join that is missing leaves stale words."""
    encoder = team(shape)
    device = CsimEncoder(encoder.packed, late_words=True, units=UNITS)
    assert_equal_run(encoder, device, encoder.sequences(lengths))


def test_launches_leave_no_state_behind(team):
    encoder = team("uneven")
    device = CsimEncoder(encoder.packed, units=UNITS)
    first, second = encoder.sequences([33, 64]), encoder.sequences([300], 1)
    outputs = [device.run(sequences) for sequences in (first, second, first)]
    assert np.array_equal(outputs[0], outputs[2])


@pytest.mark.parametrize("unit", range(UNITS))
def test_a_launch_that_one_unit_refuses_ends_on_all(team, monkeypatch, unit):
    """The others would wait for its words for ever. The error names the unit, and the next launch runs."""
    encoder = team("heads of 64")
    device, sequences = CsimEncoder(encoder.packed, units=UNITS), encoder.sequences([40])

    def encode(packed, launch, trace, units):
        tables = [table.copy() for table in encode_launches(packed, launch, trace, units)]
        tables[unit][0, :4] = 0  # the magic number
        return tables

    with monkeypatch.context() as patch:
        patch.setattr(bertile.devices.launch, "encode_launches", encode)
        with pytest.raises(DeviceError, match=f"^unit {unit + 1}: the kernel reports error digest$"):
            device.run(sequences)
    assert_equal_run(encoder, device, sequences)


def test_tools_see_tiles_in_the_order_of_the_model(team):
    encoder = team("uneven")
    for layer, quantized in enumerate(encoder.model.layers):
        for matrix in MATRICES:
            weight = getattr(quantized, matrix).weight
            vectors = weight.reshape(len(weight) // SPEC.array.outputs, SPEC.array.outputs, -1).any(axis=1)
            assert np.array_equal(kept_vectors(encoder.packed, layer, matrix), vectors)


def test_a_file_for_one_unit_is_refused(team):
    packed = pack_encoder(team("heads of 64").model)
    with pytest.raises(CapacityError, match="packed for one unit: bertile pack --units 3"):
        CsimEncoder(packed, units=UNITS)
    with pytest.raises(CapacityError, match="2 units"):
        CsimEncoder(packed, units=2)
