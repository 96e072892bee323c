"""One DSP: a product three cycles later, alone or on top of its neighbour's result."""

from __future__ import annotations

import cocotb
from tests.rtl.bench.module import Module, parameter, unpack

P_BITS = 48
LATENCY = 3


@cocotb.test()
async def products(dut) -> None:
    a_bits, b_bits = parameter("A_BITS"), parameter("B_BITS")
    cascade, shift = parameter("CASCADE"), parameter("SHIFT")
    module, sent = await Module.start(dut, 1, a=0, b=0, p_in=0), []
    for cycle in range(500):
        a, b = (module.rng.choice([-(1 << n - 1), (1 << n - 1) - 1, module.rng.getrandbits(n) - (1 << n - 1)])
                for n in (a_bits, b_bits))  # fmt: skip
        p_in = module.rng.getrandbits(46) - (1 << 45)
        module.drive(a=a & (1 << a_bits) - 1, b=b & (1 << b_bits) - 1, p_in=p_in & (1 << P_BITS) - 1)
        sent.append((a * b, p_in))
        await module.settle()
        if cycle >= LATENCY:
            # The cascade is added in the last of the three cycles.
            expected = sent[cycle - LATENCY][0]
            if cascade:
                expected += sent[cycle - 1][1] >> (17 if shift else 0)
            for port in ("p", "p_out"):
                assert unpack(module.see(port), P_BITS, 1, signed=True) == [expected]
        await module.next()
