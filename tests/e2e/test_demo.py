"""`make demo` and the README's commands do what the README says."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from bertile import demo
from bertile.config.paths import ROOT
from bertile.config.spec import load_spec
from bertile.report import results
from bertile.report.runs import TASKS, read_runs

from .conftest import bertile

README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    """Summary of the demo, run into a folder of its own."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "FOLDER", folder)
        assert demo.main() == 0
    assert (folder / "tiles.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "model.bertile").is_file()
    return json.loads((folder / "summary.json").read_text())


def test_demo_is_exact_and_faithful(summary):
    assert summary["mismatches"] == 0
    assert summary["compared"] == 6 * 384 * 32 * 12  # layers, features, lanes, sentences of one row block
    assert summary["sparsity"] == 0.5
    assert summary["spec_digest"] == load_spec().digest
    assert summary["cosine_mean"] > 0.99
    assert summary["cosine_min"] > 0.97


def test_readme_shows_the_demos_numbers(summary):
    """Exact figures exactly, fidelity to two digits: the last ones depend on the processor's float arithmetic."""
    assert f"{summary['compared']:,} values of every layer compared, 0 mismatches" in README
    assert f"one compute unit: {summary['cycles']:,}" in README
    shown = re.search(r"hidden states (0\.\d+) on average, (0\.\d+) at worst", README)
    assert float(shown[1]) == pytest.approx(summary["cosine_mean"], abs=0.002)
    assert float(shown[2]) == pytest.approx(summary["cosine_min"], abs=0.01)


def test_readme_and_results_show_the_measured_scores():
    """No number typed by hand: docs/results.md is what its command makes, and the README quotes its data."""
    measured = json.loads(results.SOURCE.read_text())
    assert results.TARGET.read_text() == results.render(
        measured, read_runs(results.RUNS), json.loads(results.TRAINING.read_text())
    )
    dense, half = measured["accuracy"]
    assert f"(Spearman {dense['score_integer']:.4f} against {dense['score_fp32']:.4f} in FP32)" in README
    assert f"({half['score_integer']:.3f})" in README
    runs = {record.name: record for record in read_runs(results.RUNS)}
    for task, between in (("stsb", " the dense model's"), ("sst2", ""), ("mrpc", "")):
        pruned = runs[f"{task}-reconstruct-1x16-75-s0"]
        name = TASKS[task]
        assert f"{pruned.score_int8:.4f} of{between} {pruned.dense:.4f} on {name}" in README


def test_readme_commands_run(tmp_path, monkeypatch):
    """Every `bertile` command of the README, in order, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sentences.txt").write_text("A cat sleeps.\nA kitten is asleep.\nPrices rose.\n")
    (tmp_path / "GLUE" / "STS-B").mkdir(parents=True)
    rows = ["A cat sleeps.\tA kitten is asleep.\t4.5", "A cat sleeps.\tPrices rose.\t0.0", "Yes.\tIndeed.\t3.0"]
    for split in ("train", "dev"):
        lines = ["sentence1\tsentence2\tlabel", *rows]
        (tmp_path / "GLUE" / "STS-B" / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    commands = [shlex.split(line, comments=True)[1:] for line in README.splitlines() if line.startswith("bertile ")]
    assert len(commands) == 15
    for command in commands:
        if "--recipe" in command:  # hours, as they stand
            command += ["--max-steps", "2", "--batch-size", "4"]
        if command[0] == "search":
            command += ["--max-steps", "2", "--trials", "3"]
        result = bertile(*command)
        assert result.returncode == 0, (command, result.stderr)


def test_readme_links_exist():
    links = re.findall(r"\]\((?!http)([^)#]+)", README)
    assert len(links) > 6
    assert [link for link in links if not (ROOT / link).exists()] == []
