"""The container of an `.xclbin` (axlf): header, section table, sections. Layouts as in XRT's xclbin.h."""

from __future__ import annotations

import hashlib
import struct
import uuid
from dataclasses import dataclass
from enum import IntEnum

from bertile.errors import FormatError

MAGIC = b"xclbin2\0"
# magic, signature length, reserved, key block, unique id.
FRONT = struct.Struct("<8si28s256sQ")
# length, times of the file and the feature ROM, version (patch, major, minor), mode, actions, feature ROM, platform,
# uuid, name of the debug binary, sections. In C the structure is padded to eight bytes.
HEADER = struct.Struct("<QQQHBBHH16s64s16s16sI4x")
SECTION = struct.Struct("<I16s4xQQ")
ALIGNMENT = 8
VERSION = (0, 2, 13)  # patch, major, minor
MOST_SECTIONS = 0x10000  # what XRT accepts


class Section(IntEnum):
    """Kinds of sections that are written here, or named when read."""

    BITSTREAM = 0
    CLEARING_BITSTREAM = 1
    EMBEDDED_METADATA = 2
    FIRMWARE = 3
    DEBUG_DATA = 4
    SCHED_FIRMWARE = 5
    MEM_TOPOLOGY = 6
    CONNECTIVITY = 7
    IP_LAYOUT = 8
    DEBUG_IP_LAYOUT = 9
    CLOCK_FREQ_TOPOLOGY = 11
    BUILD_METADATA = 14
    KEYVALUE_METADATA = 15
    USER_METADATA = 16
    PARTITION_METADATA = 20
    EMULATION_DATA = 21
    SYSTEM_METADATA = 22
    GROUP_TOPOLOGY = 26
    GROUP_CONNECTIVITY = 27


MODES = {0: "hw", 1: "hw", 2: "hw", 3: "hw", 4: "hw_emu", 5: "sw_emu", 6: "hw_emu"}
SW_EMU = 5


@dataclass(frozen=True)
class Container:
    """An xclbin: platform name, mode (hw, hw_emu, sw_emu), and the bytes of its sections by kind."""

    platform: str
    mode: str
    uuid: uuid.UUID
    sections: dict[int, bytes]

    @property
    def section_names(self) -> tuple[str, ...]:
        return tuple(Section(kind).name if kind in set(Section) else f"SECTION_{kind}" for kind in self.sections)


def content_uuid(platform: str, sections: dict[int, bytes]) -> uuid.UUID:
    """The same for the same content."""
    digest = hashlib.sha256(platform.encode())
    for kind, data in sorted(sections.items()):
        digest.update(struct.pack("<IQ", kind, len(data)) + data)
    return uuid.UUID(bytes=digest.digest()[:16], version=4)


def aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def encode_container(platform: str, sections: dict[int, bytes]) -> bytes:
    """A file for software emulation, without a time: the same content makes the same bytes."""
    offset = aligned(FRONT.size + HEADER.size + SECTION.size * len(sections))
    table, body = b"", b""
    for kind, data in sections.items():
        table += SECTION.pack(kind, b"", offset + len(body), len(data))
        body += data.ljust(aligned(len(data)), b"\0")
    identity = content_uuid(platform, sections)
    front = FRONT.pack(MAGIC, -1, b"\xff" * 28, b"", int.from_bytes(identity.bytes[:8], "little"))
    header = HEADER.pack(
        offset + len(body), 0, 0, *VERSION, SW_EMU, 0, b"", platform.encode(), identity.bytes, b"", len(sections)
    )
    return (front + header + table).ljust(offset, b"\0") + body


def text_of(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode(errors="replace")


def decode_container(data: bytes, name: str) -> Container:
    """What is in a file; `name` is for messages. Raises FormatError for what is no xclbin, or not all of one."""
    if data[: len(MAGIC)] != MAGIC:
        raise FormatError(f"{name} is not an xclbin: it does not begin with {MAGIC[:-1].decode()!r}")
    if len(data) < FRONT.size + HEADER.size:
        raise FormatError(f"{name} is a truncated xclbin: {len(data)} bytes, its header alone has more")
    header = HEADER.unpack_from(data, FRONT.size)
    length, mode, platform, identity, count = header[0], header[6], header[9], header[10], header[12]
    if length > len(data):
        raise FormatError(f"{name} is a truncated xclbin: {len(data)} bytes of {length}")
    if mode not in MODES:
        raise FormatError(f"{name}: no such xclbin mode: {mode}")
    first = FRONT.size + HEADER.size
    if count > MOST_SECTIONS or first + count * SECTION.size > length:
        raise FormatError(f"{name}: a table of {count} sections does not fit the xclbin")
    sections: dict[int, bytes] = {}
    for index in range(count):
        kind, _, offset, size = SECTION.unpack_from(data, first + index * SECTION.size)
        if offset + size > length:
            raise FormatError(f"{name}: section {kind} of the xclbin ends at {offset + size}, behind its end {length}")
        sections.setdefault(kind, data[offset : offset + size])
    return Container(text_of(platform), MODES[mode], uuid.UUID(bytes=identity), sections)
