"""Two outputs of one token: sums of packed products, over passes of any length, with idle cycles between."""

from __future__ import annotations

import random
from dataclasses import dataclass

import cocotb
from tests.rtl.bench.module import Module, pack, parameter, unpack

FIELD, WEIGHT_BITS, OPERAND_BITS, SUM_BITS = 18, 27, 9, 28
ENDS = [(-128, -128), (-128, 127), (127, -128), (127, 127), (0, -128), (-128, 0), (0, 127)]


@dataclass
class Group:
    """What the array does in one cycle: a pair of weights and an operand for each input, or nothing."""

    weights: list[tuple[int, int]]
    operands: list[int]
    valid: bool = True
    first: bool = False
    last: bool = False
    blank: bool = False


def random_group(rng: random.Random, inputs: int, kind: str) -> Group:
    if kind == "ends":
        weights = [rng.choice(ENDS)] * inputs
        return Group(weights, [rng.choice([-128, 127, 255])] * inputs)
    weights = [(rng.randint(-128, 127), rng.randint(-128, 127)) for _ in range(inputs)]
    return Group(weights, [rng.randint(-128, 255) for _ in range(inputs)])


def passes(rng: random.Random, inputs: int, count: int) -> list[Group]:
    """Passes with gaps in them and between them; the gaps carry noise."""
    groups = []
    for _ in range(count):
        length = rng.choice([1, 1, 2, 5, rng.randint(1, 40)])
        blank = length == 1 and rng.random() < 0.3
        kind = rng.choice(["ends", "any", "any"])
        for position in range(length):
            while rng.random() < 0.2:
                noise = random_group(rng, inputs, "any")
                noise.valid, noise.first, noise.blank = False, rng.random() < 0.5, rng.random() < 0.5
                groups.append(noise)
            group = random_group(rng, inputs, kind)
            group.first, group.last, group.blank = position == 0, position == length - 1, blank
            groups.append(group)
    return groups


def results(groups: list[Group]) -> list[tuple[int, int] | None]:
    """The results that stand after each group; None before the first pass has ended."""
    sums, latest, out = [0, 0], None, []
    for group in groups:
        if group.valid:
            if group.first or group.blank:
                sums = [0, 0]
            if not group.blank:
                for pair, operand in zip(group.weights, group.operands, strict=True):
                    sums = [total + weight * operand for total, weight in zip(sums, pair, strict=True)]
            if group.last:
                latest = tuple(sums)
        out.append(latest)
    return out


@cocotb.test()
@cocotb.parametrize(seed=range(4))
async def sums(dut, seed: int) -> None:
    module = await Module.start(dut, seed, valid=0, last=0)
    inputs = parameter("INPUTS")
    groups = passes(module.rng, inputs, 60)
    expected = results(groups)
    arrival = inputs + 2  # of the sum of a group, behind its input 0

    def at(cycle: int) -> Group | None:
        return groups[cycle] if 0 <= cycle < len(groups) else None

    for cycle in range(len(groups) + arrival + 3):
        weights, operands = [], []
        for i in range(inputs):  # input i comes i cycles later
            group = at(cycle - i)
            low, high = group.weights[i] if group else (0, 0)
            weights.append(low + (high << FIELD))
            operands.append(group.operands[i] if group else 0)
        now, before = at(cycle - arrival), at(cycle - arrival - 1)
        module.drive(weights=pack(weights, WEIGHT_BITS), operands=pack(operands, OPERAND_BITS))
        module.drive(valid=bool(now and now.valid), first=bool(now and now.first), blank=bool(now and now.blank))
        module.drive(last=bool(before and before.valid and before.last))
        await module.settle()
        shown = cycle - arrival - 2
        if 0 <= shown < len(groups) and expected[shown] is not None:
            got = tuple(unpack(module.see(name), SUM_BITS, 1, True)[0] for name in ("result_low", "result_high"))
            assert got == expected[shown], f"group {shown}: {got}, not {expected[shown]}"
        await module.next()
