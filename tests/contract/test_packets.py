"""Tile packets: encoder and decoder invert each other, broken streams are refused, and C++ reads what Python writes."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertile.config.spec import load_spec
from bertile.devices.build import build_test_bench
from bertile.errors import FormatError
from bertile.models.quantized import QuantizedLinear
from bertile.pack.packets import decode_matrix, encode_matrix, tile_features

SPEC = load_spec()
OUTPUTS = SPEC.array.outputs
HEADER = SPEC.tile.parameter_beats
LAST, VALID = 1 << SPEC.packet.last_bit, 1 << SPEC.packet.valid_bit
FIELDS = ("weight", "bias", "multiplier", "shift")


def random_matrix(seed: int, tiles: int, inputs: int, density: float, extreme: bool = False) -> QuantizedLinear:
    """Tiles of unequal numbers of vectors; with `extreme`, nothing but the ends of every range."""
    rng = np.random.default_rng(seed)
    outputs = tiles * OUTPUTS
    values = np.array([-127, 0, 127]) if extreme else np.arange(-127, 128)
    weight = rng.choice(values, (outputs, inputs)).astype(np.int8)
    tile_density = np.clip(density * rng.uniform(0.3, 1.7, (tiles, 1)), 0, 1) if 0 < density < 1 else density
    weight *= np.repeat(rng.random((tiles, inputs)) < tile_density, OUTPUTS, axis=0)
    bias = rng.choice([-(2**31), 2**31 - 1], outputs) if extreme else rng.integers(-(2**31), 2**31, outputs)
    return QuantizedLinear(
        weight,
        bias.astype(np.int32),
        (np.full(outputs, 65535) if extreme else rng.integers(0, 65536, outputs)).astype(np.uint16),
        rng.integers(0, 48, outputs).astype(np.uint8),
    )


matrices = st.builds(
    random_matrix,
    seed=st.integers(0, 2**32 - 1),
    tiles=st.integers(1, 4),
    inputs=st.integers(1, 200),
    density=st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.9, 1.0]),
    extreme=st.booleans(),
)


def vectors_of(linear: QuantizedLinear) -> np.ndarray:
    """Kept vectors of each tile."""
    return linear.weight.reshape(-1, OUTPUTS, linear.weight.shape[1]).any(axis=1).sum(axis=1)


def assert_same(actual: QuantizedLinear, expected: QuantizedLinear) -> None:
    for field in FIELDS:
        assert np.array_equal(getattr(actual, field), getattr(expected, field)), field


def assert_round_trip(linear: QuantizedLinear) -> None:
    tiles = encode_matrix(linear)
    assert_same(decode_matrix(np.concatenate(tiles), len(tiles), linear.weight.shape[1]), linear)
    kept = linear.weight.reshape(-1, OUTPUTS, linear.weight.shape[1]).any(axis=1)
    for beats, features, vectors in zip(tiles, kept, vectors_of(linear), strict=True):
        assert np.array_equal(tile_features(beats, linear.weight.shape[1]), np.flatnonzero(features))
        packets = max(1, -(-int(vectors) // SPEC.packet.vectors))
        assert beats.shape == (HEADER + packets + -(-int(vectors) // SPEC.packet.vectors_per_beat), 64)


@given(matrices)
def test_round_trip(linear):
    assert_round_trip(linear)


@pytest.mark.parametrize("vectors", [0, 1, 3, 4, 5, 31, 32, 33, 63, 64, 65, 100])
def test_round_trip_at_packet_borders(vectors):
    linear = random_matrix(vectors, 1, 100, 1.0)
    linear.weight[0] = 1  # no vector is zero by chance
    linear.weight[:, np.random.default_rng(vectors).permutation(100)[vectors:]] = 0
    assert vectors_of(linear) == [vectors]
    assert_round_trip(linear)


@pytest.mark.parametrize("density", [0.0, 0.05, 1.0])
def test_round_trip_of_the_widest_matrix(density):
    assert_round_trip(random_matrix(7, 3, SPEC.capacity.ffn, density))


def beats_of(linear: QuantizedLinear) -> np.ndarray:
    return np.concatenate(encode_matrix(linear))


@given(matrices, st.data())
def test_damaged_beats_are_refused_or_decoded_but_never_crash(linear, data):
    """Random bytes, and beats dropped, doubled or swapped: FormatError, or a matrix of the right shape."""
    beats = beats_of(linear)
    for _ in range(data.draw(st.integers(1, 4))):
        kind = data.draw(st.sampled_from(["byte", "index", "drop", "double", "swap"]))
        row = data.draw(st.integers(0, len(beats) - 1))
        if kind == "byte":
            beats[row, data.draw(st.integers(0, 63))] ^= data.draw(st.integers(1, 255))
        elif kind == "index":
            beats[row].view("<u2")[data.draw(st.integers(0, 31))] = data.draw(st.integers(0, 65535))
        elif kind == "drop" and len(beats) > 1:
            beats = np.delete(beats, row, axis=0)
        elif kind == "double":
            beats = np.insert(beats, row, beats[row], axis=0)
        else:
            beats[[row, 0]] = beats[[0, row]]
    try:
        decoded = decode_matrix(beats, len(linear.weight) // OUTPUTS, linear.weight.shape[1])
    except FormatError:
        return
    assert decoded.weight.shape == linear.weight.shape
    # What is accepted is what the encoder writes for it, up to the bits of an entry that mean nothing.
    assert_round_trip(decoded)


@given(matrices)
def test_every_truncation_is_refused(linear):
    beats = beats_of(linear)
    tiles, inputs = len(linear.weight) // OUTPUTS, linear.weight.shape[1]
    for length in range(len(beats)):
        with pytest.raises(FormatError):
            decode_matrix(beats[:length], tiles, inputs)
    with pytest.raises(FormatError, match="1 beats behind its last tile"):
        decode_matrix(np.concatenate([beats, beats[:1]]), tiles, inputs)


def entries(beats: np.ndarray, beat: int = HEADER) -> np.ndarray:
    """The index entries of a beat, to be changed in place."""
    return beats[beat].view("<u2")


def swap_first(beats: np.ndarray) -> None:
    entries(beats)[[1, 2]] = entries(beats)[[2, 1]]


def set_entry(position: int, value: int, beat: int = HEADER):
    def change(beats: np.ndarray) -> None:
        entries(beats, beat)[position] = value

    return change


def claim_more_vectors(beats: np.ndarray) -> None:
    entries(beats, SECOND_PACKET)[:9] = VALID | np.arange(32, 41)
    entries(beats, SECOND_PACKET)[0] |= LAST


def set_padding_weight(beats: np.ndarray) -> None:
    beats[-1, 63] = 1


SECOND_PACKET = HEADER + 9
DAMAGE = {
    "index beyond the inputs": (set_entry(31, VALID | 41), "bad index beat 2"),
    "index twice": (set_entry(5, VALID | 4), "bad index beat 2"),
    "indices out of order": (swap_first, "bad index beat 2"),
    "index of the packet before": (set_entry(0, VALID | LAST | 31, SECOND_PACKET), "bad index beat 11"),
    "gap between valid entries": (set_entry(5, 5), "bad index beat 2"),
    "last packet too early": (set_entry(0, VALID | LAST), "beats behind its last tile"),
    "no last packet": (set_entry(0, VALID | 32, SECOND_PACKET), "run over the end"),
    "more vectors than beats": (claim_more_vectors, "run over the end"),
    "weights behind the last vector": (set_padding_weight, "weights behind the last vector of packet 11"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_malformed_packets_are_refused_by_name(damage):
    """38 vectors of 41 inputs: a packet of 32 and one of 6."""
    linear = random_matrix(3, 1, 41, 1.0)
    linear.weight[0] = 1
    linear.weight[:, 38:] = 0
    beats = beats_of(linear)
    assert_same(decode_matrix(beats, 1, 41), linear)
    change, message = DAMAGE[damage]
    change(beats)
    with pytest.raises(FormatError, match=message):
        decode_matrix(beats, 1, 41)


def read_by_cpp(linear: QuantizedLinear, path) -> tuple[QuantizedLinear, int]:
    """What the engine's tile loader makes of the encoded matrix, and how many vectors it has stored."""
    beats = beats_of(linear)
    path.write_bytes(beats.tobytes())
    tiles = len(linear.weight) // OUTPUTS
    result = subprocess.run(
        [build_test_bench("tb_tile_loader"), path, str(tiles)], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    weight = np.zeros_like(linear.weight, np.int64)
    parameters, tile, vectors = [], -1, 0
    for line in result.stdout.splitlines():
        kind, *numbers = line.split()
        values = [int(number) for number in numbers]
        if kind == "tile":
            tile += 1
        elif kind == "parameter":
            parameters.append(values)
        else:
            assert any(values[1:]) or values[0] == 0  # padding vectors are zero and name input 0
            weight[tile * OUTPUTS : (tile + 1) * OUTPUTS, values[0]] += values[1:]
            vectors += any(values[1:])
    bias, multiplier, shift = np.array(parameters).T
    return QuantizedLinear(weight, bias, multiplier, shift), vectors


@pytest.mark.parametrize(
    ("tiles", "inputs", "density", "extreme"),
    [
        (1, 1, 1.0, False),
        (3, 33, 1.0, True),
        (5, 97, 0.0, True),
        (7, 150, 0.3, False),
        (2, 4096, 1.0, True),
        (6, 4096, 0.1, False),
    ],
)
def test_cpp_reads_what_python_writes(tmp_path, tiles, inputs, density, extreme):
    linear = random_matrix(inputs, tiles, inputs, density, extreme)
    actual, vectors = read_by_cpp(linear, tmp_path / "tiles.bin")
    assert_same(actual, linear)
    assert vectors == vectors_of(linear).sum()


def test_cpp_reports_a_truncated_tile(tmp_path):
    path = tmp_path / "tiles.bin"
    path.write_bytes(beats_of(random_matrix(1, 2, 40, 0.5))[:-1].tobytes())
    result = subprocess.run([build_test_bench("tb_tile_loader"), path, "2"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert "run over the end" in result.stderr
