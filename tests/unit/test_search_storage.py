"""Where a search is kept: full disks, other searches, other workers, those that died."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from dataclasses import replace

import numpy as np
import optuna
import pytest
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from tests.unit.test_search_run import dense, job  # noqa: F401

from bertile.cli.train import SEED_MAX
from bertile.errors import BertileError
from bertile.search.constraint import Constraint
from bertile.search.run import Searcher, judged, search, write_results
from bertile.search.storage import JOURNAL, open_storage, open_study
from bertile.search.study import SAMPLERS, WORKER, end_abandoned, ended, enqueue_missing, next_trial
from bertile.tasks.data import Split
from bertile.train.work import held


def fill_disk(monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    """After so many writes to the journal, half of one fits."""
    original, written = JournalFileBackend.append_logs, []

    def append(self, logs):
        written.append(1)
        if len(written) < calls:
            return original(self, logs)
        with open(self._file_path, "ab") as file:
            file.write(b'{"op_code":6,"trial_i')
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(JournalFileBackend, "append_logs", append)


def test_a_full_disk_loses_no_trial(job, tmp_path, monkeypatch):  # noqa: F811
    whole = search(job, tmp_path / "whole")
    with monkeypatch.context() as patch:
        fill_disk(patch, 40)
        with pytest.raises(BertileError, match=r"cannot write to storage .*No space left.*same command goes on"):
            search(job, tmp_path / "s")
    assert not (tmp_path / "s" / JOURNAL).read_bytes().endswith(b"\n")
    before = len(judged(job, tmp_path / "s"))
    assert 0 < before < job.trials
    found = search(job, tmp_path / "s")  # the candidate that it was about has another number now
    assert {record.name: record.cheap for record in found if record.name != "candidate"} == {
        record.name: record.cheap for record in whole if record.name != "candidate"
    }
    assert sorted(record.cheap for record in found) == sorted(record.cheap for record in whole)


def test_a_file_that_is_no_journal_stays_as_it_is(job, tmp_path):  # noqa: F811
    for content in ("my notes", "my notes\non two lines"):
        (tmp_path / "notes").write_text(content)
        with pytest.raises(BertileError, match="cannot open storage"):
            search(job, tmp_path / "s", str(tmp_path / "notes"))
        assert (tmp_path / "notes").read_text() == content


def test_a_folder_in_use(job, tmp_path):  # noqa: F811
    with held(tmp_path / "s"), pytest.raises(BertileError, match="is in use"):
        search(job, tmp_path / "s")
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(BertileError, match="cannot use"):
            search(job, place)
        with pytest.raises(BertileError, match="cannot use"):
            search(job, place, str(tmp_path / "study.journal"))


def test_other_examples_are_another_search(job, tmp_path, monkeypatch):  # noqa: F811
    search(replace(job, trials=1), tmp_path / "s")
    changed = replace(job, task=replace(job.task, metrics=("f1",)))
    with pytest.raises(BertileError, match="holds a search with another metric: accuracy, not f1"):
        search(changed, tmp_path / "s")
    with pytest.raises(BertileError, match=r"another constraint: sparsity 0\.5, not sparsity 0\.5000001"):
        search(replace(job, constraint=Constraint("sparsity", 0.5000001)), tmp_path / "s")
    original = Split.texts
    monkeypatch.setattr(Split, "texts", lambda self: [*original(self)[:-1], "Something else."])
    with pytest.raises(BertileError, match="holds a search with another examples"):
        search(job, tmp_path / "s")


def test_the_largest_seed(job, tmp_path):  # noqa: F811
    assert len(search(replace(job, seed=SEED_MAX, trials=4), tmp_path / "s")) == 4


def new_study(tmp_path) -> optuna.Study:
    return open_study(open_storage("", tmp_path), {}, False)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_workers_that_ask_at_one_moment_draw_different_candidates(sampler, tmp_path):
    """Two that a third one started, and one that comes while another's trial still runs."""

    def draw(folder: str, worker: int) -> tuple[float, ...]:
        (tmp_path / folder).mkdir(exist_ok=True)
        trial = next_trial(new_study(tmp_path / folder), sampler, 7, False, True, worker)
        return tuple(trial.suggest_float(name, 0, 1) for name in "abc")

    draws = [draw("0", 0), draw("1", 1), draw("2", 2), draw("0", 0)]
    assert len(set(draws)) == 4
    assert draw("again", 0) == draws[0]


def test_only_trials_of_the_dead_are_given_up(tmp_path):
    """With others at work: those of processes of this machine that are gone; alone, all that run."""
    study = new_study(tmp_path)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    workers = [(socket.gethostname(), os.getpid()), (socket.gethostname(), gone.pid), ("elsewhere", gone.pid)]
    for worker in workers:
        next_trial(study, "random", 0, False, True).set_user_attr(WORKER, worker)
    end_abandoned(study, alone=False)
    assert [trial.state for trial in study.trials] == [TrialState.RUNNING, TrialState.FAIL, TrialState.RUNNING]
    end_abandoned(study, alone=True)
    assert {trial.state for trial in study.trials} == {TrialState.FAIL}
    assert ended(study) == 0


def test_a_baseline_is_queued_once(tmp_path):
    """Not while a worker judges it, nor after it was given up; again if that worker died."""
    study, wanted = new_study(tmp_path), [("uniform", {"a": 0.5}), ("global", {"a": 0.7})]
    for _ in range(2):
        enqueue_missing(study, wanted)
    first, second = (next_trial(study, "random", 0, False, True) for _ in range(2))
    enqueue_missing(study, wanted)
    study.tell(first, state=TrialState.PRUNED)
    enqueue_missing(study, wanted)
    assert [trial.user_attrs["name"] for trial in study.trials] == ["uniform", "global"]
    study.tell(second, state=TrialState.FAIL)
    enqueue_missing(study, wanted)
    assert [trial.user_attrs["name"] for trial in study.trials] == ["uniform", "global", "global"]


def test_who_is_taken_for_dead_goes_on(job, tmp_path, monkeypatch):  # noqa: F811
    """Its trial is lost, nothing else."""
    original, calls = Searcher.cycles, []

    def cycles(self, plan):
        calls.append(1)
        if len(calls) == 3:
            end_abandoned(self.study, alone=True)
        return original(self, plan)

    monkeypatch.setattr(Searcher, "cycles", cycles)
    found = search(replace(job, trials=5), tmp_path / "s")
    assert [record.number for record in found] == [0, 1, 3, 4, 5]


def test_plans_that_left_the_front_are_removed(job, tmp_path):  # noqa: F811
    job = replace(job, constraint=None, trials=5)
    found = search(job, tmp_path / "s")
    (tmp_path / "s" / "plans").mkdir()
    (tmp_path / "s" / "plans" / "1.json").write_text("{}")
    write_results(job, found, tmp_path / "s")
    assert "1.json" not in {file.name for file in (tmp_path / "s" / "plans").iterdir()}


def test_the_bound_can_be_reached(job, tmp_path):  # noqa: F811
    """What a refusal names is met by a search; where whole heads and neurons may go it is lower."""
    bounds = []
    for pattern in ("1x16", "heads+neurons+1x16"):
        job = replace(job, pattern=pattern, tokens=64, trials=9, constraint=Constraint("cycles", 100))
        with pytest.raises(BertileError, match="100 cycles cannot be met") as refused:
            search(job, tmp_path / pattern)
        assert not (tmp_path / pattern).exists()
        bounds.append(int(str(refused.value).partition("the bound is ")[2].split()[0].replace(",", "")))
        with pytest.raises(BertileError, match="cannot be met"):
            search(replace(job, constraint=Constraint("cycles", bounds[-1] - 1)), tmp_path / pattern)
    assert bounds[1] < bounds[0]
    found = search(
        replace(job, pattern="1x16", trials=1, constraint=Constraint("cycles", bounds[0])), tmp_path / "found"
    )
    assert [record.cycles for record in found] == [bounds[0]]


def test_too_few_examples(job, tmp_path, monkeypatch):  # noqa: F811
    def two(task, data, split):
        return Split(["Good.", "Bad."], None, np.array([1, 0]), "two.tsv")

    monkeypatch.setattr("bertile.search.run.read_split", two)
    with pytest.raises(BertileError, match=r"two\.tsv has 2 examples: too few to judge candidates on"):
        search(job, tmp_path / "s")
