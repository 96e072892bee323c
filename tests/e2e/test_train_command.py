"""`bertile train` and `bertile prune` as a user runs them, from a small model to its score on the C-simulation."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.fine_tuned import make_classifier
from transformers import AutoModelForSequenceClassification

from bertile.config.paths import ROOT
from bertile.models.classifier import load_trainable
from bertile.pack.container import load_packed
from bertile.pack.packer import packed_sparsity
from bertile.text import bundled_lines

from .conftest import GLUE, bertile, refuse, succeed

QUICK = ("--max-steps", 12, "--batch-size", 8, "--precision", "fp32", "--learning-rate", 1e-3)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, a task of film opinions (the sentences that come with the package), and a text."""
    folder = tmp_path_factory.mktemp("train")
    make_classifier(folder / "tiny", labels=("negative", "positive"))
    header, *rows = bundled_lines("sentiment.tsv")
    (folder / "task").mkdir()
    (folder / "task" / "train.tsv").write_text("\n".join([header, *rows]) + "\n")
    (folder / "task" / "dev.tsv").write_text("\n".join([header, *rows[::2]]) + "\n")
    (folder / "text.txt").write_text("\n".join(bundled_lines("calibration.txt")) + "\n")
    return folder


def task_options(place: Path) -> tuple:
    return ("--task", "opinions", "--metric", "accuracy", "--data", place / "task")


@pytest.fixture(scope="module")
def dense(place: Path) -> Path:
    succeed("train", place / "tiny", *task_options(place), *QUICK, "-o", place / "dense")
    return place / "dense"


@pytest.mark.parametrize(
    ("method", "pattern", "sparsity"),
    [
        ("oneshot", "1x16", 0.75),
        ("gradual", "16x16", 0.5),
        ("group-lasso", "1x16", 0.5),
        ("cyclic", "heads+neurons", 0.5),
    ],
)
def test_pruned_packed_and_scored(method, pattern, sparsity, place, dense, tmp_path):
    """Masks to the last weight in the packed file; C-simulation and integer reference give the same score."""
    named = ("--method", method, "--pattern", pattern, "--sparsity", sparsity, "--distill", "logits,hidden")
    result = succeed("prune", dense, *task_options(place), *QUICK, *named, "-o", tmp_path / "small", "--json")
    log = json.loads(result)
    assert (log["steps"], log["task"], log["options"]["prune"]["method"]) == (12, "opinions", method)
    network = AutoModelForSequenceClassification.from_pretrained(tmp_path / "small")
    assert network.config.num_labels == 2
    weights = load_trainable(str(tmp_path / "small"), None, 0).weights().values()
    zeros = sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)
    assert zeros == pytest.approx(sparsity, abs=1e-3)
    succeed("pack", tmp_path / "small", "-o", tmp_path / "small.bertile")
    if pattern == "1x16":
        assert packed_sparsity(load_packed(tmp_path / "small.bertile")) == pytest.approx(sparsity, abs=1e-3)
    scores = [
        json.loads(succeed("evaluate", tmp_path / "small.bertile", *task_options(place), "--device", name, "--json"))
        for name in ("integer", "csim", "fp32")
    ]
    assert scores[0]["metrics"] == scores[1]["metrics"]
    assert scores[2]["score"] == pytest.approx(log["metrics"]["accuracy"])


def test_pruned_once_then_tuned(place, dense, tmp_path):
    """Unlabelled text first, then a task with the masks held."""
    prune = ("--text", place / "text.txt", "--recipe", "prune-ofa", "--sparsity", 0.75, *QUICK)
    succeed("prune", place / "tiny", *prune, "-o", tmp_path / "encoder")
    tune = (*task_options(place), "--recipe", "transfer", "--teacher", dense, *QUICK)
    succeed("train", tmp_path / "encoder", *tune, "-o", tmp_path / "small")
    before, after = (load_trainable(str(tmp_path / name), None, 0).weights() for name in ("encoder", "small"))
    for name, weight in before.items():
        assert (after[name][weight == 0] == 0).all()
        assert (after[name] != weight).any()


def test_one_shot_keeps_the_classifier(dense, tmp_path):
    """And the texts to calibrate on; another pattern would lose zeros, and the source is not written over."""
    text = succeed("prune", dense, "--sparsity", 0.5, "-o", tmp_path / "small", "--json")
    assert json.loads(text)["sparsity"] == 0.5
    assert (tmp_path / "small" / "calibration.txt").read_text() == (dense / "calibration.txt").read_text()
    refuse("is pruned as 1x16", "prune", tmp_path / "small", "--pattern", "16x16", "-o", tmp_path / "other")
    refuse("is read by this command", "prune", dense, "-o", dense)
    before, after = (AutoModelForSequenceClassification.from_pretrained(path) for path in (dense, tmp_path / "small"))
    assert (before.classifier.weight == after.classifier.weight).all()
    assert after.config.bertile_task == "opinions"


def test_a_killed_command_goes_on(place, dense, tmp_path):
    """SIGKILL while it trains; then the same command ends with what an unharmed one gives."""
    long = ("--max-steps", 30, "--set", "train.save_steps=2", *QUICK[2:])
    arguments = ["train", place / "tiny", *task_options(place), *long]
    command = [sys.executable, "-m", "bertile.cli.main", *map(str, arguments), "-o", str(tmp_path / "killed")]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    work = tmp_path / "killed.training"
    deadline = time.monotonic() + 240
    while not list(work.glob("checkpoint-*/complete.json")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert "going on from step" in again.stderr
    whole = [*command[:-1], str(tmp_path / "whole")]
    subprocess.run(whole, cwd=ROOT, env=environment, capture_output=True, check=True)
    killed, unharmed = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("killed", "whole"))
    assert killed == unharmed


def test_two_processes_train_together(place, tmp_path):
    """As `accelerate launch` starts them: each takes its share of every step, one writes."""
    arguments = ["prune", place / "tiny", *task_options(place), *QUICK, "--method", "gradual", "-o", tmp_path / "small"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launcher, "-m", "bertile.cli.main", *map(str, arguments), "--json"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    log = json.loads(result.stdout)
    history = json.loads((tmp_path / "small" / "training.json").read_text())["history"]
    train_rows = len((place / "task" / "train.tsv").read_text().splitlines()) - 1
    first = next(entry["step"] for entry in history if "eval" in entry)
    assert first == min(12, -(-train_rows // 16))  # an epoch has half as many steps
    weights = load_trainable(str(tmp_path / "small"), None, 0).weights().values()
    zeros = sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)
    assert zeros == pytest.approx(log["options"]["prune"]["sparsity"], abs=1e-3)


@pytest.mark.parametrize(
    ("cause", "arguments"),
    [
        ("needs --distill task:0", ["prune", "minilm", "--task", "mrpc", "--data", str(GLUE), "--text", "x"]),
        ("unknown task 'mprc'", ["train", "minilm", "--task", "mprc", "--data", "."]),
        ("unknown setting train.lr", ["train", "minilm", "--task", "mrpc", "--data", ".", "--set", "train.lr=1"]),
        ("recipe 'nothing'", ["train", "minilm", "--task", "mrpc", "--data", ".", "--recipe", "nothing"]),
        ("'noise' is not one of", ["train", "minilm", "--task", "mrpc", "--data", ".", "--distill", "noise"]),
        ("unknown method 'magic'", ["prune", "minilm", "--task", "mrpc", "--data", ".", "--method", "magic"]),
        ("method gradual trains", ["prune", "minilm", "--method", "gradual"]),
        ("--epochs is for training", ["prune", "minilm", "--epochs", "3"]),
        ("--recipe is for training", ["prune", "minilm", "--recipe", "layerwise"]),
        ("there are no labels", ["prune", "minilm", "--text", "x", "--distill", "task:1,hidden"]),
        ("no train.tsv", ["prune", "minilm", "--task", "mrpc", "--data", "."]),
        ("--config makes random weights", ["prune", "--config", "bert-tiny", "--task", "mrpc", "--data", "."]),
    ],
)
def test_refusals(cause, arguments, tmp_path, monkeypatch):
    if str(GLUE) in arguments and not GLUE.is_dir():
        pytest.skip("GLUE data not found: set BERTILE_GLUE")
    monkeypatch.chdir(tmp_path)
    result = bertile(*arguments, "-o", tmp_path / "out")
    assert result.returncode == 2, (result.stdout, result.stderr)
    assert cause in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_bad_label_names_its_line(place, tmp_path):
    text = (place / "task" / "train.tsv").read_text().splitlines()
    (tmp_path / "train.tsv").write_text("\n".join([*text[:5], "words\t7x", *text[5:]]) + "\n")
    (tmp_path / "dev.tsv").write_text("\n".join(text) + "\n")
    refuse("train.tsv: line 6:", "train", place / "tiny", "--task", "sst2", "--data", tmp_path, "-o", tmp_path / "out")


@pytest.mark.glue
@pytest.mark.skipif(not (GLUE / "MRPC").is_dir(), reason="GLUE data not found: set BERTILE_GLUE")
def test_minilm_on_mrpc(tmp_path):
    """The real model on real data, a few steps of each command of the documentation."""
    short = ("--max-steps", 4, "--batch-size", 8)
    task = ("--task", "mrpc", "--data", GLUE)
    succeed("train", "minilm", *task, "--recipe", "finetune", *short, "-o", tmp_path / "dense")
    text = ("--text", GLUE / "MRPC" / "train.tsv")
    succeed("prune", "minilm", *text, "--recipe", "prune-ofa", "--sparsity", 0.75, *short, "-o", tmp_path / "encoder")
    tune = ("--recipe", "transfer", "--teacher", tmp_path / "dense", *short)
    succeed("train", tmp_path / "encoder", *task, *tune, "-o", tmp_path / "small")
    succeed("pack", tmp_path / "small", "-o", tmp_path / "small.bertile")
    options = ("--data", GLUE, "--limit", 16, "--json")
    integer, csim = (
        json.loads(succeed("evaluate", tmp_path / "small.bertile", *options, "--device", name))
        for name in ("integer", "csim")
    )
    assert integer["metrics"] == csim["metrics"]
    assert packed_sparsity(load_packed(tmp_path / "small.bertile")) == pytest.approx(0.75, abs=1e-3)
