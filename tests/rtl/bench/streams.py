"""The two ends of an AXI4-Stream, a step a clock cycle, with pauses and with checks of the protocol.

A step is taken at the falling edge: what it reads is what the next rising edge sees. It so relies on outputs that come
from registers, which is what the engine promises of its ports.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

PAUSES = ("none", "rare", "often", "bursts")


def handles(dut, name: str) -> list:
    """Data, valid and ready of a stream; `name` is what stands before these words."""
    return [getattr(dut, name + end) for end in ("data", "valid", "ready")]


class Pauses:
    """When one end of a stream does nothing: `kind` is one of `PAUSES`."""

    def __init__(self, kind: str, random: random.Random) -> None:
        self._random = random
        self._share = {"none": 0.0, "rare": 0.05, "often": 0.6, "bursts": None}[kind]
        self._left, self._pausing = 0, False

    def __call__(self) -> bool:
        if self._share is not None:
            return self._random.random() < self._share
        if self._left == 0:
            self._pausing = not self._pausing
            self._left = self._random.randint(1, 60 if self._pausing else 25)
        self._left -= 1
        return self._pausing


class Source:
    """Sends `queue`. Data are noise while valid is low."""

    def __init__(self, dut, name: str, pauses: Pauses, random: random.Random, ready_to_send: Callable | None = None):
        self._data, self._valid, self._ready = handles(dut, name)
        self._pauses, self._random = pauses, random
        self._may_send = ready_to_send or (lambda: True)
        self._bits = len(self._data)
        self.queue: deque[int] = deque()
        self.sent = 0
        self.is_offering = self._taken = False

    def reset(self) -> None:
        self.is_offering = self._taken = False
        self.queue.clear()
        self._valid.value = 0
        self._data.value = self._random.getrandbits(self._bits)

    def step(self) -> bool:
        """Whether something is handed over at the next rising edge."""
        if self._taken or not self.is_offering:
            was_offering = self.is_offering
            self.is_offering = bool(self.queue) and not self._pauses() and self._may_send()
            if self.is_offering:
                self._valid.value = 1
                self._data.value = self.queue[0]
            elif was_offering:
                self._valid.value = 0
                self._data.value = self._random.getrandbits(self._bits)
        self._taken = self.is_offering and bool(int(self._ready.value))
        if self._taken:
            self.queue.popleft()
            self.sent += 1
        return self._taken


class Sink:
    """Takes what comes, and checks that what was offered stays until it is taken."""

    def __init__(self, dut, name: str, pauses: Pauses, may_accept: Callable | None = None) -> None:
        self._name = name
        self._data, self._valid, self._ready = handles(dut, name)
        self._pauses = pauses
        self._may_accept = may_accept or (lambda: True)
        self._offered: int | None = None
        self._is_ready: bool | None = None

    def reset(self) -> None:
        self._offered = None
        self._set_ready(False)

    def _set_ready(self, ready: bool) -> None:
        self._is_ready = ready
        self._ready.value = int(ready)

    def step(self) -> int | None:
        """What is handed over at the next rising edge."""
        ready = not self._pauses() and self._may_accept()
        if ready != self._is_ready:
            self._set_ready(ready)
        valid = self._valid.value
        assert valid.is_resolvable, f"{self._name}: valid is {valid}"
        if not valid:
            assert self._offered is None, f"{self._name}: valid fell before ready"
            return None
        data = int(self._data.value)
        assert self._offered in (None, data), f"{self._name}: data changed before ready"
        self._offered = None if ready else data
        return data if ready else None
