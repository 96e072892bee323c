"""The contract: generated views are fresh, the digest follows the meaning, and C++ reads what Python writes."""

from __future__ import annotations

import re
import subprocess

import numpy as np
import pytest

from bertile.codegen import __main__ as command
from bertile.codegen.views import camel, codes, generate, sizes
from bertile.config.paths import ROOT, SPEC_FILE
from bertile.config.spec import load_spec, parse_spec
from bertile.devices.build import build_test_bench
from bertile.devices.csim import load_library

SPEC = load_spec()
TEXT = SPEC_FILE.read_text()
VIEWS = {path.relative_to(ROOT).as_posix(): text for path, text in generate(SPEC).items()}


@pytest.mark.parametrize("path", VIEWS)
def test_checked_in_view_is_fresh(path):
    assert (ROOT / path).read_text() == VIEWS[path], f"{path} is stale: run `make spec`"


def test_command_checks_and_writes(monkeypatch, tmp_path, capsys):
    view = tmp_path / "sub" / "view.hpp"
    monkeypatch.setattr(command, "ROOT", tmp_path)
    monkeypatch.setattr(command, "generate", lambda spec: {view: "text\n"})
    for arguments, code, printed in (
        (["--check"], 1, "stale: sub/view.hpp\n"),
        ([], 0, "wrote: sub/view.hpp\n"),
        (["--check"], 0, ""),
    ):
        monkeypatch.setattr(command.sys, "argv", ["codegen", *arguments])
        assert command.main() == code
        assert capsys.readouterr().out == printed
    assert view.read_text() == "text\n"


def digest_of(text: str) -> str:
    """The digest, or why the contract is refused."""
    try:
        return parse_spec(text).digest
    except ValueError as error:
        return str(error)


def test_every_number_changes_the_digest():
    """Sizes, codes, list elements, field offsets, field types and record sizes: each one, alone."""
    number = re.compile(r"(?<![\w.\"])\d\w*")
    changed = 0
    lines = TEXT.splitlines()
    for position, line in enumerate(lines):
        code = line.split("#")[0]
        field = re.match(r'(\s*\["\w+", "[ui]\d+", )\d+(, ")', code)
        places = [field.span()] if field else [match.span() for match in number.finditer(code)]
        for start, end in places:
            old = code[start:end]
            new = re.sub(r", \d+, ", ", 8192, ", old) if field else str(int(old, 0) + 1)
            assert new != old
            text = "\n".join([*lines[:position], code[:start] + new + code[end:], *lines[position + 1 :]])
            assert digest_of(text) != SPEC.digest, line
            changed += 1
    numbers = sum(1 for _ in sizes(SPEC)) - 2 + sum(1 for _ in codes(SPEC))  # two of them are derived
    fields = sum(len(record.fields) for record in SPEC.records.values())
    head_sizes = len(SPEC.capacity.head_sizes)
    assert changed == numbers + head_sizes - 1 + fields + len(SPEC.records)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('["opcode", "u8", 0, "opcode"]', '["operation", "u8", 0, "opcode"]'),  # a name
        ('["limit_low", "i16", 26', '["limit_low", "u16", 26'),  # a sign
        ('["tile_offset", "u32", 24', '["tile_offset", "u16", 24'),  # a width
        ("gelu_index_bits = 10", "activation_index_bits = 10"),
        ("[record.status]", "[record.state]"),
    ],
)
def test_names_and_types_change_the_digest(old, new):
    assert TEXT.count(old) == 1
    assert parse_spec(TEXT.replace(old, new)).digest != SPEC.digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# A word is one feature", "# A word is the feature"),
        ('"first row block of the sequence"', '"row block where the sequence starts"'),
        ("tokens = 32\n", "tokens   =   32   # lanes\n"),
        ("0x454C5442", "1162630210"),
        ("halt = 0\ngemm = 1\n", "gemm = 1\nhalt = 0\n"),
    ],
)
def test_prose_layout_and_order_do_not_change_the_digest(old, new):
    assert TEXT.count(old) == 1
    assert parse_spec(TEXT.replace(old, new)).digest == SPEC.digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('["post", "u8", 1,', '["post", "u8", 0,'),  # overlaps
        ('["descriptors", "u32", 12,', '["descriptors", "u32", 13,'),  # not aligned
        ('["context_numerator", "u32", 44,', '["context_numerator", "u32", 64,'),  # behind the end
        ('["tokens", "u16", 2,', '["tokens", "u32", 4,'),  # behind the end
    ],
)
def test_record_that_is_not_well_formed_is_refused(old, new):
    assert TEXT.count(old) == 1
    with pytest.raises(ValueError, match="overlaps, is not aligned or does not fit"):
        parse_spec(TEXT.replace(old, new))


def test_tile_memory_holds_four_of_the_longest_tiles():
    smallest = 4 * SPEC.capacity.tile_beats
    old = f"tile_memory_beats = {SPEC.capacity.tile_memory_beats}\n"
    assert TEXT.count(old) == 1
    assert parse_spec(TEXT.replace(old, f"tile_memory_beats = {smallest}\n"))
    with pytest.raises(ValueError, match="holds less than four times tile_beats"):
        parse_spec(TEXT.replace(old, f"tile_memory_beats = {smallest - 1}\n"))


@pytest.mark.parametrize(
    ("record", "field", "value"),
    [
        ("descriptor", "opcode", 256),
        ("descriptor", "opcode", -1),
        ("descriptor", "tile_offset", 1 << 32),
        ("command", "limit_low", -32769),
        ("command", "limit_high", 32768),
        ("tile_parameter", "bias", 1 << 31),
        ("layernorm_header", "epsilon", 1 << 63),
    ],
)
def test_value_that_does_not_fit_is_refused(record, field, value):
    with pytest.raises(ValueError, match=rf"{record}.{field}: {value} does not fit"):
        SPEC.records[record].encode(**{field: value})


def test_unknown_field_and_section_are_refused():
    with pytest.raises(ValueError, match="record status has no field colour"):
        SPEC.records["status"].encode(colour=1)
    with pytest.raises(AttributeError, match="no section colour"):
        _ = SPEC.colour


def values_of(name: str, row: np.void) -> dict[str, int]:
    return {field.name: int(row[field.name]) for field in SPEC.records[name].fields}


def test_python_and_cpp_agree_on_every_record():
    """C++ reads any bytes as Python does, and writes the bytes that Python writes."""
    rng = np.random.default_rng(1)
    lines, expected = [], []
    for name, record in SPEC.records.items():
        samples = [bytes(record.bytes), b"\xff" * record.bytes, b"\x80" * record.bytes]
        samples += [rng.bytes(record.bytes) for _ in range(20)]
        for data in samples:
            values = values_of(name, record.decode(data)[0])
            lines.append(f"{name} {data.hex()}")
            fields = [f"{key}={value}" for key, value in values.items()]
            expected.append(" ".join([*fields, record.encode(**values).hex()]))
    program = build_test_bench("tb_records")
    answer = subprocess.run([program], input="\n".join(lines), capture_output=True, text=True, timeout=60, check=True)
    assert answer.stdout.splitlines() == expected
    assert len(expected) == 23 * len(SPEC.records)


def test_library_has_the_digest():
    assert load_library().bertile_csim_spec_digest() == SPEC.digest_word


def test_systemverilog_structs_have_the_bytes_and_offsets_of_their_records():
    package = VIEWS["rtl/pkg/bertile_pkg.sv"]
    checked = 0
    for record in SPEC.records.values():
        body = re.search(rf"typedef struct packed \{{([^}}]*)\}} {record.name}_t;", package)[1]
        members = re.findall(r"logic (?:signed )?\[(\d+):0\] (\w+);", body)
        offset = 0
        positions = {}
        for high, name in reversed(members):  # the last member is in the lowest bits
            positions[name] = (offset // 8, (int(high) + 1) // 8)
            offset += int(high) + 1
        assert offset == 8 * record.bytes
        for field in record.fields:
            assert positions[field.name] == (field.offset, field.bytes)
            checked += 1
    assert checked == sum(len(record.fields) for record in SPEC.records.values())


def test_names_have_one_stem():
    """`tile_beats` is `kCapacityTileBeats` and `CapacityTileBeats`, with the same value."""
    header, package = VIEWS["hls/include/bertile_spec.hpp"], VIEWS["rtl/pkg/bertile_pkg.sv"]
    names = [*sizes(SPEC), *codes(SPEC)]
    for name, value in names:
        assert f"static const int k{camel(name)} = {value};" in header
        assert f"localparam int unsigned {camel(name)} = {value};" in package
    assert len({name for name, _ in names}) == len(names)
