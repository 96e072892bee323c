"""The emulated card of the tests, small models on it, and host programs as processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tests.random_encoder import encoder_config, random_quantized

from bertile.config.paths import ROOT
from bertile.errors import DeviceError
from bertile.golden.integer import IntegerEncoder
from bertile.inference import embed_tokens, run_sequences
from bertile.pack.container import load_packed, save_packed
from bertile.pack.packer import PackedModel, pack_encoder, unpack_encoder

HOST = Path(__file__).with_name("host.py")
CARD_PROGRAM = "genericpciemodel"


@dataclass(frozen=True)
class Outcome:
    """How a host program ended."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def result(self) -> dict:
        assert self.returncode == 0, self.stderr
        return json.loads(self.stdout.splitlines()[-1])


def card_processes(mark: int) -> list[str]:
    """Emulated cards of the host that was started with this mark."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            command = (folder / "cmdline").read_bytes().decode()
            environment = (folder / "environ").read_bytes().decode()
        except (OSError, UnicodeDecodeError):
            continue
        if CARD_PROGRAM in command and f"BERTILE_TEST_HOST={mark}" in environment:
            found.append(folder.name)
    return found


@dataclass(frozen=True)
class Host:
    """A host program under way."""

    process: subprocess.Popen
    mark: int

    def wait(self, seconds: float = 120.0) -> Outcome:
        """Its end, which must come, and no card of it may be left."""
        try:
            stdout, stderr = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            stdout, stderr = self.process.communicate()
            pytest.fail(f"the host hangs: {stdout[-2000:]} {stderr[-2000:]}")
        deadline = time.monotonic() + 5
        while (orphans := card_processes(self.mark)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not orphans, f"card processes {orphans} outlive their host"
        return Outcome(self.process.returncode, stdout, stderr)

    def await_line(self, text: str) -> None:
        """Until it prints this line."""
        line = self.process.stdout.readline()
        assert line.strip() == text, f"{line!r}, {self.process.stderr.read() if not line else ''}"


class Card:
    """An emulated card and host programs for it."""

    def __init__(self, xclbin: Path, folder: Path):
        self.xclbin, self.folder, self.marks = xclbin, folder, 0

    def start(self, *command: object, **environment: str) -> Host:
        """Start a program in a session of its own, as XRT may signal its whole process group."""
        self.marks += 1
        mark = os.getpid() * 1000 + self.marks
        variables = {**os.environ, "BERTILE_TEST_HOST": str(mark), "BERTILE_EMU_LOG": str(self.folder / "card.log")}
        variables["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env={**variables, **environment},
            start_new_session=True,
        )
        return Host(process, mark)

    def scenario(
        self, name: str, model: Path, seconds: float = 120.0, program: Path = HOST, **environment: str
    ) -> Outcome:
        """Run a scenario of host.py, or of another program like it, to its end."""
        return self.start(program, name, self.xclbin, model, **environment).wait(seconds)

    def bertile(self, *arguments: object, **environment: str) -> Outcome:
        """The command line."""
        return self.start("-m", "bertile.cli.main", *arguments, **environment).wait()


@pytest.fixture(scope="session")
def built_card() -> Path:
    """The xclbin of the emulated card with the C-simulated engine; without XRT, its tests are skipped and say so."""
    from bertile.emulation.build import build_emulation, xrt_libraries

    try:
        xrt_libraries()
        import importlib.util

        if importlib.util.find_spec("bertile.runtime._xrt") is None:
            raise DeviceError("bertile.runtime._xrt is not built")
    except DeviceError as error:
        pytest.skip(f"NO XRT: the host runtime was NOT tested ({error}); apt install libxrt-dev, then make setup")
    return build_emulation("csim")


@pytest.fixture
def card(built_card: Path, tmp_path: Path) -> Card:
    """A card of this test alone."""
    folder = tmp_path / "card"
    folder.mkdir()
    xclbin = folder / built_card.name
    xclbin.write_bytes(built_card.read_bytes())
    return Card(xclbin, folder)


@dataclass(frozen=True)
class PackedFile:
    """A packed model and what the integer reference says of it."""

    path: Path
    packed: PackedModel

    def hidden_states(self, sequences: list[np.ndarray]) -> list[np.ndarray]:
        """Of token ids."""
        return run_sequences(self.packed, IntegerEncoder(unpack_encoder(self.packed)), sequences)

    def inputs(self, sequences: list[np.ndarray]) -> list[np.ndarray]:
        return [embed_tokens(self.packed, ids) for ids in sequences]


def pack_tiny(folder: Path) -> PackedFile:
    """Two small layers with random weights."""
    path = folder / "tiny.bertile"
    save_packed(pack_encoder(random_quantized(encoder_config(64, 112, 2), 1)), path)
    return PackedFile(path, load_packed(path))


def pack_dealt(folder: Path) -> PackedFile:
    """Two small layers for one unit or three together: 4 tiles, and no head for one of the three."""
    path = folder / "dealt.bertile"
    save_packed(pack_encoder(random_quantized(encoder_config(64, 112, 2), 3), units=3), path)
    return PackedFile(path, load_packed(path))


def pack_minilm(folder: Path) -> PackedFile:
    """The bundled MiniLM, unpruned."""
    path = folder / "minilm.bertile"
    command = [sys.executable, "-m", "bertile.cli.main", "pack", "minilm", "-o", str(path)]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    return PackedFile(path, load_packed(path))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> PackedFile:
    return pack_tiny(tmp_path_factory.mktemp("packed"))


@pytest.fixture(scope="session")
def dealt(tmp_path_factory: pytest.TempPathFactory) -> PackedFile:
    return pack_dealt(tmp_path_factory.mktemp("packed"))


@pytest.fixture(scope="session")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> PackedFile:
    return pack_minilm(tmp_path_factory.mktemp("packed"))
