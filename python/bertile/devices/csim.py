"""The C-simulated accelerator: the HLS kernels, compiled with g++, behind the interface of every device."""

from __future__ import annotations

import ctypes
from functools import lru_cache

import numpy as np

from bertile.config.spec import load_spec
from bertile.devices.build import build_library
from bertile.devices.launch import Buffers, SharedLaunch, lay_out
from bertile.errors import DeviceError
from bertile.pack.packer import PackedModel

SPEC = load_spec()
# Longest stretch without a word moving on any stream before the simulation calls it a deadlock.
DEADLOCK_SECONDS = 20.0


@lru_cache(maxsize=1)
def load_library() -> ctypes.CDLL:
    """Build (if need be) and load the library. Raises DeviceError."""
    library = ctypes.CDLL(str(build_library()))
    library.bertile_csim_spec_digest.restype = ctypes.c_uint64
    library.bertile_csim_launch.argtypes = [ctypes.POINTER(Buffers), ctypes.c_size_t, ctypes.c_int, ctypes.c_double,
                                            ctypes.c_char_p, ctypes.c_size_t]  # fmt: skip
    if library.bertile_csim_spec_digest() != SPEC.digest_word:
        raise DeviceError("the C-simulation was built for another spec; run `make spec csim`")
    return library


class CsimEncoder:
    """The packed encoder on C-simulated compute units: bounded blocking streams, one thread a stage."""

    name = "csim"

    def __init__(self, packed: PackedModel, late_words: bool = False, units: int = 1):
        """late_words: hold each word back until the engine waits for one, which shows a missing wait.

        units: how many run a launch together. Raises CapacityError for a file without their programs.
        """
        self.packed, self.late_words, self.team = packed, late_words, units
        packed.variant(1, units)
        self.library = load_library()

    def run(self, sequences: list[np.ndarray]) -> np.ndarray:
        """Every layer's output: [layers, rows, hidden] int8 for sequences [tokens, hidden] int8, padding rows too.

        Raises DeviceError with a kernel's error, or with the waiting streams of a deadlock.
        """
        launch = lay_out(sequences)
        shared = SharedLaunch(self.packed, launch, self.team)
        error = ctypes.create_string_buffer(4096)
        failed = self.library.bertile_csim_launch(
            shared.buffers, self.team, int(self.late_words), DEADLOCK_SECONDS, error, len(error)
        )
        if failed:
            raise DeviceError(f"C-simulation: {error.value.decode()}")
        return shared.result()
