"""The emulated card's xclbin holds what the spec says, and any file is read or refused by name."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest

from bertile.config.kernels import ENCODER, ENGINE, Link, load_link
from bertile.emulation.axlf import FRONT, HEADER, SECTION, Section, content_uuid, decode_container, encode_container
from bertile.emulation.xclbin import decode_array, encode_xclbin, memory_port, read_xclbin_header
from bertile.errors import FormatError

LIBRARY = b"not really a library" * 13
MODE = FRONT.size + struct.calcsize("<QQQHBB")
SECTION_COUNT = FRONT.size + struct.calcsize("<QQQHBBHH16s64s16s16s")


@pytest.fixture
def link() -> Link:
    return load_link()


@pytest.fixture
def xclbin(tmp_path: Path, link: Link) -> Path:
    path = tmp_path / "some.xclbin"
    path.write_bytes(encode_xclbin(link, LIBRARY, "csim"))
    return path


def test_header_is_read_back(xclbin, link):
    header = read_xclbin_header(xclbin)
    assert (header.path, header.platform, header.mode, header.emulated) == (xclbin, link.platform, "sw_emu", True)
    assert header.sections == (
        "BITSTREAM", "MEM_TOPOLOGY", "IP_LAYOUT", "CONNECTIVITY", "GROUP_TOPOLOGY", "GROUP_CONNECTIVITY",
        "EMBEDDED_METADATA", "BUILD_METADATA",
    )  # fmt: skip
    assert decode_container(xclbin.read_bytes(), "x").sections[Section.BITSTREAM] == LIBRARY


def test_metadata_equals_the_spec(xclbin, link):
    header = read_xclbin_header(xclbin)
    assert list(header.kernels) == [ENCODER, ENGINE]
    encoder, engine = header.kernels[ENCODER], header.kernels[ENGINE]
    assert encoder.instances == tuple(unit.encoder for unit in link.units)
    assert engine.instances == tuple(unit.engine for unit in link.units)
    assert engine.arguments == ()
    expected = [
        (argument.name, argument.index, memory_port(argument.port), argument.offset, 8)
        for argument in link.kernels[ENCODER].arguments
    ]
    found = [(given.name, given.index, given.port, given.offset, given.size) for given in encoder.arguments]
    assert found == expected
    assert len(found) == 7


def test_every_argument_is_connected_to_the_bank_of_its_unit(xclbin, link):
    header = read_xclbin_header(xclbin)
    arguments = link.kernels[ENCODER].arguments
    assert header.connections == {
        (unit.encoder, argument.index): unit.bank for unit in link.units for argument in arguments
    }
    assert header.banks == tuple(name for name in link.banks if any(unit.bank == name for unit in link.units))
    assert len(header.banks) == len(link.units) < len(link.banks)


def test_banks_lie_end_to_end(xclbin, link):
    data = decode_container(xclbin.read_bytes(), "x").sections[Section.MEM_TOPOLOGY]
    assert struct.unpack_from("<i", data)[0] == len(link.banks)
    base = 0
    for index, size in enumerate(link.banks.values()):
        kibibytes, address = struct.unpack_from("<QQ", data, 8 + 40 * index + 8)
        assert (kibibytes << 10, address) == (size, base)
        base += size


def test_the_same_content_makes_the_same_file(link):
    first = encode_xclbin(link, LIBRARY, "csim")
    assert encode_xclbin(link, LIBRARY, "csim") == first
    identities = [
        decode_container(data, "x").uuid
        for data in (
            first,
            encode_xclbin(link, LIBRARY + b"!", "csim"),
            encode_xclbin(link, LIBRARY, "rtl"),
            encode_xclbin(replace(link, units=link.units[:2]), LIBRARY, "csim"),
        )
    ]
    assert len(set(identities)) == len(identities)
    assert content_uuid("a", {0: b"bc"}) != content_uuid("a", {0: b"b", 1: b"c"})


@pytest.mark.parametrize(
    ("mode", "name"), [(0, "hw"), (1, "hw"), (3, "hw"), (4, "hw_emu"), (5, "sw_emu"), (6, "hw_emu")]
)
def test_mode_tells_a_card_from_its_emulation(xclbin, mode, name):
    data = bytearray(xclbin.read_bytes())
    struct.pack_into("<H", data, MODE, mode)
    xclbin.write_bytes(data)
    header = read_xclbin_header(xclbin)
    assert (header.mode, header.emulated) == (name, name != "hw")


def test_unknown_mode_is_refused(xclbin):
    data = bytearray(xclbin.read_bytes())
    struct.pack_into("<H", data, MODE, 77)
    xclbin.write_bytes(data)
    with pytest.raises(FormatError, match=r"some\.xclbin: no such xclbin mode: 77"):
        read_xclbin_header(xclbin)


@pytest.mark.parametrize("data", [b"", b"xclbin", b"\x7fELF" + b"\0" * 600, b"xclbin0\0" + b"\0" * 600], ids=range(4))
def test_what_is_no_xclbin_is_refused(tmp_path, data):
    path = tmp_path / "no.xclbin"
    path.write_bytes(data)
    with pytest.raises(FormatError, match=r"no\.xclbin is not an xclbin"):
        read_xclbin_header(path)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(FormatError, match=r"cannot read .*none\.xclbin: No such file"):
        read_xclbin_header(tmp_path / "none.xclbin")


def test_every_truncation_is_refused(xclbin):
    data = xclbin.read_bytes()
    lengths = [*range(8, len(data), 97), FRONT.size, FRONT.size + HEADER.size, len(data) - 1]
    for length in lengths:
        xclbin.write_bytes(data[:length])
        with pytest.raises(FormatError, match=r"some\.xclbin is a truncated xclbin"):
            read_xclbin_header(xclbin)
    assert len(lengths) > 50


def test_broken_section_table_is_refused(xclbin):
    data = bytearray(xclbin.read_bytes())
    for count in (1 << 20, 5000):
        struct.pack_into("<I", data, SECTION_COUNT, count)
        xclbin.write_bytes(data)
        with pytest.raises(FormatError, match=f"a table of {count} sections"):
            read_xclbin_header(xclbin)
    struct.pack_into("<I", data, SECTION_COUNT, 1)
    struct.pack_into("<Q", data, FRONT.size + HEADER.size + SECTION.size - 8, len(data))
    xclbin.write_bytes(data)
    with pytest.raises(FormatError, match="section 0 of the xclbin ends at"):
        read_xclbin_header(xclbin)


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        (Section.EMBEDDED_METADATA, b"<project><kernel/></project>", "EMBEDDED_METADATA of the xclbin cannot be read"),
        (Section.EMBEDDED_METADATA, b"<project>", "EMBEDDED_METADATA of the xclbin cannot be read"),
        (Section.MEM_TOPOLOGY, struct.pack("<i", 2), "MEM_TOPOLOGY of the xclbin is too short"),
        (Section.CONNECTIVITY, struct.pack("<iiii", 1, 0, 0, 0), "CONNECTIVITY of the xclbin names what is not there"),
    ],
)
def test_broken_section_is_refused(tmp_path, kind, data, message):
    path = tmp_path / "bad.xclbin"
    path.write_bytes(encode_container("card", {int(kind): data}))
    with pytest.raises(FormatError, match=rf"bad\.xclbin: {message}"):
        read_xclbin_header(path)


def test_xclbin_without_kernels_is_read(tmp_path):
    """A file that only programs the shell, or one that is stripped."""
    path = tmp_path / "bare.xclbin"
    path.write_bytes(encode_container("card", {40: b"private"}))
    header = read_xclbin_header(path)
    assert (header.platform, header.kernels, header.banks, header.sections) == ("card", {}, (), ("SECTION_40",))


def test_negative_count_is_refused():
    with pytest.raises(FormatError, match="x of the xclbin is too short"):
        decode_array(struct.pack("<i", -1), SECTION, 4, "x")
