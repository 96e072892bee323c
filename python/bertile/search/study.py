"""The Optuna study of a search: where it is kept, what it is of, how the next candidate is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.pruners import SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from bertile.errors import BertileError
from bertile.models.folder import first_line

STUDY = "bertile"
IDENTITY = "identity"  # attribute of a study: what it is a search of
SAMPLERS = ("gp", "tpe", "random")
PER_MATRIX = ("random",)  # of those, what draws a ratio of its own for every matrix: too many to be learnt from
STARTUP = 8  # candidates before a sampler goes by what it has learnt
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


def open_storage(text: str, folder: Path) -> BaseStorage:
    """Optuna's storage: a database for an address (sqlite:///FILE ...), else a journal file; the folder's without.

    Raises BertileError where it cannot be opened.
    """
    try:
        if "://" in text:
            return RDBStorage(text)
        return JournalStorage(JournalFileBackend(text or str(folder / "study.journal")))
    except Exception as error:  # a database driver's own errors have no common base
        raise BertileError(f"cannot open storage {text or folder}: {first_line(error)}") from None


def open_study(storage: BaseStorage, identity: dict, pareto: bool) -> optuna.Study:
    """The study in the storage, made where there is none. Raises BertileError where it is one of something else."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = ["minimize", "minimize"] if pareto else ["minimize"]
    try:
        study = optuna.create_study(
            storage=storage,
            study_name=STUDY,
            directions=directions,
            load_if_exists=True,
            pruner=SuccessiveHalvingPruner(min_resource=1, reduction_factor=2),
        )
        kept = study.user_attrs.get(IDENTITY)
        if kept is None:
            study.set_user_attr(IDENTITY, identity)
    except Exception as error:
        raise BertileError(f"cannot open the study: {first_line(error)}") from None
    # Where the model lies is another matter on another machine.
    other = [key for key in identity if key != "model" and kept is not None and kept.get(key) != identity[key]]
    if other:
        name = other[0]
        raise BertileError(f"the storage holds a search with another {name}: {kept.get(name)}, not {identity[name]}")
    return study


def make_sampler(name: str, seed: int, pareto: bool, shared: bool) -> BaseSampler:
    """shared: others draw at the same time, so that trials which still run count as bad ones."""
    if pareto:
        return NSGAIISampler(seed=seed, population_size=16)
    if name == "random":
        return RandomSampler(seed=seed)
    if name == "gp":
        return GPSampler(seed=seed, n_startup_trials=STARTUP)
    return TPESampler(seed=seed, n_startup_trials=STARTUP, multivariate=True, constant_liar=shared)


def next_trial(study: optuna.Study, sampler: str, seed: int, pareto: bool, shared: bool) -> optuna.Trial:
    """The next candidate. What is drawn depends on the seed and on how many have ended: a resumed search repeats it."""
    study.sampler = make_sampler(sampler, seed * 100_003 + ended(study), pareto, shared)
    return study.ask()


def ended(study: optuna.Study) -> int:
    return sum(trial.state in ENDED for trial in study.get_trials(deepcopy=False))


def end_abandoned(study: optuna.Study) -> None:
    """Give up the trials that a killed search left running: samplers would wait for what they bring."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


@dataclass(frozen=True)
class TrialRecord:
    """A candidate that was judged. cheap: the verdict that the search minimizes; verdict: all of them."""

    number: int
    name: str  # of a baseline, else "candidate"
    sparsity: float
    cycles: int
    cheap: float
    verdict: dict
    seconds: float
    plan: dict


def record_of(trial: FrozenTrial) -> TrialRecord:
    data = trial.user_attrs
    return TrialRecord(
        trial.number,
        data["name"],
        data["plan"]["sparsity"],
        data["cycles"],
        trial.values[0],
        data["verdict"],
        data["seconds"],
        data["plan"],
    )


def records(study: optuna.Study) -> list[TrialRecord]:
    """All candidates that were judged, in the order of their numbers."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [record_of(trial) for trial in sorted(complete, key=lambda trial: trial.number)]


def enqueue_missing(study: optuna.Study, wanted: Sequence[tuple[str, dict[str, float]]]) -> None:
    """Queue the named candidates that are neither judged nor waiting: a worker may have died over one.

    wanted: (name, genes); of a front several of one name, each with a sparsity of its own among its genes.
    """
    states = (TrialState.COMPLETE, TrialState.WAITING)
    trials = study.get_trials(deepcopy=False, states=states)
    known = {(trial.user_attrs.get("name"), trial.user_attrs.get("sparsity")) for trial in trials}
    for name, genes in wanted:
        sparsity = genes.get("sparsity")
        if (name, sparsity) not in known:
            study.enqueue_trial(genes, user_attrs={"name": name} | ({} if sparsity is None else {"sparsity": sparsity}))
