"""The accuracy pages are computed from hand-made records: limits, comparisons, what is missing, and every number."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from itertools import pairwise

import pytest

from bertile.errors import BertileError
from bertile.prune.schedule import METHODS
from bertile.report import accuracy_pictures, results
from bertile.report.accuracy import COMPARISONS, accuracy_lines, group_runs
from bertile.report.runs import TASKS, RunRecord, read_runs, write_run

# Constant and dense score of each task: no two alike, so that a mix-up shows.
REFERENCES = {"mrpc": (0.684, 0.87), "stsb": (0.0, 0.885), "sst2": (0.509, 0.92)}
PACKED = json.loads(results.SOURCE.read_text())
TRAINING = json.loads(results.TRAINING.read_text())


def run(task: str, method: str, pattern: str, sparsity: float, kept: float, seed: int = 0, **changes) -> RunRecord:
    """A record whose INT8 retention is `kept`, with other numbers that no other record has."""
    constant, dense = REFERENCES[task]
    int8 = constant + kept * (dense - constant)
    fp32 = dense if method == "dense" else int8 + 0.003
    unique = len(method) + 100 * seed + int(1000 * kept)
    metric = "spearman" if task == "stsb" else "accuracy"
    record = RunRecord(
        name=f"{task}-{method}-{pattern or 'none'}-{int(100 * sparsity)}-s{seed}", task=task, model="minilm",
        method=method, pattern=pattern, sparsity=sparsity, sparsity_reached=sparsity, seed=seed, metric=metric,
        metrics_fp32={metric: fp32}, metrics_int8={metric: int8}, constant=constant, dense=dense, score_fp32=fp32,
        score_int8=int8, vector_density=1 - sparsity, tokens=128, cycles=120_000 + unique,
        projected_ms={"300": 0.4 + unique / 1e5, "250": 0.5 + unique / 1e5}, epochs=3.0, steps=345,
        train_seconds=400.0, hardware="2 cores, AMD EPYC", distill="logits,hidden", comment="",
        commands=[f"bertile train --seed {seed}"],
    )  # fmt: skip
    return dataclasses.replace(record, **changes)


def over_tasks(method: str, pattern: str, sparsity: float, *kept: float, seed: int = 0) -> list[RunRecord]:
    return [run(task, method, pattern, sparsity, share, seed) for task, share in zip(TASKS, kept, strict=True)]


def everything() -> list[RunRecord]:
    """What makes a page without anything missing; 75 % with two seeds on MRPC."""
    return [
        *over_tasks("dense", "", 0.0, 0.999, 0.997, 0.998),
        *over_tasks("oneshot", "1x16", 0.5, 0.985, 0.979, 0.982),  # mean 0.982
        *over_tasks("oneshot", "1x16", 0.75, 0.95, 0.93, 0.79),  # mean 0.89, one under 0.80
        run("mrpc", "oneshot", "1x16", 0.75, 0.97, seed=1),
        *over_tasks("group-lasso", "1x16", 0.75, 0.94, 0.92, 0.87),
        *over_tasks("oneshot", "1x16", 0.9, 0.71, 0.72, 0.73),
        *over_tasks("oneshot", "16x16", 0.75, 0.80, 0.69, 0.61),
        *over_tasks("oneshot", "unstructured", 0.75, 0.96, 0.955, 0.951),
    ]


def page(records: list[RunRecord]) -> str:
    return "\n".join(accuracy_lines(records, {}))


def rows_under(text: str, heading: str) -> list[list[str]]:
    """Cells of the table under a heading, without its head."""
    section = text.split(f"### {heading}\n")[1].split("\n### ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" |")] for line in lines[2:]]


def test_limits_are_computed():
    asked = rows_under(page(everything()), "What was asked, what was reached")
    assert asked == [
        ["1x16", "50%", "mean at least 0.98, none under 0.80", "oneshot", "0.9820", "0.9790", "reached"],
        ["1x16", "75%", "mean at least 0.90, none under 0.80", "group-lasso", "0.9100", "0.8700", "reached"],
        ["1x16", "90%", "reported only", "oneshot", "0.7200", "0.7100", "reported"],
    ]
    summary = {tuple(row[:3]): row[3:] for row in rows_under(page(everything()), "INT8 retention of each setting")}
    # Two seeds of MRPC: 0.96 on average; (0.96 + 0.93 + 0.79) / 3 = 0.8933.
    seeds = ["0.9600 (0.9500, 0.9700)", "0.9300", "0.7900", "0.8933", "0.7900"]
    limit = "mean at least 0.90, none under 0.80"
    assert summary["oneshot", "1x16", "75%"] == [*seeds, limit, "not reached"]
    assert summary["group-lasso", "1x16", "75%"][-1] == "reached"
    assert summary["dense", "-", "0%"] == ["0.9990", "0.9970", "0.9980", "0.9980", "0.9970", "-", "-"]
    assert len(summary) == 7


@pytest.mark.parametrize(
    ("kept", "verdict"),
    [
        ((0.90, 0.90, 0.9001), "reached"),
        ((0.90, 0.90, 0.8999), "not reached"),  # the mean
        ((0.99, 0.99, 0.7999), "not reached"),  # one under 0.80
        ((0.99, 0.99, 0.8001), "reached"),
    ],
)
def test_a_limit_decides_by_unrounded_numbers(kept, verdict):
    text = page(over_tasks("oneshot", "1x16", 0.75, *kept))
    assert rows_under(text, "What was asked, what was reached")[1][-1] == verdict
    assert rows_under(text, "INT8 retention of each setting")[0][-1] == verdict


def test_one_low_seed_misses_the_limit():
    """The lowest run counts, not the mean of its seeds."""
    records = [
        *over_tasks("oneshot", "1x16", 0.75, 0.95, 0.95, 0.95),
        run("sst2", "oneshot", "1x16", 0.75, 0.79, seed=1),
    ]
    assert rows_under(page(records), "What was asked, what was reached")[1][3:] == [
        "oneshot", "0.9233", "0.7900", "not reached",
    ]  # fmt: skip


def test_comparisons_are_differences_in_points():
    text = page(everything())
    blocks = rows_under(text, "1x16 against 16x16 at 75%")
    assert [row[2] for row in blocks] == [*TASKS.values(), "mean"]
    # Retention: 0.96 - 0.80, 0.93 - 0.69, 0.79 - 0.61; score: the same times dense - constant.
    assert [row[-2] for row in blocks] == ["+16.00", "+24.00", "+18.00", "+19.33"]
    assert [row[-1] for row in blocks] == ["+2.98", "+21.24", "+7.40", "+10.54"]
    lasso = rows_under(text, "Group lasso against one shot and retraining")
    assert [row[:3] for row in lasso] == [["1x16", "75%", name] for name in (*TASKS.values(), "mean")]
    assert [row[-2] for row in lasso] == ["-2.00", "-1.00", "+8.00", "+1.67"]


def test_compared_methods_are_those_of_the_pruner():
    names = {
        name
        for comparison in COMPARISONS
        if comparison.field == "method"
        for name in (comparison.first, comparison.second)
    }
    assert len(names) == 2
    assert names <= set(METHODS)


def test_missing_runs_are_listed():
    assert "Not run yet" not in page(everything())
    gone = ("stsb-oneshot-1x16-75-s0", "sst2-oneshot-16x16-75-s0")
    text = page([record for record in everything() if record.name not in gone and record.method != "group-lasso"])
    missing = text.split("### Not run yet\n")[1].split("\nCycles are")[0]
    assert re.findall(r"- (.*)", missing) == [
        "oneshot 16x16 at 75%: SST-2",
        "oneshot 1x16 at 75%: STS-B",
        "group lasso against one shot and retraining: the same setting on both sides",
    ]
    assert rows_under(text, "What was asked, what was reached")[1][3:] == ["-", "-", "-", "not run yet"]
    summary = {tuple(row[:3]): row[3:] for row in rows_under(text, "INT8 retention of each setting")}
    assert summary["oneshot", "1x16", "75%"][1] == "not run yet"
    assert summary["oneshot", "1x16", "75%"][3:5] == ["-", "-"]
    compared = rows_under(text, "1x16 against 16x16 at 75%")
    assert [row[-2] for row in compared] == ["+16.00", "not run yet", "not run yet"]  # and no mean


def test_a_page_without_runs_says_so():
    text = results.render(PACKED, [], TRAINING)
    assert "No pruned model was trained yet" in text
    assert text.count(": not run yet") == 6
    assert "images/" not in text
    assert text.index("## Accuracy") < text.index("## Packing")


def check_task_tables(text: str, records: list[RunRecord]) -> int:
    """Every cell of every row against the records; returns how many rows were compared."""
    compared = 0
    for task, name in TASKS.items():
        rows = [row for row in rows_under(text, name) if not row[3].startswith("mean")]
        own = {
            (r.method, r.pattern or "-", f"{100 * r.sparsity:g}%", str(r.seed)): r for r in records if r.task == task
        }
        assert len(rows) == len(own)
        for row in rows:
            record = own[tuple(row[:4])]
            whole = record.dense - record.constant
            expected = [record.score_fp32, record.score_int8, record.constant]
            expected += [(score - record.constant) / whole for score in expected[:2]]
            assert row[4:9] == [f"{value:.4f}" for value in expected]
            assert row[9:11] == [f"{record.vector_density:.1%}", f"{record.cycles:,}"]
            assert row[11:13] == [f"{record.projected_ms[clock]:.3f}" for clock in ("300", "250")]
            compared += 1
    return compared


def test_the_page_has_exactly_the_numbers_of_the_records():
    records = everything()
    text = page(records)
    assert check_task_tables(text, records) == len(records) == 22
    assert "projected from estimated cycles, not\nmeasured on a board" in text
    assert [row[3] for row in rows_under(text, "MRPC") if "mean" in row[3]] == ["mean of 2"]
    assert text.count("```sh") == len(records)
    for index, changed in ((5, {"score_int8": 0.7771}), (9, {"cycles": 131_071}), (12, {"vector_density": 0.9})):
        wrong = [dataclasses.replace(r, **changed) if n == index else r for n, r in enumerate(records)]
        with pytest.raises(AssertionError):
            check_task_tables(text, wrong)
        assert page(wrong) != text


def test_what_a_run_did_not_reach_is_in_its_row():
    low = run("mrpc", "oneshot", "1x16", 0.75, 0.7, sparsity_reached=0.741)
    (row,) = rows_under(page([low]), "MRPC")
    assert row[-1] == "sparsity: 0.7410; retention: under 0.80"
    (row,) = rows_under(page([run("mrpc", "oneshot", "1x16", 0.75, 0.9)]), "MRPC")
    assert row[-1] == "-"


def test_records_round_trip(tmp_path):
    folder = tmp_path / "runs"
    assert read_runs(folder) == []
    records = sorted(everything(), key=lambda record: record.name)
    for record in records:
        write_run(record, folder)
    assert read_runs(folder) == records
    assert sorted(file.name for file in folder.iterdir()) == [f"{record.name}.json" for record in records]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data.pop("score_int8"), "no score_int8"),
        (lambda data: data.update(extra=1), "unknown field extra"),
        (lambda data: data.update(score_int8="high"), "score_int8 is 'high', not a finite number"),
        (lambda data: data.update(seed=True), "seed is True, not a count"),
        (lambda data: data.update(score_fp32=float("nan")), "NaN is not a number"),
        (lambda data: data.update(dense=float("inf")), "Infinity is not a number"),
        (lambda data: data.update(metrics_int8={}), "metrics_int8"),
        (lambda data: data.update(score_int8=0.5), "metrics_int8 says otherwise"),
        (lambda data: data.update(dense=0.684), "not above the constant"),
        (lambda data: data.update(vector_density=25.0), "vector_density is 25.0, not a share"),
        (lambda data: data.update(task="qnli"), "task 'qnli' is none of"),
        (lambda data: data.update(method="dense"), "method 'dense' with pattern '1x16'"),
        (lambda data: data.update(projected_ms={"300": 1.0}), "no latency at 250 MHz"),
        (lambda data: data.update(cycles=0), "at least 1"),
        (lambda data: data.update(commands="bertile"), "not a list of texts"),
        (lambda data: data.update(name="another"), "is named 'another'"),
    ],
)
def test_broken_records_are_refused_by_file(tmp_path, change, reason):
    file = write_run(run("mrpc", "oneshot", "1x16", 0.75, 0.9), tmp_path)
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))
    with pytest.raises(BertileError) as error:
        read_runs(tmp_path)
    assert str(error.value).startswith(f"{file}: ")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_no_record_at_all(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(BertileError, match=r"a\.json: not a run record"):
        read_runs(tmp_path)
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(BertileError, match=r"a\.json: not a run record: no JSON object"):
        read_runs(tmp_path)


def test_a_wrong_record_is_not_written(tmp_path):
    record = run("mrpc", "oneshot", "1x16", 0.75, 0.9)
    with pytest.raises(BertileError, match="score_int8 is nan"):
        write_run(dataclasses.replace(record, score_int8=float("nan")), tmp_path)
    with pytest.raises(BertileError, match="cannot name a file"):
        write_run(dataclasses.replace(record, name="../above"), tmp_path)
    file = write_run(record, tmp_path)
    with pytest.raises(BertileError, match="cannot write"):
        write_run(record, file)
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": "copy"}, "differ in nothing but the name"),
        ({"seed": 5, "dense": 0.88}, "another dense"),
        ({"seed": 5, "constant": 0.6}, "another constant"),
        ({"seed": 5, "metric": "f1"}, "another metric"),
        ({"seed": 5, "tokens": 64}, "other lengths"),
    ],
)
def test_records_that_contradict_each_other(changes, reason):
    record = run("mrpc", "oneshot", "1x16", 0.75, 0.9)
    with pytest.raises(BertileError, match=reason):
        page([record, dataclasses.replace(record, **changes)])


def test_the_dense_run_is_the_reference():
    with pytest.raises(BertileError, match=r"its FP32 score is 0\.86, dense is 0\.87"):
        page([run("mrpc", "dense", "", 0.0, 1.0, score_fp32=0.86)])


def test_points_of_the_pictures_are_those_of_the_records():
    groups = group_runs(everything())
    series = accuracy_pictures.series_of(groups, "mrpc", lambda setting, runs: setting.sparsity)
    points = {label: [(x, round(y, 6), len(each)) for x, y, each, _ in row] for label, *_, row in series}
    assert points == {
        "dense": [(0.0, 0.999, 1)],
        "1x16 group-lasso": [(0.75, 0.94, 1)],
        "1x16 oneshot": [(0.5, 0.985, 1), (0.75, 0.96, 2), (0.9, 0.71, 1)],
        "16x16 oneshot": [(0.75, 0.80, 1)],
        "unstructured oneshot": [(0.75, 0.96, 1)],
    }
    colours = {label.split()[0]: colour for label, colour, *_ in series}
    assert len(set(colours.values())) == 4
    assert colours["1x16"] == accuracy_pictures.COLOURS["1x16"]


def test_labels_keep_their_distance():
    wanted = [0.5, 0.5, 0.52, 0.1, 0.99, 1.0]
    places = accuracy_pictures.spread_out(wanted, 0.05, 0.0, 1.0)
    ordered = sorted(places)
    assert all(after - before > 0.0499 for before, after in pairwise(ordered))
    assert (places[3], places[5]) == (0.1, 1.0)
    assert 0 <= min(places) <= max(places) <= 1


def test_one_command_makes_page_and_pictures(tmp_path):
    runs, target = tmp_path / "runs", tmp_path / "results.md"
    for record in everything():
        write_run(record, runs)
    assert results.main(runs=runs, target=target, images=tmp_path) == 0
    text = target.read_text()
    assert text == results.render(PACKED, read_runs(runs), TRAINING)
    pictures = re.findall(r"\]\(images/(.*?)\)", text)
    assert pictures == ["retention-sparsity-minilm.png", "retention-latency-minilm.png"]
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    shutil.rmtree(runs)
    assert results.main(runs=runs, target=target, images=tmp_path) == 0
    assert "No pruned model was trained yet" in target.read_text()


def test_the_checked_in_page_is_what_its_data_gives():
    """And its pictures are there."""
    text = results.TARGET.read_text()
    assert text == results.render(PACKED, read_runs(results.RUNS), TRAINING)
    assert [
        name for name in re.findall(r"\]\((images/.*?)\)", text) if not (results.TARGET.parent / name).is_file()
    ] == []


def test_the_cost_of_pruning_is_on_the_page_and_within_its_limit():
    """Measured figures, by the ratio of medians: nothing is timed here."""
    text = results.render(PACKED, [], TRAINING)
    medians = TRAINING["milliseconds_median"]
    for name, share in TRAINING["added"].items():
        assert share == pytest.approx(medians[name] / medians["plain"] - 1)
        assert share <= TRAINING["limit"] == 0.15
        assert f"| {name} | {medians[name]:.0f} ms | {share:+.1%} |" in text
