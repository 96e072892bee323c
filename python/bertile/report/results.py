"""`python -m bertile.report.results`: docs/results.md and its pictures from docs/results/{slice,training,runs/*}.json.

No number is typed by hand.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from bertile.config.paths import ROOT
from bertile.errors import run_program
from bertile.report.accuracy import accuracy_lines
from bertile.report.accuracy_pictures import draw_pictures, pictures_of
from bertile.report.runs import RunRecord, read_runs
from bertile.report.search_results import read_efficient, search_lines

SOURCE = ROOT / "docs" / "results" / "slice.json"
RUNS = ROOT / "docs" / "results" / "runs"
TRAINING = ROOT / "docs" / "results" / "training.json"
SEARCH = ROOT / "docs" / "results" / "search"
TARGET = ROOT / "docs" / "results.md"
IMAGES = ROOT / "docs" / "images"


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


def w8a8_lines(rows: list[dict]) -> list[str]:
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


def training_lines(training: dict) -> list[str]:
    """What masks and penalty add to a training step."""
    machine, medians, added = training["machine"], training["milliseconds_median"], training["added"]
    lines = [
        "## What pruning adds to a training step",
        "",
        f"{training['model']}, {training['pattern']}, batches of {training['batch']} x {training['tokens']} tokens on "
        f"{machine['threads']} cores of {machine['processor']};",
        "`python -m bertile.perf.training_bench --output docs/results/training.json`, variants side by side, medians",
        f"of {len(training['milliseconds']['plain'])} steps. At most {training['limit']:.0%} was asked.",
        "",
        "| | step | added |",
        "|---|---|---|",
        f"| nothing pruned | {medians['plain']:.0f} ms | - |",
    ]
    lines += [f"| {name} | {medians[name]:.0f} ms | {share:+.1%} |" for name, share in added.items()]
    return [*lines, ""]


def render(results: dict, records: Sequence[RunRecord], training: dict, search: Path = SEARCH) -> str:
    """The page. search: folder of what searches gave. Raises BertileError for records that contradict each other."""
    return "\n".join(
        [
            "<!-- Generated from docs/results/slice.json, training.json, runs/*.json and search/ by",
            "`python -m bertile.report.results`; do not edit. -->",
            "# Results",
            "",
            *accuracy_lines(records, pictures_of(records)),
            *search_lines(read_efficient(search), *(read_runs(search / name) for name in ("runs", "runs-earlier"))),
            *training_lines(training),
            *slice_lines(results),
            "",
        ]
    )


def slice_lines(results: dict) -> list[str]:
    """Packing, simulation and quantization without any training."""
    machine = results["machine"]
    first = results["shapes"][0]
    lengths = ", ".join(map(str, first["checked_lengths"]))
    lines = [
        "## Packing and C-simulation",
        "",
        f"Measured on {machine['processor']}, {machine['cores']} cores, Python {machine['python']}, with",
        "`python -m bertile.perf.bench --data GLUE --output docs/results/slice.json`.",
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
        lines += ["", "## W8A8 against FP32, without training", "", *w8a8_lines(results["accuracy"])]
    return lines


def main(source: Path = SOURCE, runs: Path = RUNS, target: Path = TARGET, images: Path = IMAGES) -> int:
    records = read_runs(runs)
    page = render(json.loads(source.read_text()), records, json.loads(TRAINING.read_text()))
    draw_pictures(records, images)
    target.write_text(page)
    return 0


if __name__ == "__main__":
    run_program(main)
