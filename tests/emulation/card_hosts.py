"""Hosts of the emulated card in processes of their own: XRT is never loaded by the tests themselves."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
from tests.random_encoder import encoder_config, random_quantized

from bertile.config.spec import load_spec
from bertile.devices.build import compiler
from bertile.devices.launch import encode_launch, from_words, lay_out, to_words
from bertile.golden.integer import IntegerEncoder
from bertile.pack.packer import pack_encoder

SPEC = load_spec()
ARGUMENTS = ("program", "weights", "parameters", "launch", "input_words", "output_words", "status")
OUTPUT, STATUS = ARGUMENTS.index("output_words"), ARGUMENTS.index("status")
GONE = b"\xff" * SPEC.packet.beat_bytes
REPLY_SECONDS = 30.0
END_SECONDS = 10.0
COMPLETED = "4"  # ERT_CMD_STATE_COMPLETED


def build_host(folder: Path) -> Path:
    """tests/emulation/card_host.cpp as a program."""
    program = folder / "card_host"
    command = [*compiler(), "-std=c++17", "-O1", "-Wall", "-Wextra", "-isystem", "/usr/include/xrt"]
    source = Path(__file__).with_name("card_host.cpp")
    subprocess.run(
        [*command, str(source), "-o", str(program), "-lxrt_coreutil", "-luuid", "-pthread"], check=True, timeout=120
    )
    return program


class LaunchFiles:
    """The buffers of a launch of a small random encoder, as files, and what must come out."""

    def __init__(self, folder: Path, seed: int, lengths: list[int]):
        folder.mkdir()
        model = random_quantized(encoder_config(64, 112, 2), seed)
        packed, rng = pack_encoder(model), np.random.default_rng(seed)
        sequences = [rng.integers(-128, 128, (tokens, 64)).astype(np.int8) for tokens in lengths]
        launch = lay_out(sequences)
        words = to_words(launch.rows)
        self.shape = (packed.config.layers, *words.shape)
        table = encode_launch(packed, launch, trace=True)
        status = np.zeros(SPEC.packet.beat_bytes, np.uint8)
        output = np.zeros(self.shape, np.int8)
        images = [packed.program, packed.weights, packed.parameters, table, words, output, status]
        self.files = [folder / name for name in ARGUMENTS]
        for file, image in zip(self.files, images, strict=True):
            image.tofile(file)
        self.expected = IntegerEncoder(model).run(sequences)

    def check(self, output: bytes, status: bytes) -> int:
        """Every value of every layer and an error-free status; the engine's cycles."""
        found = from_words(np.frombuffer(output, np.int8).reshape(self.shape))
        assert int((found == self.expected).sum()) == self.expected.size > 0
        record = SPEC.records["status"].decode(status)[0]
        assert (record["spec_digest"], record["error"]) == (SPEC.digest_word, SPEC.error.none)
        return int(record["engine_cycles"])


class Host:
    """A `card_host` process in a session of its own; it is killed when it does not answer."""

    def __init__(self, program: Path, xclbin: Path, environment: dict[str, str], folder: Path):
        self.xclbin, self.folder = xclbin, folder
        self.temporary = folder
        self.process = subprocess.Popen(
            [str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            cwd=folder,
            start_new_session=True,
        )
        self.received = b""

    def send(self, line: str) -> None:
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def reply(self, seconds: float = REPLY_SECONDS) -> str:
        """The next reply: what XRT prints between them is skipped."""
        selector, end = selectors.DefaultSelector(), time.monotonic() + seconds
        selector.register(self.process.stdout, selectors.EVENT_READ)
        while True:
            line, newline, rest = self.received.partition(b"\n")
            if newline:
                self.received = rest
                if line.startswith((b"ok", b"error")):
                    return line.decode()
                continue
            if not selector.select(max(0.0, end - time.monotonic())):
                self.kill()
                raise AssertionError(f"no answer after {seconds} s; the last was {self.received!r}")
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                raise AssertionError(f"the host has ended with {self.process.wait()}: {self.received!r}")
            self.received += data

    def __call__(self, line: str, seconds: float = REPLY_SECONDS) -> list[str]:
        """Words of the reply to a line, behind `ok`. An error is an AssertionError."""
        self.send(line)
        reply = self.reply(seconds)
        assert reply.startswith("ok"), f"{line}: {reply}"
        return reply.split()[1:]

    def open(self) -> None:
        self(f"open {self.xclbin}")

    def use(self, unit: str, launch: LaunchFiles) -> list[int]:
        """Buffers for a unit; their device addresses."""
        return [int(word) for word in self(f"use {unit} {' '.join(map(str, launch.files))}")]

    def read(self, unit: str, argument: int) -> bytes:
        file = self.folder / f"{unit}.{argument}"
        self(f"read {unit} {argument} {file}")
        data = file.read_bytes()
        file.unlink()
        return data

    def wait(self, unit: str, seconds: float = REPLY_SECONDS) -> None:
        assert self(f"wait {unit} {int(seconds * 1000)}", seconds)[0] == COMPLETED

    def check(self, unit: str, launch: LaunchFiles) -> int:
        """Wait for a run and compare all that came out; the engine's cycles."""
        self.wait(unit)
        return launch.check(self.read(unit, OUTPUT), self.read(unit, STATUS))

    def run(self, unit: str, launch: LaunchFiles) -> int:
        self.use(unit, launch)
        self(f"start {unit}")
        return self.check(unit, launch)

    def cards(self) -> list[int]:
        """Process numbers of its card processes."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        found = [int(child) for child in children.read_text().split()] if children.exists() else []
        return [child for child in found if command_of(child).endswith("/genericpciemodel")]

    def card(self) -> int:
        (card,) = self.cards()
        return card

    def end(self) -> None:
        """Close standard input: the host ends as a program does."""
        self.process.stdin.close()
        assert self.process.wait(END_SECONDS) == 0, self.process.stdout.read()

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            pipe.close()


def command_of(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text().split("\0")[0]
    except OSError:
        return ""


def alive(process: int) -> bool:
    """Not a zombie, either."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def await_true(condition, seconds: float = END_SECONDS) -> bool:
    """Whether the condition comes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def left_behind(host: Host) -> list[str]:
    """Files in the host's working and temporary folders, and in XRT's folder for its user's sockets."""
    shared = Path(f"/tmp/user-of-{os.getpid()}")
    return [str(path) for path in [*host.folder.rglob("*"), *host.temporary.rglob("*"), shared] if path.exists()]


def assert_lost(host: Host, unit: str) -> None:
    """The card is gone: everything still answers, with ones."""
    assert host.read(unit, STATUS) == GONE
    host(f"start {unit}")
    host.wait(unit)
    assert host.read(unit, STATUS) == GONE
    count = 3_000_000
    equal = int(host(f"copy {count} 0")[0])
    assert equal < count / 100
