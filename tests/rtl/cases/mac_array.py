"""The array: passes of random groups, operands of either sign, and results that leave while the next pass runs."""

from __future__ import annotations

import cocotb
import numpy as np
from tests.rtl.bench.module import Module, pack, packed_struct, parameter, unpack
from tests.rtl.bench.shape import INPUTS

SUM_BITS = 28


def control(valid: bool, first: bool, last: bool, blank: bool, is_unsigned: bool) -> int:
    return packed_struct((valid, 1), (first, 1), (last, 1), (blank, 1), (0, 1), (is_unsigned, 1), (0, 16), (0, 16))


def lanes(noise: np.random.Generator, ends: bool, shape: tuple[int, int]) -> np.ndarray:
    """Bytes."""
    return noise.choice([128, 127, 255, 0], shape) if ends else noise.integers(0, 256, shape)


@cocotb.test()
@cocotb.parametrize(seed=range(3))
async def passes(dut, seed: int) -> None:
    module = await Module.start(dut, seed, control=0, select=0)
    tokens, outputs = parameter("TOKENS"), parameter("OUTPUTS")
    noise = np.random.default_rng(seed)
    expected: list[np.ndarray] = []
    shown: list[tuple[int, int]] = []  # pass, output: of the last selections

    async def cycle(word: int, operands: np.ndarray, weights: np.ndarray) -> None:
        nonlocal ended, select
        module.drive(control=word, operands=pack(operands.ravel(), 8), weights=pack(weights.ravel(), 8))
        module.drive(select=select)
        await module.settle()
        if len(shown) >= 2 and shown[-2] is not None:
            which, output = shown[-2]
            got = unpack(module.see("selected"), SUM_BITS, tokens, True)
            assert got == expected[which][output].tolist(), f"pass {which}, output {output}"
        # Results stand from the cycle behind `done` until the next pass ends.
        shown.append((ended - 1, select) if ended else None)
        ended += module.see("done")
        select = (select + 1) % outputs
        await module.next()

    ended = select = 0
    for _ in range(40):
        length, is_unsigned = module.rng.choice([1, outputs, module.rng.randint(1, 30)]), module.coin()
        blank = length == 1 and module.coin(0.4)
        ends = module.coin()
        sums = np.zeros((outputs, tokens), np.int64)
        for position in range(length):
            operands, weights = (lanes(noise, ends, (INPUTS, count)) for count in (tokens, outputs))
            low = operands if is_unsigned else operands.astype(np.uint8).view(np.int8).reshape(INPUTS, tokens)
            if not blank:
                sums += weights.astype(np.uint8).view(np.int8).reshape(INPUTS, outputs).T.astype(np.int64) @ low
            while module.coin(0.1):
                await cycle(control(False, True, True, True, not is_unsigned), operands, weights)
            if position == length - 1:
                expected.append(sums)
            await cycle(control(True, position == 0, position == length - 1, blank, is_unsigned), operands, weights)
        for _ in range(max(0, outputs - length)):  # as the issuer does: a pass is no shorter than its results
            await cycle(0, operands, weights)
    for _ in range(2 * outputs + 20):
        await cycle(0, operands, weights)
    assert ended == 40
