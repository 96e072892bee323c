"""A launch as hardware sees it: sequences in row blocks, the launch table, and words in memory order."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np

from bertile.config.spec import load_spec
from bertile.errors import CapacityError, DeviceError
from bertile.pack.packer import PackedModel

SPEC = load_spec()
BLOCK = SPEC.word.tokens


@dataclass(frozen=True)
class Launch:
    """Sequences laid end to end, each from the start of a row block.

    rows [row_blocks * 32, hidden] int8, padding rows zero; spans: (first row, end row, tokens) of each sequence.
    """

    rows: np.ndarray
    spans: list[tuple[int, int, int]]

    @property
    def row_blocks(self) -> int:
        return len(self.rows) // BLOCK


def row_blocks_of(tokens: int) -> int:
    return -(-tokens // BLOCK)


def spans(lengths: list[int]) -> list[tuple[int, int, int]]:
    """Sequences laid end to end, each from the start of a row block: (first row, end row, tokens) of each."""
    layout, row = [], 0
    for tokens in lengths:
        layout.append((row, row + row_blocks_of(tokens) * BLOCK, tokens))
        row = layout[-1][1]
    return layout


def lay_out(sequences: list[np.ndarray]) -> Launch:
    """One launch of sequences [tokens, hidden] int8. Raises CapacityError when they do not fit one."""
    if not sequences or any(len(sequence) == 0 for sequence in sequences):
        raise CapacityError("a launch needs at least one sequence, and a sequence at least one token")
    total = sum(row_blocks_of(len(sequence)) for sequence in sequences)
    if total > SPEC.row_blocks or len(sequences) > SPEC.capacity.sequences:
        raise CapacityError(
            f"{len(sequences)} sequences in {total} row blocks; a launch holds {SPEC.capacity.sequences} in "
            f"{SPEC.row_blocks}"
        )
    layout = spans([len(sequence) for sequence in sequences])
    rows = np.zeros((layout[-1][1], sequences[0].shape[1]), np.int8)
    for sequence, (first, _, tokens) in zip(sequences, layout, strict=True):
        rows[first : first + tokens] = sequence
    return Launch(rows, layout)


def batch_launches(lengths: list[int]) -> list[list[int]]:
    """Indices of sequences, in order, grouped so that each group fits one launch."""
    groups: list[list[int]] = []
    used = SPEC.row_blocks + 1
    for index, tokens in enumerate(lengths):
        blocks = row_blocks_of(tokens)
        if used + blocks > SPEC.row_blocks or len(groups[-1]) == SPEC.capacity.sequences:
            groups.append([])
            used = 0
        groups[-1].append(index)
        used += blocks
    return groups


def to_words(rows: np.ndarray, out: np.ndarray | None = None, order: np.ndarray | None = None) -> np.ndarray:
    """Rows [row_blocks * 32, features] as words [row_blocks, features, 32]: a word is one feature of 32 tokens.

    out: the array to write them to, or None for a new one. order: which feature each word is, None for all in order.
    """
    words = rows.reshape(-1, BLOCK, rows.shape[1]).transpose(0, 2, 1)
    if order is not None:
        words = words[:, order]
    if out is None:
        return np.ascontiguousarray(words)
    np.copyto(out, words)
    return out


def from_words(words: np.ndarray, order: np.ndarray | None = None) -> np.ndarray:
    """The inverse of `to_words`, over any leading axes."""
    if order is not None:
        words = words[..., np.argsort(order), :]
    *lead, blocks, features, lanes = words.shape
    return words.swapaxes(-1, -2).reshape(*lead, blocks * lanes, features)


def encode_launch(packed: PackedModel, launch: Launch, trace: bool) -> np.ndarray:
    """The launch table of a unit alone: two beats, [2, 64] uint8."""
    return encode_launches(packed, launch, trace, 1)[0]


def encode_launches(packed: PackedModel, launch: Launch, trace: bool, units: int) -> list[np.ndarray]:
    """The launch table of each unit, two beats, [2, 64] uint8. Raises CapacityError where the file has no program."""
    tables = []
    entry = SPEC.records["launch_sequence"]
    sequences = b"".join(entry.encode(row_first=first // BLOCK, tokens=tokens) for first, _, tokens in launch.spans)
    for variant in packed.variant(launch.row_blocks, units):
        features = packed.features(variant.unit) if units > 1 else slice(0, packed.config.hidden)
        header = SPEC.records["launch"].encode(
            magic=SPEC.contract.program_magic,
            flags=trace << SPEC.launch_flag.trace | (units > 1) << SPEC.launch_flag.cooperative,
            spec_digest=SPEC.digest_word,
            program_offset=variant.offset,
            hidden=features.stop - features.start,
            row_blocks=launch.row_blocks,
            sequences=len(launch.spans),
        )
        data = header + sequences.ljust(SPEC.packet.beat_bytes, b"\0")
        tables.append(np.frombuffer(data, np.uint8).reshape(2, -1))
    return tables


def code_name(section: str, code: int) -> str:
    """The name of a code in the contract, or the number of one that is not there."""
    names = {value: name for name, value in vars(getattr(SPEC, section)).items()}
    return names.get(int(code), str(code))


def check_status(status: bytes) -> np.void:
    """The decoded status beat. Raises DeviceError for the error that a kernel or its engine reported in it."""
    record = SPEC.records["status"].decode(status)[0]
    if record["spec_digest"] != SPEC.digest_word:
        raise DeviceError(
            f"the kernel was built for spec {int(record['spec_digest']):016x}, this program has {SPEC.digest_word:016x}"
        )
    if record["error"] == SPEC.error.peer:
        raise DeviceError("another unit refuses the launch that they were to share")
    if record["error"] == SPEC.error.engine:
        raise DeviceError(f"the engine reports error {code_name('engine_error', record['engine_error'])}")
    if record["error"] != SPEC.error.none:
        raise DeviceError(f"the kernel reports error {code_name('error', record['error'])}")
    return record


def check_statuses(statuses: list[bytes], names: list[str] | None = None) -> list[np.void]:
    """The decoded status of every unit. Raises DeviceError that names the unit, one that refused before its peers."""
    records, failures = [], []
    for unit, status in enumerate(statuses):
        try:
            records.append(check_status(status))
        except DeviceError as error:
            is_peer = SPEC.records["status"].decode(status)[0]["error"] == SPEC.error.peer
            name = names[unit] if names else f"unit {unit + 1}"
            failures.append((is_peer, f"{name}: {error}" if len(statuses) > 1 else str(error)))
    if failures:
        raise DeviceError(min(failures)[1])
    return records


class Buffers(ctypes.Structure):
    """ComputeUnitMemory of compute_unit.hpp: what a simulation of one unit is given."""

    _fields_ = tuple(
        (name, ctypes.c_void_p) for name in ("program", "weights", "parameters", "launch", "input", "output", "status")
    )


class SharedLaunch:
    """The buffers of a traced launch, those of each unit: tables, input and output words, status.

    buffers: the same for a simulation, good as long as this object and the packed model are.
    """

    def __init__(self, packed: PackedModel, launch: Launch, units: int):
        self.order = packed.feature_order()
        self.tables = encode_launches(packed, launch, True, units)
        words = to_words(launch.rows, order=self.order)
        spans = [packed.features(unit) for unit in range(units)] if units > 1 else [slice(None)]
        self.inputs = [np.ascontiguousarray(words[:, span]) for span in spans]
        self.outputs = [np.zeros((packed.config.layers, *words.shape), np.int8) for words in self.inputs]
        self.statuses = [np.zeros(SPEC.packet.beat_bytes, np.uint8) for _ in self.inputs]
        images = (packed.program, packed.weights, packed.parameters)
        own = zip(self.tables, self.inputs, self.outputs, self.statuses, strict=True)
        self.buffers = (Buffers * units)(
            *(Buffers(*(array.ctypes.data for array in (*images, *arrays))) for arrays in own)
        )

    def result(self) -> np.ndarray:
        """Every layer's output: [layers, rows, hidden] int8. Raises DeviceError for what a unit reports."""
        check_statuses([status.tobytes() for status in self.statuses])
        return from_words(np.concatenate(self.outputs, axis=2), self.order)
