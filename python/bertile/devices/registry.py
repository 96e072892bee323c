"""Where an encoder can run. Every device has the interface of `Device` and gives the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from bertile.devices.csim import CsimEncoder
from bertile.devices.rtl import RtlEncoder
from bertile.errors import BertileError
from bertile.pack.packer import PackedModel, unpack_encoder

DEVICES = ("integer", "csim", "rtl", "xrt")


class Device(Protocol):
    """A packed encoder, ready to run. One that counts clock cycles has those of its last launch in `cycles`; one with
    several units has their number in `units`, and `run` takes them in turn; one that runs several launches at once has
    `stream`; one that holds something has `close`."""

    name: str

    def run(self, sequences: list[np.ndarray]) -> np.ndarray:
        """[layers, rows, hidden] int8 of one launch of sequences [tokens, hidden] int8."""


@dataclass(frozen=True)
class DeviceOptions:
    """What some devices can be told. waves, wave_layer: as `RtlEncoder`; xclbin, card, timeout_s: as
    `bertile.runtime.Encoder`; units: how many run a launch together.
    """

    waves: Path | None = None
    wave_layer: int | None = None
    xclbin: Path | None = None
    card: int | None = None
    timeout_s: float | None = None
    units: int = 1

    def check(self, device: str) -> None:
        """Raise BertileError for an option that the device does not have."""
        if self.wave_layer is not None and self.waves is None:
            raise BertileError("--wave-layer goes with --waves")
        if self.waves is not None and device != "rtl":
            raise BertileError("--waves goes with --device rtl")
        if device != "xrt" and (self.xclbin, self.card, self.timeout_s) != (None, None, None):
            raise BertileError("--xclbin, --card and --timeout go with --device xrt")
        if device not in ("csim", "rtl", "xrt") and self.units != 1:
            raise BertileError("--units goes with --device csim, rtl or xrt")


def open_device(name: str, packed: PackedModel, options: DeviceOptions | None = None) -> Device:
    """The device of that name. Raises BertileError for an unknown one, DeviceError when it cannot be made."""
    options = options or DeviceOptions()
    options.check(name)
    if name == "integer":
        from bertile.golden.integer import (
            IntegerEncoder,  # here: that module lays out launches with bertile.devices.launch
        )

        return IntegerEncoder(unpack_encoder(packed))
    if name == "csim":
        return CsimEncoder(packed, units=options.units)
    if name == "rtl":
        return RtlEncoder(packed, options.waves, options.wave_layer or 0, options.units)
    if name == "xrt":
        from bertile.runtime.device import XrtEncoder  # here: it needs more than the others

        packed.variant(1, options.units)
        return XrtEncoder(packed, options.xclbin, options.card or 0, options.timeout_s, together=options.units > 1)
    raise BertileError(f"unknown device {name!r}; choose one of {', '.join(DEVICES)}")


def close_device(device: Device) -> None:
    """Give back what the device holds."""
    close = getattr(device, "close", None)
    if close is not None:
        close()


@contextmanager
def opened_device(name: str, packed: PackedModel, options: DeviceOptions | None = None) -> Iterator[Device]:
    """`open_device`, closed at the end."""
    device = open_device(name, packed, options)
    try:
        yield device
    finally:
        close_device(device)
