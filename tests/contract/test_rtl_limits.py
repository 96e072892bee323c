"""Limits that the cycle estimate takes over from the sources of the engine and the sequencer."""

from __future__ import annotations

import re

from bertile.config.paths import HLS_DIR, RTL_DIR
from bertile.config.spec import load_spec
from bertile.perf import timeline

SPEC = load_spec()


def constant(path, name: str) -> int:
    """The number that a source gives this name."""
    values = re.findall(rf"\b{name} = (\d+);", path.read_text())
    assert len(values) == 1, f"{name} in {path.name}"
    return int(values[0])


def test_tile_memory():
    assert constant(RTL_DIR / "pkg" / "engine_pkg.sv", "EntriesAlive") == timeline.ENTRIES_ALIVE
    margin = constant(RTL_DIR / "src" / "tile_loader.sv", "Margin")
    assert SPEC.capacity.tile_memory_beats - margin == timeline.RING_BEATS


def test_sequencer():
    """One command is executed, and as many wait as the stream holds."""
    commands = HLS_DIR / "kernels" / "encoder" / "commands.hpp"
    assert constant(commands, "kCommandDepth") + 1 == timeline.COMMANDS_AHEAD
    records = constant(HLS_DIR / "kernels" / "encoder" / "sequencer.hpp", "kResultRecords")
    assert records == timeline.RESULT_RECORDS
    words = constant(commands, "kWordDepth") + constant(commands, "kActivatedDepth") + SPEC.stream.results
    assert words == timeline.RETURN_WORDS
