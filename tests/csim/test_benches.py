"""The C++ test benches of the HLS kernels: each has its own scalar reference and counts its cases."""

from __future__ import annotations

import re
import subprocess

import pytest

from bertile.devices.build import build_test_bench

# Cases a bench must pass: fewer would mean that some did not run.
CASES = {
    "tb_engine": 30,
    "tb_engine_errors": 73,
    "tb_sequencer": 17,
    "tb_softmax": 14,
    "tb_layernorm": 12,
    "tb_mac_array": 5,
    "tb_deadlock": 10,
    "tb_timing": 19,
}


def passed_cases(name: str, sanitize: bool) -> int:
    """Build and run a bench; its number of passed cases."""
    program = build_test_bench(name, sanitize)
    result = subprocess.run([program], capture_output=True, text=True, timeout=300, check=False)
    report = f"{name} exited with {result.returncode}\n{result.stdout}\n{result.stderr}"
    assert result.returncode == 0, report
    assert "FAIL" not in result.stdout, report
    summary = re.fullmatch(r"(\d+) passed, 0 failed", result.stdout.splitlines()[-1])
    assert summary, report
    assert result.stdout.count("\npass ") + result.stdout.startswith("pass ") == int(summary[1]), report
    return int(summary[1])


@pytest.mark.parametrize("name", CASES)
def test_bench(name):
    assert passed_cases(name, sanitize=False) == CASES[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_bench_with_address_and_undefined_behaviour_checks(name):
    assert passed_cases(name, sanitize=True) == CASES[name]
