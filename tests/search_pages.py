"""Folders as bertile search leaves them, made up, and a reader of the pages that bertile report writes of them."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bertile.cli.main import app
from bertile.errors import run_program
from bertile.models.encoder import MATRICES
from bertile.report.search_folder import Final

VOID = {"meta", "br", "hr", "img", "link", "input"}
CHEAP = (0.30, 0.42, 0.35, 0.50, 0.21, 0.26)
NAMES = ("uniform", "global", "sensitivity", "candidate", "candidate", "candidate")


def shares_of(number: int) -> dict[str, float]:
    """Of two layers; every one of all trials another."""
    names = [f"layers.{layer}.{matrix}" for layer in range(2) for matrix in MATRICES]
    return {name: round(0.5 + 0.03 * place + 0.003 * number, 3) for place, name in enumerate(names)}


def search_data(**identity: object) -> dict:
    """What bertile search writes of six trials, the fifth of them the best."""
    about = {"model": "nowhere/films", "weights": "0" * 64, "task": "films", "pattern": "1x16", "tokens": 48,
             "units": 1, "constraint": "sparsity 0.75", "sampler": "tpe", "seed": 3,
             "judge": {"recovery": "bias"}}  # fmt: skip
    trials = [
        {"number": number, "name": name, "sparsity": 0.75 + number / 1000, "cycles": 30_000 - 900 * number,
         "cheap": cheap, "verdict": {"error": cheap, "logits": 1.0, "unseen": 0.5, "task": 0.6 + number / 100},
         "seconds": 2.5,
         "plan": {"format": "bertile-plan", "pattern": "1x16", "sparsity": 0.75, "shares": shares_of(number)}}
        for number, (name, cheap) in enumerate(zip(NAMES, CHEAP, strict=True))
    ]  # fmt: skip
    return {"search": {**about, **identity}, "asked": len(trials), "trials": trials}


def write_search(folder: Path, data: object = None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "trials.json").write_text(json.dumps(search_data() if data is None else data))
    return folder


def report(*arguments: object) -> int:
    """The exit code of `bertile report`."""
    words = ["report", *map(str, arguments)]
    with pytest.raises(SystemExit) as ended:
        run_program(lambda: app(words, standalone_mode=False))
    return ended.value.code or 0


class Reader(HTMLParser):
    """A page as a browser has to find it: every tag closed, ids unique, nothing from elsewhere."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.cells: list[list[str]] = []
        self.pictures = 0
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []
        assert len(set(self.ids)) == len(self.ids)
        assert {link.removeprefix("#") for link in self.links if not link.startswith("data:")} <= set(self.ids)
        assert all(link.startswith(("#", "data:image/png;base64,")) for link in self.links)

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        self.handle_startendtag(tag, attributes)

    def handle_startendtag(self, tag, attributes):
        values = dict(attributes)
        assert tag not in ("script", "link", "iframe", "img", "object")
        assert not any(name.startswith("on") for name in values)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [value for name, value in attributes if name in ("href", "xlink:href", "src")]
        if tag == "svg":
            self.pictures += 1
            assert values["role"] == "img"
            assert len(values["aria-label"]) > 20
        if tag == "tr":
            self.cells.append([])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1].append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def read_page(folder: Path) -> Reader:
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "http" not in text
    assert "@import" not in text
    assert "#000000" not in text  # black on a dark page
    assert text.count("currentColor") > 5
    return Reader(text)


FINALS = [("a", 0.1, 0.9), ("b", 0.2, 0.7), ("c", 0.3, 0.8), ("d", 0.4, 0.6)]


def finals(metric: str = "accuracy", steps: int = 200, sign: int = 1) -> list[Final]:
    return [Final(name, place, cheap, sign * score, metric, steps) for place, (name, cheap, score) in enumerate(FINALS)]


def train_plan(
    folder: Path, trial: int, score: float, steps: int = 200, metric: str = "accuracy", task: str = "films"
) -> Path:
    """The folder of a model that followed the plan of a trial: what training says of it, and nothing else."""
    folder.mkdir(parents=True)
    plan = {"format": "bertile-plan", "pattern": "1x16", "sparsity": 0.75, "shares": shares_of(trial)}
    log = {"task": task, "metric": metric, "metrics": {"loss": 0.5, metric: score}, "steps": steps, "plan": plan}
    (folder / "training.json").write_text(json.dumps(log))
    return folder
