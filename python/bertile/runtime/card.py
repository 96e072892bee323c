"""A card with Bertile on it: found, locked, checked against the contract, and probed."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bertile.config.kernels import ENCODER, load_kernels
from bertile.config.spec import load_spec
from bertile.devices.launch import check_statuses
from bertile.emulation.control import power_off
from bertile.errors import DeviceError
from bertile.pack.packer import PackedModel
from bertile.runtime import lifetime
from bertile.runtime.extension import find_xclbin, load_extension, prepare_environment
from bertile.runtime.lifetime import interrupts_deferred

SPEC = load_spec()
ONES, ZEROS = b"\xff" * SPEC.packet.beat_bytes, bytes(SPEC.packet.beat_bytes)
IMAGES = ("program", "weights", "parameters")
# Seconds for runs to end once an emulated card has lost its power.
POWER_OFF_SECONDS = 10.0
LOCK_FOLDER = Path("/tmp")
WAIT_SECONDS = 0.05  # between looks at whether to go on waiting
LONGEST_SECONDS = 86400.0
# Emulated launches take as long as their simulation.
CARD_SECONDS, EMULATED_SECONDS = 10.0, 600.0


class CardLostError(DeviceError):
    """The card is of no use any more."""


@dataclass(frozen=True)
class CardInfo:
    """What was opened. emulated: there is no board behind it."""

    name: str
    address: str
    xclbin: Path
    emulated: bool
    units: tuple[str, ...]


class CardLock:
    """One process a card: a file that says whose it is, locked as long as the card is open."""

    def __init__(self, path: Path):
        """Raises DeviceError naming the process that has the card."""
        self.file = open_lock(path)
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.pread(self.file, 32, 0).decode(errors="replace").strip()
            os.close(self.file)
            mine = " (this one: close its other Encoder first)" if owner == str(os.getpid()) else ""
            raise DeviceError(f"the card is in use by process {owner or '(unknown)'}{mine}") from None
        with suppress(OSError):  # another user's file: then it names nobody
            os.ftruncate(self.file, 0)
            os.pwrite(self.file, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Unlock: a forked process may have the file open, too."""
        fcntl.flock(self.file, fcntl.LOCK_UN)
        os.close(self.file)


def open_lock(path: Path) -> int:
    """A descriptor of a file that every user may lock. Raises DeviceError."""
    try:
        try:
            return os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except PermissionError:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            os.fchmod(file, 0o666)
            return file
    except OSError as error:
        raise DeviceError(f"the card cannot be locked: {path}: {error.strerror}") from None


def lock_path(xclbin: Path, index: int, emulated: bool) -> Path:
    """Beside an emulated card's xclbin, which is the card; in a folder that all users share for a board's index."""
    return xclbin.parent / "card.lock" if emulated else LOCK_FOLDER / f"bertile-card-{index}.lock"


class Card:
    """An open card whose units have proved that they were built for this program's spec."""

    def __init__(self, xclbin: Path | None = None, index: int = 0, timeout_s: float | None = None):
        """xclbin: as `find_xclbin`; timeout_s: of one launch, None for a usual value.

        Raises DeviceError: no XRT, no card, card in use, another program's xclbin, another spec.
        """
        if timeout_s is not None and not 0 < timeout_s <= LONGEST_SECONDS:
            raise DeviceError(f"a timeout of {timeout_s:g} s: it must be above 0 and at most {LONGEST_SECONDS:g}")
        xclbin = find_xclbin(xclbin)
        header = prepare_environment(xclbin)
        emulated = header.mode != "hw"
        self.extension = load_extension()
        self.timeout_s = timeout_s or (EMULATED_SECONDS if emulated else CARD_SECONDS)
        self.card, self.units, self.given_up, self.process = None, [], False, os.getpid()
        self.start_order = threading.Lock()  # held while a launch is started on its units
        self.lock = CardLock(lock_path(xclbin, index, emulated))
        try:
            self.card = card = self._open(index, xclbin, emulated)
            self.info = CardInfo(card.name, card.address, xclbin, emulated, tuple(card.instances(ENCODER)))
            for name in self.info.units:
                self.units.append(self._call(self.extension.Unit, card, ENCODER, name))
                self._probe(self.units[-1])
        except BaseException:
            with interrupts_deferred():
                self.close()
            raise
        lifetime.cards.add(self)

    def _call(self, function, *arguments):
        """An XRT call with its error as a DeviceError."""
        try:
            return function(*arguments)
        except self.extension.CardError as error:
            raise DeviceError(str(error)) from None

    def _open(self, index: int, xclbin: Path, emulated: bool):
        cards = 1 if emulated else self._call(self.extension.count_cards)
        if index >= cards:
            raise DeviceError(f"no card {index}: XRT finds {cards} in this machine")
        card = self._call(self.extension.Card, index, str(xclbin))
        expected = [argument.name for argument in load_kernels()[ENCODER].arguments]
        found = card.arguments(ENCODER)
        if not found or not card.instances(ENCODER):
            raise DeviceError(f"{xclbin}: not Bertile's, it has no kernel {ENCODER}")
        if found[: len(expected)] != expected:
            raise DeviceError(f"{xclbin}: {ENCODER} has the arguments {', '.join(found)}, not {', '.join(expected)}")
        return card

    def load(self, packed: PackedModel) -> None:
        """Copy a model to the memory bank of every unit. Raises DeviceError when it does not fit."""
        for unit in self.units:
            for image in IMAGES:
                data = np.ascontiguousarray(getattr(packed, image)).reshape(-1)
                self._call(unit.load, getattr(self.extension.EncoderArgument, image), data)

    def slot(self, unit, input_bytes: int, output_bytes: int):
        """Buffers of a launch on a unit. Raises DeviceError when they do not fit."""
        return self._call(self.extension.Slot, unit, input_bytes, output_bytes)

    def _probe(self, unit) -> None:
        """Run an empty program: kernel and engine answer with their spec. Raises DeviceError for another one."""
        beat = SPEC.packet.beat_bytes
        for image in IMAGES:
            self._call(unit.load, getattr(self.extension.EncoderArgument, image), np.zeros(beat, np.uint8))
        slot = self.slot(unit, beat, beat)
        running = False
        try:
            slot.table[:] = np.frombuffer(empty_launch(), np.uint8)
            self._call(slot.send, beat)
            running = True
            self._call(slot.start)
            limit = time.monotonic() + self.timeout_s
            while not self._call(slot.wait, WAIT_SECONDS):
                if time.monotonic() > limit:
                    late = f"{unit.instance} does not answer: no end after {self.timeout_s:g} s"
                    raise DeviceError(late + self.advice)
            running = False
            self._call(slot.fetch, beat)
            check_answers({unit.instance: slot.status.tobytes()})
        finally:
            with interrupts_deferred():
                if running:
                    self.stop([slot])
                self.close_slots([slot])

    @property
    def advice(self) -> str:
        """What to do about a unit that does not finish."""
        return "" if self.info.emulated else f"; reset the card: xbutil reset --device {self.info.address}"

    def stop(self, unfinished: list) -> None:
        """Deal with runs (slots) that do not end: an emulated card loses its power, which ends them; those of a board
        are left alone, and with them everything of this card."""
        if self.info.emulated:
            power_off()
        deadline = time.monotonic() + (POWER_OFF_SECONDS if self.info.emulated else 0.0)
        for slot in unfinished:
            with suppress(self.extension.CardError):  # it ended, if badly
                self.given_up |= not slot.wait(max(0.0, deadline - time.monotonic()))

    def close_slots(self, slots: list) -> None:
        """Free buffers (XRT slots), or keep them for ever on a card that was given up."""
        if self.given_up:
            self.leak_objects(slots)
            return
        for slot in slots:
            slot.close()

    def leak_objects(self, objects: list) -> None:
        """Never destroy these objects of XRT: with a run that has not ended, that aborts the process."""
        for entry in objects:
            self.extension.leak(entry)

    def leak(self) -> None:
        """Never give the card back."""
        self.leak_objects([*self.units, *([self.card] if self.card is not None else [])])

    def close(self) -> None:
        """Give everything back, after the pipelines; a second call does nothing, nor does one in a forked process."""
        lock, self.lock = self.lock, None
        if lock is None or os.getpid() != self.process:
            return
        if self.given_up:
            self.leak()
        else:
            for unit in self.units:
                unit.close()
            if self.card is not None:
                self.card.close()
        self.card, self.units = None, []
        lifetime.cards.discard(self)
        lock.release()


def empty_launch() -> bytes:
    """A launch table of one token, for a program that has nothing but its end."""
    header = SPEC.records["launch"].encode(
        magic=SPEC.contract.program_magic, spec_digest=SPEC.digest_word, hidden=1, row_blocks=1, sequences=1
    )
    entry = SPEC.records["launch_sequence"].encode(row_first=0, tokens=1)
    return header + entry.ljust(SPEC.packet.beat_bytes, b"\0")


def check_answers(statuses: dict[str, bytes]) -> list[np.void]:
    """The decoded status beat of each unit that ran a launch. Raises CardLostError for one that no kernel wrote,
    DeviceError for what one says: with several units, of the one to blame."""
    for unit, status in statuses.items():
        if status == ONES:
            raise CardLostError(f"the card was lost: {unit} answers with ones only, as an empty PCIe slot does")
        if status == ZEROS or SPEC.records["status"].decode(status)[0]["error"] == SPEC.error.running:
            raise CardLostError(f"{unit} ended without leaving a status")
    return check_statuses(list(statuses.values()), list(statuses))
