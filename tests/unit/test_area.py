"""The area of the engine against the figures on file; the page, the counted estimate and the floorplan from them."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bertile.config.target import load_target
from bertile.errors import BertileError
from bertile.report.area import SOURCE, TARGET, render
from bertile.synthesis import area as area_module
from bertile.synthesis.area import LEVELS_WANTED, LIMITS, build_area, check_limits, load_area
from bertile.synthesis.encoder_estimate import (
    Cost,
    add,
    block_ram,
    choose,
    encoder_cost,
    multiply,
    stage_costs,
    ultra_ram,
)
from bertile.synthesis.floorplan import check_floorplan, floorplan

# How far a result may be from the figures on file, as a share; what is not here must be equal.
TOLERANCES = {"lut": 0.05, "ff": 0.05, "carry": 0.05, "srl": 0.1, "lut_ram": 0.1}


@pytest.fixture(scope="module")
def baseline() -> dict:
    """The figures on file."""
    return json.loads(SOURCE.read_text())


def differences(engine: dict, expected: dict) -> list[str]:
    """Resources that differ by more than their tolerance."""
    assert engine.keys() == expected.keys()
    return [
        f"{name}: {engine[name]}, on file {expected[name]}"
        for name in expected
        if abs(engine[name] - expected[name]) > TOLERANCES.get(name, 0) * expected[name]
    ]


@pytest.mark.slow
def test_the_engine_has_the_area_on_file(baseline: dict) -> None:
    # Quick when `make area` was run on these sources.
    area = build_area(lambda text: None)
    assert differences(area["engine"], baseline["engine"]) == [], "see docs/area.md for the commands that renew it"
    instances = {name: module["instances"] for name, module in area["modules"].items()}
    assert instances == {name: module["instances"] for name, module in baseline["modules"].items()}


def test_the_area_on_file_is_within_the_limits(baseline: dict) -> None:
    check_limits(baseline["engine"])
    assert baseline["engine"]["dsp"] == 1024 + 64
    assert baseline["engine"]["uram"] == 24 * 4 + 8
    assert baseline["engine"]["bram"] == 0


def test_differences_keep_to_the_tolerances(baseline: dict) -> None:
    engine = baseline["engine"]
    assert differences({**engine, "lut": engine["lut"] * 1.04, "ff": engine["ff"] * 0.96}, engine) == []
    for name, value in {"lut": engine["lut"] * 1.06, "dsp": engine["dsp"] + 1, "levels": engine["levels"] + 1}.items():
        assert len(differences({**engine, name: value}, engine)) == 1


@pytest.mark.parametrize("name", sorted(LIMITS))
def test_an_engine_above_a_limit_is_refused(baseline: dict, name: str) -> None:
    check_limits({**baseline["engine"], name: LIMITS[name]})
    with pytest.raises(BertileError, match=f"too large: .* {name}"):
        check_limits({**baseline["engine"], name: LIMITS[name] + 1})


def test_modules_add_up_to_the_engine(baseline: dict) -> None:
    for name in ("lut", "ff", "dsp", "uram", "carry", "lut_ram", "srl"):
        total = sum(module["own"][name] for module in baseline["modules"].values())
        assert total == baseline["engine"][name]
        assert baseline["modules"]["bertile_engine"]["total"][name] == total


def test_paths_on_file_are_sorted_and_complete(baseline: dict) -> None:
    levels = [path["levels"] for path in baseline["paths"]]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] == baseline["engine"]["levels"] == max(map(int, baseline["levels"]))
    assert all(path["levels"] > LEVELS_WANTED for path in baseline["long_paths"])
    assert (levels[0] > LEVELS_WANTED) == bool(baseline["long_paths"])


def test_a_result_of_other_sources_is_not_taken(baseline: dict, tmp_path: Path) -> None:
    result = tmp_path / "area.json"
    assert load_area(result) is None
    digest = area_module.yosys.digest(area_module.yosys.engine_design())
    result.write_text(json.dumps({**baseline, "digest": digest}))
    assert load_area(result)["engine"] == baseline["engine"]
    for text in (json.dumps({**baseline, "digest": "0" * 64}), "[]", "{", "{}"):
        result.write_text(text)
        assert load_area(result) is None


def test_a_fresh_result_is_not_made_again(baseline: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(area_module, "FOLDER", tmp_path)
    monkeypatch.setattr(area_module, "RESULT", tmp_path / "area.json")
    digest = area_module.yosys.digest(area_module.yosys.engine_design())
    monkeypatch.setattr(area_module, "load_area", lambda: load_area(tmp_path / "area.json"))
    monkeypatch.setattr(
        area_module, "synthesize_engine", lambda progress: made.append(1) or {**baseline, "digest": digest}
    )
    assert build_area(print) == build_area(print)
    assert made == [1]


def test_the_page_is_fresh(baseline: dict) -> None:
    assert TARGET.read_text() == render(baseline), "run python -m bertile.report.area"


def test_a_wrong_command_line_is_one_line() -> None:
    command = [sys.executable, "-m", "bertile.synthesis", "--wrong"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("error: usage:")
    assert result.stderr.count("\n") == 1


def test_costs_of_single_operations() -> None:
    assert add(16) == Cost(lut=16, ff=16)
    assert [choose(1, ways).lut for ways in (2, 4, 16, 32, 256)] == [1, 1, 4, 9, 68]
    assert [multiply(*widths).dsp for widths in ((27, 18), (18, 27), (28, 18), (33, 18), (33, 33))] == [1, 1, 2, 2, 4]
    assert block_ram(512, 512).bram == 8
    assert block_ram(73, 513).bram == 4
    assert ultra_ram(512, 16384).uram == 32
    assert ultra_ram(256, 16384).uram == 16


def test_the_encoder_has_the_multipliers_and_fifos_of_its_stages() -> None:
    stages = {name: cost for name, _, cost in stage_costs()}
    # Lanes: residual, square; value x features, two for the mantissa, gain. One: region (3), moments (3 and 1).
    assert stages["NormAccumulate"].dsp == 2 * 32 + 3
    assert stages["NormMoments"].dsp == 4
    assert stages["NormApply"].dsp == 4 * 32 + 3
    assert stages["streams"].uram == 32 + 16
    # Nine and two FIFOs of 64, parameters, scores, engine words, tiles and results.
    assert stages["streams"].bram == 4 * 8 + 2 * 4 + 8 + 16 + 32 + 2 * 32 + 2 * 8
    assert encoder_cost() == sum(stages.values(), Cost())


def test_three_units_fit_the_card(baseline: dict) -> None:
    regions = floorplan(baseline["engine"])
    check_floorplan(regions)
    assert sum(region.used["dsp"] for region in regions) == 3 * (baseline["engine"]["dsp"] + encoder_cost().dsp + 3)
    assert [region.used["uram"] for region in regions] == [104 + 2 * 48, 104, 104 + 48]


def test_an_encoder_kernel_does_not_fit_the_smallest_region(baseline: dict) -> None:
    target = copy.deepcopy(load_target())
    target["unit"][1]["encoder"] = "SLR1"
    with pytest.raises(BertileError, match=r"SLR1 is too full: .*95% of its uram"):
        check_floorplan(floorplan(baseline["engine"], target), target)


def test_a_unit_in_no_region_is_noticed(baseline: dict) -> None:
    target = copy.deepcopy(load_target())
    target["unit"][2]["engine"] = "SLR3"
    with pytest.raises(BertileError, match="2 of engine"):
        check_floorplan(floorplan(baseline["engine"], target), target)
