"""What a person would do to the card itself."""

from __future__ import annotations

import os
import signal
from pathlib import Path

CARD_PROGRAM = "genericpciemodel"


def card_processes() -> list[int]:
    """Process numbers of the emulated cards that this process has started."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        try:
            children = (task / "children").read_text().split()
        except OSError:  # a thread that has just ended
            continue
        for child in children:
            try:
                command = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[0].decode()
            except OSError:
                continue
            if Path(command).name == CARD_PROGRAM:
                found.append(int(child))
    return found


def power_off() -> None:
    """Take the power from this process's emulated card. The host sees a card that is gone, and every run ends."""
    for process in card_processes():
        os.kill(process, signal.SIGKILL)
