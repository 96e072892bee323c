"""The end of a launch: the first error, the cycles, and only when everything has left."""

from __future__ import annotations

import cocotb
from tests.rtl.bench.module import Module
from tests.rtl.bench.shape import SPEC

# As in engine_pkg::error_events_t, the first field in the highest bit.
EVENTS = ("opcode", "shape", "index", "address", "packet", "word")


async def end_launch(module: Module) -> tuple[int, int]:
    """Halt, wait, and give error and cycles of the status."""
    module.drive(halting=1)
    for _ in range(5):
        await module.next()
        assert not module.see("status_valid"), "results are still under way"
    module.drive(idle=1)
    for _ in range(20):
        await module.settle()
        if module.see("status_valid"):
            break
        await module.next()
    status = module.see("status")
    assert status & (1 << 64) - 1 == SPEC.digest_word
    await module.next()
    assert module.see("launch_end")
    assert not module.see("status_valid")
    module.drive(halting=0, idle=0, launched=0)
    await module.next()
    assert not module.see("launch_end")
    return status >> 64 & 0xFFFFFFFF, status >> 128 & (1 << 64) - 1


@cocotb.test()
async def first_error_stays_for_its_launch(dut) -> None:
    module = await Module.start(dut, 4, launched=0, halting=0, idle=0, events=0)
    for first, second in zip(EVENTS, [*EVENTS[1:], EVENTS[0]], strict=True):
        module.drive(launched=1)
        for name in (first, second):
            module.drive(events=1 << len(EVENTS) - 1 - EVENTS.index(name))
            await module.next()
            module.drive(events=0)
            await module.next()
        error, _ = await end_launch(module)
        assert error == getattr(SPEC.engine_error, first)
    module.drive(launched=1)
    assert (await end_launch(module))[0] == SPEC.engine_error.none


@cocotb.test()
async def cycles_are_counted_from_the_first_command(dut) -> None:
    module = await Module.start(dut, 5, launched=0, halting=0, idle=0, events=0)
    counts = []
    for spent in (10, 110):
        await module.cycles(30)
        module.drive(launched=1)
        await module.cycles(spent)
        counts.append((await end_launch(module))[1])
    assert counts[1] - counts[0] == 100
    assert counts[0] >= 15
