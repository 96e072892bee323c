"""Timing side by side: short blocks of runs, runtime after runtime, round after round.

Whatever slows this machine for a while slows every runtime of that round. A round in which other programs used the
machine is timed again while there is patience, and what they still used in the rounds that count is in the result.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

Key = TypeVar("Key")

QUIET = 0.05  # share of the machine that others may use in a round; a clock tick of 10 ms is 1 or 2 % of a block
SLOW_SECONDS = 1.0  # a run that takes longer warms itself up
WINDOW_SECONDS = 0.5  # in which a waiting bench looks at what others do
STAT = Path("/proc/stat")


@dataclass(frozen=True)
class Block:
    """Runs of one runtime, one after the other: milliseconds of each, and the share of the machine others used."""

    milliseconds: list[float]
    others: float


@dataclass(frozen=True)
class Timing:
    """What `rounds` blocks of one runtime come to. others: share of the machine others used, in the worst of them."""

    median_ms: float
    p10_ms: float
    p90_ms: float
    runs: int
    rounds: int
    others: float


def busy_seconds() -> float:
    """Processor seconds that all programs together have used since the machine started; 0 where nobody counts them."""
    try:
        user, nice, system, _, _, irq, soft, steal = map(int, STAT.read_text().split("\n", 1)[0].split()[1:9])
    except (OSError, ValueError):
        return 0.0
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


class Watch:
    """What other programs use of the machine, from its making until `others` is asked."""

    def __init__(self) -> None:
        self.busy, self.own, self.start = busy_seconds(), time.process_time(), time.perf_counter()

    def others(self) -> float:
        """Their share of all cores; 0 where nobody counts them."""
        used = (busy_seconds() - self.busy) - (time.process_time() - self.own)
        return max(0.0, used) / ((time.perf_counter() - self.start) * (os.cpu_count() or 1))


def run_block(run: Callable[[], object], seconds: float) -> Block:
    """Call `run` for `seconds`, at least once; a fast one is warmed up first."""
    watch, begin = Watch(), time.perf_counter()
    run()
    first = time.perf_counter() - begin
    if first > SLOW_SECONDS:
        return Block([first * 1e3], watch.others())
    milliseconds: list[float] = []
    start = time.perf_counter()
    while not milliseconds or time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        run()
        milliseconds.append((time.perf_counter() - begin) * 1e3)
    return Block(milliseconds, watch.others())


class Patience:
    """Seconds to spend on a quiet machine over the whole bench: on waiting for it, on repeating disturbed rounds."""

    def __init__(self, seconds: float):
        self.left = seconds

    def wait(self) -> None:
        """Return when others were quiet for a moment, or when no patience is left."""
        while self.left > 0:
            watch = Watch()
            time.sleep(WINDOW_SECONDS)
            self.left -= WINDOW_SECONDS
            if watch.others() <= QUIET:
                return


def time_side_by_side(
    runs: dict[Key, Callable[[], object]],
    rounds: int,
    seconds: float,
    patience: Patience,
    between: Callable[[], None] = lambda: None,
) -> dict[Key, Timing]:
    """Time every one of `runs` in `rounds` rounds: quiet ones, or the quietest when patience ends.

    between() is called after every block.
    """
    for run in runs.values():
        run()
    taken: list[dict[Key, Block]] = []
    while len(taken) < rounds or (patience.left > 0 and quiet_rounds(taken) < rounds):
        begin, names = time.perf_counter(), list(runs)
        first = len(taken) % len(names)  # nobody is always the first
        patience.wait()
        taken.append({})
        for name in names[first:] + names[:first]:
            taken[-1][name] = run_block(runs[name], seconds)
            between()
        if len(taken) > rounds:
            patience.left -= time.perf_counter() - begin
    kept = sorted(taken, key=disturbance)[:rounds]
    return {name: summarize([blocks[name] for blocks in kept]) for name in runs}


def quiet_rounds(taken: list[dict[Key, Block]]) -> int:
    return sum(disturbance(blocks) <= QUIET for blocks in taken)


def disturbance(blocks: dict[Key, Block]) -> float:
    """Share of the machine that others used while the worst hit runtime of a round ran."""
    return max(block.others for block in blocks.values())


def summarize(blocks: list[Block]) -> Timing:
    """All runs of the blocks together."""
    milliseconds = [value for block in blocks for value in block.milliseconds]
    p10, median, p90 = (float(value) for value in np.quantile(milliseconds, (0.1, 0.5, 0.9)))
    return Timing(median, p10, p90, len(milliseconds), len(blocks), max(block.others for block in blocks))
