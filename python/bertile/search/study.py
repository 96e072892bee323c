"""The trials of a search in Optuna: how the next candidate is drawn, what was judged, what was abandoned."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass

import optuna
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

SAMPLERS = ("gp", "tpe", "random")
PER_MATRIX = ("random",)  # of those, what draws a ratio of its own for every matrix: too many to be learnt from
STARTUP = 8  # candidates before a sampler goes by what it has learnt
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
BEGUN = (*ENDED, TrialState.RUNNING)
SEEDS = 2**32  # NumPy's
WORKER = "worker"  # attribute of a trial: the machine and the process that judge it


def make_sampler(name: str, seed: int, pareto: bool, shared: bool) -> BaseSampler:
    """shared: others draw at the same time; TPE then takes trials that still run for bad ones."""
    if pareto:
        return NSGAIISampler(seed=seed, population_size=16)
    if name == "random":
        return RandomSampler(seed=seed)
    if name == "gp":
        return GPSampler(seed=seed, n_startup_trials=STARTUP)
    return TPESampler(seed=seed, n_startup_trials=STARTUP, multivariate=True, constant_liar=shared)


def next_trial(
    study: optuna.Study, sampler: str, seed: int, pareto: bool, shared: bool, worker: int = 0
) -> optuna.Trial:
    """The next candidate.

    What is drawn depends on the seed and on how many have begun, so that a resumed search repeats it; and on the
    number of the worker, since two may ask at one moment.
    """
    begun = _count(study, BEGUN)
    study.sampler = make_sampler(sampler, (seed * 100_003 + begun + worker * 1_000_003) % SEEDS, pareto, shared)
    trial = study.ask()
    trial.set_user_attr(WORKER, [socket.gethostname(), os.getpid()])
    return trial


def ended(study: optuna.Study) -> int:
    return _count(study, ENDED)


def _count(study: optuna.Study, states: Sequence[TrialState]) -> int:
    return len(study.get_trials(deepcopy=False, states=states))


def end_abandoned(study: optuna.Study, alone: bool) -> None:
    """Give up the trials that a killed search left running: samplers would wait for what they bring.

    alone: all that run; else those of processes of this machine that are gone.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        host, process = trial.user_attrs.get(WORKER, ("", 0))
        if alone or (host == socket.gethostname() and not _is_alive(process)):
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


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
    """Queue the named candidates that are not there: judged, given up, running or waiting. A worker may have died.

    wanted: (name, genes); of a front several of one name, each with a sparsity of its own among its genes.
    """
    trials = study.get_trials(deepcopy=False, states=(*BEGUN, TrialState.WAITING))
    known = {(trial.user_attrs.get("name"), trial.user_attrs.get("sparsity")) for trial in trials}
    for name, genes in wanted:
        sparsity = genes.get("sparsity")
        if (name, sparsity) not in known:
            study.enqueue_trial(genes, user_attrs={"name": name} | ({} if sparsity is None else {"sparsity": sparsity}))
