"""The engine between its streams: feeds launches, compares every result, and finds an engine that stands still."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge
from tests.rtl.bench.coverage import COVERAGE
from tests.rtl.bench.launch import Launch, Word
from tests.rtl.bench.shape import WORDS, Shape
from tests.rtl.bench.streams import PAUSES, Pauses, Sink, Source

STANDSTILL = 6000  # cycles without any handshake; the longest thing the engine does in silence takes half of it
ARRIVED = 120  # cycles after which a word that was taken is in the memory, whatever the array reads
QUIET = 150  # cycles after the last result in which none may follow


@dataclass(frozen=True)
class Traffic:
    """Pauses of each stream, kinds of `PAUSES`."""

    commands: str = "none"
    tiles: str = "none"
    words: str = "none"
    results: str = "none"
    words_from_0: str = "none"
    words_from_1: str = "none"

    @classmethod
    def random(cls, rng: random.Random) -> Traffic:
        return cls(*rng.choices(PAUSES, k=6))


class EngineBench:
    """Runs launches on `bertile_engine`. `early`: commands and tiles may come before their launch begins."""

    def __init__(self, dut, seed: int, traffic: Traffic | None = None, early: bool = False) -> None:
        self.dut, self.shape = dut, Shape.of_simulation()
        self.rng = random.Random(f"traffic {seed}")
        self.traffic = traffic or Traffic.random(self.rng)
        self.early = early
        self.ring: tuple[int, int] | None = None  # words that are no results, results under way at most
        self.statuses: list[np.ndarray] = []
        self.cycle = 0
        self.arrivals: list[int] = []  # cycle of every result of a launch
        pauses = {name: Pauses(kind, self.rng) for name, kind in vars(self.traffic).items()}
        self.gates: dict[str, Callable[[], bool]] = {}  # what a test holds back: by the name of a stream
        self.sources = {
            name: Source(dut, f"{name}_t", pauses[name], self.rng, lambda name=name: self._may_go(name))
            for name in ("commands", "tiles", *WORDS)
        }
        self.results = Sink(dut, "results_t", pauses["results"], self._result_may_come)
        self._words: dict[str, deque[Word]] = {name: deque() for name in WORDS}  # not yet sent
        self.sent: dict[str, list[int]] = {name: [] for name in WORDS}  # cycle of each word of the launch
        self.received = 0  # results of the launch

    @classmethod
    async def start(cls, dut, seed: int, **options) -> EngineBench:
        """With a running clock, out of reset."""
        bench = cls(dut, seed, **options)
        Clock(dut.ap_clk, 2, "ns").start()
        await bench.reset()
        return bench

    async def reset(self) -> None:
        self.dut.ap_rst_n.value = 0
        await FallingEdge(self.dut.ap_clk)  # the other ends see the reset at a clock edge, too
        for end in (*self.sources.values(), self.results):
            end.reset()
        await ClockCycles(self.dut.ap_clk, self.rng.randint(8, 12))
        await FallingEdge(self.dut.ap_clk)
        self.dut.ap_rst_n.value = 1

    def _may_go(self, name: str) -> bool:
        """A word that overwrites what is still read waits for the results of who reads it; one that overwrites a word
        of another stream, until that has arrived.
        """
        if not self.gates.get(name, lambda: True)():
            return False
        if name not in self._words:
            return True
        word = self._words[name][0]
        if word.behind is not None:
            stream, number = word.behind
            sent = self.sent[WORDS[stream]]
            if len(sent) < number or self.cycle < sent[number - 1] + ARRIVED:
                return False
        return word.after <= self.received

    def _result_may_come(self) -> bool:
        """In a ring, every result becomes a word: only so many of them may be under way."""
        if not self.gates.get("results", lambda: True)():
            return False
        if self.ring is None:
            return True
        first, depth = self.ring
        returned = max(0, len(self.sent[WORDS[0]]) - first)
        return self.received - returned < depth

    async def run(self, launches: list[Launch], stop_after: int | None = None) -> None:
        """All launches; then silence. `stop_after`: cycles after which everything is left as it is."""
        if self.early:
            for launch in launches:
                self._feed(launch)
        for number, launch in enumerate(launches):
            if not self.early:
                self._feed(launch)
            for stream, words in zip(WORDS, launch.words, strict=True):
                self._words[stream], self.sent[stream] = deque(words), []
                self.sources[stream].queue.extend(word.data for word in words)
            self.arrivals.clear()
            self.received = 0
            if not await self._one(launch, f"launch {number}, ", stop_after):
                return
            for sample in launch.samples:
                sample()
            COVERAGE.sample_traffic(self.traffic)
        await self._silence()

    def _feed(self, launch: Launch) -> None:
        self.sources["commands"].queue.extend(launch.commands)
        self.sources["tiles"].queue.extend(launch.tiles)

    def words_left(self, *streams: str) -> int:
        """Words of the launch that these streams, or all, have not sent yet."""
        return sum(len(self._words[name]) for name in streams or WORDS)

    def _step(self) -> tuple[bool, int | None]:
        """Whether anything moved, and the result that did."""
        self.cycle += 1
        # The result first: a word that waits for it may follow in the next cycle at the earliest.
        result = self.results.step()
        moved = {name: source.step() for name, source in self.sources.items()}
        for name in WORDS:
            if moved[name]:
                self._words[name].popleft()
                self.sent[name].append(self.cycle)
        return any(moved.values()) or result is not None, result

    async def _one(self, launch: Launch, name: str, stop_after: int | None) -> bool:
        last_move = self.cycle
        edge = FallingEdge(self.dut.ap_clk)
        while self.received < len(launch.expected):
            await edge
            moved, result = self._step()
            if result is not None:
                self._compare(launch.expected[self.received], result, name)
                self.received += 1
                self.arrivals.append(self.cycle)
            if moved:
                last_move = self.cycle
            assert self.cycle - last_move < STANDSTILL, f"{name}{self._waiting(launch)}"
            if stop_after is not None and self.cycle >= stop_after:
                return False
        return True

    def _waiting(self, launch: Launch) -> str:
        waiting = launch.expected[self.received].name
        left = {name: len(source.queue) for name, source in self.sources.items()}
        return f"nothing moves any more before result {waiting}; not taken: {left}; {self.traffic}"

    def _compare(self, expected, result: int, name: str) -> None:
        lanes = np.frombuffer(result.to_bytes(self.shape.result_bytes, "little"), "<i2")
        if expected.name == "status":
            self.statuses.append(lanes)
        if expected.lanes is None:
            return
        got = lanes[: len(expected.lanes)].astype(np.int64)
        wrong = np.flatnonzero(got != expected.lanes)
        assert not len(wrong), (
            f"{name}{expected.name}: lanes {wrong.tolist()} are {got[wrong].tolist()}, "
            f"not {expected.lanes[wrong].tolist()}; {self.traffic}"
        )

    async def _silence(self) -> None:
        """Everything was taken, and nothing more comes."""
        for _ in range(QUIET):
            await FallingEdge(self.dut.ap_clk)
            _, result = self._step()
            assert result is None, "a result that nobody asked for"
        for name, source in self.sources.items():
            assert not source.queue, f"{name} were not taken"


def log_seed(seed: int) -> random.Random:
    """Random numbers of a test; its seed is in the log."""
    cocotb.log.info("seed %s", seed)
    return random.Random(seed)
