"""`bertile search`."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.live import Live
from rich.table import Table

from bertile.cli.console import messages, output, print_json, progress_bar, warn, working
from bertile.cli.train import SEED_MAX, Data, Json, MaxSteps, Metric, Recipe, Restart, Settings, TaskName, sections_of
from bertile.errors import BertileError

SHOWN = 15  # trials in the live table, the last ones
WORKER = "BERTILE_SEARCH_WORKER"  # in the environment of a worker that another one started


def row_of(record) -> tuple[str, ...]:
    """A judged candidate as text."""
    verdict = record.verdict
    return (
        str(record.number),
        record.name,
        f"{record.sparsity:.2%}",
        f"{record.cycles:,}",
        f"{verdict['error']:.4f}",
        f"{verdict['task']:.4f}",
        f"{record.seconds:.0f}",
    )


@contextmanager
def trial_table(trials: int):
    """A function that shows a record: a line each, or a table that grows on a terminal."""
    columns = ("trial", "candidate", "sparsity", "cycles", "error", "score", "seconds")
    rows: list[tuple[str, ...]] = []

    def table() -> Table:
        result = Table(title=f"{len(rows)} of {trials} trials", title_justify="left")
        for column in columns:
            result.add_column(column, justify="left" if column == "candidate" else "right")
        for row in rows[-SHOWN:]:
            result.add_row(*row)
        return result

    if not messages.is_terminal:
        yield lambda record: messages.print(
            ", ".join(f"{name} {value}" for name, value in zip(columns, row_of(record), strict=True)), highlight=False
        )
        return
    with Live(table(), console=messages) as live:

        def show(record) -> None:
            rows.append(row_of(record))
            live.update(table())

        yield show


@contextmanager
def other_workers(count: int):
    """A function that starts `count` more workers with this command line; they end with the search."""
    started: list[subprocess.Popen] = []

    def start() -> None:
        command = [sys.executable, "-m", "bertile.cli.main", *sys.argv[1:]]
        for _ in range(count):
            environment = os.environ | {WORKER: "1", "OMP_NUM_THREADS": str(threads(count + 1))}
            started.append(subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL))

    try:
        yield start
        if any(worker.wait() for worker in started):
            warn("a worker failed; its trial does not count")
    finally:
        for worker in started:
            worker.terminate()
            worker.wait()


def threads(workers: int) -> int:
    """Threads of each worker, so that they do not fight."""
    return max(1, (os.cpu_count() or 1) // workers)


def search(
    model: Annotated[str, typer.Argument(help="A dense model, fine-tuned for the task.")],
    output_folder: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.", show_default=False)],
    task: TaskName,
    data: Data = None,
    metric: Metric = None,
    pattern: Annotated[str, typer.Option(help="KxN, or parts joined by +: heads+neurons+1x16.")] = "1x16",
    sparsity: Annotated[float | None, typer.Option(help="Share of the weights to remove.")] = None,
    cycles: Annotated[int | None, typer.Option(help="Clock cycles of a request at most.")] = None,
    latency_us: Annotated[float | None, typer.Option(help="The same in microseconds at the target's clock.")] = None,
    pareto: Annotated[bool, typer.Option("--pareto", help="A front of accuracy against cycles.")] = False,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of the request that cycles are counted for.")] = 128,
    units: Annotated[int, typer.Option(help="Compute units that share it, 1 or 3.")] = 1,
    trials: Annotated[int, typer.Option(min=1, help="Candidates in all, baselines among them.")] = 24,
    sampler: Annotated[str, typer.Option(help="gp, tpe or random.")] = "gp",
    recovery: Annotated[
        str, typer.Option(help="Before judging: none, bias, least-squares, distill or halving.")
    ] = "bias",
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine.")] = 1,
    storage: Annotated[str, typer.Option(help="Shared with others: a journal file, or sqlite:///FILE.")] = "",
    seed: Annotated[int, typer.Option(min=0, max=SEED_MAX, help="Of what is drawn.")] = 0,
    train: Annotated[bool, typer.Option("--train/--no-train", help="Prune and train the best one.")] = True,
    text: Annotated[list[Path] | None, typer.Option("--text", help="Unlabelled text for this training.")] = None,
    recipe: Recipe = "reconstruct",
    max_steps: MaxSteps = None,
    settings: Settings = None,
    restart: Restart = False,
    json: Json = False,
) -> None:
    """Find out how much of every matrix to prune, under a sparsity or a latency; then prune so.

    Killed, the same command goes on where it was. With --storage, the same command on other machines helps.
    """
    with working("loading libraries"):
        import torch

        from bertile.search.constraint import make_constraint
        from bertile.search.judge import JudgeOptions
        from bertile.search.run import SearchJob, best_of, front_of, write_results
        from bertile.search.run import search as run_search
        from bertile.search.study import SAMPLERS
        from bertile.tasks.glue import find_task
        from bertile.train.options import make_options
    if sampler not in SAMPLERS:
        raise BertileError(f"sampler {sampler!r} is not one of {', '.join(SAMPLERS)}")
    if pareto and (sparsity, cycles, latency_us) != (None, None, None):
        raise BertileError("--pareto needs no constraint: its front goes over all of them")
    constraint = None if pareto else make_constraint(sparsity, cycles, latency_us)
    sections = sections_of({"max_steps": max_steps, "seed": seed}, {}, None, settings)
    pruning = make_options(recipe, sections, prunes=True).prune  # what is wrong there is said before the search
    found_task = find_task(task, metric, data) if task else None
    if found_task is None:
        raise BertileError("give --task NAME, with --data DIR")
    judge = JudgeOptions(recovery, order=pruning.order)
    job = SearchJob(model, found_task, data, pattern, constraint, trials, sampler, seed, tokens, units, judge=judge)
    if workers > 1:
        torch.set_num_threads(threads(workers))
    helper = bool(os.environ.get(WORKER))
    with other_workers(0 if helper else workers - 1) as start, progress_bar("sensitivities") as progress:
        if helper:
            run_search(job, output_folder, storage, shared=True)
            return
        with trial_table(trials) as show:
            found = run_search(job, output_folder, storage, workers > 1 or bool(storage), start, show, progress)
    write_results(job, found, output_folder)
    chosen = front_of(found) if pareto else [best_of(found)]
    if not pareto and train:
        train_best(job, output_folder, (recipe, sections), tuple(text or ()), restart)
    if json:
        return print_json({"search": job.identity(), "chosen": [asdict(record) for record in chosen]})
    for record in chosen:
        output.print(", ".join((f"{output_folder}: trial {record.number}", *row_of(record)[1:4])), highlight=False)


def train_best(job, folder: Path, told: tuple[str | None, dict], texts: tuple[Path, ...], restart: bool) -> None:
    """Prune the model after the best plan and train it: `model` in the search's folder."""
    from bertile.cli.train import Run, run_training
    from bertile.search.run import PLAN_FILE

    recipe, sections = told
    sections = {**sections, "prune": {**sections.get("prune", {}), "plan": str(folder / PLAN_FILE)}}
    metric = job.task.metrics[0]
    run = Run(
        job.source, folder / "model", job.task.name, job.data, metric, texts, recipe, None, restart, sections, False
    )
    if (folder / "model" / "bertile.json").is_file() and not restart:
        warn(f"{folder / 'model'} is there already; --restart trains it anew")
        return
    run_training(run, prunes=True)
    if job.constraint is not None and job.constraint.kind == "cycles":
        say_cycles(job, folder / "model")


def say_cycles(job, folder: Path) -> None:
    """Whether the trained network meets the constraint as its candidate did."""
    from bertile.models.families import matrices
    from bertile.models.load import load_model
    from bertile.perf.estimate import units_text
    from bertile.perf.masked import CycleModel

    model = load_model(str(folder))
    linears = matrices(model.network, model.config.family)
    kept = {name: linear.weight.data != 0 for name, linear in linears.items()}
    cycles = CycleModel(model, job.tokens, job.units).cycles(kept)
    over = "" if cycles <= job.constraint.value else "over "
    request = f"{job.tokens} tokens on {units_text(job.units)}"
    warn(f"{folder}: {cycles:,} cycles estimated for {request}, {over}the {job.constraint} asked for")
