"""Lines and TSV tables of a text file: UTF-8, tab separated, a header, and quotation marks that are just characters."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from bertile.errors import BertileError


def read_lines(path: Path) -> Iterator[str]:
    """Lines with their ends, without a byte order mark. Raises BertileError naming the file, and the line of bad text.

    Only a line feed ends a line, so that the numbers are those an editor or `sed -n` shows.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if b"\0" in line:
                    raise BertileError(f"{path}: line {number}: a NUL byte; is this a text file?")
                try:
                    yield line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError:
                    raise BertileError(f"{path}: line {number}: not UTF-8 text") from None
    except OSError as error:
        raise BertileError(f"{path}: {error.strerror}") from None


def read_table(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and stripped fields of each row: the header, then rows just as wide. Empty lines are skipped.

    Raises BertileError naming the file and the line: not UTF-8, NUL, a row of another width, no rows at all.
    """
    reader = csv.reader(read_lines(path), delimiter="\t", quoting=csv.QUOTE_NONE)
    header: list[str] | None = None
    rows = 0
    try:
        for fields in reader:
            if not fields:
                continue
            fields = [field.strip() for field in fields]
            if header is None:
                header = fields
            elif len(fields) != len(header):
                raise BertileError(f"{path}: line {reader.line_num}: {len(fields)} fields for {len(header)} columns")
            else:
                rows += 1
            yield reader.line_num, fields
    except csv.Error as error:
        raise BertileError(f"{path}: line {reader.line_num}: {error}") from None
    if header is None:
        raise BertileError(f"{path}: empty")
    if not rows:
        raise BertileError(f"{path}: a header and no rows")


def read_header(path: Path) -> list[str]:
    """Column names. Raises BertileError."""
    return next(read_table(path))[1]
