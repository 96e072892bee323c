"""Four reads, a write and a fetch a cycle: right data, and a grant whenever the documented ports are free."""

from __future__ import annotations

from collections import deque

import cocotb
from tests.rtl.bench.module import Module, pack, parameter, unpack
from tests.rtl.bench.shape import INPUTS, SPEC

LATENCY = 6
SETTLED = 4  # cycles between a write and a read that must see it; who awaits words leaves more
NEVER = -100
PATIENCE = 60  # cycles after which the reads of this test must have left a port to anybody


class Model:
    """Contents, and what the ports of the banks allow."""

    def __init__(self, bank_words: int) -> None:
        self.size = SPEC.capacity.activation_banks * bank_words
        self.region = INPUTS * bank_words
        self.words: dict[int, int] = {}
        self.written: dict[int, int] = {}

    def bank(self, address: int) -> int | None:
        """Neighbouring addresses lie in neighbouring banks of a region."""
        return address // self.region * INPUTS + address % INPUTS if address < self.size else None

    def row(self, address: int) -> int:
        return address % self.region // INPUTS

    def write_blocked(self, reads: list[int], address: int) -> bool:
        """Both ports of the bank are read in one of the copies: inputs 0 and 2 read copy 0, 1 and 3 copy 1."""
        same = [self.bank(read) == self.bank(address) for read in reads]
        return bool(reads) and ((same[0] and same[2]) or (same[1] and same[3]))

    def is_read(self, address: int, cycle: int, data: int) -> bool:
        """Whether these data may come from a read in this cycle: any, where the word changed since, or just before."""
        changed = self.written.get(address, NEVER) > cycle - SETTLED
        return changed or self.words.get(address) in (None, data)


def near(module: Module, model: Model, start: int, outside: float = 0.1) -> int:
    """An address; mostly close to another one, so that they meet in a bank."""
    if module.coin(outside):
        return module.rng.choice([model.size, 65535, module.rng.randrange(model.size, 1 << 16)])
    return (start + module.rng.randint(0, 11)) % model.size


@cocotb.test()
@cocotb.parametrize(busy=[0.3, 1.0], seed=range(3))
async def ports(dut, busy: float, seed: int) -> None:
    module = await Module.start(dut, 10 * seed + int(busy), read_valid=0, write_valid=0, fetch_valid=0)
    model, lanes = Model(parameter("BANK_WORDS")), parameter("TOKENS") * 8
    reads_due: dict[int, list] = {}
    fetches: deque[tuple[int, int]] = deque()  # address and cycle of its request
    write, fetch, reads, outside_fetches = None, None, [], 0
    write_waited = fetch_waited = 0
    for cycle in range(3000):
        start, before = module.rng.randrange(model.size), reads
        reads = [near(module, model, start) for _ in range(INPUTS)] if module.coin(busy) else []
        if write is None and module.coin(0.7):
            write = near(module, model, start, 0.0), module.rng.getrandbits(lanes)
        if fetch is None and module.coin(0.6):
            fetch = near(module, model, start)
        module.drive(read_valid=bool(reads), read_address=pack(reads or [start] * INPUTS, 16))
        module.drive(fetch_valid=fetch is not None, fetch_address=start if fetch is None else fetch)
        # Without a word, the port of words says anything.
        address, data = write or (near(module, model, start, 0.0), module.rng.getrandbits(lanes))
        module.drive(write_valid=write is not None, write_data=data, write_row=model.row(address))
        module.drive(write_banks=1 << model.bank(address))
        await module.settle()

        assert module.see("read_outside") == any(read >= model.size for read in before), f"cycle {cycle}"
        seen = unpack(module.see("read_data"), lanes, INPUTS)
        for i, read in enumerate(reads_due.pop(cycle, [])):
            assert model.is_read(read, cycle - LATENCY, seen[i]), f"cycle {cycle}, input {i}, address {read}"
        reads_due[cycle + LATENCY] = reads
        if module.see("fetch_data_valid"):
            assert model.is_read(*fetches.popleft(), module.see("fetch_data")), f"cycle {cycle}, fetch"
        outside_fetches -= module.see("fetch_outside")

        grant = write is not None and module.see("write_grant")
        if write is not None:  # the reads that count came a cycle earlier
            assert grant == (not model.write_blocked(before, address)), f"cycle {cycle}"
        taken = fetch is not None and module.see("fetch_ready")
        await module.next()
        write_waited = 0 if grant or write is None else write_waited + 1
        fetch_waited = 0 if taken or fetch is None else fetch_waited + 1
        assert write_waited < PATIENCE > fetch_waited, "somebody starves"
        if grant:
            model.words[address], model.written[address] = data, cycle
            write = None
        if taken:
            fetches.append((fetch, cycle))
            outside_fetches += fetch >= model.size
            fetch = None
    module.drive(read_valid=0, write_valid=0, fetch_valid=0)
    for _ in range(20):
        await module.settle()
        if module.see("fetch_data_valid"):
            fetches.popleft()
        outside_fetches -= module.see("fetch_outside")
        await module.next()
    assert not fetches, "a word that was never fetched"
    assert outside_fetches == 0
    assert len(model.words) > model.size // 2
