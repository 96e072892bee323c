"""Pictures of the run records: INT8 retention against sparsity, and against projected latency; a panel a task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, PercentFormatter
from matplotlib.transforms import Bbox

from bertile.config.target import target_clocks
from bertile.report.accuracy import GROUP_LASSO, ONE_SHOT, Groups, Setting, group_runs, int8_retention, percent
from bertile.report.picture import save_picture
from bertile.report.runs import DENSE, TASKS, RunRecord

# A pattern keeps its colour, a method its marker and line, in every panel of every picture.
COLOURS = {"1x16": "#1f5f8b", "16x16": "#c0392b", "unstructured": "#5d6d6e", "": "black"}
OTHER_COLOURS = ("#b8780f", "#2e7d4f", "#7d4f9e", "#8a5a44", "#0f8b8d")
MARKERS = {DENSE: "s", "once-for-all": "o", GROUP_LASSO: "D", ONE_SHOT: "^", "gradual": "v"}
LINES = {"once-for-all": "-", GROUP_LASSO: "--", ONE_SHOT: ":", "gradual": "-."}
OTHER_MARKERS = ("P", "X", "p")
WIDTH_INCHES = 8.0  # shown 800 pixels wide, its type is as large as the page's
OUTLINE = [withStroke(linewidth=2.5, foreground="white")]
# A series: (label, colour, marker, line, [(x, mean retention, retention of each seed, sparsity)]).
Series = tuple[str, str, str, str, list[tuple[float, float, list[float], float]]]


def pick(known: dict[str, str], others: Sequence[str], names: Sequence[str], name: str) -> str:
    """The style of a name: its own, or by its place among those without one."""
    strangers = [other for other in names if other not in known]
    return known[name] if name in known else others[strangers.index(name) % len(others)]


def series_of(groups: Groups, task: str, place: Callable[[Setting, Sequence[RunRecord]], float]) -> list[Series]:
    """What one panel shows: a series a pattern and method, its points by sparsity."""
    patterns = sorted({setting.pattern for setting in groups})
    methods = sorted({setting.method for setting in groups})
    several = len(set(methods) - {DENSE}) > 1
    series = []
    for pattern, method in sorted({(setting.pattern, setting.method) for setting in groups}):
        points = []
        for setting, tasks in groups.items():
            runs = tasks.get(task)
            if runs and (setting.pattern, setting.method) == (pattern, method):
                each = [int8_retention(run) for run in runs]
                points.append((place(setting, runs), fmean(each), each, setting.sparsity))
        label = method if method == DENSE else f"{pattern} {method}" if several else pattern
        style = (
            pick(COLOURS, OTHER_COLOURS, patterns, pattern),
            pick(MARKERS, OTHER_MARKERS, methods, method),
            pick(LINES, ("-",), methods, method),
        )
        if points:
            series.append((label, *style, sorted(points)))
    return series


def spread_out(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places at least `gap` apart, in the order of and near to those wanted, from `low` to `high` where they fit."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    places = [0.0] * len(wanted)
    floor = low
    for index in order:
        places[index] = floor = max(wanted[index], floor)
        floor += gap
    ceiling = high
    for index in reversed(order):
        places[index] = ceiling = min(places[index], ceiling)
        ceiling -= gap
    return places


def name_series(axis: plt.Axes, series: Sequence[Series], size: float = 8.5) -> None:
    """Names right of the panel, each with a thin line to its last point, none on another."""
    series = [row for row in series if row[0] != DENSE]  # named beside its point
    low, high = axis.get_ylim()
    inches = axis.get_position().height * axis.figure.get_figheight()
    gap = (high - low) * size * 1.35 / 72 / inches
    lasts = [points[-1][:2] for *_, points in series]
    places = spread_out([y for _, y in lasts], gap, low + gap / 2, high - gap / 2)
    transform = axis.get_yaxis_transform()
    for (label, colour, *_), (x, y), place in zip(series, lasts, places, strict=True):
        axis.annotate(
            label, (x, y), xytext=(1.03, place), textcoords=transform, color=colour, fontsize=size, va="center",
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "alpha": 0.45, "shrinkB": 0, "shrinkA": 1,
                        "relpos": (0, 0.5)},
            annotation_clip=False,
        )  # fmt: skip


def label_points(axis: plt.Axes, series: Sequence[Series], shares: bool) -> None:
    """Beside each point "dense" or, with `shares`, its sparsity, where that covers no point and no other label."""
    points = [(x, y, share, colour) for _, colour, _, _, row in series for x, y, _, share in row]
    half = 4 * axis.figure.dpi / 72
    centres = [axis.transData.transform((x, y)) for x, y, _, _ in points]
    taken = [Bbox.from_extents(x - half, y - half, x + half, y + half) for x, y in centres]
    for x, y, share, colour in points:
        if shares or not share:
            taken.append(place_text(axis, percent(share) if share else DENSE, (x, y), colour, taken))


def place_text(axis: plt.Axes, text: str, point: tuple[float, float], colour: str, taken: Sequence[Bbox]) -> Bbox:
    """Write a text where it covers the least: above its point, below, beside, farther away. Its box, in pixels."""
    renderer = axis.figure.canvas.get_renderer()
    tries = []
    for dx, dy in ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1), (0, 2), (0, -2)):
        label = axis.annotate(
            text, point, xytext=(4.5 * dx, 4.5 * dy), textcoords="offset points", color=colour, fontsize=7.5,
            ha=("center", "left", "right")[dx], va=("center", "bottom", "bottom", "top", "top")[dy],
            path_effects=OUTLINE,
        )  # fmt: skip
        box = label.get_window_extent(renderer)
        outside = not axis.bbox.contains(box.x0, box.y0) or not axis.bbox.contains(box.x1, box.y1)
        tries.append((outside + sum(box.overlaps(other) for other in taken), len(tries), label, box))
    best = min(tries)
    for _, number, label, _ in tries:
        if number != best[1]:
            label.remove()
    return best[3]


def draw_panel(axis: plt.Axes, series: Sequence[Series], task: str) -> None:
    """Points, their lines, and faint marks of each seed where there are several."""
    axis.axhline(1, color="#9aa5a9", linewidth=0.8, zorder=0)
    for _, colour, marker, line, points in series:
        x, y = [point[0] for point in points], [point[1] for point in points]
        axis.plot(x, y, color=colour, marker=marker, linestyle=line, markersize=5, linewidth=1.3,
                  markerfacecolor="white" if line == "--" else colour)  # fmt: skip
        for place, _, each, _ in points:
            if len(each) > 1:
                axis.plot([place] * len(each), each, color=colour, marker="_", linestyle="", markersize=9, alpha=0.6)
    values = [value for *_, points in series for _, _, each, _ in points for value in each] + [1.0]
    margin = 0.16 * max(max(values) - min(values), 0.02)
    axis.set_ylim(min(values) - margin, max(values) + margin)
    axis.set_title(TASKS[task], fontsize=10, loc="left", fontweight="bold")
    axis.set_ylabel("INT8 retention", fontsize=8.5)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    if not series:
        axis.set_ylim(0, 1.1)
        axis.text(0.5, 0.4, "not run yet", transform=axis.transAxes, ha="center", color="#5d6d6e")


def panels(groups: Groups, drawn: dict[str, list[Series]], title: str) -> tuple[plt.Figure, dict[str, plt.Axes]]:
    """A figure with a panel a task, one below the other, and room for names on their right."""
    figure, axes = plt.subplots(len(TASKS), 1, figsize=(WIDTH_INCHES, 2.75 * len(TASKS)), sharex=True, dpi=110)
    longest = max((len(row[0]) for series in drawn.values() for row in series), default=0)
    right = max(0.5, 0.97 - 0.0082 * longest)
    figure.subplots_adjust(left=0.085, right=right, top=0.91, bottom=0.065, hspace=0.2)
    seeds = "; bars: single seeds" * any(len(runs) > 1 for tasks in groups.values() for runs in tasks.values())
    model = next(iter(groups)).model
    figure.suptitle(f"{model}: what INT8 retains of the accuracy, {title}", x=0.085, ha="left", y=0.988, fontsize=11)
    figure.text(0.085, 0.955, f"1: the dense FP32 model; 0: the best constant answer{seeds}", fontsize=8.5, va="center")
    for (task, series), axis in zip(drawn.items(), axes, strict=True):
        draw_panel(axis, series, task)
    return figure, dict(zip(drawn, axes, strict=True))


def draw_sparsity(groups: Groups, path: Path) -> None:
    """INT8 retention against sparsity, a line a pattern and method. Raises BertileError for an unwritable file."""
    drawn = {task: series_of(groups, task, lambda setting, runs: setting.sparsity) for task in TASKS}
    figure, axes = panels(groups, drawn, "by sparsity")
    bottom = list(axes.values())[-1]
    bottom.set_xlim(-0.03, 1)
    bottom.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    bottom.set_xlabel("share of the encoder's weights removed", fontsize=9)
    for task, axis in axes.items():
        label_points(axis, drawn[task], shares=False)
        name_series(axis, drawn[task])
    save_picture(figure, path)


def draw_latency(groups: Groups, path: Path) -> None:
    """INT8 retention against latency at the first clock. Raises BertileError for an unwritable file."""
    clock = target_clocks()[0]

    def latency(setting: Setting, runs: Sequence[RunRecord]) -> float:
        return fmean(run.projected_ms[str(clock)] for run in runs)

    drawn = {task: series_of(groups, task, latency) for task in TASKS}
    figure, axes = panels(groups, drawn, "by latency")
    places = [point[0] for series in drawn.values() for *_, points in series for point in points]
    bottom = list(axes.values())[-1]
    bottom.set_xscale("log")
    bottom.set_xlim(min(places) / 1.12, max(places) * 1.12)
    bottom.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 6, 8)))
    bottom.xaxis.set_minor_locator(NullLocator())
    bottom.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    tokens = next(run.tokens for tasks in groups.values() for runs in tasks.values() for run in runs)
    bottom.set_xlabel(
        f"milliseconds for {tokens} tokens at {clock} MHz: projected, not measured on a board", fontsize=9
    )
    for task, axis in axes.items():
        label_points(axis, drawn[task], shares=True)
        name_series(axis, drawn[task])
    save_picture(figure, path)


def picture_names(model: str) -> tuple[str, str]:
    return f"retention-sparsity-{model}.png", f"retention-latency-{model}.png"


def pictures_of(records: Sequence[RunRecord]) -> dict[str, list[tuple[str, str]]]:
    """The pictures of each model: (what it shows, file name)."""
    texts = ("INT8 retention against sparsity", "INT8 retention against projected latency")
    return {
        model: list(zip(texts, picture_names(model), strict=True)) for model in {record.model for record in records}
    }


def draw_pictures(records: Sequence[RunRecord], folder: Path) -> None:
    """Write both pictures of each model. Raises BertileError when a file cannot be written."""
    for model in sorted({record.model for record in records}):
        groups = group_runs([record for record in records if record.model == model])
        for draw, name in zip((draw_sparsity, draw_latency), picture_names(model), strict=True):
            draw(groups, folder / name)
