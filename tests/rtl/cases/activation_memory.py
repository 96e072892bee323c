"""Four reads, a write of each stream and a fetch a cycle: right data, and grants as the ports and the turns say."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import cocotb
from tests.rtl.bench.module import Module, pack, parameter, unpack
from tests.rtl.bench.shape import INPUTS, SPEC

LATENCY = 6
SETTLED = 4  # cycles between a write and a read that must see it; who awaits words leaves more
NEVER = -100
PATIENCE = 60  # cycles after which the reads of this test must have left a port to anybody
STREAMS = SPEC.cooperation.units
COLUMNS = 4
BANKS = SPEC.capacity.activation_banks

Word = tuple[int, int]  # address, data


class Model:
    """Contents, and what the ports of the banks allow."""

    def __init__(self, bank_words: int) -> None:
        self.size = BANKS * bank_words
        self.region = COLUMNS * bank_words
        self.row_bits = (bank_words - 1).bit_length()
        self.words: dict[int, int] = {}
        self.written: dict[int, int] = {}
        self.turns = list(range(STREAMS))  # who goes first

    def bank(self, address: int) -> int | None:
        """Neighbouring addresses lie in neighbouring banks of a region."""
        return address // self.region * COLUMNS + address % COLUMNS if address < self.size else None

    def row(self, address: int) -> int:
        return address % self.region // COLUMNS

    def write_blocked(self, reads: list[int], address: int) -> bool:
        """Both ports of the bank are read in one of the copies: inputs 0 and 2 read copy 0, 1 and 3 copy 1."""
        same = [self.bank(read) == self.bank(address) for read in reads]
        return bool(reads) and ((same[0] and same[2]) or (same[1] and same[3]))

    def grants(self, reads: list[int], words: list[Word | None]) -> list[bool]:
        """One word a column, who waited longest first. Whose word leaves goes behind all others."""
        columns: set[int] = set()
        granted = [False] * STREAMS
        for stream in self.turns:
            word = words[stream]
            if word is not None and word[0] % COLUMNS not in columns:
                columns.add(word[0] % COLUMNS)
                granted[stream] = not self.write_blocked(reads, word[0])
        self.turns.sort(key=lambda stream: granted[stream])
        return granted

    def write(self, word: Word, cycle: int) -> None:
        address, self.words[address] = word[0], word[1]
        self.written[address] = cycle

    def is_read(self, address: int, cycle: int, data: int) -> bool:
        """Whether these data may come from a read in this cycle: any, where the word changed since, or just before."""
        changed = self.written.get(address, NEVER) > cycle - SETTLED
        return changed or self.words.get(address) in (None, data)


def near(module: Module, model: Model, start: int, outside: float = 0.1) -> int:
    """An address; mostly close to another one, so that they meet in a bank."""
    if module.coin(outside):
        return module.rng.choice([model.size, 65535, module.rng.randrange(model.size, 1 << 16)])
    return (start + module.rng.randint(0, 11)) % model.size


def drive_words(module: Module, model: Model, words: list[Word | None]) -> None:
    """The words of all streams. Without a word, a stream says anything."""
    lanes = parameter("TOKENS") * 8
    shown = [word or (module.rng.randrange(model.size), module.rng.getrandbits(lanes)) for word in words]
    addresses = [address for address, _ in shown]
    module.drive(write_valid=pack([word is not None for word in words], 1))
    module.drive(write_columns=pack([1 << address % COLUMNS for address in addresses], COLUMNS))
    module.drive(write_banks=pack([1 << model.bank(address) for address in addresses], BANKS))
    module.drive(write_row=pack([model.row(address) for address in addresses], model.row_bits))
    module.drive(write_data=pack([data for _, data in shown], lanes))


async def start(dut, seed: int) -> tuple[Module, Model]:
    module = await Module.start(dut, seed, read_valid=0, write_valid=0, fetch_valid=0)
    return module, Model(parameter("BANK_WORDS"))


async def check_contents(module: Module, model: Model) -> None:
    """Every word that was written, as all four inputs of the array read it."""
    lanes, addresses = parameter("TOKENS") * 8, sorted(model.words)
    drive_words(module, model, [None] * STREAMS)
    module.drive(fetch_valid=0)
    due: deque[int] = deque()
    for cycle in range(len(addresses) + LATENCY):
        module.drive(read_valid=cycle < len(addresses))
        if cycle < len(addresses):
            # Its neighbours lie in other banks.
            module.drive(read_address=pack([(addresses[cycle] + i) % model.size for i in range(INPUTS)], 16))
            due.append(addresses[cycle])
        await module.settle()
        if cycle >= LATENCY:
            address = due.popleft()
            for i, data in enumerate(unpack(module.see("read_data"), lanes, INPUTS)):
                expected = model.words.get((address + i) % model.size, data)
                assert data == expected, f"address {address}, input {i}"
        await module.next()
    module.drive(read_valid=0)


@cocotb.test()
@cocotb.parametrize(busy=[0.3, 1.0], coming=[0.7, 1.0], seed=range(2))
async def ports(dut, busy: float, coming: float, seed: int) -> None:
    """Addresses that meet in banks, reads and fetches beside them."""
    module, model = await start(dut, 100 * seed + int(10 * busy + coming))
    lanes = parameter("TOKENS") * 8
    reads_due: dict[int, list] = {}
    fetches: deque[tuple[int, int]] = deque()  # address and cycle of its request
    fetch, reads, outside_fetches = None, [], 0
    words: list[Word | None] = [None] * STREAMS
    words_waited, fetch_waited = [0] * STREAMS, 0
    for cycle in range(3000):
        start_address, before = module.rng.randrange(model.size), reads
        reads = [near(module, model, start_address) for _ in range(INPUTS)] if module.coin(busy) else []
        for stream in range(STREAMS):
            if words[stream] is None and module.coin(coming):
                words[stream] = near(module, model, start_address, 0.0), module.rng.getrandbits(lanes)
        if fetch is None and module.coin(0.6):
            fetch = near(module, model, start_address)
        module.drive(read_valid=bool(reads), read_address=pack(reads or [start_address] * INPUTS, 16))
        module.drive(fetch_valid=fetch is not None, fetch_address=start_address if fetch is None else fetch)
        drive_words(module, model, words)
        await module.settle()

        assert module.see("read_outside") == any(read >= model.size for read in before), f"cycle {cycle}"
        seen = unpack(module.see("read_data"), lanes, INPUTS)
        for i, read in enumerate(reads_due.pop(cycle, [])):
            assert model.is_read(read, cycle - LATENCY, seen[i]), f"cycle {cycle}, input {i}, address {read}"
        reads_due[cycle + LATENCY] = reads
        if module.see("fetch_data_valid"):
            assert model.is_read(*fetches.popleft(), module.see("fetch_data")), f"cycle {cycle}, fetch"
        outside_fetches -= module.see("fetch_outside")

        granted = unpack(module.see("write_grant"), 1, STREAMS)
        expected = model.grants(before, words)  # the reads that count came a cycle earlier
        for stream, word in enumerate(words):
            assert word is None or granted[stream] == expected[stream], f"cycle {cycle}, stream {stream}"
        taken = fetch is not None and module.see("fetch_ready")
        await module.next()
        for stream, word in enumerate(words):
            words_waited[stream] = 0 if word is None or granted[stream] else words_waited[stream] + 1
            if word is not None and granted[stream]:
                model.write(word, cycle)
                words[stream] = None
        fetch_waited = 0 if taken or fetch is None else fetch_waited + 1
        assert max(*words_waited, fetch_waited) < PATIENCE, "somebody starves"
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
    await check_contents(module, model)


async def send(module: Module, model: Model, queues: list[deque[Word]], reads: Callable | None = None) -> list[int]:
    """All words, back to back; the cycles in which each stream waited. `reads`: addresses of a cycle."""
    waits, cycle = [0] * STREAMS, 0
    while any(queues):
        if reads:
            module.drive(read_valid=1, read_address=pack(reads(cycle), 16))
        drive_words(module, model, [queue[0] if queue else None for queue in queues])
        await module.settle()
        granted = unpack(module.see("write_grant"), 1, STREAMS)
        await module.next()
        for stream, queue in enumerate(queues):
            if queue and granted[stream]:
                model.write(queue.popleft(), cycle)
            elif queue:
                waits[stream] += 1
        cycle += 1
        assert cycle < 5000, "words stand still"
    module.drive(read_valid=0)
    return waits


@cocotb.test()
@cocotb.parametrize(reading=[False, True], first=range(COLUMNS), second=range(COLUMNS))
async def full_rate(dut, reading: bool, first: int, second: int) -> None:
    """Streams through neighbouring addresses, in any phase: three words a cycle, but for the first few cycles.

    Reads of neighbouring addresses, as of a dense tile, take nothing away.
    """
    module, model = await start(dut, 8 * first + second)

    def dense(cycle: int) -> list[int]:
        return [(INPUTS * cycle + i) % model.size for i in range(INPUTS)]

    lanes, count = parameter("TOKENS") * 8, model.size // STREAMS // COLUMNS * COLUMNS - COLUMNS
    queues = []
    for stream, phase in enumerate((0, first, second)):
        begin = stream * (count + COLUMNS) + phase
        queues.append(deque((begin + i, module.rng.getrandbits(lanes)) for i in range(count)))
    waits = await send(module, model, queues, dense if reading else None)
    assert max(waits) <= STREAMS - 1, f"streams waited {waits} cycles for {count} words"
    await check_contents(module, model)


@cocotb.test()
@cocotb.parametrize(reading=[False, True])
async def one_column(dut, reading: bool) -> None:
    """All words for one column: a word a cycle, each stream in its turn, whatever is read beside."""
    module, model = await start(dut, 900 + reading)
    lanes, count = parameter("TOKENS") * 8, 150
    queues = []
    for _ in range(STREAMS):
        places = [COLUMNS * module.rng.randrange(model.size // COLUMNS) + 2 for _ in range(count)]
        queues.append(deque((address, module.rng.getrandbits(lanes)) for address in places))

    def half_full(cycle: int) -> list[int]:
        """In every other cycle, two inputs of a copy read the same bank of the column."""
        return [2, 3, 2 if cycle % 2 else 1, 0]

    waits = await send(module, model, queues, half_full if reading else None)
    assert max(waits) - min(waits) <= 2 * STREAMS, f"streams waited {waits} cycles"
    assert max(waits) <= (2 if reading else 1) * STREAMS * count, f"streams waited {waits} cycles"
    await check_contents(module, model)
