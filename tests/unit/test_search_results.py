"""The pages about searches, from hand-made results; and the study of cheap verdicts on a tiny model."""

from __future__ import annotations

import dataclasses
import json
import sys

import pytest
from tests.unit.test_accuracy_report import run
from tests.unit.test_experiments import place  # noqa: F401
from tests.unit.test_experiments import run as run_experiments

from bertile.experiments import efficient
from bertile.report.runs import write_run
from bertile.report.search_results import rank_correlation, search_lines

FINALS = (0.70, 0.71, 0.73, 0.74)


def study(task: str = "mrpc") -> dict:
    """Least squares ranks as training does; bias the other way round; the others tell one pair of six wrong."""
    orders = {"least-squares": (4, 3, 2, 1), "bias": (1, 2, 3, 4), "none": (4, 3, 1, 2), "distill": (4, 3, 1, 2)}
    rows = []
    for index, final in enumerate(FINALS):
        verdicts = {
            name: {
                "error": order[index],
                "seen": order[index],
                "logits": order[index],
                "unseen": -order[index],
                "task": -order[index],
                "seconds": 10.0 * (name == "bias") + 5,
            }
            for name, order in orders.items()
        }
        rows.append({"name": "uniform", "sparsity": 0.75, "verdicts": verdicts, "final": {"score": final}})
    return {
        "task": task, "pattern": "1x16", "sparsity": 0.75, "final_command": "bertile prune ...",
        "training_seconds": 100.0, "candidates": rows,
    }  # fmt: skip


def test_rank_correlations_by_hand():
    wanted = {("least-squares", "error"): 1, ("bias", "logits"): -1, ("none", "logits"): 4 / 6}
    for (recovery, judged), tau in wanted.items():
        assert rank_correlation(study(), recovery, judged) == pytest.approx(tau)
    assert rank_correlation(study(), "least-squares", "unseen") == pytest.approx(-1)  # less is better
    assert rank_correlation(study(), "least-squares", "task") == pytest.approx(1)  # more is better


def plans(**kept: tuple[float, float]) -> list:
    """Records of MRPC and STS-B by plan."""
    return [
        run(task, name, "1x16", 0.75, share)
        for name, shares in kept.items()
        for task, share in zip(("mrpc", "stsb"), shares, strict=True)
    ]


def test_what_was_asked_of_a_search():
    found = plans(uniform=(0.8, 0.9), **{"global": (0.85, 0.8)}, search=(0.9, 0.95))
    text = "\n".join(search_lines([study()], found))
    # MRPC spans 0.186, STS-B 0.885: (0.1 * 0.186 + 0.05 * 0.885) / 2 = 3.1 points.
    assert "+3.1 points, +1.0 were asked: reached" in text
    assert "+0.9 points at worst, -0.3 were asked: reached" in text  # 0.05 * 0.186 over global
    assert "| least-squares | 1.00 | 1.00 | -1.00 | 1.00 | 1.00 | 5 s, 5.0% of a training |" in text
    assert "| bias (the default) | -1.00 | -1.00 | 1.00 | -1.00 | -1.00 | 15 s, 15.0% of a training |" in text
    assert "Scores after training: 0.7000 to 0.7400." in text
    poor = "\n".join(search_lines([], plans(uniform=(0.8, 0.9), search=(0.81, 0.89))))
    assert "points, +1.0 were asked: not reached" in poor
    assert "-0.9 points at worst, -0.3 were asked: not reached" in poor
    # A search that was run on one task alone says so.
    found = plans(uniform=(0.8, 0.9), search=(0.9, 0.95)) + plans(other=(0.95, 0.99))[:1]
    text = "\n".join(search_lines([], found))
    assert "- search at 75%, INT8, mean over 2 tasks: " in text
    assert "- other at 75%, INT8, MRPC: " in text
    assert search_lines([], []) == []


def test_plans_of_two_sparsities_are_not_mixed():
    harder = [dataclasses.replace(record, sparsity=0.9) for record in plans(uniform=(0.2, 0.3), search=(0.4, 0.5))]
    text = "\n".join(search_lines([], plans(uniform=(0.8, 0.9), search=(0.9, 0.95)) + harder))
    assert "- search at 75%, INT8, mean over 2 tasks" in text
    assert "+3.1 points, +1.0 were asked: reached" in text
    # 0.2 of MRPC's span and of STS-B's; nothing was asked for there.
    assert "- search at 90%, INT8, mean over 2 tasks" in text
    assert "+10.7 points; against the best baseline" in text
    rows = [line for line in text.splitlines() if line.startswith("| MRPC")]
    assert [row.split("|")[2].strip() for row in rows] == ["search", "uniform"] * 2


def test_seeds_of_a_training_are_averaged():
    """MRPC's score is 0.684 + 0.186 * share: 0.8 and 0.9 are one row of 0.85, and count as that in the summary."""
    first = plans(uniform=(0.8, 0.9), search=(0.8, 0.9))
    again = [dataclasses.replace(record, seed=1) for record in plans(search=(0.9, 0.9))]
    text = "\n".join(search_lines([], first + again))
    low, high = (run("mrpc", "search", "1x16", 0.75, share).score_int8 for share in (0.8, 0.9))
    (row,) = [line for line in text.splitlines() if line.startswith("| MRPC | search |")]
    assert row.split("|")[5].strip() == "2"
    assert f"| {(low + high) / 2:.4f} ({low:.4f} to {high:.4f}) | 0.850 |" in row
    (row,) = [line for line in text.splitlines() if line.startswith("| MRPC | uniform |")]
    assert f"| {low:.4f} | 0.800 |" in row
    assert "+0.5 points, +1.0 were asked: not reached" in text  # 0.05 of MRPC's 0.186, over two tasks


def test_searches_from_two_dense_networks():
    """0.1 of MRPC's span of 0.186 is 1.9 points, 0.05 of STS-B's of 0.885 is 4.4; what one lacks is left out."""
    earlier = plans(uniform=(0.8, 0.9), search=(0.9, 0.95), other=(0.9, 0.9))
    text = "\n".join(search_lines([], plans(uniform=(0.8, 0.9), search=(0.8, 0.9)), earlier))
    assert "- search at 75%, INT8, over uniform: MRPC +1.9 and +0.0, STS-B +4.4 and +0.0 points; mean +1.6." in text
    assert text.count("| MRPC | search |") == 2
    assert text.count("over uniform:") == 1
    assert "The same from other dense networks" not in "\n".join(search_lines([], earlier))


def test_costs_are_shares_of_the_studys_own_training(tmp_path):
    """That of the uniform plan at the study's sparsity, where there is a record of one."""
    for record in (*plans(uniform=(0.8, 0.9)), *plans(search=(0.8, 0.9))):
        seconds = 300.0 if (record.method, record.task) == ("uniform", "mrpc") else 7.0
        record = dataclasses.replace(record, name=f"{record.task}-{record.method}", train_seconds=seconds)
        write_run(record, tmp_path)
    assert efficient.full_training("mrpc", tmp_path) == 300.0
    assert efficient.full_training("sst2", tmp_path) is None
    text = "\n".join(search_lines([study() | {"training_seconds": None}], []))
    assert "| least-squares | 1.00 | 1.00 | -1.00 | 1.00 | 1.00 | 5 s |" in text


def test_the_study_of_verdicts(place, monkeypatch, capfd):  # noqa: F811
    options = (
        "--data",
        place / "glue",
        "--grid",
        place / "grid.toml",
        "--work",
        place / "work",
        "--runs",
        place / "runs",
    )
    run_experiments(monkeypatch, *options, "--only", "mrpc-dense")
    monkeypatch.setattr(efficient, "CANDIDATES", {"mrpc": 4})
    monkeypatch.setattr(efficient, "SPARSITY", 0.5)
    monkeypatch.setattr(efficient, "TOKENS", 64)
    monkeypatch.setattr(efficient, "FINAL", efficient.FINAL.replace("--max-steps 200", "--max-steps 2 --batch-size 4"))
    folders = ("--models", place / "work", "--work", place / "search", "--results", place / "results")
    monkeypatch.setattr(sys, "argv", ["efficient", "--data", str(place / "glue"), *map(str, folders)])
    assert efficient.main() == 0
    written = json.loads((place / "results" / "efficient-mrpc.json").read_text())
    assert [row["name"] for row in written["candidates"]] == ["uniform", "global", "sensitivity", "random3"]
    for row in written["candidates"]:
        assert set(row["verdicts"]) == set(efficient.JUDGED)
        assert row["final"]["steps"] == 2
        assert row["sparsity"] == pytest.approx(0.5, abs=0.005)
    assert str(place) not in json.dumps(written)
    capfd.readouterr()
    assert efficient.main() == 0  # all of it is there
    assert capfd.readouterr().out == ""
