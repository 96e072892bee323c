"""Limits that the cycle estimate takes over from the sources of the engine and the sequencer."""

from __future__ import annotations

import re

from bertile.config.paths import HLS_DIR, RTL_DIR
from bertile.config.spec import load_spec
from bertile.perf import timeline
from bertile.synthesis import encoder_estimate

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
    assert constant(commands, "kWordDepth") == timeline.WORD_FIFO
    assert constant(commands, "kActivatedDepth") == timeline.ACTIVATED_FIFO
    assert "kProjectionWords = kStreamResults + kWordDepth + kActivatedDepth;" in commands.read_text()
    assert "kNormParameterDepth = 2 * (1 + kCapacityHidden * LayernormFeature::kBytes / kPacketBeatBytes);" in (
        commands.read_text()
    )
    beats = SPEC.capacity.hidden * SPEC.records["layernorm_feature"].bytes // SPEC.packet.beat_bytes
    assert 2 * (1 + beats) == encoder_estimate.PARAMETER_FIFO
