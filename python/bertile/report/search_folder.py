"""What the folder of a search says: its trials, what it chose, what was trained of it, and how to do it again."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from scipy.stats import kendalltau

from bertile.config.paths import TRAINING_LOG
from bertile.errors import BertileError
from bertile.models.encoder import MATRICES
from bertile.models.folder import first_line
from bertile.prune.groups import ATTENTION
from bertile.prune.pattern import Component, parse_pattern
from bertile.search.run import TRIALS_FILE, best_of, front_of
from bertile.search.study import TrialRecord
from bertile.train.options import SECTIONS

CANDIDATE, PARETO = "candidate", "pareto"
IDENTITY = {"model": str, "task": str, "pattern": str, "constraint": str, "tokens": int, "units": int,
            "sampler": str, "seed": int, "judge": dict}  # fmt: skip
LOWER_IS_BETTER = ("mse",)  # of the metrics
SET_NAME = re.compile(r"(?:(?P<component>.+)/)?layers\.(?P<layer>[0-9]+)(?:\.(?P<kind>\w+))?")
# Which matrices a set of each kind holds; "" for a whole layer.
COVERS = {"heads": ATTENTION, "neurons": MATRICES[4:], "": MATRICES, **{name: (name,) for name in MATRICES}}
# Patterns whose groups have no size of their own, finer ones first.
SIZES = {"rows": 1e6, "columns": 1e6, "neurons": 1e7, "heads": 1e8, "layers": 1e9}


@dataclass(frozen=True)
class Final:
    """A plan that was trained. cheap: the error that the search saw; score: after `steps` steps, in `metric`."""

    name: str
    trial: int
    cheap: float
    score: float
    metric: str
    steps: int


@dataclass(frozen=True)
class SearchFolder:
    """A search that has ended. asked: its number of trials. finals: those of its plans that were trained."""

    folder: Path
    identity: dict
    asked: int
    trials: list[TrialRecord]
    finals: list[Final]

    @property
    def pareto(self) -> bool:
        return self.identity["constraint"] == PARETO

    def chosen(self) -> list[TrialRecord]:
        """The best trial, or the whole front, fastest first."""
        return front_of(self.trials) if self.pareto else [best_of(self.trials)]

    def baselines(self) -> list[TrialRecord]:
        return [trial for trial in self.trials if trial.name != CANDIDATE]


@dataclass(frozen=True)
class Ratios:
    """Shares of zeros in a plan. shares: [layers][matrices]; coarse: those of coarser groups by name, of each layer."""

    shares: list[list[float]]
    coarse: dict[str, list[float]]


def read_search(folder: Path, trained: Sequence[Path] = ()) -> SearchFolder:
    """trained: model folders elsewhere that followed plans of this search.

    Raises BertileError, one line, for a folder that is not one of a finished search.
    """
    if not folder.is_dir():
        raise BertileError(f"{folder}: no such folder")
    file = folder / TRIALS_FILE
    if not file.is_file():
        raise BertileError(f"{folder} has no {TRIALS_FILE}: it is not the folder of a finished bertile search")
    data = _read_json(file)
    try:
        identity = data["search"]
        for key, kind in IDENTITY.items():
            if not isinstance(identity[key], kind):
                raise ValueError(f"{key} is {identity[key]!r}")
        identity["judge"]["recovery"]
        asked = data["asked"]
        for name, number, right in (
            ("tokens", identity["tokens"], identity["tokens"] >= 1),
            ("units", identity["units"], identity["units"] in (1, 3)),
            ("asked", asked, isinstance(asked, int) and asked >= 1),
        ):
            if not right:
                raise ValueError(f"{name} is {number!r}")
        constraint_options(identity["constraint"])
        trials = sorted((_trial(trial, identity["pattern"]) for trial in data["trials"]), key=lambda t: t.number)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise BertileError(f"{file} is no record of a search: {_cause(error)}") from None
    if not trials:
        raise BertileError(f"{file} holds no trial: there is nothing to report")
    return SearchFolder(folder, identity, asked, trials, _finals(identity["task"], trials, folder, trained))


def _read_json(file: Path) -> dict:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BertileError(f"cannot read {file}: {error.strerror}") from None
    except ValueError as error:
        raise BertileError(f"{file} is broken: {first_line(error)}") from None


def _cause(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else first_line(error)


def _trial(data: dict, pattern: str) -> TrialRecord:
    trial = TrialRecord(**data)
    for value in (trial.number, trial.sparsity, trial.cycles, trial.cheap, trial.seconds, *trial.verdict.values()):
        if not math.isfinite(value):
            raise ValueError(f"{value} is no number of trial {trial.number}")
    if not isinstance(trial.name, str) or not {"unseen", "task"} <= trial.verdict.keys():
        raise ValueError(f"trial {trial.number} lacks a name or a verdict")
    ratios(trial, pattern)
    return trial


def _finals(task: str, trials: Sequence[TrialRecord], folder: Path, others: Sequence[Path]) -> list[Final]:
    """What became of the trials that were trained: model folders inside the search's own, and `others`.

    Raises BertileError for one of `others` that followed no plan of this search.
    """
    finals = []
    models = (*sorted(file.parent for file in folder.glob(f"*/{TRAINING_LOG}")), *others)
    for model in {model.resolve(): model for model in models}.values():
        final = _final(task, trials, model)
        if final is not None:
            finals.append(final)
        elif model in others:
            raise BertileError(f"{model} was not trained after a plan of {folder}")
    return finals


def _final(task: str, trials: Sequence[TrialRecord], model: Path) -> Final | None:
    """The trial that a model trained for the task followed, with its score; None where it followed none of them."""
    file = model / TRAINING_LOG
    log = _read_json(file)
    try:
        shares = (log["plan"] or {}).get("shares")
        score, metric, steps = float(log["metrics"].get(log["metric"], math.nan)), log["metric"], int(log["steps"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BertileError(f"{file} is no training log: {_cause(error)}") from None
    trial = next((trial for trial in trials if trial.plan["shares"] == shares), None)
    if trial is None or not math.isfinite(score) or log.get("task") != task:
        return None
    return Final(trial.name, trial.number, trial.cheap, score, metric, steps)


def ratios(trial: TrialRecord, pattern: str) -> Ratios:
    """Of each matrix the zeros of its finest groups, which count what coarser ones take. Raises ValueError."""
    components = [str(component) for component in sorted(parse_pattern(pattern).components, key=_size)]
    sets = [(*_parse_set(name, components), share) for name, share in trial.plan["shares"].items()]
    finest: dict[tuple[int, str], tuple[int, float]] = {}  # of a layer's matrix: place of the component, share
    for place, layer, kind, share in sets:
        if not 0 <= share <= 1:
            raise ValueError(f"a share of trial {trial.number} is {share}")
        for matrix in COVERS[kind]:
            finest[layer, matrix] = min(finest.get((layer, matrix), (place, share)), (place, share))
    used = {place for place, _ in finest.values()}
    coarse: dict[str, dict[int, float]] = {}
    for place, layer, kind, share in sets:
        if place not in used:
            label = f"{components[place]} {kind}" if kind in MATRICES else components[place]
            coarse.setdefault(label, {})[layer] = share
    layers = range(max(layer for layer, _ in finest) + 1)
    try:
        shares = [[finest[layer, matrix][1] for matrix in MATRICES] for layer in layers]
        return Ratios(shares, {label: [found[layer] for layer in layers] for label, found in coarse.items()})
    except KeyError as error:
        raise ValueError(f"the plan of trial {trial.number} has no share for {error}") from None


def _parse_set(name: str, components: Sequence[str]) -> tuple[int, int, str]:
    """(place of its component, layer, kind) of a group set's name. Raises ValueError."""
    match = SET_NAME.fullmatch(name)
    component = match and (match["component"] or components[0])
    kind = (match and match["kind"]) or ""
    own = {"heads": ("heads",), "neurons": ("neurons",), "layers": ("",)}
    if component not in components or kind not in own.get(component.partition("@")[0], MATRICES):
        raise ValueError(f"{name!r} is no group set of pattern {'+'.join(components)}")
    return components.index(component), int(match["layer"]), kind


def _size(component: Component) -> float:
    """About how large its groups are, to tell finer from coarser."""
    return component.block.inputs * component.block.outputs if component.block else SIZES[component.name]


def tau_of(finals: Sequence[Final]) -> float | None:
    """Kendall's tau of the two orders, best first: 1 where they are the same. None where there is none to compare."""
    signs = [1 if final.metric in LOWER_IS_BETTER else -1 for final in finals]
    tau = kendalltau([f.cheap for f in finals], [sign * f.score for sign, f in zip(signs, finals, strict=True)])
    return float(tau.statistic) if len(finals) > 1 and math.isfinite(tau.statistic) else None


def comparable(finals: Sequence[Final]) -> dict[tuple[str, int], list[Final]]:
    """Finals by metric and steps: only within these is one better than another."""
    keys = dict.fromkeys((final.metric, final.steps) for final in finals)
    return {key: [final for final in finals if (final.metric, final.steps) == key] for key in keys}


def constraint_options(text: str) -> list[str]:
    """Options of `bertile search` for a constraint as its identity words it. Raises ValueError."""
    if text == PARETO:
        return ["--pareto"]
    if match := re.fullmatch(r"sparsity ([0-9.e-]+)", text):
        return ["--sparsity", match[1]]
    if match := re.fullmatch(r"([0-9,]+) cycles", text):
        return ["--cycles", match[1].replace(",", "")]
    raise ValueError(f"{text!r} is no constraint")


def search_command(search: SearchFolder) -> list[str]:
    """What was typed, but for --data, which is not kept, and for options that decide nothing about the plans."""
    identity = search.identity
    named = {"task": identity["task"], "pattern": identity["pattern"], "tokens": identity["tokens"],
             "units": identity["units"], "trials": search.asked, "sampler": identity["sampler"],
             "recovery": identity["judge"]["recovery"], "seed": identity["seed"]}  # fmt: skip
    if search.pareto:
        del named["sampler"]  # NSGA-II, always
    options = [part for name, value in named.items() for part in (f"--{name}", str(value))]
    constraint = constraint_options(identity["constraint"])
    training = [] if search.pareto else ["--no-train"]
    unsorted = [] if identity["judge"].get("order", True) else ["--set", "prune.order=false"]
    command = ["bertile", "search", identity["model"], "-o", str(search.folder), *constraint, *options, *unsorted]
    command += training
    return list(map(str, command))


def training_command(log: dict, folder: Path) -> list[str]:
    """The command of a training log (training.json), every setting that is not the default's by --set."""
    sections, command = log["options"], ["bertile", "prune" if log["options"]["prune"] else "train", log["source"]]
    command += ["-o", str(folder)]
    if log["task"]:
        command += ["--task", log["task"], "--metric", log["metric"]]
    if log["teacher"]:
        command += ["--teacher", log["teacher"]]
    planned = bool((sections["prune"] or {}).get("plan"))
    if planned:
        command += ["--plan", sections["prune"]["plan"]]
    for section, kind in SECTIONS.items():
        for field in fields(kind):
            value = (sections[section] or {}).get(field.name, field.default)
            by_plan = section == "prune" and planned and field.name in ("plan", "pattern", "sparsity", "scope")
            if value != field.default and not by_plan:
                command += ["--set", f"{section}.{field.name}={json.dumps(value)}"]
    return command
