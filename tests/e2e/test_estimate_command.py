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


def test_projections_follow_the_clock_and_the_units(workspace):
    one, three = estimate(workspace), estimate(workspace, "--units", 3)
    assert one["clock_megahertz"] == target_clocks()[0]
    assert one["projected_ms"] == pytest.approx(one["cycles"] / one["clock_megahertz"] / 1e3)
    assert three["cycles"] == one["cycles"]
    assert three["projected_requests_per_second"] == pytest.approx(3 * one["projected_requests_per_second"])
    slow = estimate(workspace, "--clock", 150)
    assert slow["cycles"] < one["cycles"], "memory is faster, in cycles of a slow clock"
    assert slow["projected_ms"] > one["projected_ms"]


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
        (["--units", 2], f"2 units: choose 1 or {len(load_target()['unit'])}"),
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
