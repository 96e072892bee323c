"""Training runs on tiny models: they learn, prune exactly, and go on where they were stopped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.tiny_training import LEARN, make_job
from transformers import AutoModelForSequenceClassification

from bertile.errors import BertileError
from bertile.models.classifier import load_trainable
from bertile.models.load import load_model, save_model
from bertile.prune.folder import read_groups, read_pruning
from bertile.prune.groups import element_masks
from bertile.tasks.glue import find_task
from bertile.train.options import DistillOptions
from bertile.train.run import run_job
from bertile.train.trainer import BertileTrainer
from bertile.train.work import work_folder


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_it_learns(family, source, data, tmp_path):
    job = make_job(source(family), tmp_path / "model", data, LEARN)
    log = run_job(job)
    assert log["metrics"]["accuracy"] == 1.0
    assert log["steps"] == 80
    losses = [entry["loss"] for entry in log["history"] if "loss" in entry]
    assert losses[-1] < 0.1 < losses[0]
    assert json.loads((tmp_path / "model" / "training.json").read_text()) == json.loads(json.dumps(log))
    network = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    assert (network.config.problem_type, network.config.bertile_task) == ("single_label_classification", "films")
    assert not work_folder(tmp_path / "model").exists()
    assert read_pruning(tmp_path / "model") is None


@pytest.mark.parametrize("pattern", ["1x16", "16x16", "heads+neurons", "heads@0.5+1x16", "unstructured"])
def test_pruned_weights_stay_zero(pattern, source, data, tmp_path):
    section = {"method": "gradual", "pattern": pattern, "sparsity": 0.5, "interval": 3}
    run_job(make_job(source(), tmp_path / "pruned", data, prune=section))
    again = make_job(str(tmp_path / "pruned"), tmp_path / "tuned", data, {"weight_decay": 0.1})
    run_job(again)
    for folder in (tmp_path / "pruned", tmp_path / "tuned"):
        model = load_trainable(str(folder), again.task, 0)
        kept = element_masks(*read_groups(folder, model.config), model.weights())
        zeros = sum(int((weight == 0).sum()) for weight in model.weights().values())
        assert zeros == sum(int((~mask).sum()) for mask in kept.values())
        assert zeros / sum(mask.numel() for mask in kept.values()) == pytest.approx(0.5, abs=1e-3)
        assert read_pruning(folder)["sparsity"] == pytest.approx(0.5, abs=1e-3)
    before, after = (load_trainable(str(tmp_path / n), again.task, 0).weights() for n in ("pruned", "tuned"))
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_pruning_goes_on_from_a_pruned_model(source, data, tmp_path):
    section = {"method": "gradual", "sparsity": 0.5, "interval": 2}
    run_job(make_job(source(), tmp_path / "half", data, prune=section))
    log = run_job(make_job(str(tmp_path / "half"), tmp_path / "more", data, prune=section | {"sparsity": 0.75}))
    sparsities = [entry["sparsity"] for entry in log["history"] if "sparsity" in entry]
    assert sparsities[0] >= 0.5 - 1e-3
    assert sparsities == sorted(sparsities)
    half, more = (load_trainable(str(tmp_path / n), None, 0).weights() for n in ("half", "more"))
    for name in half:
        assert (more[name][half[name] == 0] == 0).all()


def test_unlabelled_text(source, data, tmp_path):
    distill, prune = {"task": 0.0, "hidden": 1.0}, {"method": "once-for-all", "sparsity": 0.5, "interval": 2}
    job = make_job(source(), tmp_path / "pruned", data, {"max_steps": 40}, distill=distill, prune=prune)
    log = run_job(replace(job, task=None, data=None, texts=(data / "text.txt",)))
    errors = [entry["eval"]["error"] for entry in log["history"] if "eval" in entry]
    assert 0 < errors[-1] < max(errors)
    assert log["history"][0]["hidden_loss"] < 0.5  # the student is the teacher at first
    assert read_pruning(tmp_path / "pruned")["method"] == "once-for-all"


def test_distillation_from_another_model(source, data, tmp_path):
    teacher = make_job(source(), tmp_path / "teacher", data, LEARN)
    run_job(teacher)
    distill = {"task": 0.0, "logits": 1.0, "hidden": 1.0, "attention": 1.0}
    job = make_job(source(), tmp_path / "student", data, LEARN, distill=distill)
    log = run_job(replace(job, teacher=str(tmp_path / "teacher")))
    first, last = log["history"][0], [entry for entry in log["history"] if "logits_loss" in entry][-1]
    for part in ("logits_loss", "hidden_loss", "attention_loss"):
        assert last[part] < first[part]
    assert "task_loss" not in first
    assert log["metrics"]["accuracy"] == 1.0  # learned from the teacher alone


def test_unlabelled_text_beside_a_task(source, data, tmp_path):
    job = make_job(source(), tmp_path / "model", data, distill={"task": 0.0, "hidden": 1.0})
    lines: list[str] = []
    assert run_job(job)["examples"] == [60, 24]
    log = run_job(replace(job, texts=(data / "text.txt",)), say=lines.append)
    assert log["examples"] == [60 + 64, 24]
    assert "accuracy" in log["metrics"]
    labelled = make_job(source(), tmp_path / "model", data, distill={"hidden": 1.0})
    with pytest.raises(BertileError, match="needs --distill task:0"):
        run_job(replace(labelled, texts=(data / "text.txt",)))


def test_a_student_without_a_head_takes_its_teachers(source, data, tmp_path):
    """The encoder alone is the student: with its teacher's head it knows the task before it is trained."""
    run_job(make_job(source(), tmp_path / "teacher", data, LEARN))
    save_model(load_model(str(tmp_path / "teacher")), tmp_path / "encoder")
    job = make_job(
        str(tmp_path / "encoder"), tmp_path / "student", data, {"max_steps": 1, "learning_rate": 1e-12, "seed": 5}
    )
    blind = run_job(job)
    knowing = replace(job, teacher=str(tmp_path / "teacher"), output=tmp_path / "knowing")
    knowing = replace(knowing, options=replace(job.options, distill=DistillOptions(hidden=1.0)))
    assert run_job(knowing)["metrics"]["loss"] < 0.1 < 0.3 < blind["metrics"]["loss"]


def test_logits_need_a_teacher_of_the_task(source, data, tmp_path):
    job = make_job("minilm", tmp_path / "model", data, distill={"logits": 1.0})
    with pytest.raises(BertileError, match="distilling logits needs a teacher fine-tuned for the task"):
        run_job(job)
    assert not (tmp_path / "model").exists()


def test_a_diverged_run_stops_and_keeps_its_checkpoint(source, data, tmp_path, monkeypatch):
    original = BertileTrainer.compute_loss

    def compute_loss(self, *arguments, **named):
        loss = original(self, *arguments, **named)
        return loss * float("nan") if self.model.training and self.state.global_step == 6 else loss

    monkeypatch.setattr(BertileTrainer, "compute_loss", compute_loss)
    with pytest.raises(BertileError, match=r"training diverged: the loss of step 7 is nan; .*checkpoint-4"):
        run_job(make_job(source(), tmp_path / "model", data))
    assert (work_folder(tmp_path / "model") / "checkpoint-4" / "complete.json").is_file()
    assert not (tmp_path / "model").exists()


def test_a_real_divergence(source, data, tmp_path):
    with pytest.raises(BertileError, match="training diverged"):
        run_job(make_job(source(), tmp_path / "model", data, {"learning_rate": 1e30, "clip": 1e30, "warmup": 0.0}))


def test_an_early_stop_reports_the_model_that_it_keeps(source, data, tmp_path):
    log = run_job(make_job(source(), tmp_path / "model", data, {"max_steps": 0, "epochs": 8.0, "early_stopping": 1}))
    evaluations = [entry["eval"]["accuracy"] for entry in log["history"] if "eval" in entry]
    assert log["metrics"]["accuracy"] == max(evaluations)
    again = make_job(str(tmp_path / "model"), tmp_path / "same", data, {"max_steps": 1, "learning_rate": 1e-30})
    assert run_job(again)["metrics"]["loss"] == pytest.approx(log["metrics"]["loss"], rel=1e-5)


def test_the_output_is_not_what_is_read(source, data, tmp_path):
    job = make_job(source(), Path(source()), data)
    with pytest.raises(BertileError, match=r"not a folder that Bertile wrote|is read by this command"):
        run_job(job)
    run_job(make_job(source(), tmp_path / "model", data))
    with pytest.raises(BertileError, match="is read by this command: give another folder"):
        run_job(make_job(str(tmp_path / "model"), tmp_path / "model", data))


def test_another_pattern_would_lose_zeros(source, data, tmp_path):
    section = {"method": "gradual", "sparsity": 0.5, "interval": 2}
    run_job(make_job(source(), tmp_path / "half", data, prune=section))
    other = make_job(str(tmp_path / "half"), tmp_path / "more", data, prune=section | {"pattern": "16x16"})
    with pytest.raises(BertileError, match="is pruned as 1x16: go on with it"):
        run_job(other)


def test_a_teacher_of_another_family(source, data, tmp_path):
    job = make_job(source("distilbert"), tmp_path / "model", data, distill={"hidden": 1.0})
    with pytest.raises(BertileError, match="is a bert, the student a distilbert"):
        run_job(replace(job, teacher=source("bert")))


def test_the_output_is_checked_before_training(source, data, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.txt").write_text("")
    with pytest.raises(BertileError, match="not a folder that Bertile wrote"):
        run_job(make_job(source(), tmp_path / "model", data))
    assert not work_folder(tmp_path / "model").exists()


def test_early_stopping_counts_final_masks_only(source, data, tmp_path):
    train = {"max_steps": 0, "epochs": 6.0, "early_stopping": 1, "learning_rate": 3e-3}
    section = {"method": "gradual", "sparsity": 0.75, "interval": 2, "end": 0.5}
    log = run_job(make_job(source(), tmp_path / "model", data, train, prune=section))
    assert log["steps"] >= 32  # an evaluation at the half, where masks are final, and one more at least
    model = load_trainable(str(tmp_path / "model"), find_task("films", "accuracy", data), 0)
    zeros = sum(int((weight == 0).sum()) for weight in model.weights().values())
    assert zeros / sum(weight.numel() for weight in model.weights().values()) == pytest.approx(0.75, abs=1e-3)


def test_an_unreachable_sparsity_is_said_before_training(source, data, tmp_path):
    section = {"method": "gradual", "pattern": "heads", "sparsity": 0.5}
    with pytest.raises(BertileError, match=r"pattern heads cannot reach .*; the nearest is 0\.5333"):
        run_job(make_job(source(), tmp_path / "model", data, prune=section))
