"""What the tests of single modules share: a clock, and wide ports as lists of numbers."""

from __future__ import annotations

import random
from collections.abc import Iterable

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, ReadOnly


def parameter(name: str) -> int:
    """Of the module that is simulated."""
    return int(cocotb.plusargs[name])


def pack(values: Iterable[int], bits: int) -> int:
    """The packed array of these, element 0 in the low bits."""
    return sum((int(value) & (1 << bits) - 1) << bits * i for i, value in enumerate(values))


def unpack(value: int, bits: int, count: int, signed: bool = False) -> list[int]:
    parts = [value >> bits * i & (1 << bits) - 1 for i in range(count)]
    return [part - (1 << bits) if signed and part >> bits - 1 else part for part in parts]


def packed_struct(*fields: tuple[int, int]) -> int:
    """The packed struct of (value, bits), first field in the high bits."""
    word = 0
    for value, bits in fields:
        word = word << bits | int(value) & (1 << bits) - 1
    return word


class Module:
    """A module under its clock. A cycle is: drive, settle, look, next."""

    def __init__(self, dut, seed: int) -> None:
        self.dut = dut
        self.rng = random.Random(seed)
        cocotb.log.info("seed %s", seed)

    @classmethod
    async def start(cls, dut, seed: int, **inputs: int) -> Module:
        """Under a running clock, out of reset, with these inputs."""
        module = cls(dut, seed)
        Clock(dut.clk, 2, "ns").start()
        module.drive(**inputs)
        if hasattr(dut, "reset"):
            module.drive(reset=1)
        await module.cycles(12)  # assertions begin to count
        if hasattr(dut, "reset"):
            module.drive(reset=0)
        return module

    def drive(self, **inputs: int) -> None:
        for name, value in inputs.items():
            getattr(self.dut, name).value = int(value)

    def see(self, name: str) -> int:
        return int(getattr(self.dut, name).value)

    async def settle(self) -> None:
        """Outputs follow inputs; nothing can be driven until the next cycle."""
        await ReadOnly()

    async def next(self) -> None:
        await FallingEdge(self.dut.clk)

    async def cycles(self, count: int) -> None:
        for _ in range(count):
            await self.next()

    def coin(self, share: float = 0.5) -> bool:
        return self.rng.random() < share
