"""Requantization of one token against the law, a number a cycle: ends of every range, and every half."""

from __future__ import annotations

import random

import cocotb
from tests.rtl.bench.module import Module, unpack

LATENCY = 11
# The cycle of each input, and what of it the pipeline still needs then.
SHIFTS = {"shift_5": (5, 63), "shift_6": (6, 15), "shift_7": (7, 3)}
LIMITS = [(-128, 127), (-32768, 32767), (-512, 511), (0, 0), (-32768, -32768), (32767, 32767), (-3, 9)]


def law(total: int, bias: int, multiplier: int, shift: int, low: int, high: int) -> int:
    product = (total + bias) * multiplier
    rounded = product + (1 << shift >> 1) >> shift
    return min(max(rounded, low), high)


def near_a_limit(rng: random.Random) -> tuple[int, ...]:
    """A product next to the limit or to a half, of either sign."""
    low, high = rng.choice(LIMITS)
    shift, multiplier = rng.randint(0, 24), rng.choice([1, 2, 3, 65535, rng.randint(1, 65535)])
    target = rng.choice([low, high, 0, 1, -1]) * (1 << shift) + rng.choice([-1, 0, 1]) * (1 << shift >> 1)
    whole = target // multiplier + rng.randint(-1, 1)
    bias = max(-(2**31), min(2**31 - 1, whole - rng.randint(-(2**26), 2**26)))
    total = max(-(2**27), min(2**27 - 1, whole - bias))
    return total, bias, multiplier, shift, low, high


def anything(rng: random.Random) -> tuple[int, ...]:
    total = rng.choice([-(2**27), 2**27 - 1, 0, rng.randint(-(2**27), 2**27 - 1)])
    bias = rng.choice([-(2**31), 2**31 - 1, 0, -1, rng.randint(-(2**31), 2**31 - 1)])
    return total, bias, rng.choice([0, 1, 65535, rng.randint(0, 65535)]), rng.randint(0, 47), *rng.choice(LIMITS)


@cocotb.test()
@cocotb.parametrize(stimulus=[near_a_limit, anything])
async def follows_the_law(dut, stimulus) -> None:
    module = await Module.start(dut, 1)
    asked = [stimulus(module.rng) for _ in range(4000)]

    def at(cycle: int, field: int) -> int:
        return asked[cycle][field] if 0 <= cycle < len(asked) else module.rng.getrandbits(16)

    for cycle in range(len(asked) + LATENCY):
        module.drive(**{"sum": at(cycle, 0), "bias": at(cycle, 1), "multiplier": at(cycle, 2) & 65535})
        for name, (late, mask) in SHIFTS.items():
            module.drive(**{name: at(cycle - late, 3) & mask})
        module.drive(low_10=at(cycle - 10, 4), high_10=at(cycle - 10, 5))
        await module.settle()
        if cycle >= LATENCY:
            numbers = asked[cycle - LATENCY]
            got = unpack(module.see("result"), 16, 1, True)[0]
            assert got == law(*numbers), f"{numbers}: {got}, not {law(*numbers)}"
        await module.next()
