"""The cycle estimate against the RTL engine, simulated clock by clock: within 3 % wherever it is used."""

from __future__ import annotations

import json

import pytest

from bertile.config.target import load_target
from bertile.devices.registry import open_device
from bertile.inference import embed_tokens
from bertile.pack.packer import PackedModel
from bertile.perf.estimate import estimate_cycles, tile_groups
from bertile.perf.rtl_bench import shape_study
from bertile.report.performance import HOST_SOURCE, SOURCE, TARGET, render
from bertile.text import random_sequences

# One request, a short one, two row blocks, and a ragged launch; long ones are in docs/performance.md.
LENGTHS = ([128], [1], [50], [40, 3, 70, 32])
TOLERANCE = 0.03
RESULTS = json.loads(SOURCE.read_text())


@pytest.fixture(scope="module", params=[0.0, 0.5, 0.75, 0.9], ids=lambda sparsity: f"{sparsity:.0%}")
def layer(request, tmp_path_factory) -> PackedModel:
    """A layer of BERT-base shape."""
    return shape_study(tmp_path_factory.mktemp("shape"), "bert-base", 1, request.param)


@pytest.fixture(scope="module")
def small_heads(tmp_path_factory) -> PackedModel:
    """Two layers with 12 heads of 32: every attention pass is stretched by its drain."""
    return shape_study(tmp_path_factory.mktemp("shape"), "minilm-l6", 2, 0.6)


def assert_close(packed: PackedModel) -> None:
    device = open_device("rtl", packed)
    for lengths in LENGTHS:
        words = [embed_tokens(packed, ids) for ids in random_sequences(packed.config, lengths, seed=3)]
        device.run(words)
        counted, estimated = device.cycles.total, estimate_cycles(packed, lengths).total
        assert abs(estimated - counted) < TOLERANCE * counted, f"{lengths}: {estimated} for {counted}"


def test_estimate_is_close_to_the_rtl(layer):
    assert_close(layer)


def test_estimate_is_close_with_small_heads(small_heads):
    assert_close(small_heads)


def test_documented_cycles_are_the_engines(layer, request):
    """docs/results/rtl.json was counted on the engine as it is: cycles do not depend on the words."""
    sparsity = float(request.node.callspec.id.rstrip("%")) / 100
    documented = next(s for s in RESULTS["studies"] if s["layers"] == 1 and s["sparsity"] == sparsity)["launches"]
    device = open_device("rtl", layer)
    device.run([embed_tokens(layer, ids) for ids in random_sequences(layer.config, [128], seed=3)])
    assert device.cycles.total == next(row for row in documented if row["tokens"] == [128])["cycles"]


def test_the_page_is_made_from_the_results():
    assert TARGET.read_text() == render(RESULTS, json.loads(HOST_SOURCE.read_text()))


def test_operations_and_parts_add_up(layer):
    estimate = estimate_cycles(layer, [128])
    assert sum(estimate.parts().values()) == estimate.total
    for operation in estimate.operations:
        parts = (operation.compute, operation.drain, operation.ddr, operation.layernorm, operation.latency)
        assert sum(parts) == operation.cycles
        assert min(parts) >= 0
    names = [operation.name for operation in estimate.operations]
    assert names == ["query", "key", "value", "attention", "attention_output", "ffn_in", "ffn_out"]


def test_one_row_block_is_bound_by_memory_and_four_by_multiplications(layer):
    few, many = estimate_cycles(layer, [8]), estimate_cycles(layer, [128])
    bound = {o.name: o.bound for o in few.operations}
    assert bound["ffn_out"] == "DDR"
    assert {o.bound for o in many.operations if o.tile_bytes} == {"DSP"}
    assert sum(o.ddr for o in few.operations) > 10 * sum(o.ddr for o in many.operations)


def test_empty_tiles_are_bound_by_their_drain(tmp_path):
    packed = shape_study(tmp_path, "bert-base", 1, 0.99)
    estimate = estimate_cycles(packed, [512])
    assert {o.bound for o in estimate.operations if o.name == "query"} == {"drain"}


def test_a_higher_clock_makes_memory_slower_in_cycles(layer):
    assert estimate_cycles(layer, [8], 600).total > estimate_cycles(layer, [8], 300).total
    assert load_target()["clock"]["megahertz"][0] == 300
    assert estimate_cycles(layer, [8]).total == estimate_cycles(layer, [8], 300).total


def test_groups_follow_from_beats(layer):
    from bertile.models.encoder import MATRICES
    from bertile.pack.packer import kept_vectors

    for name in MATRICES:
        vectors = kept_vectors(layer, 0, name).sum(axis=1)
        beats = [len(tile) for tile in layer.tiles(0, name)]
        assert [tile_groups(beat) for beat in beats] == [-(-count // 4) for count in vectors]
