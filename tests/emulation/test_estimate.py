"""The cycle estimate against the RTL engine, simulated clock by clock: within 3 % wherever it is used."""

from __future__ import annotations

import json

import pytest

from bertile.config.target import load_target
from bertile.devices.registry import open_device
from bertile.inference import embed_tokens
from bertile.models.load import load_model, random_model
from bertile.pack.packer import PackedModel
from bertile.perf.estimate import estimate_cycles, tile_groups
from bertile.perf.rtl_bench import measure, shape_study
from bertile.prune.magnitude import prune_magnitude, save_pruned
from bertile.prune.pattern import parse_pattern
from bertile.report.performance import HOST_SOURCE, SOURCE, TARGET, render
from bertile.text import random_sequences
from bertile.workflow import pack_model

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


# A third of the heads and half of the neurons of each layer; the weaker of two layers, whole.
REMOVALS = {"heads@0.3334+neurons": (4 / 12 * 4 + 8 / 2) / 12, "layers": 0.5}


@pytest.fixture(scope="module", params=REMOVALS)
def removed(request, tmp_path_factory) -> PackedModel:
    """Two layers of MiniLM shape with parts removed."""
    folder = tmp_path_factory.mktemp("removed") / "pruned"
    pattern, sparsity = parse_pattern(request.param), REMOVALS[request.param]
    save_pruned(prune_magnitude(random_model("minilm-l6", 2, seed=0), pattern, sparsity), folder)
    return pack_model(load_model(str(folder)), str(folder))


def operations(packed: PackedModel) -> list[tuple[int, str]]:
    return [(operation.layer, operation.name) for operation in estimate_cycles(packed, [128]).operations]


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


def test_estimate_is_close_with_removed_parts(removed):
    """What a program leaves out is left out by both; the engine gives the reference's bits."""
    device = open_device("rtl", removed)
    for lengths in LENGTHS:
        row = measure(removed, device, lengths)
        assert row["compared"] > 0
        assert row["mismatches"] == 0
        assert abs(row["estimate_error"]) < TOLERANCE, f"{lengths}: {row['estimated_cycles']} for {row['cycles']}"


def test_removed_parts_cost_nothing(removed, small_heads):
    """Half a FFN is half the work, a third of the heads a third, and of a removed layer only two norms are left."""
    found = {name: dict.fromkeys((0, 1), 0) for _, name in operations(small_heads)}
    for operation in estimate_cycles(removed, [128]).operations:
        found[operation.name][operation.layer] += operation.compute
    query, ffn, attention = 4 * 24 * 384 // 4, 4 * 96 * 384 // 4, 12 * 4 * (8 * 8 + 2 * 32)
    if removed.provenance["pruning"]["pattern"] == "layers":
        removed_layer = min((0, 1), key=lambda layer: found["ffn_in"][layer])
        assert [name for layer, name in operations(removed) if layer == removed_layer] == [
            "attention_output",
            "ffn_out",
        ]
        assert {name: cycles[1 - removed_layer] for name, cycles in found.items()} == {
            **dict.fromkeys(("query", "key", "value", "attention_output"), query),
            "attention": attention,
            "ffn_in": ffn,
            "ffn_out": ffn,
        }
        assert all(cycles[removed_layer] == 0 for cycles in found.values())
    else:
        for layer in (0, 1):
            assert found["attention"][layer] == attention * 8 // 12
            assert found["query"][layer] == found["attention_output"][layer] == query * 8 // 12
            assert found["ffn_in"][layer] == found["ffn_out"][layer] == ffn // 2


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
