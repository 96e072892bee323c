"""A search from a dense model to a plan, and on to the pruned network: `bertile search`."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import optuna
import torch
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import TrialState

from bertile.errors import BertileError
from bertile.files import write_text
from bertile.inference import Progress, no_progress
from bertile.models.classifier import TrainedModel, load_trainable
from bertile.models.folder import find_folder, first_line
from bertile.models.load import Model
from bertile.perf.masked import CycleModel
from bertile.prune.groups import element_masks
from bertile.prune.pattern import parse_pattern
from bertile.prune.plan import CycleLimit, Plan, write_plan
from bertile.prune.select import Masks, select_masks
from bertile.search.baselines import baselines, directions, sensitivities, uniform_front
from bertile.search.constraint import Constraint, fit, fit_any
from bertile.search.judge import Judge, JudgeOptions, Verdict
from bertile.search.space import make_space
from bertile.search.storage import open_storage, open_study, search_folder
from bertile.search.study import (
    PER_MATRIX,
    TrialRecord,
    end_abandoned,
    ended,
    enqueue_missing,
    next_trial,
    records,
)
from bertile.tasks.data import read_split
from bertile.tasks.glue import Task
from bertile.workflow import weights_digest

COSTS = "sensitivities"  # attribute of a study
PARETO_RANGE = (0.4, 0.95)  # sparsities of a front
PLAN_FILE, TRIALS_FILE = "plan.json", "trials.json"


@dataclass(frozen=True)
class SearchJob:
    """What is searched for. constraint: None for a front of accuracy against cycles.

    tokens, units: of the request whose cycles count, and the compute units that share it.
    """

    source: str
    task: Task
    data: Path | None
    pattern: str
    constraint: Constraint | None
    trials: int
    sampler: str = "gp"
    seed: int = 0
    tokens: int = 128
    units: int = 1
    max_tokens: int = 128
    judge: JudgeOptions = field(default_factory=JudgeOptions)

    def identity(self) -> dict:
        """What makes two searches the same one, whatever their number of trials. Reads the training examples."""
        train = read_split(self.task, self.data, "train")
        return {
            "model": self.source,
            "weights": weights_digest(find_folder(self.source)),
            "task": self.task.name,
            "metric": self.task.metrics[0],
            "examples": hashlib.sha256(repr((train.texts(), train.labels.tolist())).encode()).hexdigest(),
            "max_tokens": self.max_tokens,
            "pattern": self.pattern,
            "constraint": str(self.constraint) if self.constraint else "pareto",
            "tokens": self.tokens,
            "units": self.units,
            "sampler": self.sampler,
            "seed": self.seed,
            "judge": asdict(self.judge),
        }


class Searcher:
    """One worker of a search: its own copy of the model, one study with the others."""

    def __init__(self, job: SearchJob):
        """Raises BertileError for a constraint that cannot be met, before a candidate is judged."""
        self.job = job
        self.dense: TrainedModel = load_trainable(job.source, job.task, job.seed)
        dense = self.dense
        self.train = read_split(job.task, job.data, "train")
        self.pattern = parse_pattern(job.pattern)
        plain = make_space(self.pattern, dense.config, {})
        self.sets = list(plain.sets)
        network = Model(dense.name, dense.network.base_model, dense.config, dense.tokenizer, dense.synthetic)
        self.cycle_model = CycleModel(network, job.tokens, job.units)
        self.judge = Judge(dense, job.task, self.train, job.judge, job.max_tokens, job.seed)
        self.tensors = self.judge.tensors
        self.scores = self.judge.scores(self.sets)
        # About how sparse candidates will be: where sensitivities are measured.
        self.sparsity = sum(PARETO_RANGE) / 2
        if job.constraint is not None:
            self.sparsity = fit_any(job.constraint, plain, self.cycles).sparsity

    def join(self, study: optuna.Study, shared: bool, worker: int = 0, progress: Progress = no_progress) -> None:
        """Take part in a study. progress counts the sets whose sensitivity is measured, by the first that comes."""
        self.study, self.shared, self.worker = study, shared, worker
        plain = make_space(self.pattern, self.dense.config, {})
        costs = study.user_attrs.get(COSTS)
        if costs is None:
            costs = sensitivities(self.judge, self.pattern, plain.fitted(), self.sparsity, progress)
            study.set_user_attr(COSTS, costs)
        found = directions(self.judge, plain, self.sparsity, costs)
        self.space = make_space(self.pattern, self.dense.config, found)

    def masks(self, plan: Plan) -> tuple[Masks, dict[str, torch.Tensor]]:
        """The masks of a plan, and the weights that they keep."""
        masks = select_masks(self.pattern, self.sets, self.scores, self.tensors, plan.sparsity, plan=plan.shares)
        return masks, element_masks(self.sets, masks, self.tensors)

    def cycles(self, plan: Plan) -> int:
        """Of the network that a plan ends with, by these texts and in one shot."""
        return self.cycle_model.cycles_of(self.pattern, self.sets, self.masks(plan)[0])

    def run_trial(self) -> None:
        """Draw a candidate, judge it, tell the study."""
        job, study = self.job, self.study
        begin = time.monotonic()
        trial = next_trial(study, job.sampler, job.seed, job.constraint is None, self.shared, self.worker)
        ranges = self.space.ranges(job.sampler in PER_MATRIX)
        genes = {name: trial.suggest_float(name, *bounds) for name, bounds in ranges.items()}
        constraint = job.constraint
        if constraint is None:
            constraint = Constraint("sparsity", trial.suggest_float("sparsity", *PARETO_RANGE))
        try:
            plan = fit(constraint, self.space, genes, self.cycles)
        except BertileError:  # coarse groups alone may leave too much
            study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
            return
        masks, kept = self.masks(plan)
        cycles = self.cycles(plan)

        def give_up(rung: int, verdict: Verdict) -> bool:
            if job.constraint is None:  # of two objectives Optuna cannot tell which is behind
                return False
            trial.report(verdict.error, rung)
            return trial.should_prune()

        verdict = self.judge.judge(masks, self.sets, kept, give_up)
        if verdict is None or not math.isfinite(verdict.error):  # a draw that fails would be drawn again
            study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
            return
        trial.set_user_attr("name", trial.user_attrs.get("name", "candidate"))
        trial.set_user_attr("plan", plan.to_json())
        trial.set_user_attr("cycles", cycles)
        trial.set_user_attr("verdict", verdict.to_json())
        trial.set_user_attr("seconds", time.monotonic() - begin)
        values = [verdict.error] if job.constraint is not None else [verdict.error, float(cycles)]
        study.tell(trial, values, skip_if_finished=True)


def search(
    job: SearchJob,
    folder: Path,
    storage: str = "",
    shared: bool = False,
    worker: int = 0,
    goes_on: Callable[[], bool] = lambda: True,
    ready: Callable[[], None] = lambda: None,
    say: Callable[[TrialRecord], None] = lambda record: None,
    progress: Progress = no_progress,
) -> list[TrialRecord]:
    """Judge candidates until the study has `job.trials`; returns all of them, of every worker.

    shared: other workers have the same storage. worker: 0, or the number of one that another started. goes_on: asked
    before each trial. ready: called once other workers may start. say: gets every record, once.
    Killed, the same search goes on with the trials that have ended. Raises BertileError for a constraint that cannot
    be met, a folder in use, a storage that cannot be opened or written, or one that holds another search.
    """
    searcher = Searcher(job)
    alone = not storage and not worker
    with search_folder(folder, alone):
        study = open_study(open_storage(storage, folder), job.identity(), job.constraint is None)
        try:
            if not worker:
                end_abandoned(study, alone)
            searcher.join(study, shared, worker, progress)
            enqueue_missing(study, (uniform_front if job.constraint is None else baselines)(searcher.space))
            ready()
            _run_trials(searcher, goes_on, say)
            return records(study)
        except (OSError, StorageInternalError) as error:
            kept = "the same command goes on with the trials that have ended"
            raise BertileError(f"cannot write to storage {storage or folder}: {first_line(error)}; {kept}") from None


def _run_trials(searcher: Searcher, goes_on: Callable[[], bool], say: Callable[[TrialRecord], None]) -> None:
    said: set[int] = set()
    while True:
        for record in records(searcher.study):
            if record.number not in said:
                said.add(record.number)
                say(record)
        if ended(searcher.study) >= searcher.job.trials or not goes_on():
            return
        try:
            searcher.run_trial()
        except UpdateFinishedTrialError:  # somebody took this worker for dead
            continue


def judged(job: SearchJob, folder: Path, storage: str = "") -> list[TrialRecord]:
    """All that the study of a search holds by now."""
    return records(open_study(open_storage(storage, folder), job.identity(), job.constraint is None))


def best_of(found: list[TrialRecord]) -> TrialRecord:
    """The candidate with the best verdict."""
    if not found:
        raise BertileError("no candidate met the constraint")
    return min(found, key=lambda record: record.cheap)


def front_of(found: list[TrialRecord]) -> list[TrialRecord]:
    """Candidates that none beats in both verdict and cycles, fastest first."""
    front: list[TrialRecord] = []
    for record in sorted(found, key=lambda record: (record.cycles, record.cheap)):
        if not front or record.cheap < front[-1].cheap:
            front.append(record)
    return front


def write_results(job: SearchJob, found: list[TrialRecord], folder: Path) -> None:
    """`trials.json`, the best plan as `plan.json`, and the plans of baselines or of the front under `plans/`."""
    data = {"search": job.identity(), "asked": job.trials, "trials": [asdict(record) for record in found]}
    write_text(folder / TRIALS_FILE, json.dumps(data, indent=1) + "\n")
    if job.constraint is None:
        named = {str(record.cycles): record for record in front_of(found)}
    else:
        named = {record.name: record for record in found if record.name != "candidate"}
        write_plan(_plan(job, best_of(found)), folder / PLAN_FILE)
    plans = folder / "plans"
    plans.mkdir(exist_ok=True)
    for file in plans.glob("*.json"):  # of a front that has moved since
        if file.stem not in named:
            file.unlink()
    for name, record in named.items():
        write_plan(_plan(job, record), plans / f"{name}.json")


def _plan(job: SearchJob, record: TrialRecord) -> Plan:
    """A record's plan; the cycles asked for, or of a place on the front, are its limit."""
    limit = None
    if job.constraint is None or job.constraint.kind == "cycles":
        cycles = record.cycles if job.constraint is None else int(job.constraint.value)
        limit = CycleLimit(cycles, job.tokens, job.units)
    return Plan(record.plan["pattern"], record.plan["sparsity"], record.plan["shares"], limit)
