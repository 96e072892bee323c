"""Where an encoder can run. Every device has the interface of `Device` and gives the same bits."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from bertile.devices.csim import CsimEncoder
from bertile.errors import BertileError
from bertile.pack.packer import PackedModel, unpack_encoder

DEVICES = ("integer", "csim")


class Device(Protocol):
    """A packed encoder, ready to run."""

    name: str

    def run(self, sequences: list[np.ndarray]) -> np.ndarray:
        """[layers, rows, hidden] int8 of one launch of sequences [tokens, hidden] int8."""


def open_device(name: str, packed: PackedModel) -> Device:
    """The device of that name. Raises BertileError for an unknown one, DeviceError when it cannot be made."""
    if name == "integer":
        from bertile.golden.integer import (
            IntegerEncoder,  # here: that module lays out launches with bertile.devices.launch
        )

        return IntegerEncoder(unpack_encoder(packed))
    if name == "csim":
        return CsimEncoder(packed)
    raise BertileError(f"unknown device {name!r}; choose one of {', '.join(DEVICES)}")
