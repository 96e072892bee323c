"""Records of pruning experiments: one JSON file a run, `docs/results/runs/NAME.json`. Pages show them and no others."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

from bertile.config.target import target_clocks
from bertile.errors import BertileError
from bertile.files import write_text

# The tasks that every summary is over, as pages write them.
TASKS = {"mrpc": "MRPC", "stsb": "STS-B", "sst2": "SST-2"}
DENSE = "dense"
# Scores are compared with their copies in the metrics; records may be rounded to four digits.
SAME = 1e-4


@dataclass(frozen=True)
class RunRecord:
    """One model, pruned or dense, trained on a task and scored before and after quantization.

    `dense` is the FP32 score of the unpruned model of the task, `constant` that of the best constant answer;
    `vector_density` the share of 1x16 vectors that the engine executes, `cycles` an estimate for one sequence of
    `tokens`. The dense run itself has the method "dense", no pattern and sparsity 0.
    """

    name: str
    task: str
    model: str
    method: str
    pattern: str
    sparsity: float
    sparsity_reached: float
    seed: int
    metric: str
    metrics_fp32: dict[str, float]
    metrics_int8: dict[str, float]
    constant: float
    dense: float
    score_fp32: float
    score_int8: float
    vector_density: float
    tokens: int
    cycles: int
    projected_ms: dict[str, float]
    epochs: float
    steps: int
    train_seconds: float
    hardware: str
    distill: str
    comment: str
    commands: list[str]


def is_number(value: Any) -> bool:
    """JSON's true is no number, and neither is NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "str": (lambda value: isinstance(value, str), "a text"),
    "int": (lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0, "a count"),
    "float": (is_number, "a finite number"),
    "dict[str, float]": (
        lambda value: isinstance(value, dict) and bool(value) and all(map(is_number, value.values())),
        "an object of finite numbers",
    ),
    "list[str]": (
        lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
        "a list of texts",
    ),
}


def faults(data: dict) -> list[str]:
    """What keeps `data` from being a record, in words; the first is the one to tell."""
    names = {field.name for field in fields(RunRecord)}
    found = [f"no {field.name}" for field in fields(RunRecord) if field.name not in data]
    found += [f"unknown field {name}" for name in sorted(data.keys() - names)]
    for field in fields(RunRecord):
        check, what = CHECKS[str(field.type)]
        if field.name in data and not check(data[field.name]):
            found.append(f"{field.name} is {data[field.name]!r}, not {what}")
    return found or contradictions(data)


def contradictions(data: dict) -> list[str]:
    """Fields that are well formed but cannot be true."""
    found = []
    if data["task"] not in TASKS:
        found.append(f"task {data['task']!r} is none of {', '.join(TASKS)}")
    if (data["method"] == DENSE) != (data["pattern"] == "" and data["sparsity"] == 0):
        found.append(f"method {data['method']!r} with pattern {data['pattern']!r} and sparsity {data['sparsity']}")
    for name in ("sparsity", "sparsity_reached", "vector_density"):
        if not 0 <= data[name] <= 1:
            found.append(f"{name} is {data[name]}, not a share")
    if data["dense"] <= data["constant"]:
        found.append(f"the dense score {data['dense']} is not above the constant answer's {data['constant']}")
    for kind in ("fp32", "int8"):
        score = data[f"score_{kind}"]
        # Not `> SAME`: every comparison with what is no number must fail.
        if not abs(data[f"metrics_{kind}"].get(data["metric"], score) - score) <= SAME:
            found.append(f"score_{kind} is {score}, but metrics_{kind} says otherwise")
    if not data["tokens"] or not data["cycles"]:
        found.append("tokens and cycles must be at least 1")
    lacking = [str(clock) for clock in target_clocks() if not data["projected_ms"].get(str(clock), 0) > 0]
    if lacking:
        found.append(f"projected_ms has no latency at {' and '.join(lacking)} MHz")
    return found


def refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number")


def read_run(file: Path) -> RunRecord:
    """One record. Raises BertileError naming the file."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"), parse_constant=refuse_constant)
    except (OSError, ValueError) as error:
        raise BertileError(f"{file}: not a run record: {error}") from None
    if not isinstance(data, dict):
        raise BertileError(f"{file}: not a run record: no JSON object")
    for fault in faults(data)[:1]:
        raise BertileError(f"{file}: {fault}")
    if data["name"] != file.stem:
        raise BertileError(f"{file}: the run in it is named {data['name']!r}")
    return RunRecord(**data)


def read_runs(folder: Path) -> list[RunRecord]:
    """All records of a folder, by name; none where there is no folder. Raises BertileError naming a broken file."""
    return [read_run(file) for file in sorted(folder.glob("*.json"))]


def write_run(record: RunRecord, folder: Path) -> Path:
    """Write `folder`/NAME.json, under a temporary name until it is complete. Raises BertileError."""
    data = asdict(record)
    for fault in faults(data)[:1]:
        raise BertileError(f"run {record.name}: {fault}")
    if not record.name or Path(record.name).name != record.name or record.name.startswith("."):
        raise BertileError(f"{record.name!r} cannot name a file")
    file = folder / f"{record.name}.json"
    write_text(file, json.dumps(data, indent=1, allow_nan=False) + "\n")
    return file
