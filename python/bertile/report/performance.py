"""`python -m bertile.report.performance`: docs/performance.md, and its picture of three units, from
docs/results/rtl.json and host.json.
"""

from __future__ import annotations

import json
import sys

from bertile.config.paths import ROOT
from bertile.report.host import host_lines
from bertile.report.team_cycles import draw_teams

SOURCE = ROOT / "docs" / "results" / "rtl.json"
HOST_SOURCE = ROOT / "docs" / "results" / "host.json"
TARGET = ROOT / "docs" / "performance.md"
TEAM_PICTURE = ROOT / "docs" / "images" / "three-units.png"
PARTS = ("compute", "drain", "ddr", "layernorm", "latency", "launch", "finish")


def lengths_text(tokens: list[int]) -> str:
    return str(tokens[0]) if len(tokens) == 1 else " + ".join(map(str, tokens))


def milliseconds(cycles: int, clocks: list[int]) -> str:
    return " / ".join(f"{cycles / clock / 1e3:.3f}" for clock in clocks)


def target_rows(studies: list[dict]) -> list[str]:
    """One row a study: its launch of one sequence of 128 tokens."""
    rows = []
    for study in studies:
        launch = next(row for row in study["launches"] if row["tokens"] == [128])
        rows.append(
            f"| {study['shape']}, {study['layers']} layer{'s' * (study['layers'] > 1)} | {study['sparsity']:.0%} | "
            f"{launch['cycles']:,} | {launch['gemm_slots_used']:.1%} | {launch['compared']:,} | "
            f"{launch['mismatches']} |"
        )
    return rows


def matrix_rows(results: dict) -> list[str]:
    rows = []
    for study in results["studies"]:
        for launch in study["launches"]:
            rows.append(
                f"| {study['layers']} | {study['sparsity']:.0%} | {lengths_text(launch['tokens'])} | "
                f"{launch['cycles']:,} | {launch['estimated_cycles']:,} | {launch['estimate_error']:+.2%} | "
                f"{milliseconds(launch['cycles'], results['clocks_megahertz'])} |"
            )
    return rows


def part_rows(studies: list[dict]) -> list[str]:
    rows = []
    for study in studies:
        launch = next(row for row in study["launches"] if row["tokens"] == [128])
        values = " | ".join(f"{launch['estimated_parts'][part]:,}" for part in PARTS)
        rows.append(f"| {study['layers']} | {study['sparsity']:.0%} | {values} |")
    return rows


def team_rows(results: dict) -> list[str]:
    """A row a request: one unit beside three."""
    rows = []
    for alone, together in zip(results["teams"][::2], results["teams"][1::2], strict=True):
        worst = max(together["work"]) / (sum(together["work"]) / len(together["work"])) - 1
        busy = sum(together["work"]) / together["units"] / together["cycles"]
        rows.append(
            f"| {together['sparsity']:.0%} | {lengths_text(together['tokens'])} | {alone['cycles']:,} | "
            f"{together['cycles']:,} | {alone['cycles'] / together['cycles']:.2f} | {busy:.1%} | {worst:.1%} | "
            f"{together['compared']:,} | {together['mismatches']} | {together['estimate_error']:+.2%} | "
            f"{milliseconds(together['cycles'], results['clocks_megahertz'])} |"
        )
    return rows


def team_parts(results: dict) -> list[str]:
    """Where the cycles of each request go, on one unit and on three."""
    rows = []
    for team in results["teams"]:
        values = " | ".join(f"{team['estimated_parts'][part]:,}" for part in PARTS)
        rows.append(f"| {team['sparsity']:.0%} | {lengths_text(team['tokens'])} | {team['units']} | {values} |")
    return rows


def team_lines(results: dict, clocks: str) -> list[str]:
    return [
        "## One request on three units",
        "",
        "Twelve layers, one request, by the same file (`bertile pack --units 3`) on one unit and on",
        "[three that share it](architecture.md#one-request-on-three-units). Times: how many times faster. Busy: how",
        "much of the time the arrays of the three, 3,072 DSPs, multiply or their results need to leave: the rest is",
        "what is left to gain. Slowest: by how much the unit with most work has more than the mean. Compared and",
        "estimate: of three units.",
        "",
        "| sparsity | tokens | cycles, one unit | cycles, three | times | busy | slowest | compared | mismatches | "
        f"estimate off by | projected ms at {clocks.replace(' and ', ' / ')} MHz |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *team_rows(results),
        "",
        "![What three units need beyond the multiplications](images/three-units.png)",
        "",
        "Where the cycles of the unit that ends last go, from the estimate; layernorm has the wait for partial sums",
        "and for the words of the others in it:",
        "",
        "| sparsity | tokens | units | " + " | ".join(PARTS) + " |",
        "|---" * (len(PARTS) + 3) + "|",
        *team_parts(results),
        "",
    ]


def render(results: dict, host: dict) -> str:
    """The page."""
    studies, machine, ddr = results["studies"], results["machine"], results["target"]["ddr"]
    clocks = " and ".join(str(clock) for clock in results["clocks_megahertz"])
    launches = [launch for study in studies for launch in study["launches"]]
    worst = max(abs(launch["estimate_error"]) for launch in launches)
    speeds = [study["simulation"] for study in studies if "simulation" in study]
    lines = [
        "# Performance",
        "",
        "<!-- Generated from docs/results/{rtl,host}.json by `python -m bertile.report.performance`; do not edit. -->",
        "",
        "How many cycles the card takes, and what [the host adds](#the-hosts-share). Beside CPUs:",
        "[latency](latency.md).",
        "",
        "**No board was used.** Cycles are counted in the emulated compute unit: the RTL engine under Verilator, clock",
        "by clock, with the HLS vector stages around it. What the stages and the memory cost is assumed, not measured",
        f"(`spec/targets/u200.toml`): one word a cycle and a pipeline depth a stage; {ddr['latency_ns']} ns and",
        f"{ddr['efficiency']:.0%} of {ddr['gigabytes_per_second']} GB/s for a DDR bank.",
        f"**Latencies are these cycles divided by a clock of {clocks} MHz: projected.** Memory was as slow, in cycles,",
        "as it is at the first of these clocks.",
        "Whether the design reaches these clocks is not known; no vendor tool has run on it ([area](area.md)).",
        "",
        "Models have the shape named and seeded random weights, pruned in one shot. Data:",
        "`python -m bertile.perf.rtl_bench --output docs/results/rtl.json`,",
        f"run on {machine['processor']}, {machine['cores']} cores, Python {machine['python']}.",
        "",
        "## One request of 128 tokens on one compute unit",
        "",
        "Slots used: multiplications of kept weights over all the array could do while a gemm is the engine's oldest",
        "unfinished command, waits for LayerNorm included. Compared: int8 values of every layer, RTL against the",
        "integer reference.",
        "",
        "| model | sparsity | cycles | slots used | compared | mismatches |",
        "|---|---|---|---|---|---|",
        *target_rows(studies),
        "",
    ]
    for speed in speeds[:1]:
        lines += [
            f"The simulation of 12 layers at 75 % took {speed['seconds']:.0f} s: "
            f"{speed['cycles_per_second']:,.0f} cycles a second.",
            "",
        ]
    lines += [
        *team_lines(results, clocks),
        "## Where they go",
        "",
        "From the [estimate](#estimate). compute: the array multiplies; drain: passes stretched to 16 cycles, because",
        "results leave one word a cycle; ddr: waiting for tiles; layernorm: waiting for the second pass of a",
        "LayerNorm; latency: waiting for other words; launch and finish: loading the input, the last LayerNorm and",
        "storing the output.",
        "",
        "| layers | sparsity | " + " | ".join(PARTS) + " |",
        "|---" * (len(PARTS) + 2) + "|",
        *part_rows(studies),
        "",
        "![Where the cycles of a BERT-base layer go](images/waterfall.png)",
        "",
        "![Gemms of a BERT-base layer under the bounds of DSPs and DDR](images/roofline.png)",
        "",
        "Both pictures: `bertile estimate FILE --waterfall PNG --roofline PNG`, one layer at 90 %, 128 tokens.",
        "",
        "## Estimate",
        "",
        "`bertile estimate` walks the program with recurrences over commands and passes (`perf/timeline.py`) and takes",
        f"a moment. Against the RTL it was off by at most {worst:.2%} here:",
        "",
        "| layers | sparsity | tokens | RTL cycles | estimate | off by | projected ms at "
        + clocks.replace(" and ", " / ")
        + " MHz |",
        "|---|---|---|---|---|---|---|",
        *matrix_rows(results),
        "",
        *host_lines(host),
    ]
    return "\n".join(lines)


def main() -> int:
    results = json.loads(SOURCE.read_text())
    draw_teams(results, TEAM_PICTURE)
    TARGET.write_text(render(results, json.loads(HOST_SOURCE.read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
