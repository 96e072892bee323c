"""A card with Bertile on it: found, locked, checked against the contract, and probed."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bertile.config.kernels import ENCODER, load_kernels
from bertile.config.spec import load_spec
from bertile.devices.launch import check_status
from bertile.emulation.control import power_off
from bertile.errors import DeviceError
from bertile.pack.packer import PackedModel
from bertile.runtime.extension import find_xclbin, load_extension, prepare_environment

SPEC = load_spec()
ONES, ZEROS = b"\xff" * SPEC.packet.beat_bytes, bytes(SPEC.packet.beat_bytes)
IMAGES = ("program", "weights", "parameters")
# Seconds for runs to end once an emulated card has lost its power.
POWER_OFF_SECONDS = 10.0
# XRT can neither stop a run nor free what belongs to it: what a board did not finish stays as it is until the process
# ends.
abandoned: list[object] = []
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
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.pread(self.file, 32, 0).decode(errors="replace").strip()
            os.close(self.file)
            raise DeviceError(f"the card is in use by process {owner or '(unknown)'}") from None
        os.ftruncate(self.file, 0)
        os.pwrite(self.file, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        os.close(self.file)


def lock_path(xclbin: Path, index: int, emulated: bool) -> Path:
    """Beside an emulated card's xclbin, which is the card; in the folder for temporary files for a board's index."""
    if emulated:
        return xclbin.parent / "card.lock"
    return Path(tempfile.gettempdir()) / f"bertile-card-{index}.lock"


class Card:
    """An open card whose units have proved that they were built for this program's spec."""

    def __init__(self, xclbin: Path | None = None, index: int = 0, timeout_s: float | None = None):
        """xclbin: as `find_xclbin`; timeout_s: of one launch, None for a usual value.

        Raises DeviceError: no XRT, no card, card in use, another program's xclbin, another spec.
        """
        xclbin = find_xclbin(xclbin)
        header = prepare_environment(xclbin)
        emulated = header.mode != "hw"
        self.extension = load_extension()
        self.timeout_s = timeout_s or (EMULATED_SECONDS if emulated else CARD_SECONDS)
        self.card, self.units, self.given_up = None, [], False
        self.lock = CardLock(lock_path(xclbin, index, emulated))
        try:
            self.card = card = self._open(index, xclbin, emulated)
            self.info = CardInfo(card.name, card.address, xclbin, emulated, tuple(card.instances(ENCODER)))
            for name in self.info.units:
                self.units.append(self._call(self.extension.Unit, card, ENCODER, name))
                self._probe(self.units[-1])
        except BaseException:
            self.close()
            raise

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
        try:
            slot.table[:] = np.frombuffer(empty_launch(), np.uint8)
            self._call(slot.send, beat)
            self._call(slot.start)
            if not self._call(slot.wait, self.timeout_s):
                self.stop([slot])
                raise DeviceError(f"{unit.instance} does not answer: no end after {self.timeout_s:g} s{self.advice}")
            self._call(slot.fetch, beat)
            check_answer(slot.status.tobytes(), unit.instance)
        finally:
            self.close_slots([slot])

    @property
    def advice(self) -> str:
        """What to do about a unit that does not finish."""
        return "" if self.info.emulated else f"; reset the card: xbutil reset --device {self.info.address}"

    def stop(self, unfinished: list) -> None:
        """Deal with runs (XRT slots) that do not end: an emulated card loses its power, which ends them; those of a
        board are left alone, and with them everything of this card."""
        if self.info.emulated:
            power_off()
            deadline = time.monotonic() + POWER_OFF_SECONDS
            unfinished = [slot for slot in unfinished if not slot.wait(max(0.0, deadline - time.monotonic()))]
        if unfinished:
            self.given_up = True

    def close_slots(self, slots: list) -> None:
        """Free buffers (XRT slots), or keep them as they are on a card that was given up."""
        if self.given_up:
            abandoned.extend(slots)
            return
        for slot in slots:
            slot.close()

    def close(self) -> None:
        """Give everything back, after the pipelines; a second call does nothing."""
        if self.given_up:
            abandoned.extend([*self.units, self.card])
        else:
            for unit in self.units:
                unit.close()
            if self.card is not None:
                self.card.close()
        self.card, self.units = None, []
        if self.lock is not None:
            self.lock.release()
            self.lock = None


def empty_launch() -> bytes:
    """A launch table of one token, for a program that has nothing but its end."""
    header = SPEC.records["launch"].encode(
        magic=SPEC.contract.program_magic, spec_digest=SPEC.digest_word, hidden=1, row_blocks=1, sequences=1
    )
    entry = SPEC.records["launch_sequence"].encode(row_first=0, tokens=1)
    return header + entry.ljust(SPEC.packet.beat_bytes, b"\0")


def check_answer(status: bytes, unit: str) -> np.void:
    """The decoded status beat. Raises CardLostError for one that no kernel wrote, DeviceError for what one says."""
    if status == ONES:
        raise CardLostError(f"the card was lost: {unit} answers with ones only, as an empty PCIe slot does")
    if status == ZEROS:
        raise CardLostError(f"{unit} ended without leaving a status")
    return check_status(status)
