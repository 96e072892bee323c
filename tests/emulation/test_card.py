"""The emulated card under unmodified XRT: bits, memory, and how it is opened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from tests.emulation.card_hosts import assert_lost

from bertile.config.kernels import load_link
from bertile.emulation import build
from bertile.emulation.build import build_emulation
from bertile.emulation.environment import BANK_VARIABLE, FAULT_VARIABLE, emulation_environment
from bertile.errors import DeviceError

UNITS = [unit.encoder for unit in load_link().units]


def test_three_units_at_once_equal_the_reference(start_host, launches):
    host = start_host()
    for unit, launch in zip(UNITS, launches, strict=True):
        host.use(unit, launch)
    for _ in range(3):
        for unit in UNITS:
            host(f"start {unit}")
        assert [host.check(unit, launch) for unit, launch in zip(UNITS, launches, strict=True)] == [0, 0, 0]
    host("close")
    host.end()


def test_units_run_at_the_same_time(start_host, launches):
    """Three launches of half a second each end together."""
    host = start_host(**{FAULT_VARIABLE: "slow:500"})
    for unit, launch in zip(UNITS, launches, strict=True):
        host.use(unit, launch)
    begin = time.monotonic()
    for unit in UNITS:
        host(f"start {unit}")
    for unit, launch in zip(UNITS, launches, strict=True):
        host.check(unit, launch)
    assert 0.5 <= time.monotonic() - begin < 1.4


def test_buffers_lie_in_the_bank_of_their_unit(start_host, launches):
    host, link, base = start_host(), load_link(), 0
    ranges = {}
    for name, size in link.banks.items():
        ranges[name] = (base, base + size)
        base += size
    for unit, launch in zip(link.units, launches, strict=True):
        first, end = ranges[unit.bank]
        addresses = host.use(unit.encoder, launch)
        assert all(first <= address < end for address in addresses)
        assert len(set(addresses)) == len(launch.files)


def test_copies_of_every_size_come_back(start_host):
    host = start_host()
    for size in (1, 63, 64, 4095, 4097, (8 << 20) - 1, 8 << 20, (8 << 20) + 1, 20_000_000):
        assert int(host(f"copy {size} 1")[0]) == size


def test_a_launch_costs_little_more_than_its_simulation(start_host, launches):
    """Of a table that the kernel refuses at once: what is left is XRT, the socket and the kernel's threads."""
    host = start_host()
    files = launches[0].files
    host(f"use {UNITS[0]} {' '.join(str(files[0] if file.name == 'launch' else file) for file in files)}")
    host(f"start {UNITS[0]}")
    host.wait(UNITS[0])
    count = 200
    assert float(host(f"repeat {UNITS[0]} {count}")[0]) / count < 0.01


def test_model_that_does_not_fit(start_host, launches):
    host = start_host(**{BANK_VARIABLE: "1M"})
    host.run(UNITS[1], launches[1])
    host.send(f"allocate {1 << 20} 1")
    assert host.reply() == "error std::bad_alloc"
    host.run(UNITS[1], launches[1])


@pytest.mark.parametrize("size", ["64", "3M", "64m", "1024M", "M", "-1M"])
def test_unknown_bank_size_is_refused(card_xclbin, monkeypatch, size):
    monkeypatch.setenv(BANK_VARIABLE, size)
    with pytest.raises(DeviceError, match=f"{BANK_VARIABLE}={size}: a power of two"):
        emulation_environment(card_xclbin)


def test_two_hosts_at_once(start_host, launches):
    """In one folder for temporary files: neither takes the other's for stale."""
    hosts = [start_host()]
    hosts.append(start_host(TMPDIR=str(hosts[0].temporary)))
    assert len(list(hosts[0].temporary.iterdir())) == 2
    assert hosts[0].card() != hosts[1].card()
    for host, launch in zip(hosts, launches, strict=False):
        for unit in UNITS:
            host.use(unit, launch)
    for _ in range(3):
        for host in hosts:
            for unit in UNITS:
                host(f"start {unit}")
        for host, launch in zip(hosts, launches, strict=False):
            for unit in UNITS:
                host.check(unit, launch)
    os.kill(hosts[0].card(), signal.SIGKILL)
    assert_lost(hosts[0], UNITS[0])
    hosts[1].run(UNITS[0], launches[0])


IN_PROCESS = """
import ctypes, os, subprocess, sys
from pathlib import Path
from bertile.emulation.environment import emulation_environment
xclbin, user = Path(sys.argv[1]), os.environ.get("USER")
os.environ.update(emulation_environment(xclbin))
xrt = ctypes.CDLL("libxrt_coreutil.so.2")
xrt.xrtDeviceOpen.restype = ctypes.c_void_p
xrt.xrtDeviceLoadXclbinFile.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
xrt.xrtDeviceClose.argtypes = [ctypes.c_void_p]
device = xrt.xrtDeviceOpen(0)
assert device
assert xrt.xrtDeviceLoadXclbinFile(device, str(xclbin).encode()) == 0
# Another child of the process dies: XRT alone would end the whole process group.
assert subprocess.run(["sh", "-c", "kill -9 $$"]).returncode == -9
children = subprocess.Popen(["sh", "-c", "exit 3"])
xrt.xrtDeviceClose(device)
assert children.wait() == 3  # and would have taken this
assert os.environ.get("USER") == user
print("closed")
"""


@pytest.mark.parametrize("user", [None, "somebody"])
def test_environment_can_be_set_in_the_process(card_xclbin, tmp_path, user):
    """Before the first call of XRT; with and without $USER, from Python, whose other children are left alone."""
    environment = {name: value for name, value in os.environ.items() if name != "USER"}
    with tempfile.TemporaryDirectory(prefix="card-test-") as temporary:
        environment |= {"TMPDIR": temporary} | ({"USER": user} if user else {})
        command = [sys.executable, "-c", IN_PROCESS, str(card_xclbin)]
        result = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, start_new_session=True
        )
        assert (result.returncode, result.stdout.strip()) == (0, "closed"), result.stderr
        assert [*tmp_path.iterdir(), *Path(temporary).iterdir()] == []


def test_second_xclbin_replaces_the_first(start_host, launches, card_xclbin, tmp_path):
    host = start_host()
    host.run(UNITS[0], launches[0])
    host("close")
    host.xclbin = tmp_path / "copy.xclbin"
    host.xclbin.write_bytes(card_xclbin.read_bytes())
    host.open()
    host.run(UNITS[2], launches[2])


def test_xclbin_of_other_kernels_is_refused(start_host, card_xclbin, log, tmp_path):
    """A card that cannot load the kernels is gone, and says why."""
    host = start_host()
    host("close")
    library = card_xclbin.parent / "objects" / "libbertile_card.so"
    data = card_xclbin.read_bytes()
    assert data.count(library.read_bytes()) == 1
    host.xclbin = tmp_path / "other.xclbin"
    host.xclbin.write_bytes(data.replace(library.read_bytes(), b"x" * library.stat().st_size))
    host.send(f"open {host.xclbin}")
    host.reply()
    assert "the kernels in the xclbin cannot be loaded" in log.read_text()


def test_board_xclbin_is_refused(card_xclbin, tmp_path):
    board = tmp_path / "board.xclbin"
    data = bytearray(card_xclbin.read_bytes())
    data[data.index(b"\x05\0", 300)] = 0
    board.write_bytes(data)
    with pytest.raises(DeviceError, match=r"board\.xclbin is for mode hw; the emulated card runs sw_emu"):
        emulation_environment(board)


def test_missing_xrt_is_told(monkeypatch):
    monkeypatch.setattr(build, "find_library", lambda name: None)
    with pytest.raises(DeviceError, match="Debian packages libxrt-dev and libxrt1"):
        build_emulation()


def test_building_again_changes_nothing(card_xclbin):
    before = {path: path.stat().st_mtime_ns for path in [card_xclbin, build.GUARD, build.CARD_PROGRAM]}
    assert build_emulation("csim") == card_xclbin
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.slow
def test_rtl_engine_on_the_card(start_host, launches):
    """Three Verilated engines at once; cycles come from the engines, not from the clock on the wall."""
    host = start_host()
    host("close")
    host.xclbin = build_emulation("rtl")
    host.open()
    cycles = []
    for _ in range(2):
        for unit, launch in zip(UNITS, launches, strict=True):
            host.use(unit, launch)
            host(f"start {unit}")
        cycles.append([host.check(unit, launch) for unit, launch in zip(UNITS, launches, strict=True)])
    assert cycles[0] == cycles[1]
    assert min(cycles[0]) > 1000
    assert len(set(cycles[0])) == len(UNITS)
