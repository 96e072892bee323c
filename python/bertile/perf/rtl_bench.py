"""`python -m bertile.perf.rtl_bench`: the emulated compute unit with the RTL engine, in cycles, beside the estimate.

Writes the data of docs/performance.md. Weights are random: shapes and cycles count here, not accuracy.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from bertile.cli.console import messages, output
from bertile.config.spec import load_spec
from bertile.config.target import load_target, target_clocks
from bertile.devices.registry import DeviceOptions, open_device
from bertile.errors import BertileError, run_program
from bertile.inference import compare_devices, embed_tokens
from bertile.models.encoder import MATRICES
from bertile.models.load import load_model, random_model
from bertile.pack.container import load_packed, save_packed
from bertile.pack.packer import PackedModel, kept_vectors
from bertile.perf.bench import processor
from bertile.perf.estimate import INPUTS, estimate_cycles
from bertile.prune.magnitude import prune_magnitude, save_pruned
from bertile.prune.pattern import parse_pattern
from bertile.text import random_sequences
from bertile.workflow import pack_model

SPEC = load_spec()
SPARSITIES = (0.0, 0.5, 0.75, 0.9)
# One request of each length, several of one length, and a ragged launch.
LENGTHS = ([128], [1], [17], [32], [64], [100], [256], [512], [32] * 4, [128] * 4, [40, 3, 200, 32, 100])
QUICK_LENGTHS = ([128], [1], [64], [40, 3, 32, 100])


# What three units run together, twelve layers: sparsity, tokens.
TEAM_REQUESTS = ((0.75, 128), (0.75, 64), (0.8, 128), (0.9, 128))


def shape_study(folder: Path, shape: str, layers: int | None, sparsity: float, units: int = 1) -> PackedModel:
    """A packed model of that shape with seeded random weights, pruned in one shot."""
    name = f"{shape}-{layers}-{sparsity}-{units}"
    source, target = folder / name, folder / f"{name}.bertile"
    model = random_model(shape, layers, seed=0)
    save_pruned(prune_magnitude(model, parse_pattern("1x16"), sparsity), source)
    save_packed(pack_model(load_model(str(source)), str(source), units=units), target)
    return load_packed(target)


def gemm_utilization(packed: PackedModel, lengths: list[int], gemm_cycles: int) -> float:
    """Share of multiply-accumulate slots that kept vectors fill while a gemm is the engine's oldest command."""
    rows = sum(-(-tokens // SPEC.word.tokens) for tokens in lengths)
    vectors = sum(int(kept_vectors(packed, n, name).sum()) for n in range(packed.config.layers) for name in MATRICES)
    return vectors * rows / INPUTS / gemm_cycles


def measure(packed: PackedModel, device, lengths: list[int]) -> dict:
    """One launch: exactness, cycles of the RTL, the estimate, and the speed of the simulation."""
    begin = time.perf_counter()
    comparison = compare_devices(
        packed, open_device("integer", packed), device, random_sequences(packed.config, lengths, seed=1)
    )
    seconds = time.perf_counter() - begin
    cycles = device.cycles
    estimate = estimate_cycles(packed, lengths, units=device.team)
    return {
        "tokens": lengths,
        "compared": comparison.compared,
        "mismatches": comparison.mismatches,
        "cycles": cycles.total,
        "cycles_by_command": asdict(cycles),
        "gemm_slots_used": gemm_utilization(packed, lengths, cycles.gemm),
        "estimated_cycles": estimate.total,
        "estimate_error": estimate.total / cycles.total - 1,
        "estimated_parts": estimate.parts(),
        "work": list(estimate.work),
        "seconds_with_reference": seconds,
    }


def study(packed: PackedModel, matrix: tuple[list[int], ...], name: str) -> list[dict]:
    device, rows = open_device("rtl", packed), []
    for lengths in matrix:
        rows.append(measure(packed, device, list(lengths)))
        row = rows[-1]
        messages.print(
            f"{name} {row['tokens']}: {row['cycles']:,} cycles, estimate {row['estimate_error']:+.2%}, "
            f"{row['mismatches']} mismatches",
            highlight=False,
        )
    return rows


def team_study(folder: Path) -> list[dict]:
    """One request alone on one unit, and on three together, by the same file."""
    rows = []
    for sparsity, tokens in TEAM_REQUESTS:
        packed = shape_study(folder, "bert-base", 12, sparsity, SPEC.cooperation.units)
        for units in (1, SPEC.cooperation.units):
            device = open_device("rtl", packed, DeviceOptions(units=units))
            row = measure(packed, device, [tokens])
            row["units_cycles"] = [asdict(unit) for unit in device.unit_cycles]
            rows.append({"shape": "bert-base", "layers": 12, "sparsity": sparsity, "units": units, **row})
            messages.print(
                f"bert-base, 12 layers, {sparsity:.0%}, {tokens} tokens, {units} unit(s): {row['cycles']:,} cycles, "
                f"estimate {row['estimate_error']:+.2%}, {row['mismatches']} mismatches",
                highlight=False,
            )
    return rows


def simulation_speed(packed: PackedModel) -> dict:
    """Cycles a second of the simulation alone, for one request of 128 tokens."""
    device = open_device("rtl", packed)
    words = [embed_tokens(packed, ids) for ids in random_sequences(packed.config, [128], seed=1)]
    begin = time.perf_counter()
    device.run(words)
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "cycles": device.cycles.total, "cycles_per_second": device.cycles.total / seconds}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, help="JSON file to write; standard output if not given")
    parser.add_argument("--quick", action="store_true", help="fewer lengths, no 12-layer model")
    options = parser.parse_args()
    if options.output and not options.output.absolute().parent.is_dir():
        raise BertileError(f"{options.output.parent}: no such folder")
    results: dict = {
        "machine": {"processor": processor(), "cores": os.cpu_count(), "python": platform.python_version()},
        "spec_digest": SPEC.digest,
        "target": load_target(),
        "clocks_megahertz": target_clocks(),
        "studies": [],
    }
    matrix = QUICK_LENGTHS if options.quick else LENGTHS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for sparsity in SPARSITIES:
            packed = shape_study(folder, "bert-base", 1, sparsity)
            rows = study(packed, matrix, f"bert-base, 1 layer, {sparsity:.0%}")
            results["studies"].append({"shape": "bert-base", "layers": 1, "sparsity": sparsity, "launches": rows})
        if not options.quick:
            for sparsity in (0.75, 0.9):
                packed = shape_study(folder, "bert-base", 12, sparsity)
                rows = study(packed, ([128],), f"bert-base, 12 layers, {sparsity:.0%}")
                entry = {"shape": "bert-base", "layers": 12, "sparsity": sparsity, "launches": rows}
                results["studies"].append(entry | {"simulation": simulation_speed(packed)})
            results["teams"] = team_study(folder)
    text = json.dumps(results, indent=2) + "\n"
    if options.output:
        options.output.write_text(text)
    else:
        output.print(text, highlight=False)
    return 0


if __name__ == "__main__":
    run_program(main)
