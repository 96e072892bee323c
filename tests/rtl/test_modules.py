"""Single modules of the RTL engine under cocotb. The tests of a module are in cases/, under its name."""

from __future__ import annotations

import pytest
from tests.rtl.verilated import simulate

MODULES = [
    ("axis_register", {"WIDTH": 40}),
    ("sync_fifo", {"WIDTH": 20, "DEPTH": 8}),
    ("delay", {"WIDTH": 13, "CYCLES": 0}),
    ("delay", {"WIDTH": 13, "CYCLES": 1}),
    ("delay", {"WIDTH": 13, "CYCLES": 5}),
    ("mac_cell", {"INPUTS": 4}),
    ("requantizer_lane", {}),
    ("activation_memory", {"TOKENS": 8, "BANK_WORDS": 16}),
    ("tile_decoder", {"OUTPUTS": 8}),
    ("operand_fetcher", {"TOKENS": 16, "OUTPUTS": 8}),
    ("operand_fetcher", {"TOKENS": 32, "OUTPUTS": 16}),
    ("requantizer", {"TOKENS": 8, "OUTPUTS": 8}),
    ("word_intake", {"TOKENS": 8, "BANK_WORDS": 16, "ROW_SCALES": 1}),
    ("word_intake", {"TOKENS": 8, "BANK_WORDS": 16, "ROW_SCALES": 0}),
    ("mac_array", {"TOKENS": 8, "OUTPUTS": 8}),
    ("pass_issuer", {"OUTPUTS": 8, "TILE_WORDS": 4096, "RESULTS": 64}),
    ("dispatcher", {"OUTPUTS": 16}),
    ("dsp_mac", {"A_BITS": 27, "B_BITS": 9, "CASCADE": 0, "SHIFT": 0}),
    ("dsp_mac", {"A_BITS": 17, "B_BITS": 18, "CASCADE": 1, "SHIFT": 0}),
    ("dsp_mac", {"A_BITS": 17, "B_BITS": 16, "CASCADE": 1, "SHIFT": 1}),
    ("uram", {"WIDTH": 72, "WORDS": 64}),
    ("bank_selector", {"WIDTH": 24}),
    ("launch_status", {}),
    ("pass_generator", {}),
]


@pytest.mark.parametrize(("module", "parameters"), MODULES)
def test_module(module: str, parameters: dict[str, int]) -> None:
    simulate(module, parameters, [module])
