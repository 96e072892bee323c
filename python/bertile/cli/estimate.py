"""`bertile estimate`: where the cycles of a packed model would go."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from bertile.cli.commands import checked_tokens
from bertile.cli.console import messages, output, print_json
from bertile.config.target import load_target, target_clocks
from bertile.errors import BertileError
from bertile.pack.container import load_packed
from bertile.pack.packer import PackedModel
from bertile.perf.estimate import CycleEstimate, estimate_cycles, units_text

PARTS = ("compute", "drain", "ddr", "layernorm", "latency")
NOTE = "estimated cycles, projected latency: not measured on a board"


def summarize(packed: PackedModel, tokens: int, clock: int, units: int) -> tuple[CycleEstimate, dict]:
    """The estimate of one request on `units` together, and what `--json` prints."""
    estimate = estimate_cycles(packed, [tokens], clock, units)
    alone = estimate if units == 1 else estimate_cycles(packed, [tokens], clock)
    card_units = len(load_target()["unit"])
    return estimate, {
        "model": packed.provenance.get("model"),
        "synthetic": packed.provenance.get("synthetic"),
        "tokens": tokens,
        "clock_megahertz": clock,
        "units": units,
        "cycles": estimate.total,
        "cycles_by_part": estimate.parts(),
        "projected_ms": estimate.total / clock / 1e3,
        # Array cycles of each unit; and the same request on one of them.
        "work": list(estimate.work),
        "cycles_one_unit": alone.total,
        # Each unit of the card serves a request of its own, from a DDR bank of its own.
        "card_units": card_units,
        "projected_requests_per_second": card_units * clock * 1e6 / alone.total,
        "note": NOTE,
        "layers": estimate.layers(),
    }


def print_estimate(summary: dict, estimate: CycleEstimate) -> None:
    """A row an operation; operations of the same name in all layers together."""
    table = Table("operation", "cycles", *PARTS, "bound", title="cycles, all layers together")
    names = list(dict.fromkeys(operation.name for operation in estimate.operations))
    for name in names:
        rows = [operation for operation in estimate.operations if operation.name == name]
        sums = [sum(getattr(row, part) for row in rows) for part in ("cycles", *PARTS)]
        table.add_row(name, *(f"{value:,}" for value in sums), "/".join(sorted({row.bound for row in rows})))
    for name in ("launch", "finish"):
        table.add_row(name, f"{getattr(estimate, name):,}")
    output.print(table)
    faster = "" if summary["units"] == 1 else f" ({summary['cycles_one_unit'] / summary['cycles']:.2f} times one unit)"
    units = units_text(summary["units"])
    output.print(
        f"{summary['cycles']:,} cycles for one sequence of {summary['tokens']} tokens on {units}{faster}: "
        f"{summary['projected_ms']:.3f} ms projected at {summary['clock_megahertz']} MHz; a queue on "
        f"{summary['card_units']} units, each a request: {summary['projected_requests_per_second']:.0f} requests a "
        f"second, projected\n{NOTE}",
        highlight=False,
    )


def estimate(
    file: Path, tokens: int, clock: int | None, units: int, roofline: Path | None, waterfall: Path | None, json: bool
) -> None:
    """Load, estimate, print, draw."""
    if clock is not None and not 1 <= clock <= 1000:
        raise BertileError(f"{clock} MHz is no clock for this card; choose 1 to 1000")
    packed = load_packed(file)
    cycles, summary = summarize(packed, checked_tokens(packed, tokens), clock or target_clocks()[0], units)
    if json:
        print_json(summary)
    else:
        print_estimate(summary, cycles)
    if roofline or waterfall:
        from bertile.report.cycles import draw_roofline, draw_waterfall

        for draw, target in ((draw_roofline, roofline), (draw_waterfall, waterfall)):
            if target:
                draw(summary, target)
                messages.print(f"{target}", highlight=False)
