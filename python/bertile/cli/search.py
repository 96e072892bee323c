"""`bertile search`."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.live import Live
from rich.table import Table

from bertile.cli.console import messages, output, print_json, progress_bar, warn, working
from bertile.cli.train import (
    SEED_MAX,
    Data,
    Json,
    MaxSteps,
    Metric,
    Recipe,
    Run,
    Settings,
    TaskName,
    job_of,
    sections_of,
)
from bertile.errors import BertileError

SHOWN = 15  # trials in the live table, the last ones
WORKER = "BERTILE_SEARCH_WORKER"  # in the environment of a worker: its number, and the process that started it
FROM_PLAN = ("plan", "pattern", "sparsity", "scope")  # settings of a pruning that the search decides


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
        for number in range(1, count + 1):
            environment = os.environ | {WORKER: f"{number} {os.getpid()}", "OMP_NUM_THREADS": str(threads(count + 1))}
            started.append(subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL))

    try:
        yield start
        codes = [worker.wait() for worker in started]
        if any(codes):
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
    restart: Annotated[bool, typer.Option("--restart", help="Train anew what is in the folder's model.")] = False,
    json: Json = False,
) -> None:
    """Find out how much of every matrix to prune, under a sparsity or a latency; then prune so.

    Killed, the same command goes on where it was. With --storage, the same command on other machines helps.
    """
    with working("loading libraries"):
        import torch

        from bertile.search.constraint import make_constraint
        from bertile.search.judge import JudgeOptions
        from bertile.search.run import SearchJob, best_of, front_of, judged, write_results
        from bertile.search.run import search as run_search
        from bertile.search.study import SAMPLERS
        from bertile.tasks.glue import find_task
        from bertile.train.options import make_options
    if sampler not in SAMPLERS:
        raise BertileError(f"sampler {sampler!r} is not one of {', '.join(SAMPLERS)}")
    if pareto and (sparsity, cycles, latency_us) != (None, None, None):
        raise BertileError("--pareto needs no constraint: its front goes over all of them")
    if pareto and (sampler != SAMPLERS[0] or recovery == "halving"):
        raise BertileError("--pareto draws by NSGA-II and gives no candidate up: no --sampler, no halving")
    constraint = None if pareto else make_constraint(sparsity, cycles, latency_us)
    sections = sections_of({"max_steps": max_steps, "seed": seed}, {}, None, settings)
    pruning = make_options(recipe, sections, prunes=True).prune  # what is wrong there is said before the search
    found_task = find_task(task, metric, data) if task else None
    if found_task is None:
        raise BertileError("give --task NAME, with --data DIR")
    judge = JudgeOptions(recovery, order=pruning.order)
    job = SearchJob(model, found_task, data, pattern, constraint, trials, sampler, seed, tokens, units, judge=judge)
    run = (
        training_of(job, output_folder, recipe, sections, tuple(text or ()), restart) if train and not pareto else None
    )
    all_threads = torch.get_num_threads()
    if workers > 1:
        torch.set_num_threads(threads(workers))
    helper, parent = map(int, os.environ.get(WORKER, "0 0").split())
    if helper:  # ends with the one that started it, whatever became of that
        run_search(job, output_folder, storage, True, helper, lambda: os.getppid() == parent)
        return
    check_inputs(job, output_folder, run)
    with other_workers(workers - 1) as start, progress_bar("sensitivities") as progress, trial_table(trials) as show:
        shared = workers > 1 or bool(storage)
        run_search(job, output_folder, storage, shared, ready=start, say=show, progress=progress)
    torch.set_num_threads(all_threads)
    found = judged(job, output_folder, storage)
    write_results(job, found, output_folder)
    chosen = front_of(found) if pareto else [best_of(found)]
    if run is not None:
        train_best(job, output_folder, run)
    if json:
        return print_json({"search": job.identity(), "chosen": [asdict(record) for record in chosen]})
    for record in chosen:
        output.print(", ".join((f"{output_folder}: trial {record.number}", *row_of(record)[1:4])), highlight=False)


def training_of(job, folder: Path, recipe: str | None, sections: dict, texts: tuple[Path, ...], restart: bool) -> Run:
    """The training of a plan that is not there yet: `model` in the search's folder."""
    own = [key for key in FROM_PLAN if key in sections.get("prune", {})]
    if own:
        raise BertileError(f"setting prune.{own[0]}: the search decides it")
    metric = job.task.metrics[0]
    model = folder / "model"
    return Run(job.source, model, job.task.name, job.data, metric, texts, recipe, None, restart, sections, False)


def with_pruning(run: Run, **settings: object) -> Run:
    return replace(run, sections={**run.sections, "prune": {**run.sections.get("prune", {}), **settings}})


def check_inputs(job, folder: Path, run: Run | None) -> None:
    """Say what is wrong with the inputs of search and training before both. Raises BertileError."""
    from bertile.models.folder import check_other_folder, find_folder
    from bertile.prune.folder import check_same_pattern
    from bertile.prune.pattern import parse_pattern
    from bertile.train.run import load_inputs

    check_other_folder(folder, job.source)
    check_same_pattern(find_folder(job.source), parse_pattern(job.pattern))
    if run is not None:
        with working("reading the inputs of the training"):
            load_inputs(job_of(with_pruning(run, pattern=job.pattern), prunes=True))


def train_best(job, folder: Path, run: Run) -> None:
    """Prune the model after the best plan and train it, unless that was done. Raises BertileError."""
    import json

    from bertile.cli.train import run_training
    from bertile.config.paths import TRAINING_LOG
    from bertile.prune.plan import read_plan
    from bertile.search.run import PLAN_FILE

    run = with_pruning(run, plan=str(folder / PLAN_FILE))
    if (run.folder / TRAINING_LOG).is_file() and not run.restart:
        log = json.loads((run.folder / TRAINING_LOG).read_text(encoding="utf-8"))
        options = json.loads(json.dumps(job_of(run, prunes=True).options.to_json()))
        options["prune"]["plan"] = log["options"]["prune"]["plan"]  # whose text counts, not where it lies
        for made, wanted, what in (
            (log["plan"], read_plan(folder / PLAN_FILE).to_json(), "another plan than the one chosen by now"),
            (log["options"], options, "other options"),
        ):
            if made != wanted:
                raise BertileError(f"{run.folder} was trained with {what}: --restart trains it anew")
        warn(f"{run.folder} is there already; --restart trains it anew")
        return
    run_training(run, prunes=True)
    if job.constraint is not None and job.constraint.kind == "cycles":
        say_cycles(job, run.folder)


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
    side = "within" if cycles <= job.constraint.value else "over"
    request = f"{job.tokens} tokens on {units_text(job.units)}"
    warn(f"{folder}: {cycles:,} cycles estimated for {request}, {side} the {job.constraint} asked for")
