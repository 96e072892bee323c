"""The accelerator contract as Python objects, read from `spec/accelerator.toml`.

Nothing here has a default: a number the file lacks is an error.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from functools import cached_property, lru_cache
from types import SimpleNamespace

import numpy as np

from bertile.config.paths import SPEC_FILE

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NUMPY_TYPES = {"u8": "u1", "u16": "<u2", "u32": "<u4", "u64": "<u8", "i16": "<i2", "i32": "<i4", "i64": "<i8"}


@dataclass(frozen=True)
class Field:
    """One field of a record: `offset` in bytes, `type` a key of `NUMPY_TYPES`."""

    name: str
    type: str
    offset: int
    doc: str

    @property
    def bytes(self) -> int:
        return int(self.type[1:]) // 8


@dataclass(frozen=True)
class Record:
    """A fixed-size little-endian record; encoded and decoded through its NumPy dtype."""

    name: str
    bytes: int
    fields: tuple[Field, ...]

    @cached_property
    def dtype(self) -> np.dtype:
        return np.dtype(
            {
                "names": [field.name for field in self.fields],
                "formats": [NUMPY_TYPES[field.type] for field in self.fields],
                "offsets": [field.offset for field in self.fields],
                "itemsize": self.bytes,
            }
        )

    @cached_property
    def limits(self) -> dict[str, tuple[int, int]]:
        """Smallest and largest value of each field."""
        info = {name: np.iinfo(self.dtype[name]) for name in self.dtype.names}
        return {name: (int(limits.min), int(limits.max)) for name, limits in info.items()}

    def encode(self, **values: int) -> bytes:
        """Bytes of one record. Raises ValueError for an unknown field or a value that does not fit it."""
        record = np.zeros(1, self.dtype)
        for name, value in values.items():
            if name not in self.limits:
                raise ValueError(f"record {self.name} has no field {name}")
            low, high = self.limits[name]
            if not low <= value <= high:
                raise ValueError(f"{self.name}.{name}: {value} does not fit {self.dtype[name]}")
            record[name] = value
        return record.tobytes()

    def decode(self, data: bytes) -> np.ndarray:
        """Structured array of the records in `data`."""
        return np.frombuffer(data, self.dtype)


@dataclass(frozen=True)
class Spec:
    """Sections of the spec file by name; `records` by record name; `digest` of the file's meaning."""

    sections: dict[str, SimpleNamespace]
    records: dict[str, Record]
    digest: str

    def __getattr__(self, name: str) -> SimpleNamespace:
        try:
            return self.sections[name]
        except KeyError:
            raise AttributeError(f"the spec has no section {name}") from None

    @property
    def digest_word(self) -> int:
        """First eight bytes of the digest: what hardware compares."""
        return int.from_bytes(bytes.fromhex(self.digest)[:8], "little")

    @property
    def row_blocks(self) -> int:
        """Row blocks of a launch at most."""
        return self.capacity.tokens // self.word.tokens

    @property
    def activation_words(self) -> int:
        """Words of the engine's activation memory."""
        return self.capacity.activation_banks * self.capacity.activation_bank_words


def canonical(data: object) -> str:
    """The file's meaning as text: comments, order and white space do not change the digest."""
    if isinstance(data, dict):
        return "{" + ",".join(f"{key}:{canonical(data[key])}" for key in sorted(data)) + "}"
    if isinstance(data, list):
        return "[" + ",".join(canonical(item) for item in data) + "]"
    return repr(data)


def without_prose(data: dict) -> dict:
    """The contract without the field descriptions, which may be reworded freely."""
    records = {
        name: {"bytes": record["bytes"], "fields": [field[:3] for field in record["fields"]]}
        for name, record in data["record"].items()
    }
    return {**data, "record": records}


def parse_spec(text: str) -> Spec:
    """Build a `Spec` from TOML text. Raises ValueError where a record is not well formed or a size impossible."""
    data = tomllib.loads(text)
    digest = hashlib.sha256(canonical(without_prose(data)).encode()).hexdigest()
    records = {}
    for name, record in data["record"].items():
        fields = tuple(Field(*field) for field in record["fields"])
        end = 0
        for field in fields:
            if field.offset < end or field.offset % field.bytes or field.offset + field.bytes > record["bytes"]:
                raise ValueError(f"record {name}: field {field.name} overlaps, is not aligned or does not fit")
            end = field.offset + field.bytes
        records[name] = Record(name, record["bytes"], fields)
    sections = {name: SimpleNamespace(**values) for name, values in data.items() if name != "record"}
    capacity = sections["capacity"]
    if capacity.tile_memory_beats < 4 * capacity.tile_beats:
        raise ValueError("capacity: tile_memory_beats holds less than four times tile_beats")
    return Spec(sections, records, digest)


@lru_cache(maxsize=1)
def load_spec() -> Spec:
    """The contract of this checkout."""
    return parse_spec(SPEC_FILE.read_text())
