"""How far cheap verdicts on candidates can be trusted: `python -m bertile.experiments.efficient --data GLUE`.

Candidates at one sparsity, the baselines and random draws, are judged after every kind of recovery, and then trained,
all alike. What is written (docs/results/search/efficient-TASK.json) has both; the report counts rank correlations.
Interrupted, the same call goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from bertile.config.paths import BUILD_DIR, ROOT, TRAINING_LOG
from bertile.errors import BertileError, run_program
from bertile.files import write_text
from bertile.prune.plan import Plan, read_plan, write_plan
from bertile.report.runs import read_runs
from bertile.search.baselines import baselines
from bertile.search.constraint import Constraint, fit
from bertile.search.judge import RECOVERIES, JudgeOptions
from bertile.search.run import Searcher, SearchJob
from bertile.search.storage import open_storage, open_study
from bertile.tasks.glue import find_task

RESULTS = ROOT / "docs" / "results" / "search"
# Successive halving judges as `distill` does, or not at all.
JUDGED = tuple(name for name in RECOVERIES if name != "halving")
CANDIDATES = {"mrpc": 8, "stsb": 6}
PATTERN, SPARSITY, SEED, TOKENS = "1x16", 0.75, 0, 128
# The training that ranks candidates, the same for all: the recipe's with half of its steps.
FINAL = (
    "bertile prune {dense} --task {task} --data {data} --plan {plan} --recipe reconstruct --max-steps 200 -o {folder}"
)


def draw_plans(job: SearchJob, work: Path, count: int) -> list[tuple[str, Plan]]:
    """Baselines and random candidates, kept as files so that a later call has the same ones."""
    files = sorted(work.glob("plan-*.json"))
    if len(files) < count:
        searcher = Searcher(job)
        searcher.join(open_study(open_storage("", work), job.identity(), False), False)
        genes = baselines(searcher.space)
        generator = np.random.default_rng(SEED)
        while len(genes) < count:
            drawn = {name: generator.uniform(*bounds) for name, bounds in searcher.space.ranges().items()}
            genes.append((f"random{len(genes)}", drawn))
        for index, (name, values) in enumerate(genes[:count]):
            plan = fit(job.constraint, searcher.space, values, searcher.cycles)
            write_plan(plan, work / f"plan-{index}-{name}.json")
        files = sorted(work.glob("plan-*.json"))
    return [(file.stem.split("-", 2)[2], read_plan(file)) for file in files]


def judge_plans(job: SearchJob, plans: list[tuple[str, Plan]], work: Path) -> dict[str, list[dict]]:
    """Verdicts by recovery, one a plan, with the seconds that each took."""
    verdicts = {}
    for recovery in JUDGED:
        file = work / f"verdicts-{recovery}.json"
        if not file.is_file():
            judged = replace(job, judge=replace(job.judge, recovery=recovery))
            searcher = Searcher(judged)
            searcher.join(open_study(open_storage("", work), job.identity(), False), False)
            rows = []
            for name, plan in plans:
                begin = time.monotonic()
                masks, kept = searcher.masks(plan)
                verdict = searcher.judge.judge(masks, searcher.sets, kept)
                rows.append(verdict.to_json() | {"seconds": round(time.monotonic() - begin, 2)})
                print(f"{job.task.name} {recovery} {name}: {rows[-1]}", flush=True)
            write_text(file, json.dumps(rows))
        verdicts[recovery] = json.loads(file.read_text())
    return verdicts


def train_plan(job: SearchJob, index: int, name: str, work: Path) -> dict:
    """Score and cost of a candidate after the training that all get."""
    folder = work / f"final-{index}"
    places = {"dense": job.source, "task": job.task.name, "data": job.data, "folder": folder}
    command = FINAL.format(**places, plan=work / f"plan-{index}-{name}.json")
    if not (folder / TRAINING_LOG).is_file():
        print(f"$ {command}", flush=True)
        if subprocess.run([sys.executable, "-m", "bertile.cli.main", *shlex.split(command)[1:]]).returncode:
            raise BertileError(f"{folder}: its command failed; the same call goes on where it stopped")
    log = json.loads((folder / TRAINING_LOG).read_text())
    return {"score": log["metrics"][job.task.metrics[0]], "steps": log["steps"], "seconds": round(log["seconds"], 1)}


def full_training(task: str, runs: Path) -> float | None:
    """Seconds that the uniform plan's whole training took, where there is a record of it: what costs are shares of.

    They are kept with the study, since later runs may have the machine to themselves, or less of it.
    """
    wanted = (task, "uniform", SPARSITY, SEED)
    found = (run for run in read_runs(runs) if (run.task, run.method, run.sparsity, run.seed) == wanted)
    return next((run.train_seconds for run in found), None)


def measure(task: str, data: Path, models: Path, work: Path, runs: Path) -> dict:
    """Everything about one task, as it is written. runs: records of full trainings."""
    found = find_task(task, None, data)
    dense = str(models / f"{task}-dense")
    constraint = Constraint("sparsity", SPARSITY)
    job = SearchJob(dense, found, data, PATTERN, constraint, 0, seed=SEED, tokens=TOKENS, judge=JudgeOptions())
    folder = work / f"efficient-{task}"
    folder.mkdir(parents=True, exist_ok=True)
    plans = draw_plans(job, folder, CANDIDATES[task])
    verdicts = judge_plans(job, plans, folder)
    rows = []
    for index, (name, plan) in enumerate(plans):
        final = train_plan(job, index, name, folder)
        judged = {recovery: verdicts[recovery][index] for recovery in JUDGED}
        rows.append({"name": name, "sparsity": plan.sparsity, "verdicts": judged, "final": final})
    command = FINAL.format(dense=f"build/runs/{task}-dense", task=task, data="GLUE", plan="PLAN", folder="DIR")
    return {
        "task": task,
        "metric": found.metrics[0],
        "pattern": PATTERN,
        "sparsity": SPARSITY,
        "judge": asdict(job.judge),
        "final_command": command,
        "training_seconds": full_training(task, runs),
        "candidates": rows,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="GLUE folder")
    parser.add_argument("--models", type=Path, default=BUILD_DIR / "runs", help="where TASK-dense is (build/runs)")
    parser.add_argument("--work", type=Path, default=BUILD_DIR / "search", help="where candidates are kept")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results go (docs/results/search)")
    parser.add_argument("--task", choices=CANDIDATES, action="append", help="one task; else all")
    options = parser.parse_args()
    for task in options.task or CANDIDATES:
        result = measure(task, options.data, options.models, options.work, options.results / "runs")
        options.results.mkdir(parents=True, exist_ok=True)
        write_text(options.results / f"efficient-{task}.json", json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    run_program(main)
