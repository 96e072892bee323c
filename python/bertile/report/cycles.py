"""Pictures of a cycle estimate: what bounds each gemm (roofline), and where the cycles go (waterfall)."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import ScalarFormatter

from bertile.config.spec import load_spec
from bertile.config.target import load_target
from bertile.errors import BertileError
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


def title(summary: dict) -> str:
    return (
        f"{summary['model']}, {summary['tokens']} tokens, one compute unit at {summary['clock_megahertz']} MHz: "
        f"{summary['cycles']:,} cycles, {summary['projected_ms']:.3f} ms\n"
        "(estimated and projected, not measured on a board)"
    )


def gemms(summary: dict) -> list[dict]:
    return [o for layer in summary["layers"] for o in layer["operations"] if o["tile_bytes"]]


def draw_roofline(summary: dict, path: Path) -> None:
    """A point a gemm: multiply-accumulates a byte of weight tiles against those a cycle."""
    ddr = load_target()["ddr"]
    bandwidth = ddr["gigabytes_per_second"] * ddr["efficiency"] * 1e3 / summary["clock_megahertz"]
    bandwidth = min(bandwidth, SPEC.packet.beat_bytes)
    figure, axis = plt.subplots(figsize=(9, 5.5), layout="constrained")
    points = [o for o in gemms(summary) if o["compute"]]
    if not points:
        raise BertileError("no weight is left in this model; there is no roofline to draw")
    intensity = np.array([o["compute"] * PEAK / o["tile_bytes"] for o in points])
    reach = np.geomspace(min(intensity.min(), PEAK / bandwidth) / 2, max(intensity.max(), PEAK / bandwidth) * 2, 200)
    axis.plot(reach, np.minimum(PEAK, bandwidth * reach), color="black", label="bound: DSPs, DDR")
    names = list(dict.fromkeys(o["name"] for o in points))
    for number, name in enumerate(names):
        rows = [(x, o) for x, o in zip(intensity, points, strict=True) if o["name"] == name]
        rates = [o["compute"] * PEAK / o["cycles"] for _, o in rows]
        axis.scatter([x for x, _ in rows], rates, s=36, color=f"C{number}", label=name, alpha=0.7)
    axis.set(xscale="log", yscale="log", xlabel="multiply-accumulates a byte of weight tiles",
             ylabel="multiply-accumulates a cycle (kept weights only)", title=title(summary))  # fmt: skip
    axis.set_ylim(top=PEAK * 1.5)
    for direction in (axis.xaxis, axis.yaxis):
        direction.set_major_formatter(ScalarFormatter())
        direction.set_minor_formatter(ScalarFormatter())
    axis.tick_params(which="minor", labelsize=7)
    axis.grid(alpha=0.3, which="both")
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
