"""The part of a search's page about the network that it ended with: its tiles, its cycles, what INT8 costs."""

from __future__ import annotations

from bertile.config.target import target_clocks
from bertile.models.encoder import MATRICES
from bertile.pack.packer import kept_vectors, packed_sparsity
from bertile.perf.estimate import project_milliseconds, units_text
from bertile.report import search_pictures as pictures
from bertile.report.cycles import LABELS, PEAK, bandwidth, roofline_points
from bertile.report.html import figure, folded, paragraph, row, table
from bertile.report.picture import svg_picture
from bertile.report.search_folder import SearchFolder
from bertile.report.search_network import MODEL_FOLDER, PACKED_FILE, Network
from bertile.report.tiles import model_tiles_figure


def chosen_network(search: SearchFolder, network: Network | None) -> str:
    """Tiles, cycles and INT8 errors of the trained network."""
    if network is None:
        return paragraph(
            f"Nothing was trained here (no {MODEL_FOLDER}): there are no tiles, cycles and errors to show."
        )
    return "".join(
        [
            about_network(search, network),
            tile_maps(network),
            cycle_parts(network),
            "<h3>Bounds and errors</h3>",
            row(roofline(network), layer_errors(network)),
            folded("The numbers of the roofline", roofline_table(network)),
            folded("The numbers of the INT8 errors", errors_table(network)),
        ]
    )


def about_network(search: SearchFolder, network: Network) -> str:
    packed = network.packed
    made = f"read from {PACKED_FILE}" if network.from_file else f"packed for this page from {MODEL_FOLDER}"
    milliseconds = project_milliseconds(packed, network.tokens, network.units).items()
    times = " and ".join(f"{value * 1e3:,.1f} us at {clock} MHz" for clock, value in milliseconds)
    text = (
        f"The trained network, {made}: {packed_sparsity(packed):.2%} of its weight vectors are gone, "
        f"{packed.weights.size / 1e6:.1f} MB of weight tiles are left. {network.estimate.total:,} cycles for "
        f"{network.tokens} tokens on {units_text(network.units)}: {times}, projected, not measured on a board."
    )
    plan = (network.log or {}).get("plan")
    if plan and any(plan.get("shares") == trial.plan["shares"] for trial in search.chosen()):
        return paragraph(text)
    said = "was trained after another plan" if plan else "does not say which plan it was trained after"
    return paragraph(text) + paragraph(f"This network {said}: it may not be that of the chosen trial.", "note")


def tile_maps(network: Network) -> str:
    svg = svg_picture(
        lambda: model_tiles_figure(network.packed),
        "tiles",
        "Weight vectors that are kept, a row a layer, a column a matrix",
    )
    rows = []
    for layer in range(network.packed.config.layers):
        kept = (kept_vectors(network.packed, layer, matrix) for matrix in MATRICES)
        rows.append((f"layer {layer}", *(f"{vectors.sum():,} of {vectors.size:,}" for vectors in kept)))
    caption = "Every matrix as it is packed: dark where weight vectors (16 outputs of one input) are kept."
    numbers = table("Weight vectors kept", ("layer", *MATRICES), rows)
    return "<h3>Weight tiles</h3>" + figure(svg, caption, "wide") + folded("The numbers of the tiles", numbers)


def cycle_parts(network: Network) -> str:
    """Where the cycles of a launch go, by layer."""
    estimate = network.estimate
    svg = svg_picture(
        lambda: pictures.waterfall_figure(estimate),
        "cycles",
        f"Where the {estimate.total:,} cycles of a launch go, by layer",
    )
    parts = tuple(pictures.COLOURS)
    rows = [("launch", f"{estimate.launch:,}", *[""] * len(parts))]
    for layer in estimate.layers():
        sums = pictures.layer_parts(layer)
        rows.append((f"layer {layer['layer']}", f"{layer['cycles']:,}", *(f"{sums[part]:,}" for part in parts)))
    rows.append(("finish", f"{estimate.finish:,}", *[""] * len(parts)))
    totals = estimate.parts()
    rows.append(("all", f"{estimate.total:,}", *(f"{totals[part]:,}" for part in parts)))
    names = [LABELS[part] for part in parts]
    clock = target_clocks()[0]
    return (
        "<h3>Cycles</h3>"
        + figure(svg, f"Where the cycles of a launch go, estimated for {clock} MHz; waits come first.", "wide")
        + table(f"Cycles by layer, estimated for {clock} MHz", ("", "cycles", *names), rows, [len(rows) - 1])
    )


def roofline(network: Network) -> str:
    points = roofline_points({"layers": network.estimate.layers()})
    if not points:
        return paragraph("No weight is left in this network: it has no roofline.")
    svg = svg_picture(
        lambda: pictures.roofline_figure(network.estimate),
        "roofline",
        f"Multiplications a cycle of {len(points)} matrix products against those a byte of weight tiles",
    )
    return figure(
        svg,
        f"Roofline: kept weights only. At most {PEAK:,} multiplications a cycle in the DSPs, and "
        f"{bandwidth(target_clocks()[0]):.1f} bytes a cycle from DDR (assumed, at {target_clocks()[0]} MHz).",
    )


def roofline_table(network: Network) -> str:
    rows = [
        (f"layer {gemm['layer']} {gemm['name']}", f"{gemm['cycles']:,}", f"{x:,.0f}", f"{y:,.0f}", gemm["bound"])
        for gemm, x, y in roofline_points({"layers": network.estimate.layers()})
    ]
    head = ("product", "cycles", "multiplications a byte", "multiplications a cycle", "bound by")
    return table("Matrix products, estimated", head, rows)


def layer_errors(network: Network) -> str:
    """What INT8 costs, from layer to layer."""
    svg = svg_picture(
        lambda: pictures.errors_figure(network.errors),
        "errors",
        f"Relative squared error of each layer's output; at most {max(network.errors):.3%}",
    )
    caption = (
        "INT8 error: squared error of each layer's output, integer network against FP32, over its square; "
        f"{network.texts} calibration texts, each network on its own inputs."
    )
    return figure(svg, caption)


def errors_table(network: Network) -> str:
    rows = [(f"layer {layer}", f"{error:.3%}") for layer, error in enumerate(network.errors)]
    return table("Relative squared error of the output, INT8 against FP32", ("layer", "error"), rows)
