"""`python -m bertile.experiments`: run what is missing of the grid and write a record of each run."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

from bertile.config.paths import BUILD_DIR, ROOT
from bertile.errors import BertileError, run_program
from bertile.experiments.grid import Experiment, Step, read_grid
from bertile.experiments.record import make_record, recount
from bertile.report.runs import read_runs, write_run
from bertile.search.run import PLAN_FILE

GRID = ROOT / "docs" / "results" / "grid.toml"
RUNS = ROOT / "docs" / "results" / "runs"


def run_step(step: Step, places: dict[str, str], work: Path) -> None:
    """Make the step's folder, a model or a plan, unless it is there. Raises BertileError where its command fails."""
    note = work / f"{step.name}.command"
    if any((work / step.name / file).is_file() for file in ("bertile.json", PLAN_FILE)):
        if note.is_file() and note.read_text() != step.command:
            raise BertileError(f"{work / step.name} was made by another command: remove it, or restore the grid")
        return
    work.mkdir(parents=True, exist_ok=True)
    note.write_text(step.command)
    words = [word.format(**places) for word in shlex.split(step.command)]
    print(f"$ {shlex.join(words)}", flush=True)
    words = [sys.executable, "-m", "bertile.cli.main", *words[1:]]
    if subprocess.run(words).returncode:
        raise BertileError(f"{step.name}: its command failed; the same call goes on where it stopped")


def run_experiment(experiment: Experiment, data: Path, work: Path, runs: Path) -> None:
    """Train, pack, score, write the record."""
    places = {"data": str(data), "work": str(work)}
    for step in experiment.steps:
        run_step(step, places, work)
    record = make_record(experiment, data, work, runs)
    write_run(record, runs)
    print(f"{record.name}: {record.metric} {record.score_fp32:.4f} FP32, {record.score_int8:.4f} INT8", flush=True)


def recount_all(work: Path, runs: Path) -> None:
    """Cycles of every record whose model is in `work`, anew."""
    for record in read_runs(runs):
        if not (work / record.name).is_dir():
            print(f"left as it is, there is no {work / record.name}: {record.name}", flush=True)
            continue
        counted = recount(record, work / record.name)
        write_run(counted, runs)
        print(f"{record.name}: {record.cycles:,} -> {counted.cycles:,} cycles", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run what is missing of the grid of pruning experiments.")
    parser.add_argument("--data", type=Path, help="GLUE folder, needed to run anything")
    parser.add_argument("--grid", type=Path, default=GRID, help="what to run (docs/results/grid.toml)")
    parser.add_argument("--work", type=Path, default=BUILD_DIR / "runs", help="where models are kept (build/runs)")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where records go (docs/results/runs)")
    parser.add_argument("--only", default="", help="experiments whose name holds this")
    parser.add_argument("--list", action="store_true", help="say what there is and what is missing")
    parser.add_argument("--recount", action="store_true", help="cycles of all records anew, from models at hand")
    options = parser.parse_args()
    if options.recount:
        recount_all(options.work, options.runs)
        return 0
    if not options.list and not (options.data and options.data.is_dir()):
        raise BertileError(f"{options.data}: no such folder" if options.data else "--data: which folder has GLUE?")
    for experiment in read_grid(options.grid):
        done = (options.runs / f"{experiment.name}.json").is_file()
        if options.list:
            print(f"{'done   ' if done else 'missing'} {experiment.name}")
        elif not done and options.only in experiment.name:
            run_experiment(experiment, options.data, options.work, options.runs)
    return 0


if __name__ == "__main__":
    run_program(main)
