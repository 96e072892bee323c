"""Area and logic levels of the RTL engine, as `build/area/area.json`."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from bertile.config.paths import BUILD_DIR
from bertile.devices.verilate import locked
from bertile.errors import BertileError
from bertile.synthesis import yosys
from bertile.synthesis.checks import check_inference
from bertile.synthesis.levels import Levels, deepest_by_module, distinct_paths
from bertile.synthesis.netlist import Netlist, resources

FOLDER = BUILD_DIR / "area"
RESULT = FOLDER / "area.json"
PATHS = 10
LEVELS_WANTED = 6

# Of one engine. The budget of a compute unit in the smallest region of the card, with room for its encoder kernel.
LIMITS = {"dsp": 1100, "lut": 120000, "uram": 112}


def modules_of(netlist: Netlist) -> dict[str, dict]:
    """Instances of every source module, whatever their parameters; what they take without and with what is in them."""
    own, total, instances = {}, {}, Counter()
    for name, count in netlist.instances.items():
        source = netlist.source_name(name)
        instances[source] += count
        for kinds, counts in ((own, netlist.own_kinds(name)), (total, netlist.total_kinds(name))):
            kinds.setdefault(source, Counter()).update({kind: count * number for kind, number in counts.items()})
    return {
        source: {"instances": instances[source], "own": resources(own[source]), "total": resources(total[source])}
        for source in sorted(instances)
    }


def analyze(netlist: Netlist) -> dict:
    """Everything about a netlist that the area report shows."""
    levels = Levels(netlist.flatten())
    paths = distinct_paths(levels, PATHS)
    kinds = netlist.total_kinds(netlist.top)
    return {
        "engine": {**resources(kinds), "levels": paths[0].levels},
        "cells": dict(sorted(kinds.items())),
        "modules": modules_of(netlist),
        "levels": {str(depth): count for depth, count in levels.histogram().items()},
        "module_paths": {module: asdict(path) for module, path in sorted(deepest_by_module(levels).items()) if module},
        "paths": [asdict(path) for path in paths],
        "long_paths": [asdict(path) for path in distinct_paths(levels, None, above=LEVELS_WANTED)],
    }


def check_limits(engine: dict) -> None:
    """Raise BertileError when an engine takes more than its budget."""
    over = [f"{engine[name]:,} {name}, allowed are {limit:,}" for name, limit in LIMITS.items() if engine[name] > limit]
    if over:
        raise BertileError(f"the engine is too large: {'; '.join(over)}")


def load_area(path: Path = RESULT) -> dict | None:
    """The result on file, when it belongs to the current sources and tools."""
    try:
        area = json.loads(path.read_text())
        return area if area["digest"] == yosys.digest(yosys.engine_design()) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def build_area(progress: yosys.Progress) -> dict:
    """Synthesize the engine, unless that was done from the same sources already. Raises BertileError."""
    with locked(FOLDER):
        area = load_area()
        if area is None:
            area = synthesize_engine(progress)
            RESULT.write_text(json.dumps(area, indent=1) + "\n")
    check_limits(area["engine"])
    return area


def synthesize_engine(progress: yosys.Progress) -> dict:
    """A new result. Raises BertileError, also when the netlist is not what the design means."""
    design = yosys.engine_design()
    digest = yosys.digest(design)  # before: who edits a source meanwhile gets no result that looks fresh
    netlist = yosys.synthesize(design, FOLDER, progress)
    progress("analysis")
    check_inference(netlist.flatten())
    return {"yosys": yosys.version(), "settings": yosys.settings(), "digest": digest, **analyze(netlist)}
