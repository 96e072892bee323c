"""A card without XRT: units whose runs end when the test says so."""

from __future__ import annotations

import threading
import time

import numpy as np

from bertile.config.spec import load_spec
from bertile.runtime.card import ZEROS

SPEC = load_spec()


class FakeError(RuntimeError):
    """In place of the extension's CardError."""


def status(error: int = SPEC.error.none, cycles: int = 0) -> bytes:
    """A status beat as a kernel leaves it."""
    return SPEC.records["status"].encode(spec_digest=SPEC.digest_word, error=error, engine_cycles=cycles)


class FakeSlot:
    """An XRT slot of a unit that behaves as the `FakeUnit` says."""

    def __init__(self, unit: FakeUnit, input_bytes: int, output_bytes: int):
        self.unit, self.on_card, self.run_seconds = unit, ZEROS, 0.001
        self.table, self.status = np.zeros(128, np.uint8), np.zeros(SPEC.packet.beat_bytes, np.uint8)
        self.input, self.output = np.zeros(input_bytes, np.uint8), np.zeros(output_bytes, np.uint8)

    def send(self, size: int) -> None:
        self.unit.sent.append(size)

    def start(self) -> None:
        if self.unit.broken:
            raise FakeError(f"starting {self.unit.instance}: broken")
        with self.unit.card.changed:
            self.unit.card.starts.append(self.unit.instance)
            self.unit.card.changed.notify_all()
        self.on_card = self.unit.begun
        time.sleep(0.001)  # another thread has its turn

    def wait(self, seconds: float) -> bool:
        return self.unit.ended.wait(seconds)

    def fetch(self, size: int) -> None:
        if self.unit.silent:
            raise FakeError("silent")
        if self.unit.ended.is_set():
            self.on_card = self.unit.ending
        self.status[:] = np.frombuffer(self.on_card, np.uint8)

    def clear_status(self) -> None:
        time.sleep(self.unit.clearing)
        self.on_card = ZEROS

    def close(self) -> None:
        pass


class FakeUnit:
    """begun, ending: the status of a run before and after its end; clearing: seconds that its removal takes."""

    def __init__(self, card: FakeCard, instance: str):
        self.card, self.instance, self.ended = card, instance, threading.Event()
        self.begun, self.ending = status(SPEC.error.running), status()
        self.broken, self.silent, self.clearing = False, False, 0.0
        self.sent: list[int] = []


class FakeCard:
    """In place of `bertile.runtime.card.Card`, for a pipeline."""

    class extension:
        CardError = FakeError

    advice, given_up = "", False

    def __init__(self, units: int = 3, timeout_s: float = 5.0):
        self.timeout_s, self.starts, self.changed = timeout_s, [], threading.Condition()
        self.start_order = threading.Lock()
        self.units = [FakeUnit(self, f"encoder_{number}") for number in range(1, units + 1)]

    def slot(self, unit: FakeUnit, input_bytes: int, output_bytes: int) -> FakeSlot:
        return FakeSlot(unit, input_bytes, output_bytes)

    def await_starts(self, count: int) -> list[str]:
        """The units that were started, in order, once there are so many."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.starts) >= count, 5), self.starts
            return list(self.starts)

    def end(self, *instances: str) -> None:
        """Runs of these units end, those under way and those to come; of all units if none is named."""
        for unit in self.units:
            if not instances or unit.instance in instances:
                unit.ended.set()

    def stop(self, unfinished: list) -> None:
        self.end()
        for slot in unfinished:
            slot.wait(0)

    def close_slots(self, slots: list) -> None:
        pass

    def leak_objects(self, objects: list) -> None:
        pass
