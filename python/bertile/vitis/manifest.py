"""`bitstreams/manifest.toml`: which build every bitstream comes from."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from bertile.config.paths import ROOT
from bertile.errors import BertileError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MANIFEST = ROOT / "bitstreams" / "manifest.toml"
HEADER = """\
# Which build every bitstream of this folder comes from; `make hw` writes it (docs/bitstream.md). The files themselves
# are not in git.
"""


@dataclass(frozen=True)
class Bitstream:
    """One entry; `date` is YYYY-MM-DD, UTC.

    In hexadecimal digits: `head`, the digest of the head's numbers, empty without a head; `spec_digest`; `sha256` of
    the file.
    """

    file: str
    target: str
    engine: str
    kernels: list[str]
    head: str
    platform: str
    spec_digest: str
    tool: str
    clock_asked_mhz: float
    clock_reached_mhz: float
    sha256: str
    date: str


KINDS = {"list[str]": list, "str": str, "float": (int, float)}


def parse_entry(name: str, values: object) -> Bitstream:
    """An entry from TOML. Raises BertileError for keys or values that do not belong there."""
    if not isinstance(values, dict):
        raise BertileError(f"{name}: [[bitstream]] is not a table")
    names = [field.name for field in fields(Bitstream)]
    for what, keys in (("unknown", values.keys() - set(names)), ("missing", set(names) - values.keys())):
        if keys:
            raise BertileError(f"{name}: {what} key {', '.join(sorted(keys))} in [[bitstream]]")
    for field in fields(Bitstream):
        value = values[field.name]
        fits = isinstance(value, KINDS[field.type]) and not isinstance(value, bool)
        if not fits or (isinstance(value, list) and not all(isinstance(item, str) for item in value)):
            raise BertileError(f"{name}: {field.name} is not of type {field.type} in [[bitstream]]")
    entry = Bitstream(**values)
    for key, length in (("spec_digest", 64), ("sha256", 64), ("head", 16 if entry.head else 0)):
        digits = getattr(entry, key)
        if len(digits) != length or set(digits) - set("0123456789abcdef"):
            raise BertileError(f"{name}: {key} of {entry.file} is not {length} hexadecimal digits")
    return entry


def read_manifest(path: Path = MANIFEST) -> list[Bitstream]:
    """The entries. Raises BertileError for a file that is not a manifest; no file is an empty manifest."""
    name = os.path.relpath(path, ROOT) if path.is_relative_to(ROOT) else str(path)
    try:
        data = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BertileError(f"{name} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BertileError(f"{name} is not TOML: {error}") from None
    if data.keys() - {"bitstream"}:
        raise BertileError(f"{name}: unknown key {', '.join(sorted(data.keys() - {'bitstream'}))}")
    entries = data.get("bitstream", [])
    if not isinstance(entries, list):
        raise BertileError(f"{name}: bitstream is not a list of tables")
    bitstreams = [parse_entry(name, values) for values in entries]
    files = [entry.file for entry in bitstreams]
    for file in files:
        if files.count(file) > 1:
            raise BertileError(f"{name}: {file} is there {files.count(file)} times")
    return bitstreams


def toml_value(value: object) -> str:
    """Strings, numbers and lists of strings. Raises BertileError for a string that would need escapes."""
    if isinstance(value, list):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, str):
        if not value.isprintable() or set(value) & set('"\\'):
            raise BertileError(f"{value!r} cannot stand in the manifest")
        return f'"{value}"'
    return str(value)


def render(bitstreams: Sequence[Bitstream]) -> str:
    """The manifest's text."""
    lines = [HEADER]
    for entry in bitstreams:
        lines.append("[[bitstream]]")
        lines += [f"{field.name} = {toml_value(getattr(entry, field.name))}" for field in fields(Bitstream)]
        lines.append("")
    return "\n".join(lines)


def write_atomically(path: Path, text: str) -> None:
    """All of the text, or the file as it was."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def record(xclbin: Path, entry: Bitstream, path: Path = MANIFEST) -> bool:
    """Copy the xclbin beside the manifest and write its entry, in the place of the one with the same file name.

    False, and nothing is touched, where both are there already.
    """
    entries = read_manifest(path)
    final = path.parent / entry.file
    is_listed = any(replace(old, date=entry.date) == entry for old in entries)
    if is_listed and final.is_file() and sha256_of(final) == entry.sha256:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    try:
        shutil.copyfile(xclbin, temporary)
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)
    position = next((index for index, old in enumerate(entries) if old.file == entry.file), len(entries))
    write_atomically(path, render([*entries[:position], entry, *entries[position + 1 :]]))
    return True
