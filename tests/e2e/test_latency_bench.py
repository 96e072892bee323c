"""`python host/bench.py`, as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bertile.config.paths import ROOT

FIELDS = {"what", "device", "tokens", "batch", "sparsity", "latency_ms", "kind", "source"}
RUNTIMES = {"PyTorch FP32", "ONNX Runtime INT8", "OpenVINO FP32", "OpenVINO INT8", "ONNX Runtime INT8, static"}


def bench(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "host/bench.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[subprocess.CompletedProcess, dict, Path]:
    folder = tmp_path_factory.mktemp("bench")
    target, picture = folder / "new" / "bench.json", folder / "bench.png"
    outcome = bench("--smoke", "--shape", "bert-tiny", "--threads", 1, "--json", target, "--picture", picture)
    assert outcome.returncode == 0, outcome.stderr
    return outcome, json.loads(target.read_text()), picture


def test_rows_of_every_kind(run):
    _, results, _ = run
    assert all(set(row) >= FIELDS for row in results["rows"])
    assert {row["kind"] for row in results["rows"]} == {"measured", "projected", "published"}
    assert results["rejected"] == []


def test_every_runtime_was_measured_and_checked(run):
    _, results, _ = run
    measured = [row for row in results["rows"] if row["kind"] == "measured" and row["layers"]]
    assert {row["runtime"] for row in measured} == RUNTIMES
    for row in measured:
        assert 0 < row["p10_ms"] <= row["latency_ms"] <= row["p90_ms"]
        assert row["threads"] == 1
        assert row["cosine"] >= (0.9999 if "FP32" in row["runtime"] else 0.98)
    assert {(row["batch"], row["tokens"], row["sparsity"]) for row in measured} == {(1, 32, 0.0), (2, 32, 0.5)}


def test_the_card_is_projected_at_both_clocks(run):
    _, results, _ = run
    projected = [row for row in results["rows"] if row["kind"] == "projected"]
    assert sorted({row["megahertz"] for row in projected}) == [250, 300]
    assert all("not measured on a board" in row["source"] for row in projected)
    for row in projected:
        parts = row["cycles"] / row["megahertz"] / 1e3 + row["transfer_ms"] + row["round_trip_ms"]
        assert row["latency_ms"] == pytest.approx(parts)


def test_the_machine_is_described(run):
    _, results, _ = run
    machine = results["machine"]
    assert machine["threads"] == 1
    assert set(machine["versions"]) >= {"torch", "onnxruntime", "openvino"}
    assert len(machine["load_before"]) == len(machine["load_after"]) == 3


def test_table_and_picture(run):
    outcome, _, picture = run
    for text in (
        "OpenVINO INT8",
        "U200, 50% sparse, 300 MHz",
        "1 layer, projected, no board",
        "not measured on a board",
        "12.41 ms",
    ):
        assert text in " ".join(outcome.stdout.split())
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threads", 0], "--threads 0"),
        (["--shape", "bert-huge", "--smoke"], "unknown configuration 'bert-huge'"),
    ],
)
def test_bad_input_is_one_line(arguments, message):
    outcome = bench(*arguments)
    assert outcome.returncode == 2
    assert message in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1
