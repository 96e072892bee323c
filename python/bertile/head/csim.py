"""The C-simulated head: its kernel on the encoder's output words, and hls4ml's network alone."""

from __future__ import annotations

import ctypes

import numpy as np

from bertile.config.spec import load_spec
from bertile.devices.launch import Launch, batch_launches, check_status, encode_launch, lay_out, to_words
from bertile.devices.registry import Device
from bertile.errors import DeviceError, FormatError
from bertile.head.build import build_head
from bertile.head.fixed import INPUT_FRACTION, LOGIT_FRACTION, quantize_head
from bertile.head.folder import NETWORK
from bertile.head.model import Head
from bertile.inference import Progress, embed_tokens, no_progress, stream_launches
from bertile.pack.packer import PackedModel

SPEC = load_spec()
STATUS_DIGEST_BYTES = 8


class HeadSimulation:
    """The kernel of a head, for the scales of one packed model, built if need be."""

    def __init__(self, head: Head, packed: PackedModel):
        """Raises FormatError for a head of another width, CapacityError, DeviceError."""
        if head.hidden != packed.config.hidden:
            raise FormatError(f"the head reads {head.hidden} hidden features, the model has {packed.config.hidden}")
        self.head, self.packed = head, packed
        self.fixed = quantize_head(head, packed.output_scale[-1])
        self.build = build_head(self.fixed)
        self.kernel = ctypes.CDLL(str(self.build.library)).bertile_head
        self.kernel.argtypes, self.kernel.restype = [ctypes.c_void_p] * 4, None
        self.network = getattr(ctypes.CDLL(str(self.build.network)), f"{NETWORK}_float")
        self.network.argtypes, self.network.restype = [ctypes.c_void_p] * 2, None

    def run(self, launch: Launch, rows: np.ndarray) -> np.ndarray:
        """Logits [sequences, labels] int32 of the encoder's output [rows, hidden] int8 of that launch.

        Raises DeviceError with the kernel's error.
        """
        return self.run_words(encode_launch(self.packed, launch, trace=False), to_words(rows), len(launch.spans))

    def run_words(self, table: np.ndarray, words: np.ndarray, sequences: int) -> np.ndarray:
        """The same from a launch table [2, 64] uint8 and words [row_blocks, hidden, 32] int8, as the card has them."""
        logits = np.zeros((sequences, SPEC.packet.beat_bytes // 4), "<i4")
        status = np.zeros(SPEC.packet.beat_bytes, np.uint8)
        self.kernel(*(array.ctypes.data for array in (table, words, logits, status)))
        check_status(status.tobytes())
        digest = int.from_bytes(status[-STATUS_DIGEST_BYTES:].tobytes(), "little")
        if digest != self.fixed.digest_word:
            raise DeviceError(f"the kernel is of head {digest:016x}, the file is head {self.fixed.digest_word:016x}")
        return logits[:, : self.fixed.labels]

    def predict(self, pooled: np.ndarray) -> np.ndarray:
        """hls4ml's own C-simulation: logits [n, labels] int32 of pooled means [n, hidden] in ap_fixed<18, 1>."""
        inputs = np.ldexp(np.ascontiguousarray(pooled, np.float32), -INPUT_FRACTION)
        outputs = np.zeros((len(inputs), self.fixed.labels), np.float32)
        for source, target in zip(inputs, outputs, strict=True):
            self.network(source.ctypes.data, target.ctypes.data)
        return np.ldexp(outputs, LOGIT_FRACTION).astype(np.int32)


def real_logits(logits: np.ndarray) -> np.ndarray:
    """Integers of the kernel as real logits, float64."""
    return np.ldexp(logits.astype(np.float64), -LOGIT_FRACTION)


def classify_sequences(
    device: Device, simulation: HeadSimulation, sequences: list[np.ndarray], progress: Progress = no_progress
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Each launch of the encoder on `device`, then of the head on its output.

    sequences: token ids. Returns logits [sequences, labels] int32 and the final rows [tokens, hidden] int8 of each.
    """
    groups = batch_launches([len(ids) for ids in sequences])
    inputs = [[embed_tokens(simulation.packed, sequences[index]) for index in group] for group in groups]
    logits, hidden = [], []
    for launch, rows in zip(map(lay_out, inputs), stream_launches(device, inputs), strict=True):
        logits.append(simulation.run(launch, rows))
        hidden += [rows[first : first + tokens] for first, _, tokens in launch.spans]
        progress(len(hidden), len(sequences))
    return np.concatenate(logits), hidden
