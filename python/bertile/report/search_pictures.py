"""Pictures of a search and of the network that it chose. Each function returns a figure; `svg_picture` makes it SVG.

Figures are as wide as they are shown: half a page, or the whole width for those that scroll on a phone.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bertile.config.target import target_clocks
from bertile.models.encoder import MATRICES
from bertile.perf.estimate import CycleEstimate
from bertile.report.cycles import COLOURS, LABELS, SHORT, plot_roofline, roofline_points
from bertile.report.search_folder import CANDIDATE, Final, Ratios, SearchFolder
from bertile.report.tiles import SHADES

# Seen on light and on dark. A candidate's kind keeps colour and marker in every picture.
GREY, AMBER, RED, BLUE, GREEN = "#8a939c", "#c98a1b", "#d1495b", "#3b82c4", "#3a9d6e"
BASELINE_MARKERS = ("s", "^", "D", "v", "P", "X")
HALF, WHOLE, SMALL = 5.0, 9.6, 1.8  # inches
EDGES = {"launch": "#8e6bb0", "finish": "#3f9c9c"}  # cycles of no layer
LETTERS = "QKVOIF"  # of the matrices, where there is no room
CHEAP = "layers' error (lower is better)"


def _axes(height: float = 3.5, width: float = HALF) -> tuple[plt.Figure, plt.Axes]:
    figure, axis = plt.subplots(figsize=(width, height), layout="constrained")
    axis.grid(True, alpha=0.35)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis


def _legend(figure: plt.Figure, columns: int = 3) -> None:
    """Under the axes, where it covers no point."""
    figure.legend(loc="outside lower center", ncols=columns, fontsize=9, columnspacing=1.2, handletextpad=0.5)


def _styles(search: SearchFolder) -> dict[str, dict]:
    """Colour and marker by name of a trial."""
    names = list(dict.fromkeys(trial.name for trial in search.baselines()))
    known = {
        name: {"color": AMBER, "marker": BASELINE_MARKERS[number % len(BASELINE_MARKERS)], "s": 42, "zorder": 3}
        for number, name in enumerate(names)
    }
    return {CANDIDATE: {"color": GREY, "marker": "o", "s": 26, "zorder": 2}, **known}


def _scatter(axis: plt.Axes, search: SearchFolder, place) -> None:
    """All trials by kind, the chosen ones in a ring; place: a trial's (x, y)."""
    for name, style in _styles(search).items():
        points = [place(trial) for trial in search.trials if trial.name == name]
        if points:
            axis.scatter(*zip(*points, strict=True), label=name, **style)
    label = "front" if search.pareto else "chosen"
    rings = [place(trial) for trial in search.chosen()]
    axis.scatter(*zip(*rings, strict=True), s=120, facecolors="none", edgecolors=RED, linewidths=1.8, label=label)


def trials_figure(search: SearchFolder) -> plt.Figure:
    """The cheap score by trial number, with the best one so far."""
    figure, axis = _axes()
    numbers = [trial.number for trial in search.trials]
    best = np.minimum.accumulate([trial.cheap for trial in search.trials])
    axis.step(numbers, best, where="post", color=BLUE, linewidth=1.5, label="best so far")
    _scatter(axis, search, lambda trial: (trial.number, trial.cheap))
    axis.set(xlabel="trial", ylabel=CHEAP)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure)
    return figure


def microseconds(cycles: float) -> float:
    """Projected, at the target's first clock: the one that searches count cycles for."""
    return cycles / target_clocks()[0]


def latency_figure(search: SearchFolder, dense: int | None = None) -> plt.Figure:
    """The cheap score against the projected latency. dense: cycles of the network before pruning, None to leave out."""
    figure, axis = _axes()
    if search.pareto:
        front = [(microseconds(trial.cycles), trial.cheap) for trial in search.chosen()]
        axis.plot(*zip(*front, strict=True), color=RED, linewidth=1.2, drawstyle="steps-post", zorder=1)
    _scatter(axis, search, lambda trial: (microseconds(trial.cycles), trial.cheap))
    if dense is not None:
        axis.scatter([microseconds(dense)], [0.0], color=GREEN, marker="*", s=110, zorder=4, label="dense")
    axis.set(xlabel=f"us, projected at {target_clocks()[0]} MHz, not measured", ylabel=CHEAP)
    axis.xaxis.set_major_locator(MaxNLocator(6))
    axis.ticklabel_format(useOffset=False)
    axis.margins(x=0.08)
    _legend(figure)
    return figure


def finals_figure(finals: Sequence[Final]) -> plt.Figure:
    """The cheap score against what training made of it; finals of one metric and number of steps."""
    figure, axis = _axes()
    axis.scatter([final.cheap for final in finals], [final.score for final in finals], s=40, color=BLUE)
    middle = (min(final.cheap for final in finals) + max(final.cheap for final in finals)) / 2
    for index, final in enumerate(sorted(finals, key=lambda final: final.cheap)):
        side, place = ("right", -5) if final.cheap > middle else ("left", 5)
        height = 5 if index % 2 == 0 else -12  # neighbours do not write over one another
        axis.annotate(f"{final.trial} {final.name}", (final.cheap, final.score), xytext=(place, height), ha=side,
                      textcoords="offset points", fontsize=8.5)  # fmt: skip
    axis.set(xlabel=CHEAP, ylabel=f"{finals[0].metric} after {finals[0].steps:,} steps")
    axis.margins(x=0.1, y=0.12)
    return figure


def ratios_figure(found: Ratios) -> plt.Figure:
    """Shares of zeros, a row a layer, darker where more is kept; the coarse groups' beside them."""
    names, values, lefts = _columns(found)
    figure, axis = plt.subplots(figsize=(HALF, 0.9 + 0.32 * len(values)), layout="constrained")
    _paint(axis, values, lefts)
    for (layer, column), share in np.ndenumerate(values):
        colour = "#ffffff" if share < 0.3 else "#1a1a1a"  # whichever has more contrast
        axis.text(lefts[column] + 0.5, layer + 0.5, f"{share:.0%}", ha="center", va="center", fontsize=9, color=colour)
    tilt = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if len(names) > len(MATRICES) else {}
    axis.set_xticks(lefts + 0.5, [SHORT.get(name, name) for name in names], fontsize=9, **tilt)
    axis.set_yticks(np.arange(len(values)) + 0.5, [f"layer {layer}" for layer in range(len(values))], fontsize=9)
    return figure


def small_ratios_figure(found: Ratios) -> plt.Figure:
    """The same small, without numbers; matrices by their letters."""
    names, values, lefts = _columns(found)
    longest = max(map(len, found.coarse), default=0)  # these stand upright below
    figure, axis = plt.subplots(figsize=(SMALL, 0.3 + 0.08 * longest + 0.17 * len(values)), layout="constrained")
    _paint(axis, values, lefts)
    axis.set_xticks(lefts + 0.5, [*LETTERS, *names[len(LETTERS) :]], fontsize=9)
    for label in axis.get_xticklabels()[len(LETTERS) :]:
        label.set_rotation(90)
    rows = np.arange(0, len(values), 1 if len(values) <= 6 else 3)
    axis.set_yticks(rows + 0.5, [str(row) for row in rows], fontsize=9)
    return figure


def _columns(found: Ratios) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names of the columns of a map, its shares [layers, columns], and the left edge of each column."""
    coarse = {name: shares for name, shares in found.coarse.items() if shares}
    values = np.array(
        [[*row, *(shares[layer] for shares in coarse.values())] for layer, row in enumerate(found.shares)]
    )
    lefts = np.arange(values.shape[1], dtype=float)
    lefts[len(MATRICES) :] += 0.3  # a gap between matrices and coarse groups
    return [*MATRICES, *found.coarse], values, lefts


def _paint(axis: plt.Axes, values: np.ndarray, lefts: np.ndarray) -> None:
    rows = np.arange(len(values) + 1.0)
    for column, left in enumerate(lefts):
        axis.pcolormesh([left, left + 1], rows, 1 - values[:, column : column + 1], cmap=SHADES, vmin=0, vmax=1,
                        edgecolors="face", linewidth=0.4)  # fmt: skip
    axis.set(xlim=(0, lefts[-1] + 1), ylim=(len(values), 0))
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def waterfall_figure(estimate: CycleEstimate) -> plt.Figure:
    """A bar a layer, from its first cycle to its last, in the colours of where they go."""
    layers = estimate.layers()
    figure, axis = _axes(1.6 + 0.3 * (len(layers) + 2), WHOLE)
    rows = [("launch", {"launch": estimate.launch})]
    rows += [(f"layer {layer['layer']}", layer_parts(layer)) for layer in layers]
    rows += [("finish", {"finish": estimate.finish})]
    begin = 0
    for number, (_, parts) in enumerate(rows):
        for part, cycles in parts.items():
            axis.barh(number, cycles, left=begin, height=0.8, color=(COLOURS | EDGES)[part])
            begin += cycles
    for part, colour in (COLOURS | EDGES).items():
        axis.barh(0, 0, color=colour, label=LABELS.get(part, part))
    axis.set_yticks(range(len(rows)), [name for name, _ in rows])
    axis.set(xlabel="cycles since the launch began (estimated)", xlim=(0, estimate.total))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.invert_yaxis()
    axis.grid(False, axis="y")
    _legend(figure, 4)
    return figure


def layer_parts(layer: dict) -> dict[str, int]:
    """Where the cycles of a layer of `CycleEstimate.layers` go, waits first."""
    return {part: sum(operation[part] for operation in layer["operations"]) for part in COLOURS}


def roofline_figure(estimate: CycleEstimate) -> plt.Figure:
    """A point a gemm under what DSPs and DDR allow."""
    figure, axis = _axes(4.2)
    plot_roofline(axis, roofline_points({"layers": estimate.layers()}), target_clocks()[0])
    _legend(figure)
    return figure


def errors_figure(errors: Sequence[float]) -> plt.Figure:
    """Relative squared error of each layer's output."""
    figure, axis = _axes(4.2)
    axis.bar(range(len(errors)), [100 * error for error in errors], color=BLUE)
    axis.set(xlabel="layer", ylabel="squared error of its output, % of its square")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(False, axis="x")
    return figure
