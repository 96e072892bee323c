"""The FIFO against a queue: flags and the oldest entry in every cycle."""

from __future__ import annotations

from collections import deque

import cocotb
from tests.rtl.bench.module import Module, parameter


@cocotb.test()
@cocotb.parametrize(into=[0.2, 0.5, 0.9, 1.0], out=[0.0, 0.2, 0.5, 0.9, 1.0])
async def as_a_queue(dut, into: float, out: float) -> None:
    module = await Module.start(dut, int(100 * into + 10 * out), in_valid=0, out_ready=0)
    queue, depth = deque(), parameter("DEPTH")
    fullest = 0
    for cycle in range(400):
        data = module.rng.getrandbits(len(dut.in_data))
        push, pop = module.coin(into), module.coin(out)
        reset = module.coin(0.01)
        module.drive(in_valid=push, in_data=data, out_ready=pop, reset=reset)
        await module.settle()
        assert module.see("in_ready") == (len(queue) < depth), f"cycle {cycle}: {len(queue)} entries"
        assert module.see("out_valid") == (len(queue) > 0), f"cycle {cycle}: {len(queue)} entries"
        if queue:
            assert module.see("out_data") == queue[0], f"cycle {cycle}"
        push = push and len(queue) < depth
        if pop and queue:
            queue.popleft()
        if push:
            queue.append(data)
        if reset:
            queue.clear()
        fullest = max(fullest, len(queue))
        await module.next()
    assert fullest == depth or into < 1.0 or out > 0.5
