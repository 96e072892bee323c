"""The grid of pruning experiments: docs/results/grid.toml says what is run, with which commands."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from bertile.errors import BertileError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PLACES = ("data", "work", "task", "seed")


@dataclass(frozen=True)
class Step:
    """One command that makes a model folder; `{data}` and `{work}` in it are the places of this machine."""

    name: str
    command: str


@dataclass(frozen=True)
class Experiment:
    """A model trained for a task. steps: what makes it, in order; the last one's folder is scored."""

    name: str
    task: str
    method: str
    pattern: str
    sparsity: float
    seed: int
    comment: str
    steps: tuple[Step, ...]


def _fill(template: str, **values: object) -> str:
    """Put values where the template names them; the others stay."""
    for name, value in values.items():
        template = template.replace("{" + name + "}", str(value))
    return template


def _chain(name: str, encoders: dict[str, dict]) -> list[Step]:
    """The commands that make an encoder, those it is made from first."""
    if name not in encoders:
        raise BertileError(f"the grid has no encoder {name!r}")
    entry = encoders[name]
    before = _chain(entry["from"], encoders) if "from" in entry else []
    return [*before, Step(name, entry["command"].strip())]


def read_grid(file: Path) -> list[Experiment]:
    """All experiments, in the order in which they are to be run. Raises BertileError for a broken file."""
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
        encoders = {entry["name"]: entry for entry in data.get("encoder", ())}
        experiments = [
            _experiment(entry, task, seed, encoders)
            for entry in data["experiment"]
            for seed in entry.get("seeds", [0])
            for task in entry["tasks"]
        ]
    except OSError as error:
        raise BertileError(f"{file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as error:
        raise BertileError(f"{file} is broken: {error}") from None
    names = [experiment.name for experiment in experiments]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise BertileError(f"{file}: {sorted(twice)[0]} is there twice")
    return experiments


def _experiment(entry: dict, task: str, seed: int, encoders: dict[str, dict]) -> Experiment:
    name = _fill(entry["name"], task=task, seed=seed)
    command = _fill(entry["command"].strip(), task=task, seed=seed, name=name)
    before = _chain(_fill(entry["encoder"], seed=seed), encoders) if "encoder" in entry else []
    return Experiment(
        name,
        task,
        entry["method"],
        entry.get("pattern", ""),
        float(entry.get("sparsity", 0.0)),
        seed,
        entry.get("comment", ""),
        (*before, Step(name, command)),
    )
