"""Cycles of the array: all of every pass and in order, no end too early, no more results than there is room for."""

from __future__ import annotations

import random
from dataclasses import dataclass

import cocotb
from tests.rtl.bench.module import Module, packed_struct, parameter
from tests.rtl.bench.shape import INPUTS

REQUANTIZE_BITS = 62
CYCLE_FIELDS = ("valid", "first", "last", "blank", "gather", "is_unsigned")


@dataclass(frozen=True)
class Pass:
    start: int
    groups: int
    base: int
    bound: int
    gather: int
    is_unsigned: int
    release: int
    requantize: int

    @classmethod
    def random(cls, rng: random.Random, outputs: int) -> Pass:
        groups = rng.choice([0, 1, outputs, rng.randint(0, 3 * outputs)])
        numbers = [rng.getrandbits(bits) for bits in (16, 16, 1, 1, 16, REQUANTIZE_BITS)]
        return cls(rng.getrandbits(16), groups, *numbers)

    def encode(self) -> int:
        fields = [(self.start, 16), (self.groups, 16), (self.base, 16), (self.bound, 16), (self.gather, 1)]
        return packed_struct(*fields, (self.is_unsigned, 1), (self.release, 16), (self.requantize, REQUANTIZE_BITS))

    def cycles(self, tile_words: int) -> list[tuple]:
        """Address in the tile memory, flags, base and bound of each of its cycles; one without groups has one, too."""
        count = max(self.groups, 1)
        step = 0 if self.gather else INPUTS
        return [
            (
                (self.start + i) % tile_words,
                (1, int(i == 0), int(i == count - 1), int(self.groups == 0), self.gather, self.is_unsigned),
                (self.base + i * step) % 65536,
                self.bound,
            )
            for i in range(count)
        ]


def decode(cycle: int) -> tuple:
    flags = tuple(cycle >> 37 - i & 1 for i in range(len(CYCLE_FIELDS)))
    return flags, cycle >> 16 & 65535, cycle & 65535


@cocotb.test()
@cocotb.parametrize(leaving=[1.0, 0.5, 0.05], hold=[0.0, 0.3], coming=[1.0, 0.2])
async def passes(dut, leaving: float, hold: float, coming: float) -> None:
    idle = {"pass_valid": 0, "hold": 0, "result_left": 0}
    module = await Module.start(dut, int(100 * leaving + 10 * hold + coming), **idle)
    outputs, words, room = (parameter(name) for name in ("OUTPUTS", "TILE_WORDS", "RESULTS"))
    planned = [Pass.random(module.rng, outputs) for _ in range(40)]
    expected = [cycle for now in planned for cycle in now.cycles(words)]
    seen = taken = ended = released = 0
    offered, was_hold, was_idle, since_end = False, False, True, outputs
    under_way = 0  # results of passes that ended
    clock = 0
    while seen < len(expected) or under_way:
        clock += 1
        assert clock < 20000, f"{seen} of {len(expected)} cycles"
        offered = offered or (taken < len(planned) and module.coin(coming))
        holding = module.coin(hold)
        leaves = under_way > 0 and module.coin(leaving)
        is_idle = taken == ended and not offered and under_way == 0
        module.drive(pass_valid=offered, hold=holding, result_left=leaves)
        module.drive(**{"pass": planned[taken].encode() if offered else module.rng.getrandbits(64)})
        await module.settle()
        flags, base, bound = decode(module.see("cycle"))
        if flags[0]:
            got = module.see("tile_address"), flags, base, bound
            assert got == expected[seen], f"cycle {seen}: {got}, not {expected[seen]}"
            assert not was_hold, "a cycle was issued in spite of hold"
            seen += 1
        if released < taken:
            assert module.see("release_entries") == planned[released].release
            released += 1
        else:
            assert not module.see("release_entries")
        since_end += 1
        under_way -= leaves
        if module.see("requantize_valid"):
            assert module.see("requantize") == planned[ended].requantize
            assert since_end >= outputs, f"{since_end} cycles after the end before"
            ended, since_end, under_way = ended + 1, 0, under_way + outputs
            assert under_way <= room + leaves, f"{under_way} results for {room} places"
        assert was_idle or not module.see("idle"), "not idle at all"
        ready = offered and module.see("pass_ready")
        was_hold, was_idle = holding, is_idle
        await module.next()
        taken += ready
        offered = offered and not ready
    assert (seen, ended, released) == (len(expected), len(planned), len(planned))
    module.drive(result_left=0)
    await module.cycles(3)
    assert module.see("idle")
    if (leaving, hold, coming) == (1.0, 0.0, 1.0):
        least = sum(max(now.groups, outputs) for now in planned)
        assert clock <= least + 2 * outputs + 4, f"{clock} cycles, {least} would do"
