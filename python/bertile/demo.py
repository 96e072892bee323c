"""`make demo`: from the embedded MiniLM and English sentences to a checked output of the C-simulated accelerator."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np

from bertile.cli.commands import nearest_table
from bertile.cli.console import output, progress_bar, working
from bertile.config.paths import BUILD_DIR
from bertile.config.spec import load_spec
from bertile.devices.registry import open_device
from bertile.errors import run_program
from bertile.golden.fp32 import run_fp32
from bertile.inference import compare_devices, mean_pool, measure_fidelity, run_sequences
from bertile.models.load import load_model
from bertile.pack.container import load_packed, save_packed
from bertile.pack.packer import PackedModel, packed_sparsity
from bertile.perf.estimate import estimate_cycles, project_milliseconds
from bertile.prune.magnitude import prune_magnitude, save_pruned
from bertile.prune.pattern import parse_pattern
from bertile.report.tiles import draw_tiles
from bertile.text import TextEncoder, bundled_lines
from bertile.workflow import pack_model

SPEC = load_spec()
PATTERN, SPARSITY, DEVICE = "1x16", 0.5, "csim"
FOLDER = BUILD_DIR / "demo"
PROJECTED_TOKENS = 128
PICTURE_LAYER = 0


def make_model(folder: Path) -> PackedModel:
    """Prune MiniLM into `folder`/pruned and pack it into `folder`/model.bertile."""
    with working("pruning all-MiniLM-L6-v2"):
        result = prune_magnitude(load_model("minilm"), parse_pattern(PATTERN), SPARSITY)
        save_pruned(result, folder / "pruned")
        pruned = load_model(str(folder / "pruned"))
    with progress_bar("quantizing") as quantizing, progress_bar("packing") as packing:
        packed = pack_model(pruned, str(folder / "pruned"), None, quantizing, packing)
    save_packed(packed, folder / "model.bertile")
    return load_packed(folder / "model.bertile")


def measure(packed: PackedModel, sequences: list[np.ndarray]) -> tuple[dict, list[np.ndarray]]:
    """Both comparisons on the sentences, and the hidden states of the C-simulation."""
    with working("building and opening the C-simulation"):
        integer, csim = open_device("integer", packed), open_device(DEVICE, packed)
    with progress_bar("comparing C-simulation and integer reference") as progress:
        comparison = compare_devices(packed, integer, csim, sequences, progress)
    with progress_bar("running the C-simulation") as progress:
        hidden = run_sequences(packed, csim, sequences, progress)
    with progress_bar("running the FP32 model") as progress:
        exact = run_fp32(load_model(packed.provenance["source"]), sequences, progress)
    fidelity = measure_fidelity(exact, hidden)
    cycles = estimate_cycles(packed, [PROJECTED_TOKENS])
    summary = {
        "model": packed.provenance["model"],
        "pattern": PATTERN,
        "sparsity": packed_sparsity(packed),
        "sentences": len(sequences),
        "tokens": fidelity.tokens,
        "device": comparison.device,
        "compared": comparison.compared,
        "mismatches": comparison.mismatches,
        "cosine_mean": fidelity.cosine_mean,
        "cosine_min": fidelity.cosine_min,
        "cycles": cycles.total,
        "cycles_note": f"estimated, one sequence of {PROJECTED_TOKENS} tokens on one compute unit",
        "cycles_by_part": cycles.parts(),
        "projected_ms": project_milliseconds(packed, PROJECTED_TOKENS),
        "projected_note": "projected from estimated cycles, not measured on a board",
        "spec_digest": SPEC.digest,
    }
    return summary, hidden


def report(summary: dict, folder: Path, seconds: float) -> None:
    """The comparison on both rungs, and the estimate."""
    output.print(
        f"\n{summary['model']}, {summary['sparsity']:.1%} of its weight vectors removed ({summary['pattern']})\n"
        f"C-simulation against integer reference: {summary['compared']:,} values of every layer compared, "
        f"{summary['mismatches']} mismatches\n"
        f"C-simulation against FP32 (pruned model): cosine of the hidden states {summary['cosine_mean']:.4f} on "
        f"average, {summary['cosine_min']:.4f} at worst, over {summary['tokens']} tokens\n"
        f"estimated cycles, {PROJECTED_TOKENS} tokens on one compute unit: {summary['cycles']:,}",
        highlight=False,
    )
    for clock, milliseconds in summary["projected_ms"].items():
        output.print(f"  {milliseconds:.2f} ms projected at {clock} MHz, not measured on a board", highlight=False)
    output.print(f"in {folder}: model.bertile, summary.json, tiles.png ({seconds:.0f} s)", highlight=False)


def main() -> int:
    begin = time.monotonic()
    FOLDER.mkdir(parents=True, exist_ok=True)
    packed = make_model(FOLDER)
    lines = bundled_lines("demo.txt")
    sequences = TextEncoder(packed.tokenizer, packed.config).encode(lines)
    summary, hidden = measure(packed, sequences)
    draw_tiles(packed, PICTURE_LAYER, FOLDER / "tiles.png")
    (FOLDER / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    output.print(nearest_table(lines, mean_pool(hidden)))
    report(summary, Path(os.path.relpath(FOLDER)), time.monotonic() - begin)
    return 1 if summary["mismatches"] else 0


if __name__ == "__main__":
    run_program(main)
