"""Hosts with an emulated card, in processes of their own. Without XRT, what needs them is skipped."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.emulation.card_hosts import Host, LaunchFiles, await_true, build_host

from bertile.emulation.build import build_emulation, xrt_libraries
from bertile.emulation.environment import LOG_VARIABLE, emulation_environment
from bertile.errors import DeviceError


@pytest.fixture(scope="session")
def card_xclbin() -> Path:
    try:
        xrt_libraries()
    except DeviceError as error:
        pytest.skip(str(error))
    return build_emulation("csim")


@pytest.fixture(scope="session")
def program(card_xclbin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_host(tmp_path_factory.mktemp("host"))


@pytest.fixture(scope="session")
def launches(tmp_path_factory: pytest.TempPathFactory) -> list[LaunchFiles]:
    """One for each unit, all different."""
    folder = tmp_path_factory.mktemp("launches")
    lengths = [[33, 15, 64], [70, 5], [129]]
    return [LaunchFiles(folder / str(index), index + 1, tokens) for index, tokens in enumerate(lengths)]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "card.log"


@pytest.fixture
def start_host(
    program: Path, card_xclbin: Path, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Host]]:
    """`start_host(VARIABLE=value, ...)`: a host with the card open, its own working and temporary folder."""
    hosts: list[Host] = []
    temporaries: list[Path] = []

    def start(**variables: str) -> Host:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv(LOG_VARIABLE, str(log))
        folder = tmp_path / f"host{len(hosts)}"
        folder.mkdir()
        temporaries.append(Path(tempfile.mkdtemp(prefix="card-test-")))  # pytest's path is too long for a socket's
        environment = {**emulation_environment(card_xclbin), "USER": f"user-of-{os.getpid()}"}
        environment["TMPDIR"] = str(temporaries[-1])
        for name in variables:
            monkeypatch.delenv(name)
        hosts.append(Host(program, card_xclbin, {**environment, **variables}, folder))
        hosts[-1].temporary = temporaries[-1]
        hosts[-1].open()
        return hosts[-1]

    yield start
    for host in hosts:
        host.kill()
    for temporary in temporaries:
        # A card that is still ending may be removing the same files.
        assert await_true(lambda folder=temporary: shutil.rmtree(folder, ignore_errors=True) or not folder.exists())
