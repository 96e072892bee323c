"""`bertile train` and `bertile prune`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from bertile.cli.console import messages, output, print_json, progress_bar, warn, working
from bertile.errors import BertileError

SEED_MAX = 2**32 - 1  # NumPy's, which the Trainer seeds, too
# Settings of the train section that have options of their own.
NUMBERS = ("epochs", "max_steps", "batch_size", "learning_rate", "seed", "precision")
Folder = Annotated[Path, typer.Option("-o", "--output", help="Folder to write.", show_default=False)]
TaskName = Annotated[str | None, typer.Option(help="GLUE task (mrpc, stsb, sst2 ...), or any other with --metric.")]
Data = Annotated[Path | None, typer.Option(help="Folder with train.tsv and dev.tsv, or a GLUE folder; else the hub.")]
Metric = Annotated[str | None, typer.Option(help="What decides: accuracy, f1, matthews, spearman, pearson or mse.")]
Texts = Annotated[
    list[Path] | None,
    typer.Option("--text", help="Unlabelled text: files, TSVs or folders of them. With --task only for distillation."),
]
Recipe = Annotated[
    str | None,
    typer.Option(help="Settings: finetune, layerwise, transfer, prune-ofa ... (docs/pruning.md), or a TOML file."),
]
TeacherName = Annotated[str | None, typer.Option("--teacher", help="Model to distill from; else the source itself.")]
Distill = Annotated[str | None, typer.Option(help="Parts of the loss: logits,hidden:2,attention,task:0.5.")]
Epochs = Annotated[float | None, typer.Option(help="Passes over the data.")]
MaxSteps = Annotated[int | None, typer.Option(help="Stop after so many steps.")]
BatchSize = Annotated[int | None, typer.Option(help="Examples a batch.")]
LearningRate = Annotated[float | None, typer.Option(help="At its highest.")]
Seed = Annotated[int | None, typer.Option(min=0, max=SEED_MAX, help="Of order, dropout and new weights.")]
Precision = Annotated[str | None, typer.Option(help="auto, fp32 or bf16.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="SECTION.KEY=VALUE; every setting of a recipe.")]
Restart = Annotated[bool, typer.Option("--restart", help="Discard an unfinished run instead of going on.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@dataclass(frozen=True)
class Run:
    """A run as the command line describes it; `sections`: settings over the recipe's, None where it decides."""

    model: str
    folder: Path
    task: str | None
    data: Path | None
    metric: str | None
    texts: tuple[Path, ...]
    recipe: str | None
    teacher: str | None
    restart: bool
    sections: dict[str, dict[str, Any]]
    as_json: bool


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def sections_of(train: Mapping[str, Any], prune: Mapping[str, Any], distill: str | None, settings: list[str] | None):
    """Settings by section: the named options, then `--set`, which knows every one."""
    from bertile.train.options import parse_distill, parse_setting

    if train.get("epochs") is not None and train.get("max_steps") is None:
        train = {**train, "max_steps": 0}  # a recipe's would hide them
    sections = {"train": given(train), "prune": given(prune), "distill": parse_distill(distill) if distill else {}}
    for text in settings or ():
        section, key, value = parse_setting(text)
        sections.setdefault(section, {})[key] = value
    return {name: values for name, values in sections.items() if values}


def job_of(run: Run, prunes: bool):
    """The job of a run. Raises BertileError."""
    with working("loading libraries"):
        from bertile.tasks.glue import find_task
        from bertile.train.options import make_options
        from bertile.train.prepare import Job
    options = make_options(run.recipe, run.sections, prunes, labels=run.task is not None)
    task = find_task(run.task, run.metric, run.data) if run.task else None
    return Job(run.model, run.folder, options, task, run.data, run.texts, run.teacher or "", run.restart)


def run_training(run: Run, prunes: bool) -> dict:
    """Run the job with progress; returns its log, which one process of several has."""
    with working("loading libraries"):
        from bertile.train.run import run_job
    job = job_of(run, prunes)
    try:
        with progress_bar("training") as progress:
            return run_job(job, progress, lambda line: messages.print(line, highlight=False))
    except KeyboardInterrupt:
        warn("interrupted; the same command goes on from the last checkpoint")
        raise


def execute(run: Run, prunes: bool) -> None:
    """Run the job; print where the result is and its scores."""
    log = run_training(run, prunes)
    if not log:  # another process of this run reports
        return
    if run.as_json:
        return print_json({key: value for key, value in log.items() if key != "history"})
    scores = ", ".join(f"{name} {value:.4f}" for name, value in log["metrics"].items() if name != "loss")
    output.print(f"{run.folder}: {log['steps']} steps in {log['seconds']:.0f} s, {scores}", highlight=False)


def train(
    model: Annotated[str, typer.Argument(help="minilm, a folder, or a Hugging Face id.")],
    output: Folder,
    task: TaskName,
    data: Data = None,
    metric: Metric = None,
    text: Texts = None,
    recipe: Recipe = None,
    teacher: TeacherName = None,
    distill: Distill = None,
    epochs: Epochs = None,
    max_steps: MaxSteps = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    seed: Seed = None,
    precision: Precision = None,
    settings: Settings = None,
    restart: Restart = False,
    json: Json = False,
) -> None:
    """Fine-tune a model on a task. What is pruned stays pruned. Killed, the same command goes on where it was."""
    numbers = dict(zip(NUMBERS, (epochs, max_steps, batch_size, learning_rate, seed, precision), strict=True))
    sections = sections_of(numbers, {}, distill, settings)
    run = Run(model, output, task, data, metric, tuple(text or ()), recipe, teacher, restart, sections, json)
    execute(run, prunes=False)


def prune(
    output: Folder,
    model: Annotated[str | None, typer.Argument(help="minilm, a folder, or a Hugging Face id.")] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            help="KxN (K input by N output features), heads, neurons, rows, columns, layers, unstructured, A+B."
        ),
    ] = None,
    sparsity: Annotated[float | None, typer.Option(help="Share of the weights to remove, in [0, 1).")] = None,
    method: Annotated[
        str | None,
        typer.Option(help="oneshot, reconstruct, gradual, group-lasso, cyclic, or once-for-all with --text."),
    ] = None,
    score: Annotated[str | None, typer.Option(help="l2, l1, random, activation, movement, taylor or fisher.")] = None,
    scope: Annotated[str | None, typer.Option(help="uniform: each matrix alike; global: one threshold.")] = None,
    plan: Annotated[Path | None, typer.Option(help="A share for every matrix, from bertile search.")] = None,
    task: TaskName = None,
    data: Data = None,
    metric: Metric = None,
    text: Texts = None,
    recipe: Recipe = None,
    teacher: TeacherName = None,
    distill: Distill = None,
    epochs: Epochs = None,
    max_steps: MaxSteps = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    seed: Seed = None,
    precision: Precision = None,
    settings: Settings = None,
    config: Annotated[str | None, typer.Option(help="Random weights of this shape, such as bert-base.")] = None,
    layers: Annotated[int | None, typer.Option(help="With --config: number of layers.")] = None,
    restart: Restart = False,
    json: Json = False,
) -> None:
    """Prune a model: on a task, on unlabelled text, or in one shot without data. Writes a Hugging Face folder.

    Killed, the same command goes on where it was.
    """
    pruning = {"pattern": pattern, "sparsity": sparsity, "method": method, "score": score, "scope": scope}
    pruning["plan"] = None if plan is None else str(plan)
    numbers = dict(zip(NUMBERS, (epochs, max_steps, batch_size, learning_rate, seed, precision), strict=True))
    sections = sections_of(numbers, pruning, distill, settings)
    if (model is None) == (config is None):
        raise BertileError("give either a model (minilm, a folder, an id) or --config NAME")
    if config is None and layers is not None:
        raise BertileError("--layers goes with --config")
    if task is None and not text:
        training = {"--data": data, "--metric": metric, "--recipe": recipe, "--teacher": teacher, "--distill": distill}
        training |= {f"--{name.replace('_', '-')}": value for name, value in numbers.items() if name != "seed"}
        for name in given(training):
            raise BertileError(f"{name} is for training: give --task NAME (with --data DIR) or --text FILE")
        return prune_without_data(model, config, layers, sections, output, json)
    if config is not None:
        raise BertileError("--config makes random weights, which no training is worth: give a model")
    run = Run(model, output, task, data, metric, tuple(text or ()), recipe, teacher, restart, sections, json)
    execute(run, prunes=True)


def prune_without_data(
    source: str | None, config: str | None, layers: int | None, sections: dict, folder: Path, as_json: bool
) -> None:
    """One shot by the weights alone."""
    from bertile.models.classifier import with_own_head
    from bertile.models.folder import check_other_folder, find_folder
    from bertile.models.load import check_capacity, load_model, random_model
    from bertile.perf.masked import counter_of
    from bertile.prune.folder import check_same_pattern
    from bertile.prune.groups import group_sets
    from bertile.prune.magnitude import prune_magnitude, save_pruned
    from bertile.prune.pattern import parse_pattern
    from bertile.prune.plan import check_plan, read_plan
    from bertile.quantize.texts import CALIBRATION_FILE
    from bertile.train.options import make_options

    given_seed = sections.get("train", {}).get("seed", 0)
    options = make_options(None, sections, prunes=True).prune
    if options.method != "oneshot":
        raise BertileError(f"method {options.method} trains: give --task NAME (with --data DIR) or --text FILE")
    pattern = parse_pattern(options.pattern)
    if source:
        check_other_folder(folder, source)
        check_same_pattern(find_folder(source), pattern)
    with working(f"loading {source or config}"):
        model = load_model(source) if source else random_model(config, layers, given_seed)
        check_capacity(model.config)
        sets = group_sets(pattern, model.config)
        plan = read_plan(Path(options.plan)) if options.plan else None
        if plan is not None:
            check_plan(plan, sets)
        counter = counter_of(plan, model, sets)
        choice = (options.sparsity, options.scope, options.score, given_seed, plan, counter)
        result = prune_magnitude(model, pattern, *choice)
        if source:
            result = replace(result, model=replace(result.model, network=with_own_head(source, result.model.network)))
        save_pruned(result, folder, find_folder(source) / CALIBRATION_FILE if source else None)
    if as_json:
        print_json(asdict(result.provenance))
    if result.model.synthetic:
        warn("random weights: good for shapes and cycles, never for accuracy")
    if not as_json:
        output.print(f"{folder}: {model.name}, {pattern}, {result.sparsity:.1%} of the encoder's weights removed")
