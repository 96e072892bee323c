"""`bertile estimate`, as a user runs it."""

from __future__ import annotations

import json

import pytest

from bertile.config.target import load_target, target_clocks
from bertile.errors import BertileError
from bertile.report.cycles import draw_roofline

from .conftest import bertile, succeed

PARTS = ("compute", "drain", "ddr", "layernorm", "latency")


def estimate(workspace, *arguments: object) -> dict:
    return json.loads(succeed("estimate", workspace / "tiny.bertile", "--json", *arguments))


def test_layers_and_parts_add_up(workspace):
    summary = estimate(workspace, "--tokens", 100)
    parts = summary["cycles_by_part"]
    assert sum(parts.values()) == summary["cycles"]
    assert [layer["layer"] for layer in summary["layers"]] == [0, 1]
    layers = sum(layer["cycles"] for layer in summary["layers"])
    assert layers + parts["launch"] + parts["finish"] == summary["cycles"]
    for layer in summary["layers"]:
        assert sum(operation["cycles"] for operation in layer["operations"]) == layer["cycles"]
        assert all(sum(o[part] for part in PARTS) == o["cycles"] for o in layer["operations"])
        assert {o["bound"] for o in layer["operations"]} <= {"DSP", "drain", "DDR"}


def test_projections_follow_the_clock(workspace):
    one = estimate(workspace)
    assert one["clock_megahertz"] == target_clocks()[0]
    assert one["projected_ms"] == pytest.approx(one["cycles"] / one["clock_megahertz"] / 1e3)
    assert one["card_units"] == len(load_target()["unit"])
    assert one["projected_requests_per_second"] == pytest.approx(one["card_units"] * 1e3 / one["projected_ms"])
    slow = estimate(workspace, "--clock", 150)
    assert slow["cycles"] < one["cycles"], "memory is faster, in cycles of a slow clock"
    assert slow["projected_ms"] > one["projected_ms"]


def test_units_that_share_a_request(workspace, tmp_path):
    """Packed for one unit and for three: the same work, dealt; the C-simulation of three gives the reference's bits."""
    file = tmp_path / "three.bertile"
    succeed("prune", "--config", "minilm-l6", "--layers", 1, "--sparsity", 0.5, "-o", tmp_path / "model")
    assert "for one unit or 3 together" in succeed("pack", tmp_path / "model", "-o", file, "--units", 3)
    one, three = (json.loads(succeed("estimate", file, "--json", "--units", units)) for units in (1, 3))
    assert three["cycles_one_unit"] == one["cycles"] > 2.2 * three["cycles"]
    assert sum(three["work"]) == pytest.approx(one["work"][0], rel=0.01)
    assert three["projected_requests_per_second"] == one["projected_requests_per_second"]
    assert sum(layer["cycles"] for layer in three["layers"]) < three["cycles"]
    assert "on 3 compute units together" in succeed("estimate", file, "--units", 3)
    checked = json.loads(succeed("check", file, "--device", "csim", "--units", 3, "--json"))
    assert (checked["mismatches"], checked["compared"] > 50_000) == (0, True)


def test_what_is_printed_says_what_it_is(workspace):
    text = succeed("estimate", workspace / "tiny.bertile")
    assert "not measured on a board" in text
    assert f"{estimate(workspace)['cycles']:,} cycles" in text


def test_pictures(workspace, tmp_path):
    pictures = [tmp_path / "roofline.png", tmp_path / "waterfall.png"]
    succeed("estimate", workspace / "tiny.bertile", "--roofline", pictures[0], "--waterfall", pictures[1])
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)


def test_nothing_left_to_draw_is_said(workspace, tmp_path):
    summary = estimate(workspace)
    for layer in summary["layers"]:
        for operation in layer["operations"]:
            operation["compute"] = 0
    with pytest.raises(BertileError, match="no weight is left"):
        draw_roofline(summary, tmp_path / "roofline.png")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--units", 2], "2 units: one runs a launch alone, or 3 together"),
        (["--units", 3], "packed for one unit: bertile pack --units 3 makes one for 3"),
        (["--clock", 0], "0 MHz is no clock"),
        (["--tokens", 0], "0 tokens"),
        (["--waterfall", "missing/picture.png"], "cannot write"),
    ],
)
def test_bad_input_is_one_line(workspace, arguments, message):
    result = bertile("estimate", workspace / "tiny.bertile", *arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
