"""`python -m bertile.report.results`: docs/results.md from docs/results/*.json, so that no number is typed by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bertile.config.paths import ROOT

SOURCE = ROOT / "docs" / "results" / "slice.json"
TARGET = ROOT / "docs" / "results.md"


def shape_rows(results: dict) -> list[str]:
    """One table row a measured shape."""
    rows = []
    for shape in results["shapes"]:
        packing = shape["packing"]
        rows.append(
            f"| {shape['shape']}, {shape['layers']} layers | {shape['sparsity']:.0%} | {packing['seconds']:.1f} s | "
            f"{packing['peak_gibibytes']:.2f} GiB | {shape['weight_megabytes']:.1f} MB | "
            f"{shape['csim_seconds_median']:.2f} s | {shape['compared']:,} | {shape['mismatches']} |"
        )
    return rows


def accuracy_lines(rows: list[dict]) -> list[str]:
    """Text and table of the accuracy on STS-B."""
    first = rows[0]
    lines = [
        f"{first['model']}, pruned in one shot ({first['pattern']}, uniform) without any training, {first['task']}, "
        f"{first['pairs']} pairs, mean-pooled",
        "cosine; calibrated on the bundled sentences. Both columns are the same pruned model; the cosines compare",
        f"its final hidden states, integer against FP32, over {first['tokens']:,} tokens.",
        "",
        "| sparsity | Spearman, FP32 | Spearman, integer | cosine, mean | cosine, worst token |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['sparsity']:.0%} | {row['score_fp32']:.4f} | {row['score_integer']:.4f} | "
            f"{row['cosine_mean']:.4f} | {row['cosine_min']:.4f} |"
        )
    return lines


def render(results: dict) -> str:
    """The page."""
    machine = results["machine"]
    first = results["shapes"][0]
    lengths = ", ".join(map(str, first["checked_lengths"]))
    lines = [
        "<!-- Generated from docs/results/slice.json by `python -m bertile.report.results`; do not edit. -->",
        "# Results",
        "",
        f"Measured on {machine['processor']}, {machine['cores']} cores, Python {machine['python']}, with",
        "`python -m bertile.perf.bench --data GLUE --output docs/results/slice.json`.",
        "",
        "## Packing and C-simulation",
        "",
        "Random weights: the shape of the model counts, not its accuracy. Packing includes loading, calibration,",
        "quantization and writing the file. C-simulation: one sequence of 128 tokens, median of "
        f"{len(first['csim_seconds_all'])}.",
        "Compared: every int8 value of every layer's output, C-simulation against integer reference, sequences of",
        f"{lengths} tokens.",
        "Clock cycles of the accelerator are in [cycles](performance.md).",
        "",
        "| model | sparsity | packing | peak memory | weight tiles | C-simulation | compared | mismatches |",
        "|---|---|---|---|---|---|---|---|",
        *shape_rows(results),
    ]
    if results["accuracy"]:
        lines += ["", "## W8A8 against FP32", "", *accuracy_lines(results["accuracy"])]
    return "\n".join([*lines, ""])


def main(source: Path = SOURCE, target: Path = TARGET) -> int:
    target.write_text(render(json.loads(source.read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
