"""The part of docs/results.md on automatic pruning, from docs/results/search/: cheap verdicts, plans compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isnan
from pathlib import Path
from statistics import fmean, median

from scipy.stats import kendalltau

from bertile.report.runs import DENSE, TASKS, RunRecord
from bertile.search.judge import JudgeOptions
from bertile.tasks.metrics import retention

# What a verdict says, and whether more of it is better.
JUDGED = {"error": -1, "seen": -1, "unseen": -1, "logits": -1, "task": 1}
BASELINES = ("uniform", "global", "sensitivity")
# What was asked for; gain and loss against baselines at one sparsity.
TAU, COST, GAIN, LOSS = 0.5, 0.05, 0.01, 0.003
ASKED_AT = 0.75


def read_efficient(folder: Path) -> list[dict]:
    """The studies of cheap verdicts, one a task."""
    return [json.loads(file.read_text()) for file in sorted(folder.glob("efficient-*.json"))]


def rank_correlation(study: dict, recovery: str, judged: str) -> float:
    """Kendall's tau of cheap verdicts and scores after training, NaN where all verdicts are the same."""
    cheap = [JUDGED[judged] * row["verdicts"][recovery][judged] for row in study["candidates"]]
    final = [row["final"]["score"] for row in study["candidates"]]
    return float(kendalltau(cheap, final).statistic)


def efficient_lines(studies: Sequence[dict]) -> list[str]:
    """A table a task; costs are shares of a full training, where the study knows what one took."""
    lines = []
    default = JudgeOptions().recovery
    for study in studies:
        task, rows = study["task"], study["candidates"]
        lines += [
            f"**{TASKS[task]}**: {len(rows)} candidates, {study['pattern']} at {study['sparsity']:.0%}; trained alike:",
            f"`{study['final_command']}`",
            "",
            "| recovery | tau: error (used) | on texts seen | on others | logits' divergence | task's score | cost |",
            "|---|---|---|---|---|---|---|",
        ]
        for recovery in rows[0]["verdicts"]:
            taus = [rank_correlation(study, recovery, judged) for judged in JUDGED]
            seconds = median(row["verdicts"][recovery]["seconds"] for row in rows)
            full = study["training_seconds"]
            cost = f"{seconds:.0f} s" + (f", {seconds / full:.1%} of a training" if full else "")
            name = f"{recovery} (the default)" if recovery == default else recovery
            lines.append(
                f"| {name} | " + " | ".join("-" if isnan(tau) else f"{tau:.2f}" for tau in taus) + f" | {cost} |"
            )
        finals = [row["final"]["score"] for row in rows]
        lines += ["", f"Scores after training: {min(finals):.4f} to {max(finals):.4f}.", ""]
    return lines


def by_plan(records: Sequence[RunRecord]) -> dict[str, dict[str, list[RunRecord]]]:
    """Plan -> task -> its runs, by seed of the training."""
    found: dict[str, dict[str, list[RunRecord]]] = {}
    for record in sorted(records, key=lambda row: (row.method, row.seed)):
        found.setdefault(record.method, {}).setdefault(record.task, []).append(record)
    return found


def int8_means(plans: dict[str, dict[str, list[RunRecord]]]) -> dict[str, dict[str, float]]:
    """Plan -> task -> mean INT8 score over the seeds."""
    return {
        name: {task: fmean(run.score_int8 for run in runs) for task, runs in tasks.items()}
        for name, tasks in plans.items()
    }


def comparison_lines(records: Sequence[RunRecord]) -> list[str]:
    """A row a plan, plans of one sparsity trained alike, and a summary of each sparsity."""
    lines = [
        "| task | plan | sparsity | cycles | seeds | FP32 | INT8 | keeps, INT8 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    sparsities = sorted({record.sparsity for record in records})
    grouped = {sparsity: by_plan([row for row in records if row.sparsity == sparsity]) for sparsity in sparsities}
    for task in TASKS:
        for plans in grouped.values():
            lines += [comparison_row(tasks[task]) for tasks in plans.values() if task in tasks]
    lines.append("")
    for sparsity, plans in grouped.items():
        lines += summary_lines({name: tasks for name, tasks in plans.items() if name != DENSE}, sparsity)
    return lines


def comparison_row(runs: Sequence[RunRecord]) -> str:
    """Means over the seeds of a plan's training, and the lowest and highest INT8 score."""
    first = runs[0]
    scores = [run.score_int8 for run in runs]
    spread = f" ({min(scores):.4f} to {max(scores):.4f})" * (len(runs) > 1)
    share = fmean(retention(run.score_int8, run.constant, run.dense) for run in runs)
    return (
        f"| {TASKS[first.task]} | {first.method} | {fmean(run.sparsity_reached for run in runs):.2%} | "
        f"{round(fmean(run.cycles for run in runs)):,} | {len(runs)} | {fmean(run.score_fp32 for run in runs):.4f} | "
        f"{fmean(scores):.4f}{spread} | {share:.3f} |"
    )


def summary_lines(plans: dict[str, dict[str, list[RunRecord]]], sparsity: float) -> list[str]:
    """What came out, a line a search; at 75% beside what was asked. Tasks: those that uniform was run on, too."""
    means = int8_means(plans)
    uniform = means.get("uniform", {})
    lines: list[str] = []
    for name, scores in means.items():
        tasks = sorted(uniform.keys() & scores.keys())
        if name in BASELINES or not tasks:
            continue
        own, rival = (fmean(plan[task] for task in tasks) for plan in (scores, uniform))
        worst = min(
            scores[task] - max(means[other][task] for other in BASELINES if task in means.get(other, {}))
            for task in tasks
        )
        over = f"mean over {len(tasks)} tasks" if len(tasks) > 1 else TASKS[tasks[0]]
        lines.append(
            f"- {name} at {sparsity:.0%}, INT8, {over}: {own:.4f}, uniform {rival:.4f}: "
            f"{_points(own - rival, GAIN, sparsity)}; against the best baseline of each task "
            f"{_points(worst, -LOSS, sparsity, ' at worst')}."
        )
    return [*lines, ""] if lines else []


def both_lines(records: Sequence[RunRecord], earlier: Sequence[RunRecord]) -> list[str]:
    """What the searches gained that were run from both dense networks, and how much hangs on which one it is."""
    first, second = (gains([row for row in rows if row.sparsity == ASKED_AT]) for rows in (earlier, records))
    lines = []
    for name in first:
        tasks = sorted(first[name].keys() & second.get(name, {}).keys())
        pairs = [(100 * first[name][task], 100 * second[name][task]) for task in tasks]
        if pairs:
            each = ", ".join(f"{TASKS[task]} {a:+.1f} and {b:+.1f}" for task, (a, b) in zip(tasks, pairs, strict=True))
            mean = fmean(value for pair in pairs for value in pair)
            lines.append(f"- {name} at {ASKED_AT:.0%}, INT8, over uniform: {each} points; mean {mean:+.1f}.")
    return ["From both, the earlier ones first:", "", *lines, ""] if lines else []


def gains(records: Sequence[RunRecord]) -> dict[str, dict[str, float]]:
    """By search and task, how far its mean INT8 score is above the uniform plan's."""
    means = int8_means(by_plan(records))
    uniform = means.get("uniform", {})
    return {
        name: {task: score - uniform[task] for task, score in scores.items() if task in uniform}
        for name, scores in means.items()
        if name not in (*BASELINES, DENSE)
    }


def _points(value: float, asked: float, sparsity: float, note: str = "") -> str:
    """A difference in points, and, at the sparsity where one was asked for, whether it is reached."""
    points = f"{100 * value:+.1f} points{note}"
    if sparsity != ASKED_AT:
        return points
    return f"{points}, {100 * asked:+.1f} were asked: {'reached' if value >= asked else 'not reached'}"


def search_lines(studies: Sequence[dict], records: Sequence[RunRecord], earlier: Sequence[RunRecord] = ()) -> list[str]:
    """The section; nothing where nothing was run. earlier: of plans for other dense networks."""
    if not studies and all(record.method == DENSE for record in records):
        return []
    lines = ["## Automatic pruning", ""]
    if records:
        lines += [
            "Plans for the same sparsity, or the same number of cycles (`search-cycles`), trained alike",
            "(docs/results/search.toml has the commands). Scores of a plan that was trained with several seeds are",
            "their mean (lowest to highest). Cycles: one request of 128 tokens, estimated. All sort features before",
            "they prune; the runs of reconstruct above do not (prune.order=false).",
            "",
            *comparison_lines(records),
        ]
    if earlier:
        lines += [
            "The same from other dense networks, which the same commands made on another machine",
            "(docs/results/search/runs-earlier); `-least-squares`: judged after that recovery.",
            "",
            *comparison_lines(earlier),
            *both_lines(records, earlier),
        ]
    if studies:
        lines += [
            "How far the cheap verdict on a candidate can be trusted: rank correlation (Kendall) with its score on the",
            "dev set after training. `python -m bertile.experiments.efficient --data GLUE`; asked: tau at least "
            f"{TAU}, at most {COST:.0%} of a training.",
            "",
            *efficient_lines(studies),
        ]
    return lines
