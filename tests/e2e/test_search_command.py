"""`bertile search` as a user runs it: from a fine-tuned model and a constraint to a packed model that meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.fine_tuned import make_classifier

from bertile.pack.container import load_packed
from bertile.pack.packer import packed_sparsity
from bertile.perf.estimate import estimate_cycles
from bertile.text import bundled_lines

from .conftest import bertile, refuse, succeed

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
    return (place / "dense", "--task", "opinions", "--metric", "accuracy", "--data", place / "task")


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


def test_a_latency_is_met(place, tmp_path):
    """In the cycle model by the packed network itself, and on the RTL engine within 3 %."""
    found, tokens = tmp_path / "found", 64
    refusal = bertile("search", *options(place), "--cycles", 10, "--tokens", tokens, "-o", found)
    assert refusal.returncode == 2
    bound = int(refusal.stderr.rpartition("bound is ")[2].split()[0].replace(",", ""))
    assert not found.exists()
    limit = round(1.04 * bound)
    chosen = ("--latency-us", limit / 300, "--tokens", tokens, "--trials", 3)
    succeed("search", *options(place), *chosen, *TRAIN, "-o", found)
    succeed("pack", found / "model", "-o", found / "model.bertile")
    estimated = estimate_cycles(load_packed(found / "model.bertile"), [tokens]).total
    assert 0.97 * limit <= estimated <= limit
    checked = json.loads(succeed("check", found / "model.bertile", "--device", "rtl", "--tokens", tokens, "--json"))
    assert checked["mismatches"] == 0
    assert checked["cycles"] <= 1.03 * limit


def test_two_workers_share_the_trials(place, tmp_path):
    found = tmp_path / "found"
    command = ("search", *options(place), "--sparsity", 0.5, "--trials", 12, "--workers", 2, "--no-train", "-o", found)
    succeed(*command)
    trials = json.loads((found / "trials.json").read_text())["trials"]
    assert len(trials) >= 12
    assert len({tuple(trial["plan"]["shares"].values()) for trial in trials}) == len(trials)
    assert {"uniform", "global", "sensitivity"} <= {trial["name"] for trial in trials}


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
    ],
)
def test_bad_input(arguments, cause, place, tmp_path):
    refuse(cause, "search", *options(place), *arguments, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()
