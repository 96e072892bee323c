"""The whole encoder in C-simulation against the integer reference: equality of every value, padding included."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import bertile.devices.csim
import bertile.devices.launch
import bertile.golden.integer
from bertile.config.spec import load_spec
from bertile.devices.csim import CsimEncoder
from bertile.devices.launch import Launch, check_status, encode_launch, encode_launches, lay_out
from bertile.errors import CapacityError, DeviceError
from bertile.models.quantized import quantize_input
from bertile.pack.packer import PackedModel, unpack_encoder

SPEC = load_spec()
BLOCK = SPEC.word.tokens
LAUNCHES = {
    "1 token": [1],
    "31 tokens": [31],
    "32 tokens": [32],
    "33 tokens": [33],
    "512 tokens": [512],
    "16 sequences": [1, 32, 5, 31, 16, 17, 15, 2, 29, 8, 32, 1, 24, 30, 3, 7],
    "mixed lengths": [33, 1, 130, 64, 95, 31],
    "long behind short": [3, 449],
}
SMALL = ["heads of 32", "heads of 64", "three heads of 32", "a matrix of zeros", "one vector", "no weights at all"]


def rows_of(lengths: list[int]) -> int:
    return sum(-(-tokens // BLOCK) * BLOCK for tokens in lengths)


def assert_equal_run(pair, sequences: list[np.ndarray]) -> np.ndarray:
    """Run both; every value of every layer equal, and as many of them as there must be. Returns the output."""
    expected, actual = pair.integer.run(sequences), pair.csim.run(sequences)
    config = pair.model.config
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype == np.int8
    compared = int((actual == expected).sum())
    assert compared == config.layers * rows_of([len(sequence) for sequence in sequences]) * config.hidden
    return actual


@pytest.mark.parametrize("launch", LAUNCHES)
@pytest.mark.parametrize("shape", SMALL)
def test_equals_the_integer_reference(pair, shape, launch):
    encoder = pair(shape)
    output = assert_equal_run(encoder, encoder.sequences(LAUNCHES[launch]))
    assert output.any()


@pytest.mark.parametrize(
    ("shape", "lengths"),
    [
        *itertools.product(["heads of 32", "heads of 64"], [[33], [512], [40, 3, 200, 32, 100], [1] * 16]),
        ("base", [200, 57]),  # two groups of heads; two chunks of row blocks, the second of one
    ],
)
def test_every_command_awaits_its_words(pair, shape, lengths):
    """Words arrive only when the engine waits for one: a command that does not wait long enough reads stale words."""
    encoder = pair(shape)
    sequences = encoder.sequences(lengths)
    output = CsimEncoder(encoder.packed, late_words=True).run(sequences)
    assert int((output == encoder.integer.run(sequences)).sum()) == output.size > 0


@pytest.mark.parametrize("shape", ["heads of 32", "heads of 64"])
def test_inputs_at_the_ends_of_the_range(pair, shape):
    encoder = pair(shape)
    hidden = encoder.model.config.hidden
    signs = np.where(np.arange(hidden) % 2, 127, -128).astype(np.int8)
    rows = [np.full((40, hidden), value, np.int8) for value in (-128, 0, 127)] + [np.tile(signs, (33, 1))]
    assert_equal_run(encoder, rows)


def test_embedded_tokens(pair):
    """What a user runs: the embeddings' output, quantized. No layer may be constant or clipped flat."""
    encoder = pair("heads of 64")
    rng = np.random.default_rng(1)
    ids = [rng.integers(encoder.model.config.vocabulary, size=tokens) for tokens in (21, 77)]
    sequences = [quantize_input(encoder.model.embeddings.embed(tokens), encoder.model.input_scale) for tokens in ids]
    output = assert_equal_run(encoder, sequences)
    assert output[:, :21].std(axis=1).min() > 5
    assert (np.abs(output[:, :21].astype(int)) == 127).mean() < 0.1


def test_sequences_do_not_influence_each_other(pair):
    """The same sequence alone, first, last, and beside others of other lengths."""
    encoder = pair("heads of 32")
    sequence = encoder.sequences([45])[0]
    alone = encoder.csim.run([sequence])[:, :45]
    for seed, (before, after) in enumerate([([], [1]), ([512 - 64], []), ([31, 33], [64, 2]), ([45], [45])]):
        launch = [*encoder.sequences(before, seed + 10), sequence, *encoder.sequences(after, seed + 20)]
        first = rows_of(before)
        output = assert_equal_run(encoder, launch)[:, first : first + 45]
        assert int((output == alone).sum()) == alone.size


@pytest.mark.parametrize("lengths", [[1], [33, 15, 100], [511]])
def test_padding_does_not_influence_tokens(pair, monkeypatch, lengths):
    """Padding rows of the input hold anything at all: real rows stay, and both devices still agree on every word."""
    encoder = pair("heads of 64")
    sequences = encoder.sequences(lengths)
    spans = lay_out(sequences).spans
    real = np.concatenate([np.arange(first, first + tokens) for first, _, tokens in spans])
    clean = encoder.csim.run(sequences)

    def lay_out_with_garbage(sequences: list[np.ndarray]) -> Launch:
        launch = lay_out(sequences)
        rows = np.random.default_rng(9).choice([-128, 127], launch.rows.shape).astype(np.int8)
        rows[real] = launch.rows[real]
        return replace(launch, rows=rows)

    for module in (bertile.devices.csim, bertile.golden.integer):
        monkeypatch.setattr(module, "lay_out", lay_out_with_garbage)
    dirty = assert_equal_run(encoder, sequences)
    padding = np.setdiff1d(np.arange(clean.shape[1]), real)
    assert int((dirty[:, real] == clean[:, real]).sum()) == clean[:, real].size
    assert (dirty[:, padding] != clean[:, padding]).any()  # the garbage did arrive


def test_launches_leave_no_state_behind(pair):
    encoder = pair("heads of 32")
    first, second = encoder.sequences([33, 64]), encoder.sequences([512], 1)
    outputs = [encoder.csim.run(sequences) for sequences in (first, second, first)]
    assert np.array_equal(outputs[0], outputs[2])


def test_untraced_launch_stores_the_last_layer_alone(pair, monkeypatch):
    encoder = pair("heads of 32")
    sequences = encoder.sequences([40, 3])
    traced = encoder.csim.run(sequences)
    monkeypatch.setattr(
        bertile.devices.launch,
        "encode_launches",
        lambda packed, launch, trace, units: encode_launches(packed, launch, False, units),
    )
    untraced = encoder.csim.run(sequences)
    assert int((untraced[0] == traced[-1]).sum()) == traced[-1].size
    assert not untraced[1:].any()


@pytest.mark.parametrize(
    ("lengths", "row_blocks", "variant"),
    [([1], 1, 0), ([96], 3, 0), ([97], 4, 1), ([256], 8, 1), ([200, 57], 9, 2), ([288], 9, 2)],
)
def test_variants_of_bert_base(pair, lengths, row_blocks, variant):
    """Of 4 row blocks two go ahead; 8 are the last whose FFN words fit, 9 the first that needs chunks."""
    encoder = pair("base")
    assert [variant.row_blocks for variant in encoder.packed.variants] == [3, 8, 16]
    sequences = encoder.sequences(lengths)
    launch = lay_out(sequences)
    assert launch.row_blocks == row_blocks
    header = SPEC.records["launch"].decode(encode_launch(encoder.packed, launch, trace=True)[0].tobytes())[0]
    assert header["program_offset"] == encoder.packed.variants[variant].offset
    assert_equal_run(encoder, sequences)


@pytest.mark.parametrize("lengths", [[30, 33], [130]])
def test_every_variant_gives_the_same_bits(pair, lengths):
    """A small launch on programs for large ones: split heads and row blocks change no value."""
    encoder = pair("base")
    sequences = encoder.sequences(lengths)
    expected = assert_equal_run(encoder, sequences)
    for larger in (1, 2):
        large = replace(encoder.packed, variants=encoder.packed.variants[larger:])
        assert np.array_equal(CsimEncoder(large).run(sequences), expected)


@pytest.mark.parametrize("lengths", [[512], [250, 230], [255]])
def test_largest_capacity(pair, lengths):
    """Hidden 1024, FFN 4096, 16 heads: groups of heads and of row blocks, partly clipped by the launch."""
    encoder = pair("largest")
    assert_equal_run(encoder, encoder.sequences(lengths))


def test_unpacked_model_gives_the_same_bits(pair):
    """The images hold everything: the reference on what `unpack_encoder` reads back."""
    encoder = pair("heads of 64")
    sequences = encoder.sequences([50, 70])
    unpacked = bertile.golden.integer.IntegerEncoder(unpack_encoder(encoder.packed))
    assert np.array_equal(unpacked.run(sequences), encoder.csim.run(sequences))


def patched_table(monkeypatch, **fields: int) -> None:
    """Let the next launches have these values in their header."""
    record = SPEC.records["launch"].dtype

    def encode(packed, launch, trace, units):
        table = encode_launches(packed, launch, trace, units)[0].copy()
        for name, value in fields.items():
            table[0, : record.itemsize].view(record)[name] = value
        return [table]

    monkeypatch.setattr(bertile.devices.launch, "encode_launches", encode)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"spec_digest": SPEC.digest_word ^ 1}, "digest"),
        ({"magic": 0}, "digest"),
        ({"sequences": 0}, "launch"),
        ({"sequences": SPEC.capacity.sequences + 1}, "launch"),
        ({"sequences": 1}, "launch"),
        ({"sequences": 3}, "launch"),
        ({"row_blocks": 0}, "launch"),
        ({"row_blocks": 2}, "launch"),
        ({"row_blocks": SPEC.row_blocks + 1}, "launch"),
        ({"hidden": SPEC.capacity.hidden + 32}, "launch"),
    ],
)
def test_broken_launch_header_is_refused_by_name(pair, monkeypatch, fields, error):
    encoder = pair("heads of 32")
    sequences = encoder.sequences([40, 3])
    with monkeypatch.context() as patch:
        patched_table(patch, **fields)
        with pytest.raises(DeviceError, match=f"error {error}$"):
            encoder.csim.run(sequences)
    assert_equal_run(encoder, sequences)  # a refused launch leaves nothing behind


@pytest.mark.parametrize(
    "entries",
    [[(0, 0), (2, 3)], [(0, 513), (2, 3)], [(1, 40), (2, 3)], [(0, 40), (1, 3)], [(0, 40), (3, 3)], [(2, 3), (0, 40)]],
    ids=str,
)
def test_broken_sequence_table_is_refused_by_name(pair, monkeypatch, entries):
    encoder = pair("heads of 32")
    record = SPEC.records["launch_sequence"]

    def encode(packed, launch, trace, units):
        table = encode_launches(packed, launch, trace, units)[0].copy()
        data = b"".join(record.encode(row_first=row, tokens=tokens) for row, tokens in entries)
        table[1, : len(data)] = np.frombuffer(data, np.uint8)
        return [table]

    monkeypatch.setattr(bertile.devices.launch, "encode_launches", encode)
    with pytest.raises(DeviceError, match=r"error launch$"):
        encoder.csim.run(encoder.sequences([40, 3]))


@pytest.mark.parametrize(("field", "value"), [("opcode", 99), ("post", 7)])
def test_unknown_code_in_the_program_is_refused_by_name(pair, field, value):
    encoder = pair("heads of 32")
    program = encoder.packed.program.copy()
    records = program.reshape(-1).view(SPEC.records["descriptor"].dtype)
    gemms = np.flatnonzero(records["opcode"] == SPEC.opcode.gemm)
    for position in (gemms[0], gemms[3], gemms[4]):
        broken = program.copy()
        broken.reshape(-1).view(SPEC.records["descriptor"].dtype)[field][position] = value
        with pytest.raises(DeviceError, match=r"error opcode$"):
            CsimEncoder(replace(encoder.packed, program=broken)).run(encoder.sequences([40, 3]))


def break_weights(packed: PackedModel, change: Callable[[np.ndarray], None]) -> PackedModel:
    """The model with the first index beat of its first tile changed."""
    weights = packed.weights.copy()
    change(weights[SPEC.tile.parameter_beats].view("<u2"))
    return replace(packed, weights=weights)


def index_past_the_row_block(entries: np.ndarray) -> None:
    entries[3] |= (1 << SPEC.packet.index_bits) - 1


def gap_in_the_entries(entries: np.ndarray) -> None:
    """The first entry is not valid, the one behind the last is: as many weight beats as before."""
    valid = 1 << SPEC.packet.valid_bit
    first_free = int((entries & valid).astype(bool).sum())
    assert 1 < first_free < len(entries)
    entries[0] ^= valid
    entries[first_free] ^= valid


def break_descriptor(packed: PackedModel, opcode: int, field: str, value: int) -> PackedModel:
    """The model with the last descriptor of this opcode changed."""
    program = packed.program.copy()
    records = program.reshape(-1).view(SPEC.records["descriptor"].dtype)
    records[field][np.flatnonzero(records["opcode"] == opcode)[-1]] = value
    return replace(packed, program=program)


ENGINE_MISTAKES = {
    "index": ("index", lambda packed: break_weights(packed, index_past_the_row_block)),
    "packet": ("packet", lambda packed: break_weights(packed, gap_in_the_entries)),
    "source": ("address", lambda packed: break_descriptor(packed, SPEC.opcode.gemm, "source", 49100)),
    "keys": ("address", lambda packed: break_descriptor(packed, SPEC.opcode.attention, "key", 65000)),
    "values": ("address", lambda packed: break_descriptor(packed, SPEC.opcode.attention, "value", 65000)),
    "target": ("word", lambda packed: break_descriptor(packed, SPEC.opcode.gemm, "target", 50000)),
    "softmax output": ("word", lambda packed: break_descriptor(packed, SPEC.opcode.attention, "probability", 60000)),
    "head size": ("shape", lambda packed: break_descriptor(packed, SPEC.opcode.attention, "head_size", 40)),
    "shift": ("shape", lambda packed: break_descriptor(packed, SPEC.opcode.attention, "context_shift", 48)),
}


@pytest.mark.parametrize("mistake", ENGINE_MISTAKES)
@pytest.mark.parametrize("shape", ["heads of 32", "heads of 64"])
def test_engine_error_ends_the_launch_and_is_named(pair, shape, mistake):
    """Every word is still sent and taken: nothing hangs, and no stream keeps anything for the next launch."""
    encoder = pair(shape)
    error, damage = ENGINE_MISTAKES[mistake]
    broken = CsimEncoder(damage(encoder.packed))
    with pytest.raises(DeviceError, match=f"the engine reports error {error}$"):
        broken.run(encoder.sequences([40, 3, 100]))


def test_status_names_the_error_of_the_engine():
    names = {value: name for name, value in vars(SPEC.engine_error).items()}
    for code in range(1, 8):
        status = SPEC.records["status"].encode(
            spec_digest=SPEC.digest_word, error=SPEC.error.engine, engine_error=code, engine_cycles=1 << 40
        )
        with pytest.raises(DeviceError, match=f"the engine reports error {names.get(code, code)}$"):
            check_status(status)
    check_status(SPEC.records["status"].encode(spec_digest=SPEC.digest_word))


def test_kernel_of_another_spec_is_refused():
    status = SPEC.records["status"].encode(spec_digest=SPEC.digest_word ^ 2)
    with pytest.raises(DeviceError, match=f"built for spec {SPEC.digest_word ^ 2:016x}"):
        check_status(status)


@pytest.mark.parametrize("lengths", [[], [5, 0], [513], [33] * 9, [1] * 17])
def test_launch_beyond_capacity_is_refused(pair, lengths):
    encoder = pair("heads of 32")
    for device in (encoder.csim, encoder.integer):
        with pytest.raises(CapacityError):
            device.run(encoder.sequences(lengths))
