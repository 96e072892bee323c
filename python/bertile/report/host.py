"""The host's share of a request, for docs/performance.md: lines from docs/results/host.json."""

from __future__ import annotations

MEANINGS = {
    "queued": "waiting for a free slot",
    "embed": "embed, quantize, write words and launch table",
    "to_card": "transfer, over the emulation's socket",
    "run": "start to end, over the emulation's socket",
    "noticed": "end to collection",
    "from_card": "transfer, over the emulation's socket",
    "result": "status, words to rows, float",
    "host": "**embed + result**",
}


def cell(stage: dict) -> str:
    return f"{stage['median_ms']:.3f} ({stage['p10_ms']:.3f} to {stage['p90_ms']:.3f})"


def host_lines(results: dict) -> list[str]:
    """The section of the page."""
    machine, modes = results["machine"], [results[mode] for mode in ("single", "shared", "queued")]
    queued = results["queued"]
    rows = [
        f"| {stage} | {meaning} | " + " | ".join(cell(mode["stages"][stage]) for mode in modes) + " |"
        for stage, meaning in MEANINGS.items()
    ]
    behind = {mode: table["host"]["median_ms"] for mode, table in results["switching"]["behind"].items()}
    return [
        "## The host's share",
        "",
        f"Measured: a request of {results['tokens']} tokens in the shape of {results['shape']}, through the whole",
        "runtime to the emulated card, which runs an empty program: the simulation would compete for the processor.",
        "Transfers and run are the emulation's, not a card's. Milliseconds, median (10 to 90 %); one request after the",
        "other, on one unit and shared by three; and, a unit each,",
        f"{queued['requests']} at once with a card that takes {results['run_ms']} ms for each. Data:",
        "`python -m bertile.perf.host_bench --output docs/results/host.json`, run on "
        f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}.",
        "",
        "| stage | what | one unit | shared | queued |",
        "|---|---|---|---|---|",
        *rows,
        "",
        f"While requests queue, {queued['host_work_overlapped']:.0%} of the host's work happens while a unit runs.",
        "A lone request takes all units: it costs the host "
        f"{behind['burst']:.2f} ms behind a queue of requests a unit each,",
        f"{behind['lone']:.2f} ms behind another lone one.",
        "",
    ]
