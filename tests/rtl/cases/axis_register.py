"""The register slice of a stream: order, protocol, pace, room for two, and no path from ready to ready."""

from __future__ import annotations

import cocotb
from cocotb.triggers import Timer
from tests.rtl.bench.module import Module
from tests.rtl.bench.streams import PAUSES, Pauses, Sink, Source


@cocotb.test()
@cocotb.parametrize(inward=PAUSES, outward=PAUSES)
async def order(dut, inward: str, outward: str) -> None:
    """Everything comes out in order, under any pauses of both ends."""
    module = await Module.start(dut, PAUSES.index(inward) * 4 + PAUSES.index(outward), in_valid=0, out_ready=0)
    source = Source(dut, "in_", Pauses(inward, module.rng), module.rng)
    sink = Sink(dut, "out_", Pauses(outward, module.rng))
    sent = [module.rng.getrandbits(len(dut.in_data)) for _ in range(300)]
    source.queue.extend(sent)
    got = []
    cycles = 0
    while len(got) < len(sent) and cycles < 5000:
        cycles += 1
        await module.next()
        data = sink.step()
        source.step()
        got += [] if data is None else [data]
    assert got == sent
    assert inward != "none" or outward != "none" or cycles <= len(sent) + 3, f"{cycles} cycles for {len(sent)} words"
    for _ in range(20):
        await module.next()
        assert sink.step() is None, "a word that nobody sent"


@cocotb.test()
async def room(dut) -> None:
    """It takes two words while nobody takes one from it, and none after them."""
    module = await Module.start(dut, 20, in_valid=0, out_ready=0)
    await module.next()
    module.drive(in_valid=1)
    taken = 0
    for _ in range(6):
        module.drive(in_data=taken)
        await module.settle()
        taken += module.see("in_ready")
        await module.next()
    assert taken == 2, f"{taken} words taken"
    module.drive(out_ready=1)
    for word in range(3):  # the third one still waits outside
        await module.settle()
        assert (module.see("out_valid"), module.see("out_data")) == (1, word)
        taken += module.see("in_ready")
        await module.next()
        module.drive(in_valid=taken < 3)
    await module.settle()
    assert not module.see("out_valid")


@cocotb.test()
async def registered(dut) -> None:
    """Within a cycle, no output follows an input."""
    module = await Module.start(dut, 21, in_valid=0, out_ready=0)
    for _ in range(200):
        before = None
        valid, data = module.coin(), module.rng.getrandbits(len(dut.in_data))
        for out_ready in (0, 1):
            module.drive(in_valid=valid, in_data=data, out_ready=out_ready)
            await Timer(1, "step")
            seen = [module.see(name) for name in ("in_ready", "out_valid", "out_data")]
            assert before in (None, seen)
            before = seen
        # The protocol: what is offered stays until it is taken.
        while valid and not module.see("in_ready"):
            await module.next()
        await module.next()


@cocotb.test()
async def reset(dut) -> None:
    """A reset empties it, and it takes nothing meanwhile."""
    module = await Module.start(dut, 22, in_valid=0, out_ready=0)
    module.drive(in_valid=1, in_data=1)
    await module.cycles(4)
    module.drive(reset=1)
    await module.next()
    module.drive(in_valid=0)
    for _ in range(3):
        await module.settle()
        assert (module.see("in_ready"), module.see("out_valid")) == (0, 0)
        await module.next()
    module.drive(reset=0, out_ready=1)
    for _ in range(5):
        await module.next()
        assert not module.see("out_valid"), "a word from before the reset"
