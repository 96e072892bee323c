"""The latency bench: statistics, projections, rows, published numbers, and that a broken runtime gets no row."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from bertile.config.spec import load_spec
from bertile.config.target import load_target
from bertile.errors import BertileError
from bertile.perf.latency import card, cpu, rows, timing
from bertile.perf.latency.machine import checked_threads, usable_cores
from bertile.perf.latency.plan import Case, Plan, full_plan, quick_plan
from bertile.perf.latency.projection import Cycles, project, share_out, transfer_milliseconds
from bertile.perf.latency.published import published_rows
from bertile.perf.latency.rows import Row, check_target, write_json
from bertile.perf.latency.runtimes import RUNTIMES, TORCH, Session, check_output
from bertile.perf.latency.table import caption, pivot, sections
from bertile.perf.latency.timing import Block, Patience, summarize, time_side_by_side
from bertile.report import latency as report

PCIE = {"gigabytes_per_second": 8.0, "transfer_us": 7, "round_trip_us": 40}
TARGET = {"pcie": PCIE, "unit": [{}, {}, {}]}
ROW = Row("bert-base, 1 layer", "some CPU", 128, 1, 0.0, 2.5, "measured", "here")


# Projections: figures worked out by hand.


@pytest.mark.parametrize(
    ("batch", "units", "counts"), [(1, 3, [1]), (2, 3, [1, 1]), (3, 3, [1, 1, 1]), (8, 3, [3, 3, 2])]
)
def test_requests_are_shared_out_evenly(batch, units, counts):
    assert share_out(batch, units) == counts


def test_transfers_are_whole_row_blocks_both_ways():
    # 5 requests of 33 tokens: 2 row blocks of 32 each; 5 x 64 x 768 bytes in, as many out; 3 units, 2 transfers each.
    size = 2 * 5 * 64 * 768
    assert transfer_milliseconds(5, 33, 768, 3, PCIE) == pytest.approx(size / 8e6 + 6 * 0.007)


def test_one_request_takes_one_unit():
    case = Case(1, 1, 128, 0.0)
    projection = project(case, 768, 250, TARGET, lambda lengths: {(128,): Cycles(500_000, "rtl")}[tuple(lengths)])
    assert projection.compute_ms == pytest.approx(2.0)
    assert projection.transfer_ms == pytest.approx(196_608 / 8e6 + 0.014)
    assert projection.round_trip_ms == pytest.approx(0.040)
    assert projection.latency_ms == pytest.approx(2.0 + 0.024576 + 0.014 + 0.040)
    assert (projection.cycles, projection.launches, projection.units) == (500_000, 1, 1)
    assert projection.cycles_from == "rtl"


def test_units_that_share_a_request_move_the_same_bytes_in_more_transfers():
    alone, shared = (
        project(Case(1, 1, 128, 0.0, together), 768, 300, TARGET, lambda _: Cycles(300_000, "rtl"))
        for together in (False, True)
    )
    assert (alone.units, shared.units, shared.launches, shared.together) == (1, 3, 1, True)
    assert shared.transfer_ms - alone.transfer_ms == pytest.approx(4 * 0.007)
    assert (shared.compute_ms, shared.round_trip_ms) == (alone.compute_ms, alone.round_trip_ms)


def test_a_batch_shares_launches_while_they_fit():
    # 8 requests on 3 units: 3 on the fullest. Of 128 tokens, all fit one launch; of 384, each needs its own.
    asked = []

    def cycles_of(lengths: list[int]) -> Cycles:
        asked.append(lengths)
        return Cycles(1000 * sum(lengths), "rtl")

    short, long = (project(Case(1, 8, tokens, 0.0), 768, 300, TARGET, cycles_of) for tokens in (128, 384))
    assert asked == [[128, 128, 128], [384], [384], [384]]
    assert (short.launches, long.launches) == (1, 3)
    assert (short.cycles, long.cycles) == (384_000, 1_152_000)
    assert long.round_trip_ms == pytest.approx(0.120)
    assert short.units == long.units == 3


def test_a_sum_with_one_estimate_is_an_estimate():
    sources = iter(("rtl", "estimate", "rtl"))
    projection = project(Case(1, 8, 384, 0.0), 64, 300, TARGET, lambda lengths: Cycles(1, next(sources)))
    assert projection.cycles_from == "estimate"


def test_a_lower_clock_is_slower_by_computing_alone():
    case = Case(1, 1, 128, 0.0)
    fast, slow = (project(case, 768, clock, TARGET, lambda _: Cycles(300_000, "rtl")) for clock in (300, 250))
    assert slow.latency_ms - fast.latency_ms == pytest.approx(1.2 - 1.0)


def test_counted_cycles_are_those_on_file_and_only_for_this_accelerator(tmp_path):
    def read(**changes: object) -> dict:
        (tmp_path / "rtl.json").write_text(json.dumps(results | changes))
        return card.counted_cycles(tmp_path / "rtl.json")

    results = json.loads(card.COUNTED.read_text())
    results |= {"spec_digest": load_spec().digest, "target": load_target()}
    launch = results["studies"][0]["launches"][0]
    assert read()["bert-base", 1, 0.0, 1, tuple(launch["tokens"])] == launch["cycles"]
    shared = next(run for run in results["teams"] if run["units"] == 3)
    assert read()["bert-base", 12, shared["sparsity"], 3, tuple(shared["tokens"])] == shared["cycles"]
    alone = sum(len(study["launches"]) for study in results["studies"])
    assert len(read()) == alone + sum(run["units"] == 3 for run in results["teams"])
    assert read(spec_digest="0" * 64) == {}
    assert read(target=load_target() | {"ddr": load_target()["ddr"] | {"latency_ns": 999}}) == {}
    assert card.counted_cycles(tmp_path / "missing.json") == {}


def test_every_projected_row_says_what_it_is(monkeypatch):
    monkeypatch.setattr(card, "counted_cycles", lambda: {("bert-tiny", 1, 0.5, 3, (32,)): 12_345})
    plan = Plan("bert-tiny", (), (Case(1, 1, 32, 0.5, True), Case(1, 1, 32, 0.5)), 1, 0.01, 2)
    found = card.card_rows(plan, lambda text, steps: None)
    clocks = load_target()["clock"]["megahertz"]
    assert [row.details["megahertz"] for row in found] == clocks * 2
    for row in found:
        assert row.kind == "projected"
        assert f"projected at {row.details['megahertz']} MHz, not measured on a board" in row.source
    counted, estimated = found[: len(clocks)], found[len(clocks) :]
    assert {row.details["cycles"] for row in counted} == {12_345}
    assert all("counted with the RTL engine" in row.source for row in counted)
    assert all("estimated" in row.source for row in estimated)
    assert [row.device for row in (counted[0], estimated[0])] == [
        "Alveo U200, 3 compute units on each request", "Alveo U200, 1 compute unit",
    ]  # fmt: skip
    assert estimated[0].details["cycles"] > 1000


# Statistics and rounds.


def test_statistics_are_of_all_runs_together():
    found = summarize([Block([1.0, 2.0, 3.0], 0.01), Block([4.0, 105.0], 0.2)])
    assert (found.median_ms, found.runs, found.rounds, found.others) == (3.0, 5, 2, 0.2)
    assert found.p10_ms == pytest.approx(1.4)
    assert found.p90_ms == pytest.approx(64.6)


def test_disturbed_rounds_are_timed_again_and_do_not_count(monkeypatch):
    shares = iter([0.0, 0.0, 0.0, 0.6, 0.0, 0.01])  # of the blocks of three rounds of two runtimes
    order = []

    def run_block(run, seconds):
        order.append(run())
        share = next(shares)
        return Block([100.0 if share > 0.5 else 1.0], share)

    monkeypatch.setattr(timing, "run_block", run_block)
    monkeypatch.setattr(Patience, "wait", lambda self: None)
    found = time_side_by_side({"a": lambda: "a", "b": lambda: "b"}, 2, 0.0, Patience(9))
    # One run each to warm up; then they take turns in being first.
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert (found["a"].median_ms, found["b"].median_ms) == (1.0, 1.0)
    assert (found["a"].others, found["b"].others, found["a"].rounds) == (0.0, 0.01, 2)


def test_when_patience_ends_the_quietest_rounds_count(monkeypatch):
    shares = iter([0.9, 0.3, 0.5, 0.2])
    clock = iter([0.0, 1.0, 2.0, 10.0, 11.0, 12.0, 13.0, 14.0])
    monkeypatch.setattr(timing, "run_block", lambda run, seconds: Block([share := next(shares)], share))
    monkeypatch.setattr(Patience, "wait", lambda self: None)
    monkeypatch.setattr(timing.time, "perf_counter", clock.__next__)
    # Two rounds cost nothing; the third takes 8 seconds, the fourth 1: then 8.5 are gone.
    found = time_side_by_side({"a": lambda: None}, 2, 0.0, Patience(8.5))["a"]
    assert (found.p10_ms, found.p90_ms, found.others) == (pytest.approx(0.21), pytest.approx(0.29), 0.3)
    assert next(shares, None) is None


def test_without_patience_nothing_is_repeated(monkeypatch):
    blocks = []
    monkeypatch.setattr(timing, "run_block", lambda run, seconds: blocks.append(run) or Block([1.0], 0.9))
    assert time_side_by_side({"a": lambda: None}, 3, 0.0, Patience(0))["a"].rounds == len(blocks) == 3


def test_own_work_is_not_taken_for_that_of_others(monkeypatch):
    readings = iter([100.0, 103.0])  # seconds of all programs
    monkeypatch.setattr(timing, "busy_seconds", lambda: next(readings))
    monkeypatch.setattr(timing.time, "process_time", iter([10.0, 12.0]).__next__)
    monkeypatch.setattr(timing.time, "perf_counter", iter([0.0, 2.0]).__next__)
    monkeypatch.setattr(timing.os, "cpu_count", lambda: 2)
    assert timing.Watch().others() == pytest.approx((3 - 2) / (2 * 2))


def test_patience_ends(monkeypatch):
    naps = []
    monkeypatch.setattr(timing.Watch, "others", lambda self: 1.0)
    monkeypatch.setattr(timing.time, "sleep", naps.append)
    patience = Patience(1.2)
    patience.wait()
    patience.wait()
    assert len(naps) == 3


# A broken runtime has no row.


def states(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((2, 5, 48)).astype(np.float32)


def test_outputs_that_are_nearly_equal_pass():
    check = check_output(states(0), states(0) + 0.01 * states(1), 0.98)
    assert check.problem is None
    assert 0.999 < check.cosine_mean < 1


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        (states(1), "cosine"),
        (-states(0), "cosine"),
        (states(0)[::-1], "cosine"),
        (states(0)[:, ::-1], "cosine"),
        (states(0) * np.float32("nan"), "not finite"),
        (np.zeros_like(states(0)), "zero"),
        (states(0)[:, :4], "shape"),
        (states(0) + 0.5 * states(1), "cosine"),
    ],
)
def test_other_outputs_do_not(broken, problem):
    assert problem in check_output(states(0), broken, 0.98).problem


def test_a_broken_runtime_is_named_and_has_no_row(monkeypatch, tmp_path):
    def open_shuffled(model, folder, request, threads):
        right = TORCH.open(model, folder, request, threads)
        return Session(lambda: right.run()[:, ::-1], {})

    broken = replace(RUNTIMES[1], open=open_shuffled)
    monkeypatch.setattr(cpu, "runtimes_for", lambda case: (TORCH, broken))
    monkeypatch.setattr(cpu, "prepared_folder", lambda *_: tmp_path)
    plan = Plan("bert-tiny", (Case(1, 2, 9, 0.0),), (), rounds=1, seconds=0.0, calibration=1)
    found, rejected = cpu.cpu_rows(plan, 1, "a CPU", Patience(0), lambda text, steps: None)
    assert [row.details["runtime"] for row in found] == ["PyTorch FP32"]
    assert [entry["runtime"] for entry in rejected] == [broken.name]
    assert "cosine" in rejected[0]["problem"]
    assert (rejected[0]["batch"], rejected[0]["tokens"]) == (2, 9)


# Rows and files.


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "guessed"}, {"latency_ms": 0.0}, {"latency_ms": -1.0}, {"latency_ms": float("nan")},
        {"latency_ms": float("inf")}, {"latency_ms": None}, {"tokens": 0}, {"tokens": None}, {"batch": 0},
        {"sparsity": 1.0}, {"sparsity": -0.1}, {"sparsity": None}, {"source": ""}, {"device": ""}, {"what": ""},
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_is_refused(change):
    with pytest.raises(ValueError):
        Row(**{**asdict(ROW), **change})


def test_a_row_has_the_fields_of_the_contract():
    entry = replace(ROW, details={"threads": 2}).as_dict()
    assert list(entry) == ["what", "device", "tokens", "batch", "sparsity", "latency_ms", "kind", "source", "threads"]


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "bench.json"
    write_json({"rows": [1]}, path)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(rows.os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_json({"rows": [2]}, path)
    assert json.loads(path.read_text()) == {"rows": [1]}
    assert os.listdir(tmp_path) == ["bench.json"]


def test_nan_never_reaches_the_file(tmp_path):
    with pytest.raises(ValueError):
        write_json({"latency": float("nan")}, tmp_path / "bench.json")
    assert not (tmp_path / "bench.json").exists()


def test_targets_that_cannot_be_written_are_refused_first(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "bench.json"):
        with pytest.raises(BertileError):
            check_target(path)
    check_target(tmp_path / "new" / "bench.json")
    assert (tmp_path / "new").is_dir()


def test_threads_are_those_of_the_machine():
    assert checked_threads(None) == usable_cores()
    assert checked_threads(1) == 1
    for threads in (0, -1, usable_cores() + 1):
        with pytest.raises(BertileError, match="threads"):
            checked_threads(threads)


# Published numbers, plans, and the page.


def test_published_numbers_are_as_published():
    found = [(row.device, row.latency_ms, row.tokens, row.details) for row in published_rows()]
    assert all(row.kind == "published" and row.source for row in published_rows())
    latencies = {latency for _, latency, _, _ in found if latency}
    assert latencies == {12.41, 1.69, 4.2, 23.79, 26.01, 111.0}
    assert [d["sequences_per_second"] for *_, d in found if "sequences_per_second" in d] == [267, 889]
    assert [(name, d["speedup"]) for name, *_, d in found if "speedup" in d] == [("Alveo U200, AE-BERT", 1.83)]
    assert all("extrapolated" in d["note"] for _, latency, _, d in found if latency == 4.2)


@pytest.mark.parametrize("plan", [quick_plan("bert-base"), full_plan("bert-base")])
def test_plans_measure_pruned_beside_unpruned(plan):
    pruned = [case for case in plan.cpu if case.sparsity]
    assert pruned
    assert all(replace(case, sparsity=0.0) in plan.cpu for case in pruned)
    assert {case.sparsity for case in plan.card} == {0.0, 0.5, 0.75, 0.9}
    lone = {case for case in plan.card if case.batch == 1 and not case.together}
    assert {replace(case, together=False) for case in plan.card if case.together} == lone
    assert len(set(plan.cpu)) == len(plan.cpu)


def small_results() -> dict:
    def measured(runtime: str, sparsity: float, latency: float) -> dict:
        details = {
            "layers": 1,
            "runtime": runtime,
            "threads": 2,
            "p10_ms": latency,
            "p90_ms": 1.5 * latency,
            "used_by_others": 0.5,
        }
        return replace(ROW, sparsity=sparsity, latency_ms=latency, details=details).as_dict()

    def projected(batch: int, together: bool) -> dict:
        details = {"layers": 1, "megahertz": 300, "together": together}
        return replace(ROW, kind="projected", sparsity=0.9, batch=batch, details=details).as_dict()

    card_rows = [projected(1, True), projected(8, False)]
    return {
        "rows": [measured("Y", 0.75, 3.0), measured("X", 0.0, 2.0), *card_rows, published_rows()[0].as_dict()],
        "shape": "bert-base",
        "machine": {"processor": "a CPU", "threads": 2},
        "clocks_megahertz": [300],
        "quiet_share": 0.05,
    }


def test_the_table_puts_every_latency_in_its_place():
    table = pivot(small_results())
    assert table.requests == [(1, 128), (8, 128)]
    assert [(line.system, line.cells) for line in table.lines] == [
        ("X", [2.0, None]),
        ("Y, 75% zeros", [3.0, None]),
        ("U200, 90% sparse, 300 MHz", [None, 2.5]),
        ("U200 shared, 90% sparse, 300 MHz", [2.5, None]),
    ]
    assert [line.spread for line in table.lines] == [0.5, 0.5, None, None]


def test_a_board_stands_beside_the_runtimes_of_a_cpu():
    details = {"layers": 1, "together": True, "p10_ms": 2.0, "p90_ms": 3.0}
    results = small_results()
    results["rows"].append(replace(ROW, sparsity=0.9, latency_ms=1.5, details=details).as_dict())
    line = next(line for line in pivot(results).lines if line.cells[0] == 1.5)
    assert (line.system, line.kind) == ("U200 shared, 90% sparse", "measured")
    assert [label for label, _ in report.bars(report.headline(results)[1])][-1] == "U200, three units, 90% sparse"


def test_projections_stand_under_their_title():
    titles = [(title, [line.system for line in lines]) for title, lines in sections(pivot(small_results()))]
    assert titles == [
        ("1 layer, measured here", ["X", "Y, 75% zeros"]),
        ("1 layer, projected, no board", ["U200, 90% sparse, 300 MHz", "U200 shared, 90% sparse, 300 MHz"]),
    ]


def test_a_disturbed_run_says_so():
    assert "50%" in report.disturbed_lines(small_results())[0]
    assert report.disturbed_lines(small_results() | {"quiet_share": 0.5}) == []
    assert "not measured on a board" in caption(small_results())
    assert "measure again" in caption(small_results())
    assert "measure again" not in caption(small_results() | {"quiet_share": 0.5})


def test_the_page_is_that_of_the_results_on_file():
    assert report.TARGET.read_text() == report.render(json.loads(Path(report.SOURCE).read_text()))
