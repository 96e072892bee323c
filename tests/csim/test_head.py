"""The head's kernel in C-simulation: hls4ml's bits, the integer reference's bits, PyTorch's logits within tolerance."""

from __future__ import annotations

import copy
import ctypes
import dataclasses
import math
import subprocess
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest

from bertile.config.spec import load_spec
from bertile.devices.build import FLAGS, ap_types, compiler
from bertile.devices.launch import Launch, encode_launch, lay_out, to_words
from bertile.errors import DeviceError, FormatError
from bertile.head import build as building
from bertile.head.convert import convert
from bertile.head.csim import HeadSimulation, classify_sequences, real_logits
from bertile.head.evaluate import compare_head, tolerance_of
from bertile.head.fixed import error_bound, fixed_logits, pool, quantize_head
from bertile.head.folder import head_includes, head_sources
from bertile.head.model import Head
from bertile.head.train import float_logits, pool_states

SPEC = load_spec()
LENGTHS = [1, 45, 31, 32, 33, 128]
# Pooler features, labels, pooling, spread of the weights. Spread 4 drives tanh to both ends of its table.
HEADS = {
    "mean, 7 features": ("heads of 32", 7, 3, "mean", 0.3),
    "first, 130 features": ("three heads of 32", 130, 2, "first", 0.3),
    "saturated, 16 labels": ("heads of 32", 33, 16, "mean", 4.0),
}


def make_head(hidden: int, features: int, labels: int, pooling: str, spread: float) -> Head:
    rng = np.random.default_rng(hidden + features)
    shapes = ((features, hidden), (features,), (labels, features), (labels,))
    tensors = [rng.normal(0, spread, shape).astype(np.float32) for shape in shapes]
    return Head(*tensors, labels=tuple(f"label {n}" for n in range(labels)), pooling=pooling)


@pytest.fixture(scope="module", params=HEADS)
def simulation(request, pair) -> HeadSimulation:
    shape, *sizes = HEADS[request.param]
    packed = pair(shape).packed
    return HeadSimulation(make_head(packed.config.hidden, *sizes), packed)


def hidden_states(hidden: int) -> tuple[Launch, list[np.ndarray]]:
    """A launch of ragged sequences, two of them extreme, with garbage in its padding rows; and the sequences."""
    rng = np.random.default_rng(hidden)
    sequences = [rng.integers(-128, 128, (tokens, hidden)).astype(np.int8) for tokens in LENGTHS]
    sequences[1][:], sequences[2][:] = -128, 127
    launch = lay_out(sequences)
    rows = rng.integers(-128, 128, launch.rows.shape).astype(np.int8)
    for sequence, (first, _, tokens) in zip(sequences, launch.spans, strict=True):
        rows[first : first + tokens] = sequence
    return Launch(rows, launch.spans), sequences


def test_kernel_network_and_reference_give_the_same_bits(simulation):
    """Padding rows hold garbage, so they reach no logit either."""
    launch, sequences = hidden_states(simulation.fixed.hidden)
    pooled = np.stack([pool(states, simulation.fixed.pooled_tokens) for states in sequences])
    got = simulation.run(launch, launch.rows)
    assert got.shape == (len(LENGTHS), simulation.fixed.labels)
    np.testing.assert_array_equal(got, simulation.predict(pooled))
    np.testing.assert_array_equal(got, np.stack([fixed_logits(simulation.fixed, row) for row in pooled]))
    assert len(np.unique(got)) > got.size // 2  # no constant that both would return


def test_a_mean_is_the_nearest_step(pair):
    """A head that shows its mean: each step of 1/1024 is an entry of tanh. Expected from fractions and `math.tanh`."""
    packed = pair("heads of 32").packed
    rng, scale = np.random.default_rng(2), packed.output_scale[-1]
    pooler = np.eye(16, packed.config.hidden, dtype=np.float32) * 8 / scale
    zeros, one = np.zeros(16, np.float32), np.eye(16, dtype=np.float32)
    simulation = HeadSimulation(Head(pooler, zeros, one, zeros, tuple("abcdefghijklmnop")), packed)
    sequences = [rng.choice(np.array([-1, 0, 1], np.int8), (n, packed.config.hidden)) for n in (7, 29, 33, 45, 101)]
    sequences = [np.where(np.abs(states.sum(axis=0)) <= len(states) // 4, states, 0) for states in sequences]
    launch = lay_out(sequences)
    shown = 0
    for states, logits in zip(sequences, simulation.run(launch, launch.rows), strict=True):
        for column, logit in zip(states.T, logits, strict=False):
            steps = round(Fraction(int(column.sum()) * 1024, len(column)))
            assert logit == round(math.tanh(steps / 128) * 4096) << 4
            shown += steps != 0
    assert shown > 30


def test_what_a_link_compiles_has_the_weights(pair, tmp_path):
    """As synthesis sees the sources: numbers from headers, no folder of weights; the same logits."""
    packed = pair("heads of 32").packed
    simulation = HeadSimulation(make_head(packed.config.hidden, 7, 3, "mean", 0.3), packed)
    sources, includes = head_sources(simulation.build.folder), head_includes(simulation.build.folder)
    # The free headers of ap_fixed refuse to be synthesized: they come first.
    start = tmp_path / "start.hpp"
    start.write_text('#include "ap_fixed.h"\n#include "ap_int.h"\n#include "hls_stream.h"\n#define __SYNTHESIS__\n')
    command = [*compiler(), *FLAGS, "-w", "-shared", "-include", str(start), "-isystem", str(ap_types())]
    command += [*(f"-I{folder}" for folder in includes), *map(str, sources), "-o", str(tmp_path / "head.so")]
    subprocess.run(command, check=True, timeout=300)
    linked = copy.copy(simulation)
    linked.kernel = ctypes.CDLL(str(tmp_path / "head.so")).bertile_head
    linked.kernel.argtypes, linked.kernel.restype = simulation.kernel.argtypes, None
    launch, _ = hidden_states(simulation.fixed.hidden)
    expected = simulation.run(launch, launch.rows)
    assert len(np.unique(expected)) > expected.size // 2
    np.testing.assert_array_equal(linked.run(launch, launch.rows), expected)


def test_extreme_means_give_the_same_bits(simulation):
    """The whole range of the network's input: both ends, zero, one step, alternating signs, random."""
    hidden = simulation.fixed.hidden
    low, high = -(1 << 17), 127 * 1024
    signs = np.where(simulation.fixed.pooler.weight > 0, high, low)  # the largest sum of each pooler feature
    alternating = np.where(np.arange(hidden) % 2, low, high)
    random = np.random.default_rng(1).integers(low, high + 1, (40, hidden))
    ends = [np.full(hidden, value) for value in (low, high, 0, 1, -1)]
    pooled = np.stack([*ends, alternating, *signs, *-np.maximum(signs, -high), *random])
    expected = np.stack([fixed_logits(simulation.fixed, row) for row in pooled])
    np.testing.assert_array_equal(simulation.predict(pooled), expected)


def test_hls4ml_itself_predicts_the_same(simulation, tmp_path):
    """`predict` of a ModelGraph converted anew, not the library that this project loads."""
    graph = convert(simulation.fixed, tmp_path / "project")
    _, sequences = hidden_states(simulation.fixed.hidden)
    pooled = np.stack([pool(states, simulation.fixed.pooled_tokens) for states in sequences])
    predicted = graph.predict(np.ldexp(pooled.astype(np.float32), -17))
    np.testing.assert_array_equal(np.ldexp(predicted, 16).astype(np.int32), simulation.predict(pooled))


def test_logits_are_pytorchs_within_the_tolerance(simulation):
    """Random hidden states, as a trained encoder would give them, and extremes; the label never turns over far."""
    head, scale = simulation.head, simulation.packed.output_scale[-1]
    launch, sequences = hidden_states(head.hidden)
    got = real_logits(simulation.run(launch, launch.rows))
    expected = float_logits(head, pool_states([states * scale for states in sequences], head.pooling))
    error = np.abs(got - expected)
    assert (error <= error_bound(head, simulation.fixed, scale) + 1e-4).all()
    assert error.max() <= tolerance_of(head)
    assert np.abs(expected).max() > 10 * error.max()  # logits large enough that the tolerance says something


def test_the_kernel_refuses_wrong_launches(simulation):
    """An error in the status, and the logits untouched."""
    launch, _ = hidden_states(simulation.fixed.hidden)
    words = to_words(launch.rows)
    record = SPEC.records["launch"]
    table = encode_launch(simulation.packed, launch, trace=False)

    def refuse(cause: str, changed: np.ndarray) -> None:
        with pytest.raises(DeviceError, match=f"reports error {cause}"):
            simulation.run_words(changed, words, len(LENGTHS))

    def header(**changes: int) -> np.ndarray:
        fields = record.decode(table[0].tobytes())[0]
        fields = {name: int(fields[name]) for name in fields.dtype.names}
        return np.stack([np.frombuffer(record.encode(**{**fields, **changes}), np.uint8), table[1]])

    np.testing.assert_array_equal(header(), table)
    refuse("digest", header(magic=1))
    refuse("digest", header(spec_digest=1))
    for change in ({"hidden": simulation.fixed.hidden + 1}, {"sequences": 0}, {"sequences": 17}, {"row_blocks": 0}):
        refuse("launch", header(**change))
    refuse("launch", header(row_blocks=17))
    refuse("launch", header(row_blocks=launch.row_blocks - 1))
    for offset in (0, 2):  # row_first past the end, no tokens
        broken = table.copy()
        broken[1, offset : offset + 2] = (255, 0) if offset == 0 else 0
        refuse("launch", broken)


def test_a_refused_launch_leaves_the_logits(simulation):
    launch, _ = hidden_states(simulation.fixed.hidden)
    table = encode_launch(simulation.packed, launch, trace=False).copy()
    table[0, 0] ^= 1
    logits, status = np.full((len(LENGTHS), 64), 7, np.uint8), np.zeros(64, np.uint8)
    simulation.kernel(*(array.ctypes.data for array in (table, to_words(launch.rows), logits, status)))
    assert (logits == 7).all()
    assert SPEC.records["status"].decode(status.tobytes())[0]["error"] == SPEC.error.digest


def test_a_kernel_of_another_head_is_refused(simulation):
    launch, _ = hidden_states(simulation.fixed.hidden)
    other = object.__new__(HeadSimulation)
    other.__dict__.update(vars(simulation))
    head = dataclasses.replace(simulation.head, classifier_bias=simulation.head.classifier_bias + 1)
    other.fixed = quantize_head(head, simulation.packed.output_scale[-1])
    with pytest.raises(DeviceError, match="the kernel is of head"):
        other.run(launch, launch.rows)


def test_a_head_of_another_width_is_refused(simulation, pair):
    with pytest.raises(FormatError, match="hidden features"):
        HeadSimulation(simulation.head, pair("heads of 64").packed)


def test_a_head_is_built_once(pair, monkeypatch, tmp_path):
    """Two that ask at the same time build it once; a later one finds it; a changed source or head is built again."""
    monkeypatch.setattr(building, "BUILD_DIR", tmp_path)
    calls = []
    compile_kernel = building.compile_kernel
    monkeypatch.setattr(building, "compile_kernel", lambda build: (calls.append(build), compile_kernel(build)))
    packed = pair("heads of 32").packed
    fixed = quantize_head(make_head(packed.config.hidden, 5, 2, "mean", 0.1), packed.output_scale[-1])
    with ThreadPoolExecutor(2) as pool_of_two:
        first, second = pool_of_two.map(building.build_head, [fixed, fixed])
    assert first == second == building.build_head(fixed)
    assert len(calls) == 1
    assert all(path.exists() for path in (*first.sources, *first.includes, first.library, first.network))
    (first.folder / "digest").write_text("of other sources")
    assert building.build_head(fixed).library == first.library
    assert len(calls) == 2


def test_a_head_that_hls4ml_cannot_convert(pair, monkeypatch, tmp_path, capsys):
    """One error, what the tools said on stderr, and nothing that passes for a build."""
    monkeypatch.setattr(building, "BUILD_DIR", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))  # no g++
    monkeypatch.setenv("CXX", "/bin/true")
    packed = pair("heads of 32").packed
    fixed = quantize_head(make_head(packed.config.hidden, 5, 2, "mean", 0.1), packed.output_scale[-1])
    with pytest.raises(DeviceError, match="hls4ml could not convert the head"):
        building.build_head(fixed)
    assert capsys.readouterr().out == ""
    assert list(tmp_path.rglob("digest")) == []


def test_encoder_and_head_in_one_chain(pair):
    """The C-simulated encoder's output words into the head's kernel: as the integer encoder's, and as PyTorch's."""
    both = pair("heads of 32")
    packed = both.packed
    simulation = HeadSimulation(make_head(packed.config.hidden, 7, 3, "mean", 0.3), packed)
    rng = np.random.default_rng(0)
    sequences = [rng.integers(0, packed.config.vocabulary, tokens) for tokens in (1, 33, 20, 100, 7)]
    results = [classify_sequences(device, simulation, sequences)[0] for device in (both.integer, both.csim)]
    assert results[0].shape == (5, 3)
    np.testing.assert_array_equal(*results)
    comparison = compare_head(both.csim, simulation, sequences, None)
    assert comparison.passed
    assert (comparison.sentences, comparison.labels_agree, comparison.accuracy_kernel) == (5, 5, None)
