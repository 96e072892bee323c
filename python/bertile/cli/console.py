"""What every command shares: progress on stderr, one-line errors, JSON on stdout."""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from bertile.inference import Progress as ProgressFunction

# No markup: brackets in texts, paths and names are themselves.
output = Console(soft_wrap=True, markup=False)
messages = Console(stderr=True, soft_wrap=True, markup=False)
SHOW_AFTER_SECONDS = 2.0


def warn(message: str) -> None:
    """A one-line note that is not an error."""
    messages.print(f"note: {message}", highlight=False, markup=False)


def print_json(data: dict) -> None:
    """One JSON object on stdout, and nothing else there."""
    sys.stdout.write(json.dumps(data, indent=2) + "\n")


@contextmanager
def progress_bar(description: str) -> Iterator[ProgressFunction]:
    """A function (done, total) that draws a bar on stderr once the work has taken two seconds."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=messages, transient=True, disable=not messages.is_terminal)
    task = bar.add_task(description, total=None)
    begin = time.monotonic()

    def update(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)
        if not bar.live.is_started and time.monotonic() - begin > SHOW_AFTER_SECONDS and done < total:
            bar.start()

    try:
        yield update
    finally:
        if bar.live.is_started:
            bar.stop()


@contextmanager
def library_output_aside() -> Iterator[None]:
    """Send to stderr what libraries print on stdout, which is ours: XRT's emulation does."""
    sys.stdout.flush()
    try:
        standard = os.dup(1)
    except OSError:  # closed
        yield
        return
    os.dup2(2, 1)
    try:
        yield
    finally:
        ctypes.CDLL(None).fflush(None)  # what they printed so far
        os.dup2(standard, 1)
        os.close(standard)


@contextmanager
def working(description: str) -> Iterator[None]:
    """A spinner on stderr around a step that cannot count."""
    with messages.status(Text(description)):
        yield
