"""`bertile search` as a user runs it: from a fine-tuned model and a constraint to a packed model that meets it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from tests.fine_tuned import make_classifier

from bertile.pack.container import load_packed
from bertile.pack.packer import packed_sparsity
from bertile.perf.estimate import estimate_cycles
from bertile.search.storage import STUDY, open_storage
from bertile.text import bundled_lines

from .conftest import bertile, refuse, succeed

TOKENS = 64
TRAIN = ("--max-steps", 12, "--set", "train.batch_size=8", "--set", "train.precision=fp32")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny classifier, and the sentences with opinions that come with the package as its task."""
    folder = tmp_path_factory.mktemp("search")
    make_classifier(folder / "dense", labels=("negative", "positive"), task="opinions")
    header, *rows = bundled_lines("sentiment.tsv")
    (folder / "task").mkdir()
    for name, chosen in (("train", rows), ("dev", rows[::2])):
        (folder / "task" / f"{name}.tsv").write_text("\n".join([header, *chosen]) + "\n")
    return folder


def options(place: Path) -> tuple:
    return (place / "dense", "--task", "opinions", "--metric", "accuracy", "--data", place / "task", "--tokens", TOKENS)


def test_from_a_sparsity_to_a_packed_model(place, tmp_path):
    found = tmp_path / "found"
    command = ("search", *options(place), "--sparsity", 0.5, "--trials", 4, *TRAIN, "--json", "-o", found)
    data = json.loads(succeed(*command))
    (best,) = data["chosen"]
    assert best["sparsity"] == pytest.approx(0.5, abs=0.005)
    plan = json.loads((found / "plan.json").read_text())
    assert plan["shares"] == best["plan"]["shares"]
    succeed("pack", found / "model", "-o", found / "model.bertile")
    packed = load_packed(found / "model.bertile")
    assert packed_sparsity(packed) == pytest.approx(best["sparsity"], abs=1e-3)
    assert packed.provenance["pruning"]["scope"] == "plan"
    # Again: nothing is judged or trained twice.
    again = bertile(*command)
    assert json.loads(again.stdout)["chosen"] == data["chosen"]
    assert "is there already" in again.stderr
    # A model is not passed off as that of another plan, or of other options.
    refused = bertile(*command, "--max-steps", 13)
    assert refused.returncode == 2
    assert "error: " in refused.stderr
    assert "was trained with other options: --restart trains it anew" in refused.stderr
    file = found / "model" / "training.json"
    log = json.loads(file.read_text())
    log["plan"]["shares"]["layers.0.query"] = 0.123
    file.write_text(json.dumps(log))
    assert "was trained with another plan than the one chosen by now" in bertile(*command).stderr


def test_a_latency_is_met(place, tmp_path):
    """In the cycle model by the packed network itself, and on the RTL engine within 3 %."""
    found = tmp_path / "found"
    refusal = bertile("search", *options(place), "--cycles", 10, "-o", found)
    assert refusal.returncode == 2
    bound = int(refusal.stderr.rpartition("bound is ")[2].split()[0].replace(",", ""))
    assert not found.exists()
    limit = round(1.04 * bound)
    chosen = ("--latency-us", limit / 300, "--trials", 3)
    succeed("search", *options(place), *chosen, *TRAIN, "-o", found)
    succeed("pack", found / "model", "-o", found / "model.bertile")
    estimated = estimate_cycles(load_packed(found / "model.bertile"), [TOKENS]).total
    assert 0.97 * limit <= estimated <= limit
    checked = json.loads(succeed("check", found / "model.bertile", "--device", "rtl", "--tokens", TOKENS, "--json"))
    assert checked["mismatches"] == 0
    assert checked["cycles"] <= 1.03 * limit


def trials_of(found: Path) -> list[optuna.trial.FrozenTrial]:
    """What the study holds by now, nothing before there is one."""
    try:
        return optuna.load_study(study_name=STUDY, storage=open_storage("", found)).trials
    except KeyError:
        return []


def workers_of(found: Path) -> set[int]:
    """The processes that took part so far."""
    return {trial.user_attrs["worker"][1] for trial in trials_of(found) if "worker" in trial.user_attrs}


def is_shared(found: Path) -> bool:
    """Whether two took part, and enough has ended that the baselines are among it."""
    ended = [trial for trial in trials_of(found) if trial.state == TrialState.COMPLETE]
    return len(workers_of(found)) == 2 and len(ended) >= 6


def wait_for(happened: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.5)


def test_two_workers_share_the_trials(place, tmp_path):
    """A worker ends when the one that started it is killed; what they did stays, and no trial is drawn twice."""
    found = tmp_path / "found"
    command = ("search", *options(place), "--sparsity", 0.5, "--workers", 2, "--no-train", "-o", found)
    words = [sys.executable, "-m", "bertile.cli.main", *map(str, command), "--recovery", "distill", "--trials", "5000"]
    first = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: (found / "study.journal").is_file() and is_shared(found))
    finally:
        first.kill()
        first.wait()
    (helper,) = workers_of(found) - {first.pid}
    wait_for(lambda: not Path(f"/proc/{helper}").exists())
    succeed(*command, "--recovery", "distill", "--trials", 1)
    trials = json.loads((found / "trials.json").read_text())["trials"]
    assert len({tuple(trial["plan"]["shares"].values()) for trial in trials}) == len(trials)
    assert {"uniform", "global", "sensitivity"} <= {trial["name"] for trial in trials}


def test_inputs_of_the_training_are_checked_before_the_search(place, tmp_path):
    found = tmp_path / "found"
    search = ("search", *options(place), "--sparsity", 0.5)
    refuse("nosuch.txt", *search, "--text", tmp_path / "nosuch.txt", "-o", found)
    refuse("setting prune.sparsity: the search decides it", *search, "--set", "prune.sparsity=0.9", "-o", found)
    refuse("is read by this command", *search, "-o", place / "dense")
    (tmp_path / "task").mkdir()
    shutil.copy(place / "task" / "train.tsv", tmp_path / "task")
    refuse("no dev.tsv", *search, "--data", tmp_path / "task", "-o", found)
    succeed("prune", place / "dense", "--pattern", "2x16", "--sparsity", 0.3, "-o", tmp_path / "pruned")
    refuse("is pruned as 2x16", "search", tmp_path / "pruned", *options(place)[1:], "--sparsity", 0.5, "-o", found)
    assert not found.exists()


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ((), "give one of --sparsity, --cycles and --latency-us"),
        (("--sparsity", 0.5, "--cycles", 100), "give one of --sparsity, --cycles and --latency-us"),
        (("--sparsity", 0.999), "sparsity 0.999 cannot be met with pattern 1x16: the bound is"),
        (("--sparsity", 0.5, "--pattern", "heads"), "pattern heads leaves matrices out"),
        (("--sparsity", 0.5, "--units", 2), "2 units: one runs a launch alone, or 3 together"),
        (("--pareto", "--units", 2), "2 units: one runs a launch alone, or 3 together"),
        (("--sparsity", 0.5, "--sampler", "magic"), "sampler 'magic' is not one of gp, tpe, random"),
        (("--sparsity", 0.5, "--recovery", "magic"), "recovery 'magic' is not one of none, bias"),
        (("--sparsity", 0.5, "--recipe", "magic"), "recipe 'magic': no such file"),
        (("--pareto", "--sparsity", 0.5), "--pareto needs no constraint"),
        (("--pareto", "--sampler", "tpe"), "--pareto draws by NSGA-II"),
        (("--latency-us", "nan"), "nan is not above 0 and finite"),
        (("--latency-us", "inf"), "inf is not above 0 and finite"),
        (("--sparsity", 0.5, "--tokens", 500), "500 tokens: this model takes 1 to 80"),
        (("--sparsity", 0.5, "--pattern", "layers"), "pattern layers keeps or removes layers.0 as a whole"),
        (("--sparsity", 0.5, "--pattern", "heads@0.25+1x16"), "says the share of heads@0.25: a search finds it"),
    ],
)
def test_bad_input(arguments, cause, place, tmp_path):
    refuse(cause, "search", *options(place), *arguments, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()
