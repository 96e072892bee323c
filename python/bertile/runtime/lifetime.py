"""What must happen to an open card when its process forks, is interrupted or ends.

XRT's objects may neither be destroyed while a run is under way nor be used, or destroyed, in a forked process.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol
from weakref import WeakSet


class Resource(Protocol):
    """Something that holds XRT objects."""

    def close(self) -> None:
        """Give them back."""

    def leak(self) -> None:
        """Never destroy them."""


# In the order in which they are to be closed.
pipelines: WeakSet[Resource] = WeakSet()
cards: WeakSet[Resource] = WeakSet()


@atexit.register
def close_all() -> None:
    """At the end of the process: its threads must not be inside XRT when the interpreter goes."""
    for resource in [*pipelines, *cards]:
        resource.close()


def leak_all() -> None:
    """In a forked process: the card is its parent's."""
    for resource in [*pipelines, *cards]:
        resource.leak()
    pipelines.clear()
    cards.clear()


os.register_at_fork(after_in_child=leak_all)


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """An interrupt waits until the block has ended: half of a closed card would be worse than a few seconds."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.SIG_DFL)
    if came:
        raise KeyboardInterrupt
