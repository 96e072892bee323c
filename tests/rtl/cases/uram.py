"""Two ports on one clock: a read takes two cycles, and a port that writes keeps its read data."""

from __future__ import annotations

import cocotb
from tests.rtl.bench.module import Module, parameter

PORTS = ("a", "b")


@cocotb.test()
async def ports(dut) -> None:
    words, bits = parameter("WORDS"), parameter("WIDTH")
    idle = {f"{port}_{name}": 0 for port in PORTS for name in ("enable", "write", "address", "write_data")}
    module = await Module.start(dut, 2, **idle)
    contents: dict[int, int] = {}
    held: dict[str, int | None] = dict.fromkeys(PORTS)
    shown: dict[str, int | None] = dict.fromkeys(PORTS)
    compared = 0
    for _ in range(2000):
        before, writer = dict(contents), module.rng.choice(PORTS)
        shown = dict(held)
        for port in PORTS:
            enable = module.coin(0.8)
            write = port == writer and module.coin()
            address, data = module.rng.randrange(words), module.rng.getrandbits(bits)
            module.drive(**{f"{port}_enable": enable, f"{port}_write": write, f"{port}_address": address,
                            f"{port}_write_data": data})  # fmt: skip
            if enable and write:
                contents[address] = data
            elif enable:
                held[port] = before.get(address)
        await module.next()
        for port in PORTS:
            if shown[port] is not None:
                assert module.see(f"{port}_read_data") == shown[port]
                compared += 1
    assert compared > 2000
