"""What travels through a pipeline: launches, the buffers they use, and the times they took."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bertile.config.spec import load_spec
from bertile.devices.launch import Launch, encode_launches, from_words, to_words
from bertile.errors import DeviceError
from bertile.pack.packer import PackedModel
from bertile.runtime.card import ZEROS, Card, check_answers

SPEC = load_spec()
SHARING = SPEC.cooperation.units  # of which each computes a part of a shared launch
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
    one ran it, or all with a + between them; engine_cycles: of the slowest unit, 0 where they are not counted."""

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
    """The buffers of a unit and its run. They are as large as launches on this unit alone need, in `layers` layers."""

    def __init__(self, card: Card, unit: Any, packed: PackedModel, layers: int):
        self.unit, self.running = unit.instance, False
        size = SPEC.row_blocks * packed.config.hidden * SPEC.word.tokens
        self.xrt = card.slot(unit, size, size * layers)
        self.table, self.status = self.xrt.table, self.xrt.status
        self.input, self.output = self.xrt.input.view(np.int8), self.xrt.output.view(np.int8)

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

    def has_begun(self) -> bool:
        """Whether the unit has left a mark of its run. Asks the card, and raises the extension's CardError."""
        self.xrt.fetch(0)
        return self.status.tobytes() != ZEROS


class Team:
    """A slot of the unit that runs a launch, or of each of the units that run it together, and who has which words.

    Buffers have words [blocks, features, 32] int8 in the order of the packed images, those of unit 0 first.
    """

    def __init__(self, slots: tuple[Slot, ...], packed: PackedModel, trace: bool):
        """Of several slots the file must have the programs."""
        self.slots, self.packed, self.trace = slots, packed, trace
        self.name = "+".join(slot.unit for slot in slots)
        self.layers = packed.config.layers if trace else 1
        spans = [slice(0, packed.config.hidden)]
        if len(slots) > 1:
            spans = [packed.features(unit) for unit in range(len(slots))]
        self.features = [span.stop - span.start for span in spans]
        order = packed.feature_order()
        self.orders = None if order is None else [order[span] for span in spans]
        self.places = None if order is None else np.argsort(order)  # of the model's features in the images
        self.starts = [0.0]

    def fill(self, launch: Launch) -> None:
        """Write the launch tables and the words, in place."""
        tables = encode_launches(self.packed, launch, self.trace, len(self.slots))
        for slot, table in zip(self.slots, tables, strict=True):
            slot.table[:] = table.reshape(-1)
        inputs = [words[0] for words in self._words("input", launch, 1)]
        if self.orders is None:
            to_words(launch.rows, out=inputs[0])
            return
        words = to_words(launch.rows)
        for order, target in zip(self.orders, inputs, strict=True):
            np.take(words, order, axis=1, out=target, mode="clip")  # "raise" would go through one more buffer

    def _words(self, buffer: str, launch: Launch, layers: int) -> list[np.ndarray]:
        """Each unit's words in its input or output buffer: [layers, row_blocks, features, 32] int8."""
        found = []
        for slot, features in zip(self.slots, self.features, strict=True):
            shape = (layers, launch.row_blocks, features, SPEC.word.tokens)
            found.append(getattr(slot, buffer)[: math.prod(shape)].reshape(shape))
        return found

    def send(self, launch: Launch) -> None:
        for slot, words in zip(self.slots, self._words("input", launch, 1), strict=True):
            slot.xrt.send(words.size)

    def start(self) -> None:
        """Queue the run on every unit."""
        self.starts = []
        for slot in self.slots:
            self.starts.append(time.perf_counter())
            slot.start()

    def wait(self, seconds: float) -> bool:
        """Whether every unit has ended. Raises as `Slot.wait`."""
        until = time.perf_counter() + seconds
        return all(slot.wait(max(0.0, until - time.perf_counter())) for slot in self.slots)

    @property
    def run_seconds(self) -> float:
        """From the first start to the last end."""
        ends = [start + slot.xrt.run_seconds for start, slot in zip(self.starts, self.slots, strict=True)]
        return max(ends) - self.starts[0]

    def fetch(self, launch: Launch) -> None:
        for slot, words in zip(self.slots, self._words("output", launch, self.layers), strict=True):
            slot.xrt.fetch(words.size)

    def check(self) -> int:
        """Clock cycles of the slowest engine. Raises as `check_answers`."""
        records = check_answers({slot.unit: slot.status.tobytes() for slot in self.slots})
        return max(int(record["engine_cycles"]) for record in records)

    def rows(self, launch: Launch) -> np.ndarray:
        """What was fetched: [layers, rows, hidden] int8 in the model's order, perhaps the buffer itself."""
        words = self._words("output", launch, self.layers)
        whole = words[0] if len(words) == 1 else np.concatenate(words, axis=2)
        return from_words(whole if self.places is None else whole[..., self.places, :])

    def clear_status(self) -> None:
        """So that a run that leaves none is noticed, and one that never begins."""
        for slot in self.slots:
            slot.xrt.clear_status()


def can_share(packed: PackedModel, units: int, together: bool | None) -> bool:
    """Whether launches on a card of so many units may take all of them. together: None as it can be, or as it must be.

    Raises CapacityError for a file, DeviceError for a card that cannot although it must.
    """
    if together:
        packed.variant(1, SHARING)
        if units != SHARING:
            raise DeviceError(f"this file was packed for {SHARING} units; the card has {units}")
    return together is not False and packed.deal is not None and units == SHARING
