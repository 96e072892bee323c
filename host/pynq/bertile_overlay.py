"""Bertile on PYNQ 3.0.1: an overlay whose compute units run a packed encoder.

XRT must be set up before this module is imported, as for PYNQ itself: `source /opt/xilinx/xrt/setup.sh` for a board,
`emulated_card.use_emulated_card(xclbin)` without one.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import pynq
from bertile.config.kernels import ENCODER, load_kernels
from bertile.config.spec import load_spec
from bertile.devices.launch import Launch, encode_launch, from_words, lay_out, spans, to_words
from bertile.emulation.control import power_off
from bertile.emulation.xclbin import XclbinHeader, read_xclbin_header
from bertile.errors import DeviceError
from bertile.inference import mean_pool
from bertile.models.quantized import dequantize_output
from bertile.pack.container import load_packed
from bertile.pack.packer import PackedModel
from bertile.runtime.card import (
    CARD_SECONDS,
    EMULATED_SECONDS,
    IMAGES,
    CardLock,
    check_answers,
    empty_launch,
    lock_path,
)
from bertile.runtime.encoder import embed_requests, plan_launches
from bertile.text import TextEncoder

SPEC = load_spec()
BEAT = SPEC.packet.beat_bytes
TABLE_BYTES = 2 * BEAT
ARGUMENTS = [argument.name for argument in load_kernels()[ENCODER].arguments]
LAUNCH, INPUT, OUTPUT, STATUS = ARGUMENTS[len(IMAGES) :]
WAIT_MILLISECONDS = 50  # that XRT may sleep, where there are interrupts
POLL_SECONDS = 1e-4  # in emulation it does not
CLOSING_SECONDS = 2.0  # for runs under way when the overlay is freed
# XRT can neither stop a run nor free what belongs to it: what a board did not finish stays until the process ends.
abandoned: list[BertileOverlay] = []


@contextmanager
def card_errors(doing: str) -> Iterator[None]:
    """What PYNQ raises, as a DeviceError."""
    try:
        yield
    except (RuntimeError, OSError) as error:
        raise DeviceError(f"{doing}: {error}") from None


class BertileEncoder(pynq.DefaultIP):
    """A compute unit, `overlay.encoder_1` and so on: buffers in its memory bank, one run at a time."""

    # Version and name are those of the kernel; the vendor is Vitis HLS's in a bitstream, ours in emulation.
    bindto = [f"{vendor}:hls:{ENCODER}:1.0" for vendor in ("xilinx.com", "bertile")]  # noqa: RUF012

    def __init__(self, description: dict):
        super().__init__(description)
        self.instance = description["fullpath"]
        self.buffers: dict[str, pynq.buffer.PynqBuffer] = {}
        self.handle = None  # of a run under way

    def hold(self, images: dict[str, np.ndarray], input_bytes: int, output_bytes: int) -> None:
        """Allocate the buffers of every argument and copy the images. Raises DeviceError when they do not fit."""
        self.release()
        sizes = {name: image.nbytes for name, image in images.items()}
        sizes |= {LAUNCH: TABLE_BYTES, INPUT: input_bytes, OUTPUT: output_bytes, STATUS: BEAT}
        for argument, size in sizes.items():
            bank = self.device.get_memory_by_name(self.args[argument].mem)
            with card_errors(f"{self.instance}: {size} bytes for {argument} in {self.args[argument].mem}"):
                self.buffers[argument] = pynq.allocate((size,), np.uint8, target=bank)
        for name, image in images.items():
            self.send(name, image)

    def release(self) -> None:
        """Free the buffers. No run may be under way."""
        for buffer in self.buffers.values():
            buffer.freebuffer()
        self.buffers = {}

    def send(self, argument: str, data: np.ndarray) -> None:
        """Copy to the card, to the start of the argument's buffer."""
        part = self.buffers[argument][: data.nbytes]
        part[:] = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        with card_errors(f"{self.instance}: sending {argument}"):
            part.flush()

    def fetch(self, argument: str, size: int) -> np.ndarray:
        """A copy of the first bytes of the argument's buffer on the card, [size] uint8."""
        part = self.buffers[argument][:size]
        with card_errors(f"{self.instance}: fetching {argument}"):
            part.invalidate()
        return np.array(part)

    def begin(self, table: np.ndarray, words: np.ndarray) -> None:
        """Send a launch and start it. The status is cleared, so that a run that leaves none is noticed."""
        for argument, data in ((LAUNCH, table), (INPUT, words), (STATUS, np.zeros(BEAT, np.uint8))):
            self.send(argument, data)
        with card_errors(f"{self.instance}: starting"):
            self.handle = self.start(**self.buffers)

    def finish(self, seconds: float) -> None:
        """Wait for the run, if there is one. Raises DeviceError when it does not end, or ends with an error.

        PYNQ's own `wait` has no time limit, and does not tell that XRT reports a failure.
        """
        end = time.monotonic() + seconds
        while self.handle is not None and not self.handle.done:
            if time.monotonic() > end:
                raise DeviceError(f"{self.instance} does not finish: no end after {seconds:g} s")
            self.device._handle_events(WAIT_MILLISECONDS)
            time.sleep(0.0 if self.handle.done else POLL_SECONDS)
        ended, self.handle = self.handle, None
        if ended is not None:
            with card_errors(self.instance):
                ended._future.result()
            check_answers({self.instance: self.fetch(STATUS, BEAT).tobytes()})

    def probe(self, seconds: float) -> None:
        """Run an empty program: kernel and engine answer with their spec. Raises DeviceError for another one."""
        self.hold({image: np.zeros(BEAT, np.uint8) for image in IMAGES}, BEAT, BEAT)
        self.begin(np.frombuffer(empty_launch(), np.uint8), np.zeros(BEAT, np.uint8))
        self.finish(seconds)

    def load(self, packed: PackedModel) -> None:
        """Copy a model, and make room for its largest launch with the output of every layer."""
        size = SPEC.row_blocks * packed.config.hidden * SPEC.word.tokens
        self.hold({image: getattr(packed, image) for image in IMAGES}, size, size * packed.config.layers)


@dataclass(eq=False)
class Run:
    """A launch on its way; layers: how many answer. Once it has ended, output [layers, rows, hidden] int8 or error."""

    unit: BertileEncoder
    launch: Launch
    layers: int
    output: np.ndarray | None = None
    error: DeviceError | None = None


def find_device(card: int) -> pynq.Device:
    """The card of that index. Raises DeviceError."""
    with card_errors("looking for cards"):
        devices = pynq.Device.devices
    if not 0 <= card < len(devices):
        raise DeviceError(f"no card {card}: PYNQ finds {len(devices)}; XRT must be set up before Python starts")
    return devices[card]


def check_kernel(header: XclbinHeader) -> None:
    """Raise DeviceError unless the xclbin has the encoder with its arguments."""
    if ENCODER not in header.kernels:
        raise DeviceError(f"{header.path}: not Bertile's, it has no kernel {ENCODER}")
    found = [argument.name for argument in header.kernels[ENCODER].arguments]
    if found[: len(ARGUMENTS)] != ARGUMENTS:
        raise DeviceError(f"{header.path}: {ENCODER} has the arguments {', '.join(found)}, not {', '.join(ARGUMENTS)}")


class BertileOverlay(pynq.Overlay):
    """An xclbin on a card with a packed model on every compute unit. Use it in a `with` statement, or call `free`.

    It has the interface of every device of `bertile.devices`: `run`, `stream`, `units`. For one thread.
    """

    name = "pynq"

    def __init__(self, xclbin: Path | str, model: Path | str, card: int = 0, timeout_s: float | None = None):
        """xclbin, model: files; card: index; timeout_s: of one launch, None for a usual value.

        Raises FormatError for a file that is not right, DeviceError for what is wrong with the card.
        """
        self.packed, header = load_packed(Path(model)), read_xclbin_header(Path(xclbin))
        check_kernel(header)
        self.timeout_s = timeout_s or (EMULATED_SECONDS if header.emulated else CARD_SECONDS)
        self.encoders: list[BertileEncoder] = []
        self.turn = 0
        self.runs: dict[str, Run] = {}  # under way, by instance
        self.device = find_device(card)
        self.lock = CardLock(lock_path(header.path, card, header.emulated))
        try:
            with card_errors(f"loading {xclbin}"):
                super().__init__(str(header.path.absolute()), device=self.device)
                self.encoders = [self._unit(name) for name in header.kernels[ENCODER].instances]
            for encoder in self.encoders:
                encoder.probe(self.timeout_s)
                encoder.load(self.packed)
        except BaseException:
            self.free()
            raise

    def _unit(self, instance: str) -> BertileEncoder:
        if instance not in self.ip_dict:
            raise DeviceError(f"{self.bitfile_name}: PYNQ finds no registers of {instance} in its metadata")
        unit = getattr(self, instance)
        if not isinstance(unit, BertileEncoder):
            raise DeviceError(f"{instance} is of type {self.ip_dict[instance]['type']}: not {BertileEncoder.bindto}")
        return unit

    @property
    def units(self) -> int:
        return len(self.encoders)

    def _start(self, sequences: list[np.ndarray], trace: bool) -> Run:
        """A launch of sequences [tokens, hidden] int8 on the next unit, when that has ended what it still runs."""
        launch = lay_out(sequences)
        unit = self.encoders[self.turn]
        if unit.instance in self.runs:
            self._settle(self.runs[unit.instance])
        self.turn = (self.turn + 1) % self.units
        words = to_words(launch.rows, order=self.packed.feature_order())
        unit.begin(encode_launch(self.packed, launch, trace), words)
        self.runs[unit.instance] = Run(unit, launch, self.packed.config.layers if trace else 1)
        return self.runs[unit.instance]

    def _settle(self, run: Run) -> None:
        """Wait for a run; what came of it stays with it. Raises DeviceError when it does not end."""
        if self.runs.get(run.unit.instance) is not run:
            return
        shape = (run.layers, run.launch.row_blocks, self.packed.config.hidden, SPEC.word.tokens)
        try:
            run.unit.finish(self.timeout_s)
            words = run.unit.fetch(OUTPUT, math.prod(shape)).view(np.int8).reshape(shape)
            run.output = from_words(words, self.packed.feature_order())
        except DeviceError as error:
            if run.unit.handle is not None:
                raise
            run.error = error
        del self.runs[run.unit.instance]

    def _collect(self, run: Run) -> np.ndarray:
        """Its output [layers, rows, hidden] int8. Raises DeviceError for its error."""
        self._settle(run)
        if run.error is not None:
            raise run.error
        return run.output

    def run(self, sequences: list[np.ndarray]) -> np.ndarray:
        """[layers, rows, hidden] int8 of one launch, on the next unit. Raises DeviceError, CapacityError."""
        return self._collect(self._start(sequences, trace=True))

    def stream(self, launches: Iterable[list[np.ndarray]]) -> Iterator[np.ndarray]:
        """[rows, hidden] int8 of the last layer, launch by launch in order, while others run."""
        flying: deque[Run] = deque()
        for sequences in launches:
            if len(flying) == self.units:
                yield self._collect(flying.popleft())[-1]
            flying.append(self._start(sequences, trace=False))
        while flying:
            yield self._collect(flying.popleft())[-1]

    def hidden_states(self, sequences: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The last layer's output [tokens, hidden] float32 of each sequence of token ids [tokens].

        Raises CapacityError for ids or lengths that the model does not take, before anything runs.
        """
        rows = embed_requests(self.packed, [np.asarray(ids) for ids in sequences])
        groups = plan_launches([len(row) for row in rows], self.units)
        results: list[np.ndarray] = []
        for group, output in zip(groups, self.stream([rows[i] for i in group] for group in groups), strict=True):
            for first, _, tokens in spans([len(rows[index]) for index in group]):
                results.append(dequantize_output(output[first : first + tokens], self.packed.output_scale[-1]))
        return results

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings [texts, hidden] float32: the mean over tokens, of length one."""
        ids = TextEncoder(self.packed.tokenizer, self.packed.config).encode(list(texts))
        return mean_pool(self.hidden_states(ids))

    def free(self) -> None:
        """Give the card back; a second call does nothing."""
        if self.lock is None:
            return
        if self._end_runs():
            for encoder in self.encoders:
                encoder.release()
            self.device._bo_cache.clear()  # PYNQ's own buffers, which it would free when the card is closed
            self.device.free_bitstream()
            self.device.close()
        else:
            abandoned.append(self)
        self.encoders = []
        self.lock.release()
        self.lock = None

    close = free

    def _end_runs(self) -> bool:
        """Give runs under way a moment; an emulated card then loses its power. Whether none is left."""
        for end in (lambda: None, power_off):
            if any(encoder.handle is not None for encoder in self.encoders):
                end()
                for encoder in self.encoders:
                    with suppress(DeviceError):
                        encoder.finish(CLOSING_SECONDS)
        return all(encoder.handle is None for encoder in self.encoders)

    def __enter__(self) -> BertileOverlay:
        return self

    def __exit__(self, *exception: object) -> None:
        self.free()
