"""Commands to passes: their order, their addresses, what they release, and that they wait for their words."""

from __future__ import annotations

from dataclasses import dataclass, field

import cocotb
from tests.rtl.bench.module import Module, pack, packed_struct
from tests.rtl.bench.shape import SPEC

GEMM, SCORES, CONTEXT, HALT = range(4)
STREAMS = SPEC.cooperation.units  # of words
ENTRIES = 16


@dataclass
class Case:
    """Random commands, the entries of the tile memory they take, and the passes that must come."""

    commands: list[tuple[int, list[int]]] = field(default_factory=list)  # the packed command, the words it awaits
    entries: list[int] = field(default_factory=list)
    passes: list[dict[str, int]] = field(default_factory=list)
    held: dict[int, int] = field(default_factory=dict)  # entry of each mode
    starts: dict[int, int] = field(default_factory=lambda: {SCORES: 0, CONTEXT: 0})
    next_entry: int = 0

    def take(self, module: Module, mode: int) -> tuple[int, int, int]:
        """A new entry: its first beat, its beats, and what nobody reads any more."""
        start, groups = module.rng.getrandbits(12), module.rng.randint(0, 300)
        self.entries.append(packed_struct((self.next_entry, 4), (start, 16), (groups, 16)))
        left = (GEMM, SCORES, CONTEXT) if mode == GEMM else (GEMM, mode)
        released = sum(1 << self.held.pop(other) for other in left if other in self.held)
        self.held[mode] = self.next_entry
        self.next_entry = (self.next_entry + 1) % ENTRIES
        return start, groups, released

    def add(self, module: Module, mode: int) -> None:
        rng = module.rng
        blank, unsigned, reload = module.coin(0.1), module.coin(), mode != GEMM and module.coin(0.6)
        base, stride, rows, tiles = rng.getrandbits(16), rng.getrandbits(12), rng.randint(1, 4), rng.randint(1, 4)
        groups, awaits = rng.randint(1, 128), [rng.choice([0, rng.randint(0, 500)]) for _ in range(STREAMS)]
        rest = rng.getrandbits(2 + 6 + 16 + 16 + 16)
        requantize = (mode, 2), (0, 4), (rest, 56)
        fields = [
            (reload, 1),
            (blank, 1),
            (unsigned, 1),
            (pack(awaits, 32), 32 * STREAMS),
            (base, 16),
            (stride, 16),
            (rows, 8),
            (tiles, 16),
        ]
        self.commands.append((packed_struct(*fields, (groups, 16), *requantize), awaits))
        common = {"bound": stride, "gather": mode == GEMM, "unsigned": unsigned, "mode": mode, "rest": rest}
        released = 0
        if mode == GEMM:
            for _ in range(tiles):
                start, beats, released = self.take(module, mode)
                for row in range(rows):
                    address = (base + row * stride) % 65536
                    self.passes.append(common | {"start": start, "groups": 0 if blank else beats, "base": address,
                                                 "released": released, "entry": self.held[GEMM]})  # fmt: skip
                    released = 0
            return
        if reload and not blank:
            self.starts[mode], _, released = self.take(module, mode)
        groups = 0 if blank else groups
        for row in range(rows):
            for tile in range(tiles):
                start = (self.starts[mode] + tile * groups) % 65536
                self.passes.append(common | {"start": start, "groups": groups, "released": released,
                                             "base": (base + row * stride) % 65536})  # fmt: skip
                released = 0


def unpack_pass(word: int) -> dict[str, int]:
    values = {}
    widths = {"rest": 56, "entry": 4, "mode": 2, "released": 16, "unsigned": 1, "gather": 1, "bound": 16, "base": 16}
    for name, bits in (widths | {"groups": 16, "start": 16}).items():
        values[name], word = word & (1 << bits) - 1, word >> bits
    return values


@cocotb.test()
@cocotb.parametrize(seed=range(4))
async def passes(dut, seed: int) -> None:
    module = await Module.start(dut, seed, command=0, command_valid=0, received=0, entry=0, entry_valid=0, pass_ready=0)
    case = Case()
    for _ in range(40):
        case.add(module, module.rng.choice((GEMM, SCORES, CONTEXT)))
    commands, entries, got = list(case.commands), list(case.entries), 0
    received, awaited = [0] * STREAMS, [0] * STREAMS
    for _ in range(40000):
        offers = bool(entries) and module.coin(0.7)
        module.drive(command_valid=bool(commands), entry_valid=offers, pass_ready=module.coin(0.7))
        module.drive(received=pack(received, 32))
        module.drive(command=commands[0][0] if commands else 0, entry=entries[0] if offers else 0)
        await module.settle()
        if module.see("pass_valid"):
            arrived = [number >= least for number, least in zip(received, awaited, strict=True)]
            assert all(arrived), "a pass before the words of its command"
            seen = unpack_pass(module.see("pass"))
            expected = case.passes[got]
            assert {name: seen[name] for name in expected} == {name: int(value) for name, value in expected.items()}
            got += int(dut.pass_ready.value)
        taken = bool(commands) and module.see("command_ready"), offers and module.see("entry_ready")
        await module.next()
        if taken[0]:
            awaited, received = commands.pop(0)[1], [0] * STREAMS
        if taken[1]:
            entries.pop(0)
        received = [min(number + module.rng.randint(0, 20), 600) for number in received]
        if got == len(case.passes):
            break
    assert got == len(case.passes)
    assert not entries
    assert not commands


@cocotb.test()
@cocotb.parametrize(stream=range(STREAMS))
async def halt_waits_for_words(dut, stream: int) -> None:
    """Of every stream, however many the others bring."""
    module = await Module.start(dut, 9, command=0, command_valid=0, entry=0, entry_valid=0, pass_ready=1)
    awaited = [5 + number for number in range(STREAMS)]
    received = [1000] * STREAMS
    received[stream] = awaited[stream] - 1
    module.drive(received=pack(received, 32))
    fields = (0, 3), (pack(awaited, 32), 32 * STREAMS), (0, 72), (HALT, 2), (0, 60)
    module.drive(command=packed_struct(*fields), command_valid=1)
    await module.next()
    module.drive(command_valid=0)
    for _ in range(10):
        await module.next()
        assert not module.see("halting")
    received[stream] = awaited[stream]
    module.drive(received=pack(received, 32))
    await module.cycles(3)
    assert module.see("halting")
    module.drive(reset=1)
    await module.next()
    assert not module.see("halting")
