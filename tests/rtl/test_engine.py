"""The RTL engine under cocotb: everything in a small shape, whose coverage is complete, and some of it in its own."""

from __future__ import annotations

from tests.rtl.verilated import simulate

SMALL = {"TOKENS": 16, "OUTPUTS": 8, "BANK_WORDS": 64, "TILE_WORDS": 4096}
FULL = {"TOKENS": 32, "OUTPUTS": 16, "BANK_WORDS": 4096, "TILE_WORDS": 4096}
CASES = ["engine_gemm", "engine_attention", "engine_peers", "engine_launches", "engine_errors"]


def test_small() -> None:
    simulate("bertile_engine", SMALL, [*CASES, "engine_coverage"])


def test_full() -> None:
    simulate("bertile_engine", FULL, CASES)
