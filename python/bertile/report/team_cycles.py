"""A picture of what three units need for a request beyond the multiplications: a waterfall a request."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter

from bertile.config.spec import load_spec
from bertile.report.cycles import COLOURS, LABELS
from bertile.report.picture import save_picture

SPEC = load_spec()
DSPS = SPEC.word.tokens * SPEC.array.outputs * SPEC.array.inputs // 2  # two multiplications share one
STEPS = ("ddr", "layernorm", "latency", "launch", "finish")
OTHER_COLOURS = {"imbalance": "#8e44ad", "launch": "#34495e", "finish": "#34495e", "counted": "#1f5f8b"}
OTHER_LABELS = {
    "imbalance": "slowest unit", "launch": "input and start", "finish": "last LayerNorm, output", "counted": "in all",
}  # fmt: skip


def steps_above_bound(team: dict) -> tuple[float, list[tuple[str, float]]]:
    """(bound, steps) of a request on several units, in cycles.

    bound: all that the arrays multiply, or need to let results leave, dealt evenly. Steps, from the estimate of the
    unit that ends last, add up to what the estimate has more.
    """
    parts = team["estimated_parts"]
    bound = sum(team["work"]) / team["units"]
    imbalance = parts["compute"] + parts["drain"] - bound
    return bound, [("imbalance", imbalance), *((name, float(parts[name])) for name in STEPS)]


def draw_request(axis: plt.Axes, alone: dict, together: dict, clock: int) -> None:
    """Cycles above the bound, step by step, and what was counted."""
    bound, steps = steps_above_bound(together)
    names, base = [name for name, _ in steps], 0.0
    for place, (name, value) in enumerate(steps):
        colour = COLOURS.get(name) or OTHER_COLOURS[name]
        axis.bar(place, value, bottom=base, color=colour, width=0.7)
        base += value
        axis.annotate(f"{value:,.0f}", (place, base), xytext=(0, 3), textcoords="offset points", ha="center",
                      fontsize=7.5)  # fmt: skip
    counted = together["cycles"] - bound
    axis.bar(len(steps), counted, color=OTHER_COLOURS["counted"], width=0.7)
    axis.annotate(f"{counted:,.0f}\n{counted / bound:.1%}", (len(steps), counted), xytext=(0, 3),
                  textcoords="offset points", ha="center", fontsize=7.5)  # fmt: skip
    labels = [OTHER_LABELS.get(name) or LABELS[name] for name in [*names, "counted"]]
    axis.set_xticks(range(len(labels)), labels, rotation=35, ha="right", fontsize=8)
    axis.set_ylim(min(0.0, *(value for _, value in steps)) * 2, max(counted, base) * 1.25)
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.set_title(
        f"{together['sparsity']:.0%} sparse, {together['tokens'][0]} tokens: {together['cycles']:,} cycles "
        f"({together['cycles'] / clock / 1e3:.3f} ms),\nbound {bound:,.0f}; one unit {alone['cycles']:,}, "
        f"{alone['cycles'] / together['cycles']:.2f} times",
        fontsize=9,
    )


def draw_teams(results: dict, path: Path) -> None:
    """Write the PNG, a panel a request. Raises BertileError when the file cannot be written."""
    pairs = list(zip(results["teams"][::2], results["teams"][1::2], strict=True))
    figure, axes = plt.subplots(-(-len(pairs) // 2), 2, figsize=(11, 3.6 * -(-len(pairs) // 2)), layout="constrained",
                                squeeze=False)  # fmt: skip
    clock = results["clocks_megahertz"][0]
    for axis, (alone, together) in zip(axes.flat, pairs, strict=False):
        draw_request(axis, alone, together, clock)
    for axis in list(axes.flat)[len(pairs) :]:
        axis.axis("off")
    for axis in axes[:, 0]:
        axis.set_ylabel("cycles above the bound")
    first = pairs[0][1]
    figure.suptitle(
        f"{first['shape']}, {first['layers']} layers, one request on three units: cycles above what 3 x {DSPS:,} DSPs "
        f"need to multiply\nRTL in simulation; milliseconds projected at {clock} MHz, not measured on a board; "
        "steps estimated",
        fontsize=10,
    )
    save_picture(figure, path)
