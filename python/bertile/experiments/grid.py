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


def _fill(template: str, values: dict[str, object]) -> str:
    """Put values where the template names them, words one space apart; `{data}` and `{work}` stay as they are."""
    for name, value in values.items():
        template = template.replace("{" + name + "}", str(value))
    return " ".join(template.split())


def _chain(name: str, encoders: list[dict], case: dict[str, object]) -> list[Step]:
    """The commands that make an encoder, those it is made from first."""
    entry = next((entry for entry in encoders if _fill(entry["name"], case) == name), None)
    if entry is None:
        raise BertileError(f"the grid has no encoder {name!r}")
    before = _chain(_fill(entry["from"], case), encoders, case) if "from" in entry else []
    return [*before, Step(name, _fill(entry["command"], case | {"name": name}))]


def read_grid(file: Path) -> list[Experiment]:
    """All experiments, in the order in which they are to be run. Raises BertileError for a broken file."""
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
        experiments = [
            _experiment(entry, case, task, seed, data.get("encoder", []))
            for entry in data["experiment"]
            for case in entry["cases"]
            for seed in case.get("seeds", [0])
            for task in case["tasks"]
        ]
    except OSError as error:
        raise BertileError(f"{file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as error:
        raise BertileError(f"{file} is broken: {error}") from None
    # An experiment's folder is that of its last step: no other step may make one of that name.
    names = [experiment.name for experiment in experiments]
    names += {step.name for experiment in experiments for step in experiment.steps[:-1]}
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise BertileError(f"{file}: {sorted(twice)[0]} is there twice")
    return experiments


def _experiment(entry: dict, case: dict, task: str, seed: int, encoders: list[dict]) -> Experiment:
    pattern, sparsity = case.get("pattern", ""), float(case.get("sparsity", 0.0))
    percent = f"{100 * sparsity:g}"
    values = {"task": task, "seed": seed, "pattern": pattern, "sparsity": sparsity, "percent": percent}
    values["options"] = case.get("options", entry.get("options", ""))
    name, encoder = _fill(entry["name"], values), _fill(entry.get("encoder", ""), values)
    before = _chain(encoder, encoders, values) if encoder else []
    command = _fill(entry["command"], values | {"name": name, "encoder": encoder})
    steps = (*before, Step(name, command))
    comment = case.get("comment", entry.get("comment", ""))
    return Experiment(name, task, entry["method"], pattern, sparsity, seed, comment, steps)
