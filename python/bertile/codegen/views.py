"""Generated views of the contract: a C++ header, a SystemVerilog package and the documentation's tables.

Views for the Vitis tools are in `bertile.vitis.views`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bertile.config.paths import ROOT
from bertile.config.spec import Record, Spec
from bertile.vitis import views as vitis_views

NOTICE = "Generated from spec/accelerator.toml by `make spec`; do not edit."
# Sections that are lists of codes rather than sizes.
CODES = ("opcode", "post", "engine_opcode", "word_kind", "flag", "launch_flag", "error", "engine_error")
SIZES = ("contract", "word", "array", "packet", "tile", "capacity", "stream", "cooperation", "law")
CPP_TYPES = {"u8": "uint8_t", "u16": "uint16_t", "u32": "uint32_t", "u64": "uint64_t",
             "i16": "int16_t", "i32": "int32_t", "i64": "int64_t"}  # fmt: skip


def camel(name: str) -> str:
    """tile_rows -> TileRows."""
    return "".join(part.capitalize() for part in name.split("_"))


def sizes(spec: Spec) -> Iterator[tuple[str, int]]:
    """Every plain number of the spec as (section_key, value); a list gives its largest element."""
    for section in SIZES:
        for key, value in vars(spec.sections[section]).items():
            yield f"{section}_{key}", max(value) if isinstance(value, list) else value
    yield "capacity_row_blocks", spec.row_blocks
    yield "capacity_activation_words", spec.activation_words


def codes(spec: Spec) -> Iterator[tuple[str, int]]:
    """Every code as (section_key, value)."""
    for section in CODES:
        for key, value in vars(spec.sections[section]).items():
            yield f"{section}_{key}", value


def cpp_record(record: Record) -> list[str]:
    """A plain struct and its decoder from bytes."""
    name = camel(record.name)
    lines = ["", f"struct {name} {{", f"  static const int kBytes = {record.bytes};"]
    lines += [f"  {CPP_TYPES[field.type]} {field.name};  // {field.doc}" for field in record.fields]
    lines += ["};", "", "template <typename Bytes>", f"inline {name} Decode{name}(const Bytes& bytes, int base = 0) {{"]
    lines += ["#pragma HLS INLINE", f"  {name} record;"]
    for field in record.fields:
        unsigned = CPP_TYPES["u" + field.type[1:]]
        parts = [
            f"({unsigned}(uint8_t(bytes[base + {field.offset + byte}])) << {8 * byte})" for byte in range(field.bytes)
        ]
        lines.append(f"  record.{field.name} = {CPP_TYPES[field.type]}(" + " | ".join(parts) + ");")
    lines += ["  return record;", "}", "", "template <typename Bytes>"]
    lines += [f"inline void Encode{name}(const {name}& record, Bytes& bytes, int base = 0) {{", "#pragma HLS INLINE"]
    for field in record.fields:
        for byte in range(field.bytes):
            lines.append(f"  bytes[base + {field.offset + byte}] = uint8_t(record.{field.name} >> {8 * byte});")
    return [*lines, "}"]


def cpp_header(spec: Spec) -> str:
    lines = [f"// {NOTICE}", "#pragma once", "", "#include <cstdint>", "", "namespace bertile {", ""]
    lines.append(f"static const uint64_t kSpecDigest = 0x{spec.digest_word:016X}ULL;")
    lines += [f"static const int k{camel(name)} = {value};" for name, value in sizes(spec)]
    lines.append("")
    lines += [f"static const int k{camel(name)} = {value};" for name, value in codes(spec)]
    for record in spec.records.values():
        lines += cpp_record(record)
    return "\n".join([*lines, "", "}  // namespace bertile", ""])


def sv_record(record: Record) -> list[str]:
    """A packed struct, last byte first, with its gaps named; little-endian like the bytes in memory."""
    members, end = [], record.bytes
    for field in sorted(record.fields, key=lambda field: -field.offset):
        gap = end - (field.offset + field.bytes)
        if gap:
            members.append(f"    logic [{8 * gap - 1}:0] reserved_{field.offset + field.bytes};")
        sign = "signed " if field.type.startswith("i") else ""
        members.append(f"    logic {sign}[{8 * field.bytes - 1}:0] {field.name};  // {field.doc}")
        end = field.offset
    if end:
        members.append(f"    logic [{8 * end - 1}:0] reserved_0;")
    return ["", "  typedef struct packed {", *members, f"  }} {record.name}_t;"]


def sv_package(spec: Spec) -> str:
    lines = [f"// {NOTICE}", "", "package bertile_pkg;", ""]
    lines.append(f"  localparam logic [63:0] SpecDigest = 64'h{spec.digest_word:016X};")
    lines += [f"  localparam int unsigned {camel(name)} = {value};" for name, value in sizes(spec)]
    lines.append("")
    lines += [f"  localparam int unsigned {camel(name)} = {value};" for name, value in codes(spec)]
    for record in spec.records.values():
        lines += sv_record(record)
    return "\n".join([*lines, "", "endpackage", ""])


def doc_tables(spec: Spec) -> str:
    lines = [f"<!-- {NOTICE} -->", "# Tables of the contract", "", f"Spec digest: `{spec.digest}`", ""]
    lines += ["## Sizes", "", "| name | value |", "|---|---|"]
    lines += [f"| `{name}` | {value} |" for name, value in sizes(spec)]
    lines += ["", "## Codes", "", "| name | value |", "|---|---|"]
    lines += [f"| `{name}` | {value} |" for name, value in codes(spec)]
    lines += ["", "## Records", "", "Little-endian; offsets in bytes; bytes not listed are zero."]
    for record in spec.records.values():
        lines += ["", f"### `{record.name}`: {record.bytes} bytes", "", "| offset | type | field | meaning |"]
        lines += ["|---|---|---|---|"]
        lines += [f"| {field.offset} | {field.type} | `{field.name}` | {field.doc} |" for field in record.fields]
    return "\n".join([*lines, ""])


def generate(spec: Spec) -> dict[Path, str]:
    """Every generated file and its text."""
    return {
        ROOT / "hls/include/bertile_spec.hpp": cpp_header(spec),
        ROOT / "rtl/pkg/bertile_pkg.sv": sv_package(spec),
        ROOT / "docs/spec-tables.md": doc_tables(spec),
        **vitis_views.views(),
    }
