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
from bertile.devices.launch import Buffers, SharedLaunch, lay_out
from bertile.devices.verilate import build_library
from bertile.errors import BertileError, DeviceError
from bertile.pack.packer import PackedModel
from bertile.pack.program import decode_program

SPEC = load_spec()
OPCODE = SPEC.opcode
# A standstill is found by counting cycles. This is for one the engine has no part in, or a model that does not return.
DEADLOCK_SECONDS = 120.0
POLL_SECONDS = 0.05  # for an interrupt
COUNTS = ("idle", "halt", "gemm", "scores", "context", "blocked", "commands", "tiles", "words", "words_from_0",
          "words_from_1", "results")  # fmt: skip
PICOSECONDS = 1_000_000  # of a cycle at 1 MHz


class Timing(ctypes.Structure):
    """BertileTiming of rtl_library.cpp."""

    _fields_ = (
        ("crossing", ctypes.c_uint64),
        ("peer_crossing", ctypes.c_uint64),
        ("period_picoseconds", ctypes.c_uint64),
        ("memory_latency", ctypes.c_uint64),
        ("memory_bytes_per_cycle", ctypes.c_double),
        ("stages", ctypes.c_uint64),
        ("stage_names", ctypes.POINTER(ctypes.c_char_p)),
        ("stage_latencies", ctypes.POINTER(ctypes.c_uint64)),
    )


class WaveRange(ctypes.Structure):
    """BertileWaves of rtl_library.cpp."""

    _fields_ = (("file", ctypes.c_char_p), ("first_command", ctypes.c_uint64), ("last_command", ctypes.c_uint64))


class Counts(ctypes.Structure):
    """EngineCounts of rtl_engine.hpp."""

    _fields_ = tuple((name, ctypes.c_uint64) for name in COUNTS)


@dataclass(frozen=True)
class LaunchCycles:
    """Clock cycles of a launch on one unit, from the start of the encoder kernels to the end of their last stage.

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
    words_from_0: int
    words_from_1: int
    results: int

    @classmethod
    def of(cls, total: int, counts: Counts) -> LaunchCycles:
        values = {name: int(getattr(counts, name)) for name in COUNTS}
        engine = sum(values[name] for name in ("idle", "halt", "gemm", "scores", "context"))
        return cls(total, after=total - engine, **values)

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
    devices = ctypes.POINTER(ctypes.c_void_p)
    buffers, timing, waves, counts = (ctypes.POINTER(kind) for kind in (Buffers, Timing, WaveRange, Counts))
    library.bertile_rtl_launch.argtypes = [
        devices, buffers, ctypes.c_size_t, timing, waves, ctypes.c_double, ctypes.POINTER(ctypes.c_uint64), counts,
        ctypes.c_char_p, ctypes.c_size_t
    ]  # fmt: skip
    if library.bertile_rtl_spec_digest() != SPEC.digest_word:
        raise DeviceError("the RTL engine was built for another spec; run `make spec`")
    return library


def timing_of(target: dict) -> Timing:
    """Assumed costs in clock cycles, at the first of the target's clocks."""
    megahertz, ddr, stages = target["clock"]["megahertz"][0], target["ddr"], target["latency"]
    return Timing(
        crossing=target["link"]["crossing"],
        peer_crossing=target["link"]["peer_crossing"],
        period_picoseconds=round(PICOSECONDS / megahertz),
        memory_latency=round(ddr["latency_ns"] * megahertz / 1e3),
        memory_bytes_per_cycle=ddr["gigabytes_per_second"] * ddr["efficiency"] * 1e3 / megahertz,
        stages=len(stages),
        stage_names=(ctypes.c_char_p * len(stages))(*(name.encode() for name in stages)),
        stage_latencies=(ctypes.c_uint64 * len(stages))(*stages.values()),
    )


def layer_commands(packed: PackedModel, row_blocks: int, units: int = 1) -> list[tuple[int, int]]:
    """Numbers of the first and the last engine command of each layer in a launch of so many row blocks, on unit 1.

    What the sequencer makes of the descriptors: a gemm is one command, attention two a row block.
    """
    variant = packed.variant(row_blocks, units)[0]
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
    """The packed encoder on emulated compute units. `unit_cycles`: of the last launch, on each unit."""

    name = "rtl"

    def __init__(self, packed: PackedModel, waves: Path | None = None, wave_layer: int = 0, units: int = 1):
        """waves: write the RTL engines' signals while the first launch is in layer `wave_layer` to this FST file, of
        the second unit and the third to files beside it.

        units: how many run a launch together. Raises CapacityError for a file without their programs.
        """
        if waves is not None and not 0 <= wave_layer < packed.config.layers:
            raise BertileError(f"layer {wave_layer}: this model has layers 0 to {packed.config.layers - 1}")
        packed.variant(1, units)
        self.packed, self.team = packed, units
        self.unit_cycles: list[LaunchCycles] = []
        self.waves = waves and checked_file(waves)
        self.wave_layer = wave_layer
        self.library = load_library(waves is not None)
        self.timing = timing_of(load_target())
        self.engines: list[weakref.finalize] = []

    @property
    def cycles(self) -> LaunchCycles | None:
        """Of the last launch, on the first unit."""
        return self.unit_cycles[0] if self.unit_cycles else None

    def run(self, sequences: list[np.ndarray]) -> np.ndarray:
        """Every layer's output, as `CsimEncoder.run`; counts cycles. Raises DeviceError."""
        launch = lay_out(sequences)
        shared = SharedLaunch(self.packed, launch, self.team)
        self.launch(shared.buffers, self.take_waves(launch.row_blocks))
        return shared.result()

    def take_waves(self, row_blocks: int) -> WaveRange:
        """What the next launch is to record: the first one of all, and no other."""
        if self.waves is None:
            return WaveRange()
        file, self.waves = str(self.waves), None
        return WaveRange(file.encode(), *layer_commands(self.packed, row_blocks, self.team)[self.wave_layer])

    def handles(self) -> list[int]:
        """The models: made for the first launch, and anew after one that failed."""
        while len(self.engines) < self.team:
            handle = self.library.bertile_rtl_open()
            self.engines.append(weakref.finalize(self, self.library.bertile_rtl_close, handle))
        return [engine.peek()[2][0] for engine in self.engines]

    def close(self) -> None:
        for engine in self.engines:
            engine()
        self.engines.clear()

    def launch(self, buffers: ctypes.Array, waves: WaveRange) -> None:
        """Run a launch on a thread of its own: it may take minutes, and is to be stopped by an interrupt."""
        handles = self.handles()
        counts, total = (Counts * self.team)(), ctypes.c_uint64()
        error = ctypes.create_string_buffer(4096)
        arguments = [(ctypes.c_void_p * self.team)(*handles), buffers, self.team, ctypes.byref(self.timing)]
        arguments += [ctypes.byref(waves), DEADLOCK_SECONDS, ctypes.byref(total), counts, error, len(error)]
        thread = threading.Thread(target=self.library.bertile_rtl_launch, args=arguments)
        thread.start()
        interrupted = False
        while thread.is_alive():  # also after an interrupt, and a second one: the thread uses our buffers
            try:
                thread.join(POLL_SECONDS)
            except KeyboardInterrupt:
                interrupted = True
                for handle in handles:
                    self.library.bertile_rtl_stop(handle)
        if interrupted or error.value:
            self.close()
        if interrupted:
            raise KeyboardInterrupt
        if error.value:
            raise DeviceError(f"RTL emulation: {error.value.decode()}")
        self.unit_cycles = [LaunchCycles.of(total.value, unit) for unit in counts]
