"""Passes on their way out: parameters of the right entry, row scales of the right slot, as many results as outputs."""

from __future__ import annotations

import random
from dataclasses import dataclass

import cocotb
import numpy as np
from tests.rtl.bench.module import Module, pack, packed_struct, parameter, unpack
from tests.rtl.bench.reference import requantize
from tests.rtl.bench.shape import PARAMETER, SPEC

ENTRIES, SUM_BITS = 16, 28
GEMM, SCORES, CONTEXT = 0, 1, 2
UNDER_WAY = 3  # passes at most


@dataclass
class Pass:
    """A pass as it is announced, and its sums [outputs, tokens]."""

    mode: int
    entry: int
    slot: int
    shift: int
    multiplier: int
    limits: tuple[int, int]
    sums: np.ndarray

    def encode(self) -> int:
        fields = [(self.mode, 2), (self.entry, 4), (self.slot, 2), (self.shift, 6), (self.multiplier, 16)]
        return packed_struct(*fields, (self.limits[0], 16), (self.limits[1], 16))


class Bench:
    """Parameters of all entries and row scales of all slots, and passes that use them."""

    def __init__(self, module: Module) -> None:
        self.module, self.rng = module, module.rng
        self.tokens, self.outputs = parameter("TOKENS"), parameter("OUTPUTS")
        self.noise = np.random.default_rng(self.rng.getrandbits(32))

    async def fill(self) -> None:
        """Both memories, one row a cycle."""
        outputs, slots = self.outputs, SPEC.capacity.probability_slots
        self.bias = self.noise.integers(-(2**31), 2**31, (ENTRIES, outputs)) >> self.noise.integers(0, 20, (ENTRIES, 1))
        self.multiplier = self.noise.integers(0, 65536, (ENTRIES, outputs))
        self.shift = self.noise.integers(0, SPEC.law.shift_max + 1, (ENTRIES, outputs))
        self.scales = self.noise.integers(0, 65536, (slots, self.tokens))
        for entry in range(ENTRIES):
            rows = zip(self.bias[entry], self.multiplier[entry], self.shift[entry], strict=True)
            data = b"".join(PARAMETER.encode(bias=int(b), multiplier=int(m), shift=int(s)) for b, m, s in rows)
            for half, part in enumerate((data[: len(data) // 2], data[len(data) // 2 :])):
                self.module.drive(parameter_write=1, parameter_row=2 * entry + half)
                self.module.drive(parameter_data=int.from_bytes(part, "little"))
                await self.module.next()
        self.module.drive(parameter_write=0)
        for slot in range(slots):
            for half, part in enumerate(np.split(self.scales[slot], 2)):
                self.module.drive(scale_write=1, scale_row=2 * slot + half, scale_data=pack(part, 16))
                await self.module.next()
        self.module.drive(scale_write=0)

    def new_pass(self) -> Pass:
        rng: random.Random = self.rng
        sums = self.noise.integers(-(2**27), 2**27, (self.outputs, self.tokens)) >> rng.randint(0, 26)
        limits = rng.choice([(-128, 127), (-32768, 32767), (-512, 511), (3, 900)])
        slot = rng.randrange(SPEC.capacity.probability_slots)
        shift = rng.choice([0, 47, rng.randint(0, 47)])
        mode, entry = rng.choice([GEMM, SCORES, CONTEXT]), rng.randrange(ENTRIES)
        return Pass(mode, entry, slot, shift, rng.getrandbits(16), limits, sums)

    def results(self, now: Pass) -> np.ndarray:
        if now.mode == GEMM:
            columns = (values[now.entry][:, None] for values in (self.bias, self.multiplier, self.shift))
            bias, multiplier, shift = columns
            return requantize(now.sums + bias, multiplier, shift, now.limits)
        multiplier = now.multiplier if now.mode == SCORES else self.scales[now.slot]
        return requantize(now.sums, multiplier, now.shift, now.limits)


@cocotb.test()
@cocotb.parametrize(pace=["back to back", "ragged"], seed=range(2))
async def passes(dut, pace: str, seed: int) -> None:
    idle = {"pass_valid": 0, "done": 0, "parameter_write": 0, "scale_write": 0}
    module = await Module.start(dut, seed, **idle)
    bench = Bench(module)
    await bench.fill()
    planned = [bench.new_pass() for _ in range(60)]
    expected = [row for now in planned for row in bench.results(now)]
    announced = ended = came = 0
    wait, standing, selected = bench.outputs, None, [0, 0]
    for cycle in range(100 * bench.outputs * 3):
        wait += 1
        announce = announced < len(planned) and announced - ended < UNDER_WAY and module.coin(0.5)
        due = wait >= bench.outputs and (pace == "back to back" or module.coin(0.1))
        done = ended < announced and due
        module.drive(pass_valid=announce, done=done)
        module.drive(**{"pass": planned[announced].encode() if announce else module.rng.getrandbits(62)})
        # The sums that were selected two cycles ago.
        sums = standing.sums[selected[0]] if standing else np.zeros(bench.tokens)
        module.drive(sums=pack(sums, SUM_BITS))
        await module.settle()
        selected = [selected[1], module.see("select")]
        if module.see("result_valid"):
            got = unpack(module.see("result"), 16, bench.tokens, True)
            assert got == expected[came].tolist(), f"cycle {cycle}, result {came}: {got}, not {expected[came].tolist()}"
            came += 1
        announced += announce
        if done:
            wait, ended = 0, ended + 1
        if wait == 2 and ended:  # what is selected from the next cycle on is from the pass that ended
            standing = planned[ended - 1]
        await module.next()
        if came == len(expected) and cycle % 50 == 49:
            break
    assert came == len(expected)
