"""What Verilator says of the sources: nothing in legal shapes, one sentence in illegal ones."""

from __future__ import annotations

import os
import subprocess

import pytest

from bertile.config.paths import RTL_DIR
from bertile.devices.verilate import TOP, rtl_sources, verilator_root

WAIVERS = RTL_DIR / "lint.vlt"


def lint(**parameters: int) -> str:
    """Warnings and errors of all sources with these parameters of the top, every one an error."""
    root = verilator_root()
    command = [str(root / "bin" / "verilator_bin"), "--lint-only", "-Wall", "--assert", "--top-module", TOP]
    command += [f"-G{name}={value}" for name, value in parameters.items()]
    command += [str(path) for path in (WAIVERS, *rtl_sources())]
    environment = {**os.environ, "VERILATOR_ROOT": str(root)}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert bool(result.stderr) == bool(result.returncode), result.stderr
    return result.stderr


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"TOKENS": 8, "OUTPUTS": 8, "BANK_WORDS": 64},
        {"TOKENS": 16, "OUTPUTS": 8, "BANK_WORDS": 1024, "TILE_WORDS": 8192},
    ],
    ids=["full", "8x8", "16x8"],
)
def test_sources_are_clean(shape):
    assert lint(**shape) == ""


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ({"OUTPUTS": 4, "TOKENS": 8}, "OUTPUTS must be 8 or 16"),
        ({"TOKENS": 24}, "TOKENS must be OUTPUTS or twice as many"),
        ({"TOKENS": 32, "OUTPUTS": 8}, "TOKENS must be OUTPUTS or twice as many"),
        ({"BANK_WORDS": 1000}, "BANK_WORDS must be a power of two"),
        ({"BANK_WORDS": 8192}, "BANK_WORDS must be a power of two from 16 to 4096"),
        ({"TILE_WORDS": 2048}, "TILE_WORDS must be a power of two"),
    ],
)
def test_illegal_shapes_stop_elaboration(shape, sentence):
    assert sentence in lint(**shape)


def test_every_waiver_has_a_reason():
    lines = WAIVERS.read_text().splitlines()
    assert lines[0] == "`verilator_config"
    for number, line in enumerate(lines):
        if line.startswith("lint_off"):
            before = next(other for other in reversed(lines[:number]) if not other.startswith("lint_off"))
            assert before.startswith("// "), line
