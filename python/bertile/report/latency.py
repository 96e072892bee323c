"""`python -m bertile.report.latency`: docs/latency.md and its picture, from docs/results/latency.json."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bertile.config.paths import ROOT
from bertile.perf.latency.table import (
    encoder_rows,
    milliseconds,
    on_card,
    ordered,
    pivot,
    published_figure,
    select,
    table_cells,
    table_head,
    used_by_others,
)
from bertile.report.picture import save_picture

SOURCE = ROOT / "docs" / "results" / "latency.json"
TARGET = ROOT / "docs" / "latency.md"
PICTURE = ROOT / "docs" / "images" / "latency.png"
COLOURS = {"measured": "#1f5f8b", "projected": "#c0392b", "shared": "#8e44ad", "published": "#7f8c8d"}
MARKERS = {"measured": "o", "projected": "D", "shared": "D", "published": "s"}
STYLES = {"measured": "-", "projected": "--", "shared": "--", "published": ""}
HOLLOW = ("projected", "shared")
HEADLINE_TOKENS = 128


def headline(results: dict) -> tuple[dict, list[dict]]:
    """The request that the picture is about, the deepest encoder at batch 1, and its rows, slowest first."""
    own = encoder_rows(results)
    layers = max(row["layers"] for row in own)
    lengths = {row["tokens"] for row in own}
    tokens = HEADLINE_TOKENS if HEADLINE_TOKENS in lengths else max(lengths)
    request = {"layers": layers, "batch": 1, "tokens": tokens}
    rows = [row for row in select(own, **request) if on_card(row) or not row["sparsity"]]
    if results["shape"] == "bert-base":
        # Published for about as many tokens; others have no place on this axis.
        near = [row for row in select(results["rows"], kind="published", layers=layers, batch=1) if row["latency_ms"]]
        rows += [row for row in near if abs(row["tokens"] - tokens) < 16]
    return request, rows


def density_text(sparsity: float) -> str:
    return f"{sparsity:.0%} sparse" if sparsity else "dense"


def look_of(row: dict) -> str:
    """How a row is drawn: by how it is known, and a request that three units share apart from one on a unit."""
    return "shared" if row.get("together") else row["kind"]


def bars(rows: list[dict]) -> list[tuple[str, list[dict]]]:
    """(label, rows) of each line of the left picture; projections for all clocks share one."""
    lines: dict[str, list[dict]] = {}
    for row in rows:
        if row["kind"] == "published":
            label = row["device"] + (f", {row['sparsity']:.0%} sparse" if row["sparsity"] else "")
            label += "*" if "note" in row else ""
        elif on_card(row):
            label = f"U200, {'three units' if row['together'] else 'one unit'}, {density_text(row['sparsity'])}"
        else:
            label = f"{row['runtime']}, {row['threads']} threads"
        lines.setdefault(label, []).append(row)
    # A star: see the note in the table of published numbers.
    return sorted(lines.items(), key=lambda line: -min(row["latency_ms"] for row in line[1]))


def draw_one_request(axis: plt.Axes, results: dict) -> None:
    """A line a system: filled circles measured, hollow diamonds projected, squares published."""
    request, rows = headline(results)
    lines = bars(rows)
    for place, (_, group) in enumerate(lines):
        look, values = look_of(group[0]), [row["latency_ms"] for row in group]
        style = {"color": COLOURS[look], "marker": MARKERS[look], "linestyle": STYLES[look], "markersize": 8}
        spread = [group[0]["p10_ms"], group[0]["p90_ms"]] if look == "measured" else []
        axis.plot(spread, [place] * len(spread), color=COLOURS[look], linewidth=5, alpha=0.3)
        axis.plot(values, [place] * len(values), markerfacecolor="white" if look in HOLLOW else None, **style)
        axis.annotate(" / ".join(map(milliseconds, values)), (max([*values, *spread]), place), xytext=(9, 0),
                      textcoords="offset points", va="center", fontsize=8, color=COLOURS[look])  # fmt: skip
    axis.set_yticks(range(len(lines)), [label for label, _ in lines], fontsize=8.5)
    low, high = (edge([row["latency_ms"] for row in rows]) for edge in (min, max))
    logarithmic(axis, "x")
    axis.set_xlim(low / 1.6, high * 2.8)
    layers, tokens = request["layers"], request["tokens"]
    axis.set_title(f"One request of {tokens} tokens, {layers} layer{'s' * (layers > 1)}", fontsize=10.5)


def legend_handles(results: dict) -> list[Line2D]:
    """What circles, diamonds and squares are."""
    clocks = " / ".join(map(str, results["clocks_megahertz"]))
    texts = {
        "measured": "measured on this CPU (bar: 10 to 90 % of the runs)",
        "projected": f"projected at {clocks} MHz, not measured on a board",
        "shared": "the same, three units sharing the request",
        "published": "published by others, on other systems (*: extrapolated)",
    }
    return [
        Line2D([], [], color=COLOURS[look], marker=MARKERS[look], label=text, linestyle=STYLES[look],
               markerfacecolor="white" if look in HOLLOW else None)
        for look, text in texts.items()
    ]  # fmt: skip


def draw_lengths(axis: plt.Axes, results: dict) -> None:
    """Latency against tokens at batch 1: a line a runtime, a line a sparsity of the card at the first clock."""
    request, _ = headline(results)
    own = select(results["rows"], layers=request["layers"], batch=1)
    measured = [row for row in own if not on_card(row) and row["kind"] == "measured" and not row["sparsity"]]
    first = select(own, kind="projected", megahertz=results["clocks_megahertz"][0])
    names = ordered(row["runtime"] for row in measured)
    groups = [(name, "measured", select(measured, runtime=name)) for name in names]
    groups += [
        (f"{'3 units' if look == 'shared' else 'U200'}, {density_text(share)}", look, rows)
        for share in ordered(row["sparsity"] for row in first)
        for look in HOLLOW
        if (rows := [row for row in select(first, sparsity=share) if look_of(row) == look])
    ]
    for number, (name, look, rows) in enumerate(groups):
        rows = sorted(rows, key=lambda row: row["tokens"])
        axis.plot(
            [row["tokens"] for row in rows], [row["latency_ms"] for row in rows], color=COLOURS[look],
            marker=MARKERS[look], linestyle=STYLES[look], markersize=6,
            markerfacecolor="white" if look in HOLLOW else None, alpha=1 - 0.12 * (number % 4),
        )  # fmt: skip
        # Lines of the card lie close: those of three units have their names on the left.
        row, offset, side = (rows[0], -8, "right") if look == "shared" else (rows[-1], 8, "left")
        axis.annotate(name, (row["tokens"], row["latency_ms"]), xytext=(offset, 0), textcoords="offset points",
                      va="center", ha=side, fontsize=8, color=COLOURS[look])  # fmt: skip
    lengths = sorted({row["tokens"] for row in measured + first})
    logarithmic(axis, "y")
    axis.set_xscale("log")
    axis.set_xticks(lengths, [str(length) for length in lengths])
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.tick_params(axis="x", which="minor", length=0)
    axis.set_xlim(min(lengths) / (5 if any(look == "shared" for _, look, _ in groups) else 1.25), max(lengths) * 5)
    axis.set_xlabel("tokens of one request")
    axis.set_title(f"U200 projected at {results['clocks_megahertz'][0]} MHz, not measured on a board", fontsize=10.5)


def draw_latency(results: dict, path: Path) -> None:
    """Write the PNG: one request, and latency against length where several lengths were run.

    Raises BertileError when the file cannot be written.
    """
    several = len({row["tokens"] for row in encoder_rows(results)}) > 1
    figure, axes = plt.subplots(
        1, 1 + several, figsize=(13 if several else 8, 5.6), layout="constrained", squeeze=False,
        width_ratios=(1.1, 1)[: 1 + several],
    )  # fmt: skip
    draw_one_request(axes[0, 0], results)
    if several:
        draw_lengths(axes[0, 1], results)
    cpu = f"{results['machine']['processor']}, {results['machine']['threads']} threads"
    disturbed = " (other programs were running: measure again)" if disturbed_lines(results) else ""
    figure.suptitle(f"{results['shape']} encoder, random weights; CPU: {cpu}{disturbed}")
    figure.legend(handles=legend_handles(results), loc="outside lower center", ncols=3 if several else 1, fontsize=9)
    save_picture(figure, path)


def logarithmic(axis: plt.Axes, name: str) -> None:
    """Make `x` or `y` a logarithmic axis of milliseconds with plain numbers."""
    direction = getattr(axis, f"{name}axis")
    axis.set(**{f"{name}scale": "log", f"{name}label": "milliseconds"})
    direction.set_major_locator(LogLocator(subs=(1, 2, 5)))
    direction.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    direction.set_minor_formatter(NullFormatter())
    axis.grid(alpha=0.3, which="major", axis=name)


def zeros_lines(results: dict) -> list[str]:
    """Whether the CPU runtimes profit from zeros: pruned beside unpruned, where both were measured."""
    lines = ["| layers | runtime | unpruned, ms | pruned, ms | pruned / unpruned |", "|---|---|---|---|---|"]
    measured = [row for row in encoder_rows(results) if not on_card(row)]
    for row in (row for row in measured if row["sparsity"]):
        same = {name: row[name] for name in ("layers", "batch", "tokens", "runtime")}
        dense = select(measured, **same, sparsity=0.0)[0]["latency_ms"]
        pruned = row["latency_ms"]
        lines.append(
            f"| {row['layers']} | {row['runtime']} | {milliseconds(dense)} | {milliseconds(pruned)} | "
            f"{pruned / dense:.2f} |"
        )
    return lines


def runtime_lines(results: dict) -> list[str]:
    """What each runtime is, how it was set, and how near its output is to PyTorch's."""
    lines = ["| runtime | version | settings | cosine, mean | worst token |", "|---|---|---|---|---|"]
    measured = [row for row in encoder_rows(results) if not on_card(row)]
    for name in ordered(row["runtime"] for row in measured):
        rows = select(measured, runtime=name)
        settings = "; ".join(f"{key.replace('_', ' ')}: {value}" for key, value in rows[0]["settings"].items())
        version = rows[0]["source"].rsplit(", ", 1)[-1]
        mean, worst = (min(row[key] for row in rows) for key in ("cosine", "cosine_worst_token"))
        lines.append(f"| {name} | {version} | {settings} | {mean:.5f} | {worst:.5f} |")
    return lines


def cycle_lines(results: dict) -> list[str]:
    """What a projection is made of, for one request at the first clock."""
    request, _ = headline(results)
    lines = [
        "| layers | units | sparsity | cycles | from | computing, ms | PCIe, ms | starting and seeing the end, ms | "
        "sum, ms |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    clock = results["clocks_megahertz"][0]
    for row in select(encoder_rows(results), kind="projected", megahertz=clock, batch=1, tokens=request["tokens"]):
        counted = "RTL engine, counted" if row["cycles_from"] == "rtl" else "estimate"
        lines.append(
            f"| {row['layers']} | {row['units']} | {row['sparsity']:.0%} | {row['cycles']:,} | {counted} | "
            f"{row['compute_ms']:.3f} | {row['transfer_ms']:.3f} | {row['round_trip_ms']:.3f} | "
            f"{row['latency_ms']:.3f} |"
        )
    return lines


def published_table(results: dict) -> list[str]:
    lines = ["| system | what | tokens | batch | sparsity | figure | source |", "|---|---|---|---|---|---|---|"]
    for row in select(results["rows"], kind="published"):
        numbers = ["" if row[name] is None else str(row[name]) for name in ("tokens", "batch")]
        sparsity = "" if row["sparsity"] is None else f"{row['sparsity']:.0%}"
        cells = [row["device"], row["what"], *numbers, sparsity, published_figure(row), row["source"]]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main_table(results: dict) -> list[str]:
    """Every line says how it is known."""
    table = pivot(results)
    head = [*table_head(table), "how known"]
    known = {"measured": "measured", "projected": "projected, not measured on a board"}
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return lines + [f"| {' | '.join([*table_cells(line), known[line.kind]])} |" for line in table.lines]


def disturbed_lines(results: dict) -> list[str]:
    """A warning above the table where the machine was not quiet; nothing where it was."""
    others = used_by_others(results)
    if others <= results["quiet_share"]:
        return []
    return [
        f"**Other programs used up to {others:.0%} of the machine during these measurements.** The CPU's rows are",
        "slower than this machine can be; compare them with nothing before they are measured again.",
        "",
    ]


def method_lines(results: dict) -> list[str]:
    """How the CPU was measured, and how far it can be trusted."""
    machine, quiet, others = results["machine"], results["quiet_share"], used_by_others(results)
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    embeddings = next(row for row in results["rows"] if row["kind"] == "measured" and not row["layers"])
    before, after = machine["load_before"][0], machine["load_after"][0]
    return [
        f"{machine['processor']} with {', '.join(machine['features'])}; {machine['threads']} threads; Python",
        f"{machine['python']}; {versions}.",
        "",
        "Every row goes from embedded words to hidden states, without padding: tokenizer, embeddings and pooler are",
        "left out, on the CPU and on the card.",
        f"Embedding {embeddings['tokens']} tokens took {embeddings['latency_ms']:.2f} ms in PyTorch.",
        "",
        "Runtimes take turns in short blocks of warm runs, so that a slow moment hits all of them. A round in which",
        f"other programs used more than {quiet:.0%} of the machine is measured again, within limits (`--wait`);",
        f"in the rounds that count they used up to {others:.0%}. Load averages: {before} when the run began,",
        f"{after} when it ended, the bench included. A runtime whose output is not PyTorch's (cosine of the hidden",
        "states) has no row.",
        "",
        *runtime_lines(results),
        "",
        "ONNX Runtime INT8 is dynamic quantization; its static form (QDQ), timed at one layer, has its own line.",
        "OpenVINO INT8 is NNCF's post-training quantization for transformers.",
    ]


def projection_lines(results: dict) -> list[str]:
    """What a projection assumes."""
    pcie = results["pcie"]
    return [
        "Cycles come from the RTL engine in simulation where that launch was counted ([cycles](performance.md)),",
        "else from the estimate. On top, assumed in `spec/targets/u200.toml`, not measured:",
        f"{pcie['gigabytes_per_second']} GB/s over PCIe, {pcie['transfer_us']} us for a transfer,",
        f"{pcie['round_trip_us']} us to start a launch and to see its end. Nothing overlaps with anything. Requests",
        "of a batch are shared out among three units, which work at once; requests on one unit share launches of up to",
        "512 tokens, one launch after the other, and the fullest unit counts. One request uses one unit, or all three",
        "([shared](architecture.md#one-request-on-three-units)): then each gets and gives its part of the words.",
        "",
        f"One request at {results['clocks_megahertz'][0]} MHz:",
        "",
        *cycle_lines(results),
    ]


def render(results: dict) -> str:
    """The page."""
    machine = results["machine"]
    clocks = " and ".join(map(str, results["clocks_megahertz"]))
    lines = [
        "# Latency",
        "",
        "<!-- Generated from docs/results/latency.json by `python -m bertile.report.latency`; do not edit. -->",
        "",
        f"**No board was used.** Rows of the U200 are projected at {clocks} MHz, not measured on a board; those of",
        f"the CPU are measured on {machine['threads']} cores of a virtual machine ({machine['processor']}), not on a",
        "whole server: **a factor between the two is no speed-up over a Xeon server**. Published numbers are of other",
        "systems. Data:",
        "",
        "```sh",
        results["command"],
        "```",
        "",
        f"![Latencies of a {results['shape']} encoder](images/latency.png)",
        "",
        f"Milliseconds, {results['shape']}, seeded random weights pruned in one shot (1x16). A column is batch x",
        "tokens: the time until all requests of the batch are answered. Measured: median; spread: from 10 to 90 % of",
        "the runs, as a share of the median, in the widest column. U200: a request runs on one unit; shared: on all",
        "three.",
        "",
        *disturbed_lines(results),
        *main_table(results),
        "",
        "## How it was measured",
        "",
        *method_lines(results),
        "",
        "## Zeros on a CPU",
        "",
        "One request, the pruned model timed in the same rounds as the unpruned one. About 1: zeros do not help.",
        "",
        *zeros_lines(results),
        "",
        "## What a projection is made of",
        "",
        *projection_lines(results),
        "",
        "## Published by others",
        "",
        "As published, with other models, precisions and definitions of a latency; none was measured again.",
        "",
        *published_table(results),
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    results = json.loads(SOURCE.read_text(encoding="utf-8"))
    draw_latency(results, PICTURE)
    TARGET.write_text(render(results), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
