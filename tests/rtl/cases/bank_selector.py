"""Of the read data of all banks, the word of the one bank that was asked for, two cycles later."""

from __future__ import annotations

import cocotb
from tests.rtl.bench.module import Module, pack, parameter
from tests.rtl.bench.shape import SPEC

BANKS = SPEC.capacity.activation_banks


@cocotb.test()
async def selected(dut) -> None:
    bits, sent = parameter("WIDTH"), []
    module = await Module.start(dut, 3, data=0, banks=0)
    for cycle in range(400):
        words, bank = [module.rng.getrandbits(bits) for _ in range(BANKS)], module.rng.randrange(BANKS)
        module.drive(data=pack(words, bits), banks=1 << bank)
        sent.append(words[bank])
        await module.settle()
        if cycle >= 2:
            assert module.see("selected") == sent[cycle - 2]
        await module.next()
