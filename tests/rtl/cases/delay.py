"""A value some cycles later."""

from __future__ import annotations

import cocotb
from tests.rtl.bench.module import Module, parameter


@cocotb.test()
async def later(dut) -> None:
    module = await Module.start(dut, 1, in_data=0)
    cycles, sent = parameter("CYCLES"), []
    for cycle in range(200):
        sent.append(module.rng.getrandbits(len(dut.in_data)))
        module.drive(in_data=sent[-1])
        await module.settle()
        if cycle >= cycles:
            assert module.see("out_data") == sent[cycle - cycles]
        await module.next()
