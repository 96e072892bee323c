"""From a trained model folder to the record of its run: scored in FP32 and in INT8, its cycles estimated."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

from bertile.cli.evaluate import open_fp32, open_packed
from bertile.config.paths import TRAINING_LOG
from bertile.errors import BertileError
from bertile.evaluate import evaluate_task
from bertile.experiments.grid import Experiment
from bertile.models.load import load_model
from bertile.pack.container import load_packed, save_packed
from bertile.pack.packer import PackedModel, packed_sparsity
from bertile.perf.bench import processor
from bertile.perf.estimate import estimate_cycles, project_milliseconds
from bertile.prune.folder import read_pruning
from bertile.report.runs import DENSE, RunRecord, read_runs
from bertile.tasks.data import read_split
from bertile.tasks.glue import find_task
from bertile.tasks.metrics import constant_score, decisive
from bertile.workflow import pack_model

TOKENS = 128


def dense_score(experiment: Experiment, runs: Path, own: float) -> float:
    """FP32 score of the task's dense model. Raises BertileError where it was not run before."""
    if experiment.method == DENSE and experiment.seed == 0:
        return own
    for record in read_runs(runs):
        if record.task == experiment.task and record.method == DENSE and record.seed == 0:
            return record.score_fp32
    raise BertileError(f"{experiment.name}: the dense model of {experiment.task} is to be run first")


def described_distillation(options: dict) -> str:
    """`logits:1,hidden:1` of a run's options."""
    parts = options["distill"]
    return ",".join(f"{name}:{parts[name]:g}" for name in ("logits", "hidden", "attention") if parts[name])


def pack_folder(folder: Path) -> PackedModel:
    """The packed model of a model folder; `FOLDER.bertile` beside it."""
    file = folder.with_name(f"{folder.name}.bertile")
    save_packed(pack_model(load_model(str(folder)), str(folder)), file)
    return load_packed(file)


def recount(record: RunRecord, folder: Path) -> RunRecord:
    """The record with the cycles that its model takes now: programs and estimates change, scores do not."""
    packed = pack_folder(folder)
    cycles, milliseconds = estimate_cycles(packed, [record.tokens]).total, project_milliseconds(packed, record.tokens)
    return replace(record, cycles=cycles, projected_ms=milliseconds)


def make_record(experiment: Experiment, data: Path, work: Path, runs: Path) -> RunRecord:
    """Pack the model folder of `experiment` in `work`, score it on the dev set, and write down all of it."""
    folder = work / experiment.name
    file = work / f"{experiment.name}.bertile"
    packed = pack_folder(folder)
    task = find_task(experiment.task, None, data)
    train, dev = read_split(task, data, "train"), read_split(task, data, "dev")
    log = json.loads((folder / TRAINING_LOG).read_text())
    cut = log["options"]["train"]["max_tokens"]
    fp32 = evaluate_task(open_fp32(folder), task, dev, cut)
    int8 = evaluate_task(open_packed(file, "csim"), task, dev, cut)
    score = decisive(task, fp32)
    pruning = read_pruning(folder)
    logs = [work / step.name / TRAINING_LOG for step in experiment.steps]
    logs = [json.loads(file.read_text()) for file in logs if file.is_file()]  # a search trains nothing
    places = {"data": "GLUE", "work": "build/runs"}
    commands = [step.command.format(**places) for step in experiment.steps]
    return RunRecord(
        name=experiment.name,
        task=experiment.task,
        model=load_model(str(folder)).name,
        method=experiment.method,
        pattern=experiment.pattern,
        sparsity=experiment.sparsity,
        sparsity_reached=pruning["sparsity"] if pruning else 0.0,
        seed=experiment.seed,
        metric=task.metrics[0],
        metrics_fp32=fp32,
        metrics_int8=int8,
        constant=decisive(task, constant_score(task, train, dev)),
        dense=dense_score(experiment, runs, score),
        score_fp32=score,
        score_int8=decisive(task, int8),
        vector_density=1 - packed_sparsity(packed),
        tokens=TOKENS,
        cycles=estimate_cycles(packed, [TOKENS]).total,
        projected_ms=project_milliseconds(packed, TOKENS),
        epochs=round(log["history"][-1].get("epoch", 0.0), 3),
        steps=sum(entry["steps"] for entry in logs),
        train_seconds=round(sum(entry["seconds"] for entry in logs), 1),
        hardware=f"{os.cpu_count()} cores, {processor()}",
        distill=described_distillation(log["options"]),
        comment=experiment.comment,
        commands=[*commands, f"bertile pack build/runs/{experiment.name} -o build/runs/{experiment.name}.bertile"],
    )
