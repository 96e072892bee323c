"""Rows of the card: cycles of the model's program, and what `projection` makes of them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import groupby
from pathlib import Path

from bertile.config.paths import ROOT
from bertile.config.spec import load_spec
from bertile.config.target import load_target, target_clocks
from bertile.models.load import load_model
from bertile.pack.deal import UNITS
from bertile.pack.packer import PackedModel
from bertile.perf.estimate import estimate_cycles
from bertile.perf.latency.board import board_rows, find_board
from bertile.perf.latency.cpu import Advance, layers_text
from bertile.perf.latency.encoder import pruned_model
from bertile.perf.latency.plan import Case, Plan
from bertile.perf.latency.projection import Cycles, Projection, project
from bertile.perf.latency.rows import Row
from bertile.prune.magnitude import save_pruned
from bertile.workflow import pack_model

COUNTED = ROOT / "docs" / "results" / "rtl.json"
SAME_TARGET = ("ddr", "latency", "link")  # what the counted cycles depend on
SOURCES = {"rtl": "cycles counted with the RTL engine in simulation", "estimate": "cycles estimated (perf/estimate.py)"}
Counts = dict[tuple[str, int, float, int, tuple[int, ...]], int]


def counted_cycles(file: Path = COUNTED) -> Counts:
    """Cycles by (shape, layers, sparsity, units, lengths), counted in simulation.

    units: that a launch ran on. None if the accelerator is another now.
    """
    if not file.is_file():
        return {}
    results, target = json.loads(file.read_text(encoding="utf-8")), load_target()
    then = results["target"]
    same = all(then[part].get(name) == value for part in SAME_TARGET for name, value in target[part].items())
    if results["spec_digest"] != load_spec().digest or not same:
        return {}
    runs = [(study, 1, launch) for study in results["studies"] for launch in study["launches"]]
    runs += [(run, run["units"], run) for run in results["teams"] if run["units"] > 1]
    return {
        (model["shape"], model["layers"], model["sparsity"], units, tuple(launch["tokens"])): launch["cycles"]
        for model, units, launch in runs
    }


def pack(shape: str, layers: int, sparsity: float) -> PackedModel:
    """The bench's model, quantized and packed for both modes of the card."""
    with tempfile.TemporaryDirectory() as name:
        folder = str(Path(name) / "model")
        save_pruned(pruned_model(shape, layers, sparsity), folder)
        return pack_model(load_model(folder), folder, units=UNITS)


def cycle_counter(shape: str, layers: int, sparsity: float, counts: Counts) -> Callable[[int, list[int]], Cycles]:
    """Cycles of a launch on so many units: counted ones where there are any, else estimated.

    The model is packed when first needed.

    Both take memory to be as slow, in cycles, as at the target's first clock: a little too slow at a lower one.
    """
    packed: PackedModel | None = None

    def cycles_of(units: int, lengths: list[int]) -> Cycles:
        nonlocal packed
        counted = counts.get((shape, layers, sparsity, units, tuple(lengths)))
        if counted is not None:
            return Cycles(counted, "rtl")
        packed = packed or pack(shape, layers, sparsity)
        return Cycles(estimate_cycles(packed, lengths, units=units).total, "estimate")

    return cycles_of


def card_rows(plan: Plan, advance: Advance) -> list[Row]:
    """Rows of the card: measured on a board if there is one, else projected for every case and clock."""
    board = find_board()
    if board is not None:
        return board_rows(plan, board, advance)
    counts, rows = counted_cycles(), []

    def model_of(case: Case) -> tuple[int, float]:
        return case.layers, case.sparsity

    for (layers, sparsity), cases in groupby(sorted(plan.card, key=model_of), model_of):
        text = f"cycles of {layers_text(plan.shape, layers)}, {sparsity:.0%} sparse"
        advance(text, 0)
        cycles_of = cycle_counter(plan.shape, layers, sparsity, counts)
        hidden = pruned_model(plan.shape, layers, sparsity).model.config.hidden
        for case in cases:
            for megahertz in target_clocks():
                launch_cycles = partial(cycles_of, UNITS if case.together else 1)
                projection = project(case, hidden, megahertz, load_target(), launch_cycles)
                rows.append(projected_row(plan.shape, case, megahertz, projection))
        advance(text, 1)
    return rows


def projected_row(shape: str, case: Case, megahertz: int, projection: Projection) -> Row:
    units = f"{projection.units} compute unit{'s' * (projection.units > 1)}{' on each request' * case.together}"
    return Row(
        what=layers_text(shape, case.layers),
        device=f"Alveo U200, {units}",
        tokens=case.tokens,
        batch=case.batch,
        sparsity=case.sparsity,
        latency_ms=projection.latency_ms,
        kind="projected",
        source=f"projected at {megahertz} MHz, not measured on a board; {SOURCES[projection.cycles_from]}, "
        "PCIe as assumed in spec/targets/u200.toml",
        details={"layers": case.layers, "megahertz": megahertz} | projection.as_dict(),
    )
