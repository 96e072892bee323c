"""Rows of the CPU: every runtime, side by side, each one's output checked before its time counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import groupby

import numpy as np

from bertile.perf.latency.artefacts import package_versions, prepared_folder
from bertile.perf.latency.encoder import embed, pruned_model, requests, token_ids
from bertile.perf.latency.plan import Case, Plan
from bertile.perf.latency.rows import Row
from bertile.perf.latency.runtimes import RUNTIMES, STATIC, Check, Runtime, Session, check_output
from bertile.perf.latency.timing import Patience, Timing, time_side_by_side

Advance = Callable[[str, int], None]  # what is being done, and how many steps are behind it


def layers_text(shape: str, layers: int) -> str:
    return f"{shape}, {layers} layer{'s' * (layers > 1)}"


def runtimes_for(case: Case) -> tuple[Runtime, ...]:
    """PyTorch first: it is the reference."""
    return (*RUNTIMES, STATIC) if case.layers == 1 and not case.sparsity else RUNTIMES


@dataclass(frozen=True)
class Candidate:
    """A runtime that runs a case right."""

    case: Case
    runtime: Runtime
    session: Session
    check: Check


def cpu_rows(
    plan: Plan, threads: int, processor: str, patience: Patience, advance: Advance
) -> tuple[list[Row], list[dict]]:
    """Measured rows, and the runtimes that were left out because their output is wrong: what, runtime, problem.

    Pruned and unpruned models of a request are timed in the same rounds, too. advance(text, steps) is called after
    each block of runs and each request. Raises BertileError for a missing package.
    """

    def request_of(case: Case) -> tuple[int, int, int]:
        return case.layers, case.batch, case.tokens

    rows: list[Row] = []
    rejected: list[dict] = []
    for (layers, batch, tokens), cases in groupby(sorted(plan.cpu, key=request_of), request_of):
        text = f"{layers_text(plan.shape, layers)}, {batch} x {tokens} tokens"
        candidates: dict[tuple[str, float], Candidate] = {}
        for case in cases:
            advance(f"preparing {text}", 0)
            right, wrong = open_checked(plan, case, threads)
            candidates |= {(one.runtime.name, case.sparsity): one for one in right}
            rejected += wrong
        runs = {key: one.session.run for key, one in candidates.items()}
        timings = time_side_by_side(
            runs, plan.rounds, plan.seconds, patience, lambda text=text: advance(f"timing {text}", 0)
        )
        rows += [measured_row(plan.shape, one, timings[key], threads, processor) for key, one in candidates.items()]
        advance(text, 1)
    return rows, rejected


def open_checked(plan: Plan, case: Case, threads: int) -> tuple[list[Candidate], list[dict]]:
    """The runtimes whose output is PyTorch's, and what is wrong with the others."""
    model = pruned_model(plan.shape, case.layers, case.sparsity).model
    folder = prepared_folder(model, case.sparsity, plan.calibration)
    request = requests(model, case.batch, case.tokens)
    right: list[Candidate] = []
    wrong: list[dict] = []
    reference: np.ndarray | None = None
    for runtime in runtimes_for(case):
        session = runtime.open(model, folder, request, threads)
        output = np.array(session.run())
        reference = output if reference is None else reference
        check = check_output(reference, output, runtime.cosine_limit)
        if check.problem:
            what = layers_text(plan.shape, case.layers)
            wrong.append(asdict(case) | {"what": what, "runtime": runtime.name, "problem": check.problem})
        else:
            right.append(Candidate(case, runtime, session, check))
    return right, wrong


def measured_row(shape: str, candidate: Candidate, timing: Timing, threads: int, processor: str) -> Row:
    case, runtime, check = candidate.case, candidate.runtime, candidate.check
    version = package_versions()[runtime.package]
    return Row(
        what=layers_text(shape, case.layers),
        device=f"{processor}, {threads} thread{'s' * (threads > 1)}: {runtime.name}",
        tokens=case.tokens,
        batch=case.batch,
        sparsity=case.sparsity,
        latency_ms=timing.median_ms,
        kind="measured",
        source=f"measured by host/bench.py, {runtime.package} {version}",
        details={
            "layers": case.layers,
            "runtime": runtime.name,
            "threads": threads,
            "p10_ms": timing.p10_ms,
            "p90_ms": timing.p90_ms,
            "runs": timing.runs,
            "rounds": timing.rounds,
            "used_by_others": round(timing.others, 4),
            "cosine": check.cosine_mean,
            "cosine_worst_token": check.cosine_worst,
            "settings": candidate.session.settings,
        },
    )


def embedding_row(plan: Plan, threads: int, processor: str, patience: Patience) -> Row:
    """What all other rows leave out on the CPU and on the card: the embeddings of one request, in PyTorch."""
    case = plan.cpu[0]
    model = pruned_model(plan.shape, case.layers, case.sparsity).model
    ids = token_ids(model, case.batch, case.tokens, 0)
    timing = time_side_by_side({"": lambda: embed(model, ids)}, plan.rounds, plan.seconds, patience)[""]
    return Row(
        what=f"{plan.shape}, embeddings",
        device=f"{processor}, {threads} thread{'s' * (threads > 1)}: PyTorch FP32",
        tokens=case.tokens,
        batch=case.batch,
        sparsity=0.0,
        latency_ms=timing.median_ms,
        kind="measured",
        source=f"measured by host/bench.py, torch {package_versions()['torch']}",
        details={"layers": 0, "runtime": "PyTorch FP32", "threads": threads, "p10_ms": timing.p10_ms,
                 "p90_ms": timing.p90_ms, "runs": timing.runs, "rounds": timing.rounds},
    )  # fmt: skip
