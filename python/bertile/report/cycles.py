"""Pictures of a cycle estimate: what bounds each gemm (roofline), and where the cycles go (waterfall)."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bertile.config.spec import load_spec
from bertile.config.target import load_target
from bertile.errors import BertileError
from bertile.models.encoder import MATRICES
from bertile.perf.estimate import units_text
from bertile.report.picture import save_picture

SPEC = load_spec()
PEAK = SPEC.word.tokens * SPEC.array.outputs * SPEC.array.inputs  # multiply-accumulates a cycle
# Waits first: they come before the first multiplication.
COLOURS = {"layernorm": "#7f8c8d", "latency": "#b9c4cc", "ddr": "#c0392b", "compute": "#1f5f8b", "drain": "#e0a030"}
LABELS = {
    "compute": "multiplying",
    "drain": "results leave",
    "ddr": "waiting for tiles",
    "layernorm": "waiting for LayerNorm",
    "latency": "waiting for words",
}
SHORT = {"attention_output": "attn. out", "ffn_in": "ffn in", "ffn_out": "ffn out"}


def title(summary: dict) -> str:
    units = units_text(summary["units"])
    return (
        f"{summary['model']}, {summary['tokens']} tokens, {units} at {summary['clock_megahertz']} MHz: "
        f"{summary['cycles']:,} cycles, {summary['projected_ms']:.3f} ms\n"
        "(estimated and projected, not measured on a board)"
    )


def gemms(summary: dict) -> list[dict]:
    return [o for layer in summary["layers"] for o in layer["operations"] if o["tile_bytes"]]


def bandwidth(clock_megahertz: float) -> float:
    """Bytes of weight tiles that come in a cycle."""
    ddr = load_target()["ddr"]
    return min(ddr["gigabytes_per_second"] * ddr["efficiency"] * 1e3 / clock_megahertz, SPEC.packet.beat_bytes)


def roofline_points(summary: dict) -> list[tuple[dict, float, float]]:
    """Of each gemm with weights left: itself, its multiplications a byte of weight tiles, and those a cycle."""
    return [
        (gemm, gemm["compute"] * PEAK / gemm["tile_bytes"], gemm["compute"] * PEAK / gemm["cycles"])
        for gemm in gemms(summary)
        if gemm["compute"]
    ]


def plot_roofline(axis: plt.Axes, points: list[tuple[dict, float, float]], clock_megahertz: float) -> None:
    """A point a gemm under what DSPs and DDR allow."""
    rate = bandwidth(clock_megahertz)
    knee = PEAK / rate
    spread = [x for _, x, _ in points] + [knee]
    first, last = min(spread) / 2, max(spread) * 2
    axis.plot([first, knee], [rate * first, PEAK], color="black", linewidth=1.2, linestyle="--", label="DDR bound")
    axis.plot([knee, last], [PEAK, PEAK], color="black", linewidth=1.2, label="DSP bound")
    for number, matrix in enumerate(MATRICES):
        mine = [(x, y) for gemm, x, y in points if gemm["name"] == matrix]
        if mine:
            axis.scatter(*zip(*mine, strict=True), s=30, marker="os^DvP"[number], color=f"C{number}", alpha=0.8,
                         label=SHORT.get(matrix, matrix))  # fmt: skip
    axis.set(xscale="log", yscale="log", ylim=(min([y for *_, y in points] + [PEAK / 2]) / 2, PEAK * 1.4),
             xlabel="multiplications a byte of weight tiles", ylabel="multiplications a cycle")  # fmt: skip
    for direction in (axis.xaxis, axis.yaxis):
        direction.set_major_locator(LogLocator(2))
        direction.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        direction.set_minor_formatter(NullFormatter())


def draw_roofline(summary: dict, path: Path) -> None:
    """Multiplications a byte of weight tiles against those a cycle, of each gemm."""
    points = roofline_points(summary)
    if not points:
        raise BertileError("no weight is left in this model; there is no roofline to draw")
    figure, axis = plt.subplots(figsize=(9, 5.5), layout="constrained")
    plot_roofline(axis, points, summary["clock_megahertz"])
    axis.set_title(title(summary))
    axis.grid(alpha=0.3)
    axis.legend(loc="lower right")
    save_picture(figure, path)


def draw_waterfall(summary: dict, path: Path) -> None:
    """A bar an operation, from its first cycle to its last, in the colours of where the cycles go."""
    operations = [(f"{layer['layer']} {o['name']}", o) for layer in summary["layers"] for o in layer["operations"]]
    figure, axis = plt.subplots(figsize=(10, 1.8 + 0.24 * len(operations)), layout="constrained")
    begin = summary["cycles_by_part"]["launch"]
    for row, (_, operation) in enumerate(operations):
        for part, colour in COLOURS.items():
            axis.barh(row, operation[part], left=begin, color=colour, height=0.8)
            begin += operation[part]
    for part, colour in COLOURS.items():
        axis.barh(0, 0, color=colour, label=LABELS[part])
    axis.set_yticks(range(len(operations)), [name for name, _ in operations], fontsize=8)
    axis.invert_yaxis()
    axis.set(xlabel="cycles since the launch began", title=title(summary), xlim=(0, summary["cycles"]))
    axis.grid(alpha=0.3, axis="x")
    axis.legend(loc="lower left")
    save_picture(figure, path)
