"""Training runs on tiny models: they learn, prune exactly, and go on where they were stopped."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.fine_tuned import make_classifier
from transformers import AutoModelForSequenceClassification

from bertile.errors import BertileError
from bertile.models.classifier import load_trainable
from bertile.models.load import load_model, save_model
from bertile.prune.folder import read_groups, read_pruning
from bertile.prune.groups import element_masks
from bertile.tasks.glue import find_task
from bertile.train import run as run_module
from bertile.train.options import DistillOptions, make_options
from bertile.train.prepare import Job
from bertile.train.run import run_job
from bertile.train.trainer import BertileTrainer
from bertile.train.work import held, work_folder

GOOD, BAD = ("good", "fine", "great"), ("bad", "poor", "awful")
FILLER = (
    "the",
    "film",
    "is",
    "a",
    "story",
    "of",
    "two",
    "people",
    "in",
    "town",
    "who",
    "talk",
    "about",
    "it",
    "for",
    "hours",
)
LEARN = {"max_steps": 80, "dropout": 0.0}
SMALL = {"max_steps": 12, "batch_size": 8, "learning_rate": 1e-3, "save_steps": 4, "log_steps": 2, "precision": "fp32"}


def write_task(folder: Path, name: str, count: int, seed: int) -> None:
    """Sentences whose label one word decides, of many lengths."""
    generator = np.random.default_rng(seed)
    lines = ["sentence1\tlabel"]
    for index in range(count):
        words = list(generator.choice(list(FILLER), generator.integers(1, 12)))
        words.insert(generator.integers(0, len(words) + 1), str(generator.choice(GOOD if index % 2 else BAD)))
        lines.append(f"{' '.join(words)}\t{index % 2}")
    (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_task(folder, "train", 60, seed=0)  # 8 batches an epoch, the last one short
    lines = (folder / "train.tsv").read_text().splitlines()
    (folder / "dev.tsv").write_text("\n".join(lines[:25]) + "\n")  # to be learned by heart
    (folder / "text.txt").write_text("\n".join(f"sentence {n} of {FILLER[n % 9]} {FILLER[n % 7]}" for n in range(64)))
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    folder = tmp_path_factory.mktemp("source")

    def make(family: str = "bert") -> str:
        path = folder / family
        if not path.exists():
            make_classifier(path, family, ("0", "1"), task="films")
        return str(path)

    return make


def make_job(source: str, output: Path, data: Path, train: dict | None = None, **sections: dict) -> Job:
    """A job on the films task, or on text where the task weighs nothing."""
    options = make_options(None, {"train": SMALL | (train or {}), **sections}, "prune" in sections)
    return Job(source, output, options, find_task("films", "accuracy", data), data)


def final_weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


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


class Stop(Exception):
    """Stands for a kill."""


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The run dies in the midst of step `step` + 1."""
    original = BertileTrainer.training_step

    def training_step(self, *arguments, **named):
        if self.state.global_step == step:
            raise Stop
        return original(self, *arguments, **named)

    monkeypatch.setattr(BertileTrainer, "training_step", training_step)


METHODS = {
    "none": {},
    "gradual": {"prune": {"method": "gradual", "sparsity": 0.75, "interval": 2, "end": 0.7}},
    "movement": {"prune": {"method": "gradual", "sparsity": 0.5, "score": "movement", "interval": 2}},
    "lasso": {"prune": {"method": "group-lasso", "sparsity": 0.5, "lasso_refresh": 3, "end": 0.8}},
    "cyclic": {"prune": {"method": "cyclic", "sparsity": 0.5, "cycles": 2, "end": 0.9}},
}


@pytest.mark.parametrize(("method", "saved"), [("none", 4), ("none", 5), *((name, 3) for name in METHODS)])
def test_a_killed_run_goes_on_to_the_same_result(method, saved, source, data, tmp_path, monkeypatch):
    """Killed in the second epoch; the last checkpoint was in the first, at its end, or in the second."""
    whole = make_job(source(), tmp_path / "whole", data, {"save_steps": saved, "log_steps": 1}, **METHODS[method])
    run_job(whole)
    killed = replace(whole, output=tmp_path / "killed")
    with monkeypatch.context() as patch:
        stop_at(patch, 9 if saved == 5 else 11)
        with pytest.raises(Stop):
            run_job(killed)
    assert not (tmp_path / "killed").exists()
    lines: list[str] = []
    log = run_job(killed, say=lines.append)
    assert lines[0].startswith(f"going on from step {saved * (2 if saved == 4 else 1 if saved == 5 else 3)},")
    expected, actual = final_weights(tmp_path / "whole"), final_weights(tmp_path / "killed")
    for name, tensor in expected.items():
        assert torch.equal(tensor, actual[name]), name
    whole_log = json.loads((tmp_path / "whole" / "training.json").read_text())
    keys = ("loss", "sparsity", "eval", "regularizer")
    assert [[e.get(k) for k in keys] for e in log["history"] if "train_runtime" not in e] == [
        [e.get(k) for k in keys] for e in whole_log["history"] if "train_runtime" not in e
    ]


@pytest.mark.parametrize("pattern", ["1x16", "16x16", "heads+neurons", "heads@0.5+1x16", "unstructured"])
def test_pruned_weights_stay_zero(pattern, source, data, tmp_path):
    section = {"method": "gradual", "pattern": pattern, "sparsity": 0.5, "interval": 3}
    run_job(make_job(source(), tmp_path / "pruned", data, prune=section))
    again = make_job(str(tmp_path / "pruned"), tmp_path / "tuned", data, {"weight_decay": 0.1})
    run_job(again)
    for folder in (tmp_path / "pruned", tmp_path / "tuned"):
        model = load_trainable(str(folder), again.task, 0)
        kept = element_masks(*read_groups(folder, model.config), model.weights())
        share = 1 - np.mean([float(mask.float().mean()) for mask in kept.values()])
        zeros = sum(int((weight == 0).sum()) for weight in model.weights().values())
        assert zeros == sum(int((~mask).sum()) for mask in kept.values())
        assert share == pytest.approx(0.5, abs=0.3)
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


def test_a_full_disk_loses_no_earlier_checkpoint(source, data, tmp_path, monkeypatch):
    job = make_job(source(), tmp_path / "model", data)
    original = BertileTrainer._save_optimizer_and_scheduler

    def full(self, folder):
        if self.state.global_step == 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(self, folder)

    with monkeypatch.context() as patch:
        patch.setattr(BertileTrainer, "_save_optimizer_and_scheduler", full)
        with pytest.raises(BertileError, match=r"cannot write a checkpoint: .*No space left.*checkpoint-4"):
            run_job(job)
    lines: list[str] = []
    run_job(job, say=lines.append)
    assert lines[0].startswith("going on from step 4")
    run_job(replace(job, output=tmp_path / "whole"))
    whole, resumed = (final_weights(tmp_path / name) for name in ("whole", "model"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_another_run_in_the_way(source, data, tmp_path, monkeypatch):
    job = make_job(source(), tmp_path / "model", data)
    with monkeypatch.context() as patch:
        stop_at(patch, 5)
        with pytest.raises(Stop):
            run_job(job)
    other = make_job(source(), tmp_path / "model", data, {"learning_rate": 2e-3})
    with pytest.raises(BertileError, match=r"holds an unfinished run with another options; .*--restart"):
        run_job(other)
    lines: list[str] = []
    run_job(replace(other, restart=True), say=lines.append)
    assert not any("going on" in line for line in lines)


def test_two_processes_in_one_run(source, data, tmp_path):
    """The second one touches nothing, --restart or not."""
    job = make_job(source(), tmp_path / "model", data)
    work = work_folder(job.output)
    with held(work):
        (work / "checkpoint-4").mkdir()
        for second in (job, replace(job, restart=True)):
            with pytest.raises(BertileError, match="is in use: this run is going on in another process"):
                run_job(second)
        assert (work / "checkpoint-4").is_dir()
        (work / "checkpoint-4").rmdir()
    run_job(job)
    assert not work.exists()


@pytest.mark.parametrize("extra", [{"accumulate": 2, "batch_size": 4}, {"early_stopping": 2, "epochs": 6.0}])
def test_resumption_is_exact_in_other_settings_too(extra, source, data, tmp_path, monkeypatch):
    """Dropout with an incomplete last step of an epoch; the patience of an early stop."""
    train = {"max_steps": 0, "epochs": 3.0, "save_steps": 3, "log_steps": 1} | extra
    whole = make_job(source(), tmp_path / "whole", data, train)
    log = run_job(whole)
    killed = replace(whole, output=tmp_path / "killed")
    with monkeypatch.context() as patch:
        stop_at(patch, 17)
        with pytest.raises(Stop):
            run_job(killed)
    assert run_job(killed)["steps"] == log["steps"]
    expected, actual = final_weights(tmp_path / "whole"), final_weights(tmp_path / "killed")
    assert all(torch.equal(expected[name], actual[name]) for name in expected)


def test_an_early_stop_reports_the_model_that_it_keeps(source, data, tmp_path):
    log = run_job(make_job(source(), tmp_path / "model", data, {"max_steps": 0, "epochs": 8.0, "early_stopping": 1}))
    evaluations = [entry["eval"]["accuracy"] for entry in log["history"] if "eval" in entry]
    assert log["metrics"]["accuracy"] == max(evaluations)
    again = make_job(str(tmp_path / "model"), tmp_path / "same", data, {"max_steps": 1, "learning_rate": 1e-30})
    assert run_job(again)["metrics"]["loss"] == pytest.approx(log["metrics"]["loss"], rel=1e-5)


def test_a_run_that_could_not_write_its_result(source, data, tmp_path, monkeypatch):
    """It goes on from a checkpoint, does not train a step too many, and gives what it would have given."""
    job = make_job(source(), tmp_path / "model", data, {"save_steps": 3})
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "write_result", lambda *arguments: (_ for _ in ()).throw(Stop))
        with pytest.raises(Stop):
            run_job(job)
    log = run_job(job)
    assert (log["steps"], log["quantized_steps"]) == (12, 0)
    run_job(replace(job, output=tmp_path / "whole"))
    expected, actual = final_weights(tmp_path / "whole"), final_weights(tmp_path / "model")
    assert all(torch.equal(expected[name], actual[name]) for name in expected)


def test_the_output_is_not_what_is_read(source, data, tmp_path):
    job = make_job(source(), Path(source()), data)
    with pytest.raises(BertileError, match=r"not a folder that Bertile wrote|is read by this command"):
        run_job(job)
    run_job(make_job(source(), tmp_path / "model", data))
    with pytest.raises(BertileError, match="is read by this command: give another folder"):
        run_job(make_job(str(tmp_path / "model"), tmp_path / "model", data))


def test_other_data_is_another_run(source, data, tmp_path, monkeypatch):
    job = make_job(source(), tmp_path / "model", data)
    with monkeypatch.context() as patch:
        stop_at(patch, 5)
        with pytest.raises(Stop):
            run_job(job)
    (tmp_path / "other").mkdir()
    for name in ("train", "dev"):
        text = (data / f"{name}.tsv").read_text()
        (tmp_path / "other" / f"{name}.tsv").write_text(text.replace("two", "six"))
    with pytest.raises(BertileError, match="with another examples_sha256"):
        run_job(replace(job, data=tmp_path / "other"))


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
