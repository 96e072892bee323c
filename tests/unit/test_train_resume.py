"""Runs that were killed, starved or started twice go on to the same result, or say why not."""

from __future__ import annotations

import errno
import json
from dataclasses import replace

import pytest
import torch
from tests.tiny_training import Stop, final_weights, make_job, stop_at

from bertile.errors import BertileError
from bertile.train import run as run_module
from bertile.train.run import run_job
from bertile.train.trainer import BertileTrainer
from bertile.train.work import held, work_folder

METHODS = {
    "none": {},
    "gradual": {"prune": {"method": "gradual", "sparsity": 0.75, "interval": 2, "end": 0.7}},
    "movement": {"prune": {"method": "gradual", "sparsity": 0.5, "score": "movement", "interval": 2}},
    "lasso": {"prune": {"method": "group-lasso", "sparsity": 0.5, "lasso_refresh": 3, "end": 0.8}},
    "reconstruct": {"prune": {"method": "reconstruct", "sparsity": 0.5, "score": "activation"}},
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
    with pytest.raises(BertileError, match=r"holds an unfinished run with different options; .*--restart"):
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
    with pytest.raises(BertileError, match="with different examples_sha256"):
        run_job(replace(job, data=tmp_path / "other"))
