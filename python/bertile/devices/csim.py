"""The C-simulated accelerator: the HLS kernels, compiled with g++, behind the interface of every device."""

from __future__ import annotations

import ctypes
from functools import lru_cache

import numpy as np

from bertile.config.spec import load_spec
from bertile.devices.build import build_library
from bertile.devices.launch import check_status, encode_launch, from_words, lay_out, to_words
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
    buffers = [ctypes.c_void_p] * 7
    library.bertile_csim_launch.argtypes = [*buffers, ctypes.c_int, ctypes.c_double, ctypes.c_char_p, ctypes.c_size_t]
    if library.bertile_csim_spec_digest() != SPEC.digest_word:
        raise DeviceError("the C-simulation was built for another spec; run `make spec csim`")
    return library


class CsimEncoder:
    """The packed encoder on the C-simulated compute unit: bounded blocking streams, one thread a stage."""

    name = "csim"

    def __init__(self, packed: PackedModel, late_words: bool = False):
        """late_words: hold each word back until the engine waits for one, which shows a missing wait."""
        self.packed = packed
        self.late_words = late_words
        self.library = load_library()

    def run(self, sequences: list[np.ndarray]) -> np.ndarray:
        """Every layer's output: [layers, rows, hidden] int8 for sequences [tokens, hidden] int8, padding rows too.

        Raises DeviceError with the kernel's error, or with the waiting streams of a deadlock.
        """
        launch = lay_out(sequences)
        config = self.packed.config
        table = encode_launch(self.packed, launch, trace=True)
        words = to_words(launch.rows)
        output = np.zeros((config.layers, *words.shape), np.int8)
        status = np.zeros(SPEC.packet.beat_bytes, np.uint8)
        arrays = [self.packed.program, self.packed.weights, self.packed.parameters, table, words, output, status]
        error = ctypes.create_string_buffer(4096)
        failed = self.library.bertile_csim_launch(
            *(array.ctypes.data for array in arrays), int(self.late_words), DEADLOCK_SECONDS, error, len(error)
        )
        if failed:
            raise DeviceError(f"C-simulation: {error.value.decode()}")
        check_status(status.tobytes())
        return from_words(output)
