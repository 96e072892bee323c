"""The page of a search: what it says, that it stands alone, and what it refuses."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from tests.search_pages import Reader, finals, read_page, report, search_data, shares_of, train_plan, write_search

from bertile.errors import BertileError
from bertile.models.encoder import MATRICES
from bertile.report import search_pictures as pictures
from bertile.report.html import COMMAND_COLUMNS, command
from bertile.report.search_folder import (
    Final,
    comparable,
    constraint_options,
    ratios,
    read_search,
    search_command,
    tau_of,
)
from bertile.search.constraint import make_constraint


def test_a_search_without_a_network(tmp_path, capsys):
    folder = write_search(tmp_path / "found")
    assert report(folder) == 0
    assert capsys.readouterr().out.strip() == str(folder / "report.html")
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "trials.json"]
    page = read_page(folder)
    assert page.pictures == 1 + 3 + 1 + 1  # maps of the choice and the baselines, trials, latency
    assert "Trial 4 is chosen: its layers' error is 0.2100, against 0.3000 of the best baseline, uniform" in page.text
    assert "88.0 us" in page.text  # 26,400 cycles at 300 MHz
    assert "projected at 300 MHz from the cycle model, not measured on a board" in page.text
    assert "the cheap score was not checked" in page.text
    assert "Nothing was trained here" in page.text
    assert "The dense network is not here" in page.text
    chosen = ["4 candidate", "75.40%", "26,400", "88.0", "0.2100", "0.5000", "0.6400", "2.5"]
    assert page.cells.count(chosen) == 2  # of all trials, and beside the baselines
    shares = list(shares_of(4).values())
    assert ["layer 1", *(f"{share:.1%}" for share in shares[6:])] in page.cells
    first = (folder / "report.html").read_bytes()
    assert report(folder, "-o", tmp_path / "again.html") == 0
    assert (tmp_path / "again.html").read_bytes() == first


def test_a_baseline_that_nothing_beat_is_named(tmp_path):
    data = search_data()
    data["trials"][1]["cheap"] = 0.1
    assert report(write_search(tmp_path / "found", data)) == 0
    assert "No candidate beat the baseline global, trial 1" in read_page(tmp_path / "found").text


def test_the_pictures_of_a_search_show_its_trials(tmp_path):
    search = read_search(write_search(tmp_path / "found"))
    axis = pictures.trials_figure(search).axes[0]
    assert axis.lines[0].get_ydata().tolist() == [0.30, 0.30, 0.30, 0.30, 0.21, 0.21]
    points = {c.get_label(): np.asarray(c.get_offsets()).tolist() for c in axis.collections}
    assert points["sensitivity"] == [[2, 0.35]]
    assert points["candidate"] == [[3, 0.50], [4, 0.21], [5, 0.26]]
    assert points["chosen"] == [[4, 0.21]]
    axis = pictures.latency_figure(search, 60_000).axes[0]
    points = {c.get_label(): np.asarray(c.get_offsets()).tolist() for c in axis.collections}
    assert points["dense"] == [[200.0, 0.0]]
    assert points["global"] == [[97.0, 0.42]]
    assert "dense" not in {c.get_label() for c in pictures.latency_figure(search).axes[0].collections}


def test_a_front(tmp_path):
    """No single choice: those that none beats in both, the fastest and the most accurate one as maps."""
    data = search_data(constraint="pareto")
    for trial, cheap in zip(data["trials"], (0.1, 0.4, 0.2, 0.5, 0.3, 0.6), strict=True):
        name = "uniform" if trial["number"] in (1, 2) else "candidate"
        trial |= {"name": name, "cheap": cheap}  # fewer cycles from trial to trial
    folder = write_search(tmp_path / "front", data)
    search = read_search(folder)
    assert [trial.number for trial in search.chosen()] == [5, 4, 2, 0]
    assert report(folder) == 0
    page = read_page(folder)
    assert "4 of them are beaten by none in both error and cycles." in page.text
    assert "Of the 2 uniform plans 1 are beaten." in page.text
    assert "Trial 5 candidate: 75.50%" in page.text
    assert "Trial 0 candidate: 75.00%" in page.text
    assert page.pictures == 2 + 1 + 1
    assert "--pareto" in page.text
    assert "NSGA-II" in page.text
    assert "--no-train" not in page.text


def test_tau_by_hand():
    """Of six pairs one is in the wrong order: (5 - 1) / 6."""
    assert tau_of(finals()) == pytest.approx(4 / 6)
    assert tau_of(finals("mse", sign=-1)) == pytest.approx(4 / 6)
    assert tau_of(finals("mse")) == pytest.approx(-4 / 6)
    assert tau_of(finals()[:1]) is None
    assert tau_of([Final("a", 0, 0.1, 0.5, "f1", 9), Final("b", 1, 0.2, 0.5, "f1", 9)]) is None


def test_finals_are_compared_with_their_like(tmp_path):
    """Models in the search's folder and elsewhere; of trials 0 to 3 the errors are 0.30, 0.42, 0.35, 0.50."""
    folder = write_search(tmp_path / "found")
    for trial, score in enumerate((0.9, 0.7, 0.8)):
        train_plan(folder / f"after-{trial}", trial, score)
    elsewhere = train_plan(tmp_path / "fourth", 3, 0.75)
    for trial, score in ((0, 0.7), (1, 0.8)):
        train_plan(folder / f"longer-{trial}", trial, score, steps=400)
    train_plan(folder / "of-another-search", 77, 0.99)
    assert {key: len(group) for key, group in comparable(read_search(folder).finals).items()} == {
        ("accuracy", 200): 3,
        ("accuracy", 400): 2,
    }
    train_plan(folder / "of-another-task", 0, 0.99, task="books")
    assert report(folder, "--trained", elsewhere, "--trained", folder / "after-0") == 0  # that one counts once
    page = read_page(folder)
    assert "4 plans after 200 steps. Kendall's tau: 0.667." in page.text
    assert "2 plans after 400 steps. Kendall's tau: -1.000." in page.text
    assert page.cells.count(["sensitivity", "2", "0.3500", "0.8000"]) == 1
    assert "the cheap score was not checked" not in page.text


def trial_with(pattern: str, shares: dict[str, float], tmp_path: Path):
    data = search_data(pattern=pattern)
    for trial in data["trials"]:
        trial["plan"] |= {"pattern": pattern, "shares": shares}
    return read_search(write_search(tmp_path / "found", data)).trials[0]


ATTENTION = ("query", "key", "value", "attention_output")


@pytest.mark.parametrize(
    ("pattern", "shares", "rows", "coarse"),
    [
        (
            "heads@0.25+neurons+1x16",
            {
                "heads@0.25/layers.0.heads": 0.25,
                "neurons/layers.0.neurons": 0.1,
                **{f"1x16/layers.0.{name}": 0.5 + place / 10 for place, name in enumerate(MATRICES[:5])},
                "1x16/layers.0.ffn_out": 0.3,
            },
            [[0.5, 0.6, 0.7, 0.8, 0.9, 0.3]],
            {"heads@0.25": [0.25], "neurons": [0.1]},
        ),
        (
            "neurons+heads",
            {
                f"{kind}/layers.{n}.{kind}": 0.1 * n + (0.5 if kind == "heads" else 0)
                for n in (0, 1)
                for kind in ("heads", "neurons")
            },
            [[0.5] * 4 + [0.0] * 2, [0.6] * 4 + [0.1] * 2],
            {},
        ),
        ("layers", {"layers.0": 0.0, "layers.1": 1.0}, [[0.0] * 6, [1.0] * 6], {}),
        (
            "16x16+1x16",
            {f"{part}/layers.0.{name}": share for part, share in (("1x16", 0.5), ("16x16", 0.2)) for name in MATRICES},
            [[0.5] * 6],
            {f"16x16 {name}": [0.2] for name in MATRICES},
        ),
    ],
)  # fmt: skip
def test_ratios_of_overlapping_groups(pattern, shares, rows, coarse, tmp_path):
    found = ratios(trial_with(pattern, shares, tmp_path), pattern)
    assert np.allclose(found.shares, rows)
    assert found.coarse == coarse
    figure = pictures.ratios_figure(found)
    shown = [text.get_text() for text in figure.axes[0].texts]
    assert len(shown) == len(rows) * (6 + len(coarse))
    assert shown[: 6 + len(coarse)] == [f"{share:.0%}" for share in (*rows[0], *(v[0] for v in coarse.values()))]
    assert report(tmp_path / "found") == 0
    heads = [row for row in read_page(tmp_path / "found").cells if row[:2] == ["layer", "query"]]
    assert heads == [["layer", *MATRICES, *(f"whole {name}" for name in coarse)]]


@pytest.mark.parametrize("given", [(0.75, None, None), (None, 1_270_000, None), (None, None, 812.5)])
def test_the_command_of_a_search_asks_for_the_same(given, tmp_path):
    constraint = make_constraint(*given)
    name, value = constraint_options(str(constraint))
    again = {"--sparsity": (float(value), None, None), "--cycles": (None, int(float(value)), None)}[name]
    assert make_constraint(*again) == constraint
    search = read_search(write_search(tmp_path / "a b", search_data(constraint=str(constraint), model="x; rm")))
    words = search_command(search)
    assert words[:5] == ["bertile", "search", "x; rm", "-o", str(tmp_path / "a b")]
    options = dict(zip(words[5:-1:2], words[6:-1:2], strict=True))
    assert options == {name: value, "--task": "films", "--pattern": "1x16", "--tokens": "48", "--trials": "6",
                       "--units": "1", "--sampler": "tpe", "--recovery": "bias", "--seed": "3"}  # fmt: skip
    assert words[-1] == "--no-train"


def test_a_command_is_what_a_shell_reads():
    words = ["bertile", "prune", "a b/<c>", *(w for n in range(9) for w in ("--set", f"prune.n{n}='x y'")), "--json"]
    page = Reader(command(words, "The command"))
    text = "".join(page.texts)
    assert shlex.split(text.replace(" \\\n", " ")) == words
    assert text.count("\n") >= 3
    assert not any(line.endswith("--set \\") for line in text.splitlines())
    assert max(map(len, text.splitlines())) <= COMMAND_COLUMNS + 2


HOSTILE = '</title><script>alert("x")</script> $\\frac{$ ]]> --> &amp;'


def test_names_are_only_names(tmp_path):
    data = search_data(model=HOSTILE, task=HOSTILE, sampler=HOSTILE)
    data["trials"][0]["name"] = HOSTILE
    folder = write_search(tmp_path / "found <b>", data)
    for trial in range(2):
        train_plan(folder / f"{trial} <b>", trial, 0.5 + trial, metric=HOSTILE)
    assert report(folder) == 0
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text
    page = read_page(folder)
    assert ["model", HOSTILE] in page.cells
    assert f"0 {HOSTILE}" in {row[0] for row in page.cells}
    assert f"'{folder}'" in page.text


def without(key: str) -> dict:
    data = search_data()
    del data["search"][key]
    return data


def with_trial(**changes: object) -> dict:
    data = search_data()
    data["trials"][2] |= changes
    return data


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "has no trials.json"),
        ("{", "trials.json is broken"),
        ("[]", "no record of a search"),
        ('{"search": {}, "trials": []}', "'model' is missing"),
        (without("judge"), "'judge' is missing"),
        (search_data(tokens="many"), "tokens is 'many'"),
        (search_data(tokens=0), "tokens is 0"),
        (search_data(units=2), "units is 2"),
        ({**search_data(), "asked": 0}, "asked is 0"),
        (search_data(constraint="fast"), "'fast' is no constraint"),
        (search_data(pattern="16"), "pattern '16' is not"),
        (search_data(pattern="heads"), "is no group set of pattern heads"),
        ({**search_data(), "trials": []}, "holds no trial"),
        (with_trial(cheap=float("nan")), "nan is no number of trial 2"),
        (with_trial(verdict={"logits": 0.1}), "trial 2 lacks"),
        (with_trial(more=1), "no record of a search"),
        (with_trial(plan={"shares": {}}), "no record of a search"),
        (with_trial(plan={"shares": {**shares_of(2), "layers.0.key": 1.5}}), "share of trial 2 is 1.5"),
        (with_trial(plan={"shares": {"layers.1.key": 0.5}}), "has no share for"),
    ],
)
def test_a_folder_that_is_none(content, reason, tmp_path, capsys):
    folder = tmp_path / "found"
    folder.mkdir()
    if content is not None:
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / "trials.json").write_text(text)
    assert report(folder) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert reason in said
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"plan": 4}', '{"plan": null, "metrics": {}}'])
def test_training_logs_that_are_none(text, tmp_path, capsys):
    folder = write_search(tmp_path / "found")
    (train_plan(folder / "after", 0, 0.5) / "training.json").write_text(text)
    assert report(folder) == 2
    assert "after/training.json" in capsys.readouterr().err
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize(
    ("trial", "score", "task"), [(77, 0.5, "films"), (1, float("nan"), "films"), (1, 0.5, "books")]
)
def test_a_model_that_followed_none_of_the_plans(trial, score, task, tmp_path, capsys):
    folder = write_search(tmp_path / "found")
    model = train_plan(tmp_path / "other", trial, score, task=task)
    assert report(folder, "--trained", model) == 2
    assert f"{model} was not trained after a plan of {folder}" in capsys.readouterr().err
    assert report(folder, "--trained", tmp_path / "nowhere") == 2
    assert "nowhere" in capsys.readouterr().err


def test_a_broken_network_leaves_the_old_page(tmp_path, capsys):
    folder = write_search(tmp_path / "found")
    assert report(folder) == 0
    before = (folder / "report.html").read_bytes()
    (folder / "model").mkdir()
    assert report(folder) == 2
    assert "config.json" in capsys.readouterr().err
    (folder / "model" / "training.json").write_text('{"steps": 3}')
    assert report(folder) == 2
    assert "training.json is no training log" in capsys.readouterr().err
    assert (folder / "report.html").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["model", "report.html", "trials.json"]


def test_where_a_page_cannot_be(tmp_path, capsys):
    folder = write_search(tmp_path / "found")
    assert report(folder, "-o", tmp_path) == 2
    assert "-o names a file" in capsys.readouterr().err
    assert report(folder, "-o", tmp_path / "none" / "page.html") == 2
    assert report(tmp_path / "nowhere") == 2
    assert capsys.readouterr().err.count("\n") == 2
    with pytest.raises(BertileError, match="no such folder"):
        read_search(tmp_path / "nowhere")
