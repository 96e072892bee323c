"""A card process that dies in the middle of its answer to a copy from the card: behind so many bytes of it ($CUT)."""

import os
import socket
import struct
import time

COPY_OUT, READ_CONTROL = 7, 11


def varint(value: int) -> bytes:
    parts = [value >> shift & 0x7F for shift in range(0, max(1, value.bit_length()), 7)]
    return bytes([*(part | 0x80 for part in parts[:-1]), parts[-1]])


def receive(card: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = card.recv(size - len(data))
        if not part:
            raise SystemExit
        data += part
    return data


def copied_bytes(message: bytes) -> int:
    """Length of field 3, behind field 2."""
    position = 2 + message[1]
    assert message[position] == 3 << 3 | 2
    value = shift = 0
    while True:
        position += 1
        value |= (message[position] & 0x7F) << shift
        shift += 7
        if message[position] < 0x80:
            return value


def main() -> None:
    card = socket.socket(socket.AF_UNIX)
    while card.connect_ex(os.environ["BERTILE_EMU_SOCKET"]):
        time.sleep(0.001)
    while True:
        _, size, _, call = struct.unpack("<BQBI", receive(card, 14))
        message = receive(card, size)
        reply = b"\x08\x01"
        if call == READ_CONTROL:
            reply += b"\x12" + varint(4) + struct.pack("<I", 6)
        if call == COPY_OUT:
            count = copied_bytes(message)
            reply = b"\x08" + varint(count) + b"\x12" + varint(count) + bytes(count)
            card.sendall((b"\x09" + struct.pack("<Q", len(reply)) + reply)[: int(os.environ["CUT"])])
            return
        card.sendall(b"\x09" + struct.pack("<Q", len(reply)) + reply)


main()
