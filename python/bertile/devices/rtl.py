"""The emulated compute unit: the HLS vector stages around the Verilated RTL engine, counted in clock cycles.

The engine runs clock by clock; what stages and memory cost is assumed (spec/targets).
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from bertile.config.spec import load_spec
from bertile.config.target import load_target
from bertile.devices.launch import check_status, encode_launch, from_words, lay_out, to_words
from bertile.devices.verilate import build_library
from bertile.errors import BertileError, DeviceError
from bertile.pack.packer import PackedModel
from bertile.pack.program import decode_program

SPEC = load_spec()
OPCODE = SPEC.opcode
# A standstill is found by counting cycles. This is for one the engine has no part in, or a model that does not return.
DEADLOCK_SECONDS = 120.0
POLL_SECONDS = 0.05  # for an interrupt
BUFFERS = ("program", "weights", "parameters", "launch", "input", "output", "status")
COUNTS = ("idle", "halt", "gemm", "scores", "context", "blocked", "commands", "tiles", "words", "results")
PICOSECONDS = 1_000_000  # of a cycle at 1 MHz


class Timing(ctypes.Structure):
    """BertileTiming of rtl_library.cpp."""

    _fields_ = (
        ("crossing", ctypes.c_uint64),
        ("period_picoseconds", ctypes.c_uint64),
        ("memory_latency", ctypes.c_uint64),
        ("memory_bytes_per_cycle", ctypes.c_double),
        ("stages", ctypes.c_uint64),
        ("stage_names", ctypes.POINTER(ctypes.c_char_p)),
        ("stage_latencies", ctypes.POINTER(ctypes.c_uint64)),
    )


class Buffers(ctypes.Structure):
    """BertileBuffers of rtl_library.cpp."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in BUFFERS)


class WaveRange(ctypes.Structure):
    """BertileWaves of rtl_library.cpp."""

    _fields_ = (("file", ctypes.c_char_p), ("first_command", ctypes.c_uint64), ("last_command", ctypes.c_uint64))


class Counts(ctypes.Structure):
    """BertileCounts of rtl_library.cpp."""

    _fields_ = tuple((name, ctypes.c_uint64) for name in ("total", *COUNTS))


@dataclass(frozen=True)
class LaunchCycles:
    """Clock cycles of a launch, from the start of the encoder kernel to the end of its last stage.

    idle, gemm, scores, context, halt: by the oldest engine command that was not finished, while the engine had a result
    to send; waits for words are among them. after: what the encoder needed behind the engine's last result. blocked: of
    all these, results that had no room. commands, tiles, words, results: beats on the engine's streams.
    """

    total: int
    idle: int
    gemm: int
    scores: int
    context: int
    halt: int
    after: int
    blocked: int
    commands: int
    tiles: int
    words: int
    results: int

    @classmethod
    def of(cls, counts: Counts) -> LaunchCycles:
        values = {name: int(getattr(counts, name)) for name in ("total", *COUNTS)}
        engine = sum(values[name] for name in ("idle", "halt", "gemm", "scores", "context"))
        return cls(after=values["total"] - engine, **values)

    def to_json(self) -> dict:
        return asdict(self)


@lru_cache(maxsize=2)
def load_library(waves: bool) -> ctypes.CDLL:
    """Build (if need be) and load the library. Raises DeviceError."""
    library = ctypes.CDLL(str(build_library(waves)))
    library.bertile_rtl_spec_digest.restype = ctypes.c_uint64
    library.bertile_rtl_open.restype = ctypes.c_void_p
    for end in (library.bertile_rtl_close, library.bertile_rtl_stop):
        end.argtypes, end.restype = [ctypes.c_void_p], None
    structures = [ctypes.POINTER(structure) for structure in (Timing, Buffers, WaveRange)]
    library.bertile_rtl_launch.argtypes = [
        ctypes.c_void_p, *structures, ctypes.c_double, ctypes.POINTER(Counts), ctypes.c_char_p, ctypes.c_size_t
    ]  # fmt: skip
    if library.bertile_rtl_spec_digest() != SPEC.digest_word:
        raise DeviceError("the RTL engine was built for another spec; run `make spec`")
    return library


def timing_of(target: dict) -> Timing:
    """Assumed costs in clock cycles, at the first of the target's clocks."""
    megahertz, ddr, stages = target["clock"]["megahertz"][0], target["ddr"], target["latency"]
    return Timing(
        crossing=target["link"]["crossing"],
        period_picoseconds=round(PICOSECONDS / megahertz),
        memory_latency=round(ddr["latency_ns"] * megahertz / 1e3),
        memory_bytes_per_cycle=ddr["gigabytes_per_second"] * ddr["efficiency"] * 1e3 / megahertz,
        stages=len(stages),
        stage_names=(ctypes.c_char_p * len(stages))(*(name.encode() for name in stages)),
        stage_latencies=(ctypes.c_uint64 * len(stages))(*stages.values()),
    )


def layer_commands(packed: PackedModel, row_blocks: int) -> list[tuple[int, int]]:
    """Numbers of the first and the last engine command of each layer in a launch of so many row blocks.

    What the sequencer makes of the descriptors: a gemm is one command, attention two a row block.
    """
    variant = next(variant for variant in packed.variants if variant.row_blocks >= row_blocks)
    commands, first, ranges = 0, 0, []
    for descriptor in decode_program(packed.program.tobytes(), variant.offset):
        if descriptor["opcode"] == OPCODE.attention:
            commands += 2 * row_blocks
        if descriptor["opcode"] == OPCODE.gemm and descriptor["row_first"] < row_blocks:
            commands += 1
        if descriptor["flags"] >> SPEC.flag.trace & 1:  # ends a layer, or a row chunk of it
            layer = int(descriptor["trace_slot"])
            first = ranges[layer][0] if layer < len(ranges) else first
            ranges[layer:] = [(first, commands - 1)]
            first = commands
    return ranges


def checked_file(file: Path) -> Path:
    """A file that can be written. Raises BertileError."""
    file = file.expanduser()
    if file.exists() and not file.is_file():
        raise BertileError(f"{file} is a folder or a device; --waves names a file")
    if not file.absolute().parent.is_dir():
        raise BertileError(f"{file.parent}: no such folder")
    return file


class RtlEncoder:
    """The packed encoder on the emulated compute unit. `cycles` are those of the last launch."""

    name = "rtl"

    def __init__(self, packed: PackedModel, waves: Path | None = None, wave_layer: int = 0):
        """waves: write the RTL engine's signals while the first launch is in layer `wave_layer` to this FST file."""
        if waves is not None and not 0 <= wave_layer < packed.config.layers:
            raise BertileError(f"layer {wave_layer}: this model has layers 0 to {packed.config.layers - 1}")
        self.packed = packed
        self.cycles: LaunchCycles | None = None
        self.waves = waves and checked_file(waves)
        self.wave_layer = wave_layer
        self.library = load_library(waves is not None)
        self.timing = timing_of(load_target())
        self.close: weakref.finalize | None = None

    def run(self, sequences: list[np.ndarray]) -> np.ndarray:
        """Every layer's output, as `CsimEncoder.run`; counts `cycles`. Raises DeviceError."""
        launch = lay_out(sequences)
        words = to_words(launch.rows)
        output = np.zeros((self.packed.config.layers, *words.shape), np.int8)
        status = np.zeros(SPEC.packet.beat_bytes, np.uint8)
        table = encode_launch(self.packed, launch, trace=True)
        images = [self.packed.program, self.packed.weights, self.packed.parameters, table, words, output, status]
        buffers = Buffers(*(array.ctypes.data for array in images))
        self.launch(buffers, self.take_waves(launch.row_blocks))
        check_status(status.tobytes())
        return from_words(output)

    def take_waves(self, row_blocks: int) -> WaveRange:
        """What the next launch is to record: the first one of all, and no other."""
        if self.waves is None:
            return WaveRange()
        file, self.waves = str(self.waves), None
        return WaveRange(file.encode(), *layer_commands(self.packed, row_blocks)[self.wave_layer])

    def engine(self) -> int:
        """The model: made for the first launch, and anew after one that failed."""
        if self.close is None:
            handle = self.library.bertile_rtl_open()
            self.close = weakref.finalize(self, self.library.bertile_rtl_close, handle)
        return self.close.peek()[2][0]

    def launch(self, buffers: Buffers, waves: WaveRange) -> None:
        """Run a launch on a thread of its own: it may take minutes, and is to be stopped by an interrupt."""
        counts, error, engine = Counts(), ctypes.create_string_buffer(4096), self.engine()
        arguments = [ctypes.byref(structure) for structure in (self.timing, buffers, waves)]
        arguments += [DEADLOCK_SECONDS, ctypes.byref(counts), error, len(error)]
        thread = threading.Thread(target=self.library.bertile_rtl_launch, args=(engine, *arguments))
        thread.start()
        interrupted = False
        while thread.is_alive():  # also after an interrupt, and a second one: the thread uses our buffers
            try:
                thread.join(POLL_SECONDS)
            except KeyboardInterrupt:
                interrupted = True
                self.library.bertile_rtl_stop(engine)
        if interrupted or error.value:
            self.close()
            self.close = None
        if interrupted:
            raise KeyboardInterrupt
        if error.value:
            raise DeviceError(f"RTL emulation: {error.value.decode()}")
        self.cycles = LaunchCycles.of(counts)
