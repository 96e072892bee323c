"""Words to where they belong, in order and counted; one that waits asks for a cycle after a while.

A stream from a peer has no row scales: they are illegal there.
"""

from __future__ import annotations

from collections import deque

import cocotb
from tests.rtl.bench.module import Module, parameter
from tests.rtl.bench.shape import INPUTS, SPEC

SCALE_ROWS = 2 * SPEC.capacity.probability_slots
CYCLES, LAST_OFFER = 3000, 2900  # what was offered is gone in the end
ACTIVATION, ROW_SCALE = SPEC.word_kind.activation, SPEC.word_kind.row_scale


def place(address: int, kind: int) -> tuple[int, int, int]:
    """Column and bank, as one bit each, and row; no bank for what has no place in the activation memory."""
    region, rest = divmod(address, INPUTS * parameter("BANK_WORDS"))
    bank = region * INPUTS + address % INPUTS
    legal = kind == ACTIVATION and bank < SPEC.capacity.activation_banks
    return (1 << bank % INPUTS, 1 << bank, rest // INPUTS) if legal else (0, 0, 0)


def random_word(module: Module) -> tuple[int, int, int]:
    kind = module.rng.choice([0, 0, 0, 0, 1, 1, 2, 128, 255])
    end = SPEC.capacity.activation_banks * parameter("BANK_WORDS")
    address = module.rng.choice([0, 5, 6, 7, 8, end - 1, end, 65535, module.rng.randrange(end)])
    return address, kind, module.rng.getrandbits(8 * parameter("TOKENS"))


@cocotb.test()
@cocotb.parametrize(share=[0.1, 0.5, 1.0], coming=[0.3, 1.0])
async def words(dut, share: float, coming: float) -> None:
    idle = {"word_valid": 0, "write_grant": 1, "launch_reset": 0}
    module = await Module.start(dut, int(10 * share + coming), **idle)
    tokens, inside, offered = parameter("TOKENS"), deque(), None
    received, error, waited = 0, False, 0
    for cycle in range(CYCLES):
        if offered is None and cycle < LAST_OFFER and module.coin(coming):
            offered = random_word(module)
        if offered is not None:
            address, kind, lanes = offered
            module.drive(word=lanes | (address | kind << 16) << 8 * tokens)
        # Who asks for a cycle gets it, as in the engine. A word for no bank is always granted.
        banks = module.see("write_banks")
        grant = banks == 0 or module.coin(share) or bool(module.see("hold"))
        module.drive(word_valid=offered is not None, write_grant=grant)
        await module.settle()
        assert module.see("received") == received, f"cycle {cycle}"
        assert module.see("word_error") == error, f"cycle {cycle}"
        assert waited >= 4 or not module.see("hold"), "it asks for a cycle at once"
        leaves = module.see("write_valid") and grant
        error = False
        if module.see("write_valid"):
            address, kind, lanes = inside[0]
            column, bank, row = place(address, kind)
            is_scale = bool(parameter("ROW_SCALES")) and kind == ROW_SCALE and address < SCALE_ROWS
            name = f"cycle {cycle}: address {address}, kind {kind}"
            assert (module.see("write_columns"), module.see("write_banks")) == (column, bank), name
            assert not bank or (module.see("write_row"), module.see("write_data")) == (row, lanes)
            assert module.see("scale_write") == is_scale, name
            assert not is_scale or (module.see("scale_row"), module.see("write_data")) == (address, lanes)
            error = not bank and not is_scale
        else:
            assert not module.see("scale_write")
        taken = offered is not None and module.see("word_ready")
        waited = waited + 1 if module.see("write_valid") and not leaves else 0
        assert waited <= 12, "it never asks for a cycle"
        await module.next()
        if leaves:
            inside.popleft()
            received += 1
        if taken:
            inside.append(offered)
            offered = None
    assert received > 1000 * share * coming
    assert not inside
    module.drive(launch_reset=1)
    await module.next()
    assert module.see("received") == 0
