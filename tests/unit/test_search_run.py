"""Judging candidates and the study that keeps them, on a tiny fine-tuned model."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.tiny_training import LEARN, make_job

from bertile.errors import BertileError
from bertile.models.classifier import load_trainable
from bertile.models.load import embeddings, encoder_layers, load_model
from bertile.pack.packer import pack_encoder
from bertile.perf.estimate import estimate_cycles
from bertile.prune.groups import element_masks, group_sets
from bertile.prune.magnitude import prune_magnitude
from bertile.prune.pattern import parse_pattern
from bertile.prune.plan import read_plan
from bertile.prune.select import select_masks
from bertile.quantize.quantizer import quantize_encoder
from bertile.search.baselines import FRONT_SPARSITIES
from bertile.search.constraint import Constraint
from bertile.search.judge import RECOVERIES, Judge, JudgeOptions
from bertile.search.run import Searcher, SearchJob, best_of, front_of, search, write_results
from bertile.search.space import make_space
from bertile.search.storage import open_storage, open_study
from bertile.search.study import SAMPLERS, STARTUP, TrialRecord
from bertile.tasks.data import read_split
from bertile.tasks.glue import find_task
from bertile.train.run import run_job

SMALL = JudgeOptions(texts=16, held_out=24, steps=6, learning_rate=1e-3)
PATTERN = parse_pattern("1x16")


@pytest.fixture(scope="module")
def dense(source, data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dense") / "model"
    run_job(make_job(source(), folder, data, LEARN))
    return folder


@pytest.fixture
def job(dense, data) -> SearchJob:
    task = find_task("films", "accuracy", data)
    return SearchJob(str(dense), task, data, "1x16", Constraint("sparsity", 0.5), 6, tokens=16, judge=SMALL)


def judge_of(job: SearchJob, recovery: str, **options) -> Judge:
    model = load_trainable(job.source, job.task, 0)
    options = replace(SMALL, recovery=recovery, **options)
    return Judge(model, job.task, read_split(job.task, job.data, "train"), options, 64, 0)


def verdict_of(judge: Judge, sparsity: float):
    sets = group_sets(PATTERN, judge.model.config)
    masks = select_masks(PATTERN, sets, judge.scores(sets), judge.tensors, sparsity)
    return judge.judge(masks, sets, element_masks(sets, masks, judge.tensors))


def test_recoveries_come_closer_to_the_dense_network(job):
    """Bias alone helps, least squares more; nothing pruned is no divergence; the dense network stays as it is."""
    errors = {}
    for recovery in RECOVERIES:
        judge = judge_of(job, recovery, texts=48)
        before = {name: tensor.clone() for name, tensor in judge.dense.state_dict().items()}
        first, again = verdict_of(judge, 0.6), verdict_of(judge, 0.6)
        assert first == again  # one verdict leaves nothing behind for the next
        assert all(torch.equal(before[name], tensor) for name, tensor in judge.dense.state_dict().items())
        errors[recovery] = first.unseen
        assert first.error == pytest.approx((first.seen * first.unseen) ** 0.5)
    assert errors["least-squares"] < errors["bias"] < errors["none"]
    assert verdict_of(judge_of(job, "none"), 0.0).logits == pytest.approx(0.0, abs=1e-6)


def test_a_judge_never_sees_the_dev_set(job, data, tmp_path):
    """Texts that it recovers with and texts that it judges on are training examples, and none is both."""
    judge = judge_of(job, "none")
    seen, unseen = (
        {tuple(row[row > 0].tolist()) for b in part for row in b["input_ids"]} for part in (judge.seen, judge.unseen)
    )
    split = read_split(job.task, data, "train")
    train = {tuple(judge.model.tokenizer(text)["input_ids"]) for text in split.texts()}
    assert seen | unseen <= train
    assert not seen & unseen
    assert (len(seen), len(unseen)) == (16, 24)


def test_a_search_and_its_files(job, tmp_path):
    said: list[TrialRecord] = []
    found = search(job, tmp_path / "s", say=said.append)
    assert [record.name for record in found] == ["uniform", "global", "sensitivity", *["candidate"] * 3]
    assert said == found
    assert all(record.sparsity == pytest.approx(0.5, abs=0.005) for record in found)
    assert len({tuple(record.plan["shares"].values()) for record in found}) == 6
    assert set(found[0].plan["shares"].values()) == {0.5}  # uniform
    write_results(job, found, tmp_path / "s")
    best = min(found, key=lambda record: record.verdict["error"])
    assert read_plan(tmp_path / "s" / "plan.json").shares == best.plan["shares"]
    assert sorted(file.stem for file in (tmp_path / "s" / "plans").iterdir()) == ["global", "sensitivity", "uniform"]
    written = json.loads((tmp_path / "s" / "trials.json").read_text())
    assert [trial["number"] for trial in written["trials"]] == list(range(6))
    assert written["search"]["constraint"] == "sparsity 0.5"


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_killed_search_goes_on_to_the_same_result(sampler, job, tmp_path, monkeypatch):
    job = replace(job, sampler=sampler, trials=STARTUP + 2)
    whole = search(job, tmp_path / "whole")
    original, calls = Judge.judge, []

    def dies(self, *arguments):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Judge, "judge", dies)
        with pytest.raises(KeyboardInterrupt):
            search(job, tmp_path / "killed")
    resumed = search(job, tmp_path / "killed")
    assert [record.plan for record in resumed] == [record.plan for record in whole]
    assert [record.cheap for record in resumed] == [record.cheap for record in whole]
    last = open_study(open_storage("", tmp_path / "whole"), job.identity(), False).trials[-1].params
    assert any(name.startswith("set.") for name in last) == (sampler == "random")  # a ratio of its own for each matrix


def test_a_database_as_storage_and_more_trials(job, tmp_path):
    storage = f"sqlite:///{tmp_path}/study.db"
    first = search(replace(job, trials=3), tmp_path / "a", storage)
    more = search(replace(job, trials=4), tmp_path / "b", storage, shared=True)
    assert (len(first), len(more)) == (3, 4)
    assert [r.plan for r in more[:3]] == [r.plan for r in first]


def test_another_search_in_the_storage(job, tmp_path):
    search(replace(job, trials=1), tmp_path / "s")
    for change, name in ((replace(job, pattern="2x16"), "pattern"), (replace(job, seed=1), "seed")):
        with pytest.raises(BertileError, match=f"holds a search with another {name}"):
            search(change, tmp_path / "s")
    (tmp_path / "file").write_text("no journal\n")
    with pytest.raises(BertileError, match="cannot open"):
        search(job, tmp_path / "t", str(tmp_path / "file"))
    with pytest.raises(BertileError, match="cannot open storage other://x"):
        search(job, tmp_path / "t", "other://x")


def test_what_cannot_be_met_leaves_nothing(job, tmp_path):
    with pytest.raises(BertileError, match="100 cycles cannot be met"):
        search(replace(job, constraint=Constraint("cycles", 100)), tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_cycles_are_met(job, tmp_path):
    job = replace(job, tokens=64)
    searcher, space = Searcher(replace(job, constraint=None)), make_space(PATTERN, load_model(job.source).config, {})
    least, most = (searcher.cycles(space.plan(space.neutral(), scale)) for scale in (0.0, 1.0))
    limit = (least + most) // 2
    found = search(replace(job, constraint=Constraint("cycles", limit), trials=4), tmp_path / "s")
    assert all(0.96 * limit <= record.cycles <= limit for record in found)


def test_kept_neurons_are_counted_where_pruning_moves_them(job, tmp_path):
    """The cycles of a plan are those of the network that pruning after it ends with."""
    job = replace(job, pattern="heads+neurons", tokens=64)
    searcher = Searcher(job)
    space = make_space(searcher.pattern, load_model(job.source).config, {})
    plan = space.plan(space.neutral(), 0.4)
    pruned = prune_magnitude(load_model(job.source), searcher.pattern, 0.0, plan=plan)
    ids = [np.arange(64) % 50]
    quantized = quantize_encoder(encoder_layers(pruned.model), pruned.model.config, embeddings(pruned.model), ids)
    assert searcher.cycles(plan) == estimate_cycles(pack_encoder(quantized), [64]).total


@pytest.mark.parametrize("pattern", ["heads+neurons", "heads+neurons+1x16", "16x16+1x16"])
def test_patterns_of_several_kinds(pattern, job, tmp_path):
    found = search(replace(job, pattern=pattern, constraint=Constraint("sparsity", 0.6), trials=5), tmp_path / "s")
    assert [record.name for record in found][:3] == ["uniform", "global", "sensitivity"]
    assert all(0.6 - 0.005 <= record.sparsity <= 0.7 for record in found)


def test_a_front(job, tmp_path):
    """Uniform plans at several sparsities first, once, then candidates."""
    search(replace(job, constraint=None, trials=3), tmp_path / "s")
    found = search(replace(job, constraint=None, trials=6), tmp_path / "s")
    assert [record.name for record in found] == ["uniform"] * 4 + ["candidate"] * 2
    assert [record.sparsity for record in found[:4]] == pytest.approx(FRONT_SPARSITIES, abs=0.01)
    for record, sparsity in zip(found, FRONT_SPARSITIES, strict=False):
        assert list(record.plan["shares"].values()) == pytest.approx([sparsity] * 12, abs=0.02)
    front = front_of(found)
    assert all(a.cycles < b.cycles and a.cheap > b.cheap for a, b in pairwise(front))
    write_results(replace(job, constraint=None), found, tmp_path / "s")
    assert {int(file.stem) for file in (tmp_path / "s" / "plans").iterdir()} == {record.cycles for record in front}


def record(number: int, cycles: int, cheap: float) -> TrialRecord:
    return TrialRecord(number, "candidate", 0.5, cycles, cheap, {}, 1.0, {})


def test_fronts_by_hand():
    records = [record(0, 100, 0.5), record(1, 80, 0.7), record(2, 90, 0.8), record(3, 100, 0.4), record(4, 120, 0.4)]
    assert [r.number for r in front_of(records)] == [1, 3]
    assert best_of(records).number in (3, 4)
    with pytest.raises(BertileError, match="no candidate met the constraint"):
        best_of([])


def test_a_model_without_a_head(source, job, tmp_path):
    with pytest.raises(BertileError, match="not fine-tuned for films"):
        search(replace(job, source="minilm"), tmp_path / "s")


def test_halving_gives_up_what_is_behind(job, tmp_path):
    """Some candidates end early, the best one does not, and all count as trials."""
    job = replace(job, trials=8, judge=replace(SMALL, recovery="halving", steps=8))
    found = search(job, tmp_path / "s")
    assert 1 <= len(found) < 8
    judge = judge_of(job, "halving")
    sets = group_sets(PATTERN, judge.model.config)
    masks = select_masks(PATTERN, sets, judge.scores(sets), judge.tensors, 0.6)
    kept = element_masks(sets, masks, judge.tensors)
    rungs: list[int] = []
    assert judge.judge(masks, sets, kept, lambda rung, verdict: rungs.append(rung) or rung == 2) is None
    assert rungs == [1, 2]
    assert judge.judge(masks, sets, kept) is not None


def test_a_verdict_that_is_no_number_ends_its_trial(job, tmp_path, monkeypatch):
    """It counts as a trial, is never the best one, and is not drawn for ever."""
    original, calls = Judge.judge, []

    def spoiled(self, *arguments):
        calls.append(1)
        verdict = original(self, *arguments)
        return replace(verdict, seen=float("nan")) if len(calls) == 2 else verdict

    monkeypatch.setattr(Judge, "judge", spoiled)
    found = search(job, tmp_path / "s")
    assert (len(calls), len(found)) == (6, 5)
    assert "global" not in {record.name for record in found}
