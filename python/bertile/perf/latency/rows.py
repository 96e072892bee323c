"""The rows of the bench's JSON, and how it is written."""

from __future__ import annotations

import json
import math
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from bertile.errors import BertileError

KINDS = ("measured", "projected", "published")


@dataclass(frozen=True)
class Row:
    """One latency: of what, where, and how it is known.

    sparsity: share of the weights of the encoder's matrices that are zero. latency_ms: for the whole batch. None only
    where a publication does not say; another figure it gives is then in `details`. source: who or what says so.
    Raises ValueError for a row that cannot be.
    """

    what: str
    device: str
    tokens: int | None
    batch: int | None
    sparsity: float | None
    latency_ms: float | None
    kind: str
    source: str
    details: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind {self.kind!r} is none of {', '.join(KINDS)}")
        if not (self.what and self.device and self.source):
            raise ValueError("a row names what was run, where, and its source")
        numbers = {name: getattr(self, name) for name in ("tokens", "batch", "sparsity", "latency_ms")}
        for name, value in numbers.items():
            if value is None:
                if self.kind != "published":
                    raise ValueError(f"a {self.kind} row says its {name}")
            elif not (math.isfinite(value) and (0 <= value < 1 if name == "sparsity" else value > 0)):
                raise ValueError(f"{name} {value}: no such request")

    def as_dict(self) -> dict:
        """The row as JSON has it: `details` beside the other fields."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "details"}
        return plain | self.details


def check_target(path: Path) -> None:
    """Raises BertileError where no file can be written at `path`; makes the folder for it."""
    if path.is_dir():
        raise BertileError(f"{path} is a folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BertileError(f"cannot write {path}: {error.strerror}") from None
    if not os.access(path.parent, os.W_OK):
        raise BertileError(f"cannot write {path}: no permission")


def write_json(data: dict, path: Path) -> None:
    """Write all of it or nothing: whoever interrupts the bench keeps the file of the run before."""
    text = json.dumps(data, indent=1, allow_nan=False) + "\n"
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise BertileError(f"cannot write {path}: {error.strerror}") from None
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.chmod(name, 0o644)  # mkstemp's file is for its owner only
        os.replace(name, path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise BertileError(f"cannot write {path}: {error.strerror}") from None
        raise
