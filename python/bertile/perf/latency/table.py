"""The bench's rows as one table: a line a system, a column a request. For the terminal and for docs/latency.md."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich import box
from rich.table import Table

Rows = list[dict]
SYSTEM = "milliseconds of"
Request = tuple[int, int]  # batch, tokens


@dataclass(frozen=True)
class Line:
    """One system: a runtime on the CPU, or the card at a clock. cells: milliseconds of each request."""

    layers: int
    system: str
    kind: str
    cells: list[float | None]
    spread: float | None  # widest distance from 10 to 90 % of the runs of a request, as a share of their median


@dataclass(frozen=True)
class Pivot:
    requests: list[Request]
    lines: list[Line]


def milliseconds(value: float | None) -> str:
    """Digits that mean something; nothing for None."""
    if value is None:
        return ""
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:,.0f}"


def ordered(values: Iterable) -> list:
    """Each value once, in the order of its first appearance."""
    return list(dict.fromkeys(values))


def select(rows: Rows, **wanted: object) -> Rows:
    """Rows with these values."""
    return [row for row in rows if all(row.get(name) == value for name, value in wanted.items())]


def encoder_rows(results: dict) -> Rows:
    """Measured and projected rows of an encoder: neither published ones nor the embeddings."""
    return [row for row in results["rows"] if row["kind"] != "published" and row["layers"]]


def on_card(row: dict) -> bool:
    """Whether an encoder's row is of the card, projected or measured on a board, and not of a CPU."""
    return "together" in row


def system_of(row: dict) -> str:
    if not on_card(row):
        return row["runtime"] + (f", {row['sparsity']:.0%} zeros" if row["sparsity"] else "")
    clock = f", {row['megahertz']} MHz" if "megahertz" in row else ""
    return f"U200{' shared' * row['together']}, {row['sparsity']:.0%} sparse{clock}"


def order_of(row: dict) -> tuple:
    """CPU before card; the first clock first; a request a unit before shared ones; unpruned before pruned."""
    sparsity = row["sparsity"] if on_card(row) else row["sparsity"] > 0
    return row["layers"], on_card(row), -row.get("megahertz", 0), row.get("together", False), sparsity


def spread_of(row: dict) -> float | None:
    return (row["p90_ms"] - row["p10_ms"]) / row["latency_ms"] if "p10_ms" in row else None


def pivot(results: dict) -> Pivot:
    """Every measured and projected row of the encoder, in its place."""
    rows = sorted(encoder_rows(results), key=order_of)
    requests = sorted(ordered((row["batch"], row["tokens"]) for row in rows))
    groups: dict[tuple, dict[Request, dict]] = {}
    for row in rows:
        key = row["layers"], system_of(row), row["kind"]
        groups.setdefault(key, {})[row["batch"], row["tokens"]] = row
    lines = []
    for (layers, system, kind), cells in groups.items():
        spreads = [spread for row in cells.values() if (spread := spread_of(row)) is not None]
        values = [cells[request]["latency_ms"] if request in cells else None for request in requests]
        lines.append(Line(layers, system, kind, values, max(spreads, default=None)))
    return Pivot(requests, lines)


def table_head(table: Pivot) -> list[str]:
    return ["layers", SYSTEM, *(f"{batch}x{tokens}" for batch, tokens in table.requests), "spread"]


def table_cells(line: Line) -> list[str]:
    spread = "" if line.spread is None else f"{line.spread:.0%}"
    return [str(line.layers), line.system, *map(milliseconds, line.cells), spread]


def used_by_others(results: dict) -> float:
    """Share of the machine that other programs used, in the most disturbed of the rounds that count."""
    return max((row["used_by_others"] for row in results["rows"] if "used_by_others" in row), default=0.0)


def caption(results: dict) -> str:
    """What the table must not be read without."""
    machine, clocks = results["machine"], results["clocks_megahertz"]
    text = (
        f"{results['shape']} encoder, random weights; columns are batch x tokens. Measured: median on "
        f"{machine['processor']}, {machine['threads']} threads; spread: 10 to 90 % of the runs, widest column. "
        f"Projected at {' and '.join(map(str, clocks))} MHz, not measured on a board; shared: all three units on one "
        "request."
    )
    if (others := used_by_others(results)) > results["quiet_share"]:
        text += f" Other programs used up to {others:.0%} of this machine meanwhile: measure again when it is idle."
    return text


def published_figure(row: dict) -> str:
    """What a publication gives: a latency, a throughput, a factor."""
    figures = [f"{row['latency_ms']} ms"] if row["latency_ms"] is not None else []
    figures += [f"{row['sequences_per_second']} a second"] if "sequences_per_second" in row else []
    figures += [f"{row['speedup']}x"] if "speedup" in row else []
    return ", ".join(figures) + (f" ({row['note']})" if "note" in row else "")


def published_lines(results: dict) -> list[str]:
    """Other people's numbers, a line each."""
    lines = []
    for row in select(results["rows"], kind="published"):
        request = [f"{row['tokens']} tokens"] if row["tokens"] else []
        request += [f"batch {row['batch']}"] if row["batch"] else []
        request += [f"{row['sparsity']:.0%} sparse"] if row["sparsity"] else []
        where = ", ".join([row["what"], *request])
        lines.append(f"{row['device']}: {published_figure(row)}. {where}. {row['source']}")
    return lines


def sections(table: Pivot) -> list[tuple[str, list[Line]]]:
    """Lines under a title with the layers and how the lines are known."""
    known = {"measured": "measured here", "projected": "projected, no board"}
    groups: dict[str, list[Line]] = {}
    for line in table.lines:
        title = f"{line.layers} layer{'s' * (line.layers > 1)}, {known[line.kind]}"
        groups.setdefault(title, []).append(line)
    return list(groups.items())


def render_table(results: dict) -> Table:
    """For a terminal of 80 columns."""
    table = pivot(results)
    rich = Table(box=box.SIMPLE_HEAD, caption=caption(results), caption_justify="left", padding=(0, 1, 0, 0))
    for name in table_head(table)[1:]:
        rich.add_column(name, justify="left" if name == SYSTEM else "right", no_wrap=True)
    for title, lines in sections(table):
        rich.add_section()
        rich.add_row(title, style="bold")
        for line in lines:
            rich.add_row(*table_cells(line)[1:])
    return rich
