"""What travels through a pipeline: launches, the buffers they use, and the times they took."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bertile.config.spec import load_spec
from bertile.devices.launch import Launch, encode_launch, from_words, to_words
from bertile.pack.packer import PackedModel
from bertile.runtime.card import Card, check_answer

SPEC = load_spec()
Prepare = Callable[[], list[np.ndarray]]
Finish = Callable[[np.ndarray, Launch], Any]


@dataclass(frozen=True)
class StageTimes:
    """Seconds of a launch, one stage after the other, as the host saw them.

    queued: from the submission until its preparation began; embed: embed, quantize, write to the buffers; to_card: the
    transfer; run: from the start to the end, an earlier run of the unit included; noticed: until it was collected;
    from_card: the transfer; result: from the buffers to what the caller gets.
    """

    queued: float
    embed: float
    to_card: float
    run: float
    noticed: float
    from_card: float
    result: float

    @property
    def total(self) -> float:
        return sum(vars(self).values())

    @property
    def host(self) -> float:
        """Work of the host: without waiting, transfers and the run."""
        return self.embed + self.result


@dataclass(frozen=True)
class Answer:
    """value: what `finish` made of the output; began: when its preparation began, by `time.perf_counter`; unit: which
    one ran it; engine_cycles: 0 where they are not counted."""

    value: Any
    began: float
    times: StageTimes
    unit: str
    engine_cycles: int


@dataclass(eq=False)
class Job:
    """A launch on its way."""

    prepare: Prepare
    finish: Finish
    future: Future = field(default_factory=Future)
    submitted: float = field(default_factory=time.perf_counter)
    began: float = 0.0
    prepared: float = 0.0
    sent: float = 0.0
    started: float = 0.0
    launch: Launch | None = None

    def settle(self, value: Any = None, error: BaseException | None = None) -> None:
        """Give the future its end unless it has one; another thread, or the caller, may be faster."""
        with suppress(InvalidStateError):
            if error is not None:
                self.future.set_exception(error)
            else:
                self.future.set_result(value)

    def refuse(self, error: BaseException) -> None:
        """The same for one that was never begun: one that its caller has cancelled is told so."""
        with suppress(InvalidStateError, RuntimeError):
            if self.future.set_running_or_notify_cancel():
                self.future.set_exception(error)


class Slot:
    """A unit's buffers with their shape: words [blocks, hidden, 32] int8, answered once or for every layer."""

    def __init__(self, card: Card, unit: Any, packed: PackedModel, trace: bool):
        self.packed, self.trace, self.unit, self.running = packed, trace, unit.instance, False
        self.layers = packed.config.layers if trace else 1
        self.block_bytes = packed.config.hidden * SPEC.word.tokens
        size = SPEC.row_blocks * self.block_bytes
        self.xrt = card.slot(unit, size, size * self.layers)
        self.table, self.status = self.xrt.table, self.xrt.status
        self.input, self.output = self.xrt.input.view(np.int8), self.xrt.output.view(np.int8)

    def fill(self, launch: Launch) -> None:
        """Write the launch table and the words, in place."""
        self.table[:] = encode_launch(self.packed, launch, self.trace).reshape(-1)
        shape = (launch.row_blocks, self.packed.config.hidden, SPEC.word.tokens)
        to_words(launch.rows, out=self.input[: launch.row_blocks * self.block_bytes].reshape(shape))

    def send(self, launch: Launch) -> None:
        self.xrt.send(launch.row_blocks * self.block_bytes)

    def start(self) -> None:
        self.running = True
        self.xrt.start()

    def wait(self, seconds: float) -> bool:
        """Whether the run has ended. Raises the extension's CardError when it failed, and so has ended, too."""
        try:
            ended = self.xrt.wait(seconds)
        except Exception:
            self.running = False
            raise
        self.running = not ended
        return ended

    def size(self, launch: Launch) -> int:
        """Bytes of its output."""
        return launch.row_blocks * self.block_bytes * self.layers

    def fetch(self, launch: Launch) -> None:
        self.xrt.fetch(self.size(launch))

    def check(self) -> int:
        """Clock cycles of the engine, from the status. Raises as `check_answer`."""
        return int(check_answer(self.status.tobytes(), self.unit)["engine_cycles"])

    def rows(self, launch: Launch) -> np.ndarray:
        """What was fetched: [layers, rows, hidden] int8, perhaps the buffer itself."""
        shape = (self.layers, launch.row_blocks, self.packed.config.hidden, SPEC.word.tokens)
        return from_words(self.output[: self.size(launch)].reshape(shape))
