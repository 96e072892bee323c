"""The grid of experiments: what it runs, in which order, and the record of a run."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fine_tuned import make_classifier

from bertile.config.paths import ROOT
from bertile.errors import BertileError
from bertile.experiments import __main__ as program
from bertile.experiments.grid import Step, read_grid
from bertile.report.runs import read_runs, write_run

GRID = """
[[encoder]]
name = "{task}-half-s{seed}"
command = "bertile prune {work}/{task}-dense --task {task} --data {data} --method gradual --pattern {pattern} \
--sparsity {sparsity} --seed {seed} --max-steps 6 --batch-size 8 -o {work}/{name}"

[[experiment]]
name = "{task}-dense"
method = "dense"
command = "bertile train {data}/../tiny --task {task} --data {data} --max-steps 60 --batch-size 8 --learning-rate 1e-3 \
--set train.dropout=0 -o {work}/{name}"
cases = [{ tasks = ["mrpc"] }]

[[experiment]]
name = "{task}-gradual-{percent}-s{seed}"
method = "gradual"
encoder = "{task}-half-s{seed}"
comment = "a test"
command = "bertile train {work}/{encoder} --task {task} --data {data} --seed {seed} --max-steps 3 --batch-size 8 \
-o {work}/{name}"
cases = [{ pattern = "1x16", sparsity = 0.5, tasks = ["mrpc"], seeds = [2] }]
"""


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["experiments", *map(str, arguments)])
    assert program.main() == 0


def options_of(place: Path) -> tuple:
    folders = ("--work", place / "work", "--runs", place / "runs")
    return ("--data", place / "glue", "--grid", place / "grid.toml", *folders)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "grid.toml").write_text(GRID)
    make_classifier(tmp_path / "tiny", labels=("not_equivalent", "equivalent"))
    (tmp_path / "glue" / "MRPC").mkdir(parents=True)
    words = ("rain", "snow", "wind", "sun")
    rows = [
        f"{a} fell on the {c}\t{b} fell on the {c}\t{int(a in words[:2])}" for a in words for b in words for c in "xyz"
    ]
    for split, part in (("train", rows), ("dev", rows[::2])):
        lines = ["sentence1\tsentence2\tlabel", *part]
        (tmp_path / "glue" / "MRPC" / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_the_grid_is_read(place):
    dense, pruned = read_grid(place / "grid.toml")
    assert (dense.name, dense.pattern, dense.sparsity, len(dense.steps)) == ("mrpc-dense", "", 0.0, 1)
    assert (pruned.name, pruned.seed, pruned.comment) == ("mrpc-gradual-50-s2", 2, "a test")
    first, last = pruned.steps
    assert first == Step(
        "mrpc-half-s2",
        "bertile prune {work}/mrpc-dense --task mrpc --data {data} --method gradual --pattern 1x16 --sparsity 0.5 "
        "--seed 2 --max-steps 6 --batch-size 8 -o {work}/mrpc-half-s2",
    )
    assert "train {work}/mrpc-half-s2 --task mrpc" in last.command


def test_the_real_grid_is_complete():
    """What the results need, and every encoder's command is there."""
    names = {experiment.name for experiment in read_grid(ROOT / "docs" / "results" / "grid.toml")}
    for task in ("mrpc", "stsb", "sst2"):
        assert {f"{task}-dense", *(f"{task}-reconstruct-1x16-{share}-s0" for share in (50, 75, 90))} <= names
        assert {f"{task}-reconstruct-16x16-75-s0", f"{task}-reconstruct-1x16-75-s1"} <= names
    for task in ("mrpc", "stsb"):
        assert {f"{task}-{method}-1x16-75-s0" for method in ("group-lasso", "oneshot")} <= names
        others = ("32x32", "heads+neurons", "unstructured")
        assert {f"{task}-reconstruct-{pattern}-75-s0" for pattern in others} <= names
    plans = {experiment.name for experiment in read_grid(ROOT / "docs" / "results" / "search.toml")}
    compared = ("uniform", "global", "sensitivity", "search", "search-cycles")
    assert {f"{task}-{plan}-75-s0" for task in ("mrpc", "stsb") for plan in compared} <= plans


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ('encoder = "{task}-half-s{seed}"', 'encoder = "nothing"', "no encoder 'nothing'"),
        ("[[experiment]]", "[[experiments]]", "is broken: 'experiment'"),
        ("seeds = [2]", "seeds = [2, 2]", "is there twice"),
        ('name = "{task}-gradual-{percent}-s{seed}"', 'name = "{task}-half-s{seed}"', "mrpc-half-s2 is there twice"),
        ("[[encoder]]", "[[encoder]", "is broken"),
    ],
)
def test_broken_grids(old, new, cause, place):
    (place / "grid.toml").write_text(GRID.replace(old, new))
    with pytest.raises(BertileError, match=cause):
        read_grid(place / "grid.toml")


def test_what_is_missing_is_run_and_recorded(place, monkeypatch, capfd):
    run(monkeypatch, *options_of(place))
    dense, pruned = read_runs(place / "runs")
    assert (dense.method, dense.score_fp32, dense.dense, dense.vector_density) == ("dense", dense.dense, dense.dense, 1)
    assert dense.score_fp32 > dense.constant == pytest.approx(0.5)
    assert (pruned.pattern, pruned.sparsity_reached, pruned.dense) == ("1x16", 0.5, dense.score_fp32)
    assert pruned.vector_density == pytest.approx(0.5, abs=1e-3)
    assert pruned.cycles < dense.cycles
    assert (pruned.steps, pruned.seed, len(pruned.commands)) == (9, 2, 3)
    assert str(place) not in json.dumps(pruned.commands)
    capfd.readouterr()
    run(monkeypatch, *options_of(place)[2:], "--list")
    assert capfd.readouterr().out.split() == ["done", "mrpc-dense", "done", "mrpc-gradual-50-s2"]
    (place / "runs" / "mrpc-gradual-50-s2.json").unlink()
    run(monkeypatch, *options_of(place))  # the models are there: only scored again
    output = capfd.readouterr().out
    assert "$ bertile" not in output
    assert read_runs(place / "runs")[1].metrics_int8 == pruned.metrics_int8
    # A record of an older program, and one whose model is gone.
    write_run(replace(pruned, cycles=1, projected_ms={"300": 1.0, "250": 1.0}), place / "runs")
    (place / "work" / "mrpc-dense").rename(place / "work" / "elsewhere")
    run(monkeypatch, *options_of(place), "--recount")
    assert "left as it is" in capfd.readouterr().out
    assert read_runs(place / "runs") == [dense, pruned]


def test_a_failing_command_stops(place, monkeypatch):
    (place / "grid.toml").write_text(GRID.replace("--max-steps 60", "--max-steps sixty"))
    with pytest.raises(BertileError, match="mrpc-dense: its command failed"):
        run(monkeypatch, *options_of(place))
    with pytest.raises(BertileError, match="no such folder"):
        run(monkeypatch, "--data", place / "nowhere")
    with pytest.raises(BertileError, match="--data"):
        run(monkeypatch)
