"""Where an encoder can run. Every device has the interface of `Device` and gives the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from bertile.devices.csim import CsimEncoder
from bertile.devices.rtl import RtlEncoder
from bertile.errors import BertileError
from bertile.pack.packer import PackedModel, unpack_encoder

DEVICES = ("integer", "csim", "rtl")


class Device(Protocol):
    """A packed encoder, ready to run. One that counts clock cycles has those of its last launch in `cycles`."""

    name: str

    def run(self, sequences: list[np.ndarray]) -> np.ndarray:
        """[layers, rows, hidden] int8 of one launch of sequences [tokens, hidden] int8."""


def open_device(name: str, packed: PackedModel, waves: Path | None = None, wave_layer: int = 0) -> Device:
    """The device of that name. Raises BertileError for an unknown one, DeviceError when it cannot be made.

    waves, wave_layer: as `RtlEncoder`, for the device rtl alone.
    """
    if waves is not None and name != "rtl":
        raise BertileError("--waves goes with --device rtl")
    if name == "integer":
        from bertile.golden.integer import (
            IntegerEncoder,  # here: that module lays out launches with bertile.devices.launch
        )

        return IntegerEncoder(unpack_encoder(packed))
    if name == "csim":
        return CsimEncoder(packed)
    if name == "rtl":
        return RtlEncoder(packed, waves, wave_layer)
    raise BertileError(f"unknown device {name!r}; choose one of {', '.join(DEVICES)}")
