"""The accuracy part of docs/results.md: tables, limits and comparisons, all computed from the run records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from bertile.config.target import target_clocks
from bertile.errors import BertileError
from bertile.prune.select import TOLERANCE
from bertile.report.runs import DENSE, SAME, TASKS, RunRecord
from bertile.tasks.metrics import retention

NOT_RUN, NONE = "not run yet", "-"
# Two of the methods of bertile.prune.schedule: pruned at once, then trained; blocks driven to zero before they go.
ONE_SHOT, GROUP_LASSO = "oneshot", "group-lasso"


@dataclass(frozen=True)
class Setting:
    """What a run did to the network, whatever the task and the seed."""

    model: str
    method: str
    pattern: str
    sparsity: float

    def __str__(self) -> str:
        return self.method if self.method == DENSE else f"{self.method} {self.pattern} at {percent(self.sparsity)}"


@dataclass(frozen=True)
class Limit:
    """What was asked of a pattern: INT8 retention, the mean over the tasks and the lowest run. None: only reported."""

    pattern: str
    sparsity: float
    mean: float | None = None
    lowest: float | None = None

    def __str__(self) -> str:
        parts = [f"mean at least {self.mean:.2f}"] if self.mean is not None else []
        parts += [f"none under {self.lowest:.2f}"] if self.lowest is not None else []
        return ", ".join(parts) or "reported only"

    def applies(self, setting: Setting) -> bool:
        return (setting.pattern, setting.sparsity) == (self.pattern, self.sparsity)

    def reached(self, mean: float, lowest: float) -> bool:
        """Negated comparisons, so that what is no number never reaches a limit."""
        return not (self.mean is not None and not mean >= self.mean) and not (
            self.lowest is not None and not lowest >= self.lowest
        )

    def verdict(self, mean: float, lowest: float) -> str:
        if self.mean is None and self.lowest is None:
            return "reported"
        return "reached" if self.reached(mean, lowest) else "not reached"


@dataclass(frozen=True)
class Comparison:
    """Settings alike but for `field`; of one sparsity, or of every one."""

    title: str
    field: str
    first: str
    second: str
    sparsity: float | None = None


LIMITS = (Limit("1x16", 0.5, 0.98, 0.80), Limit("1x16", 0.75, 0.90, 0.80), Limit("1x16", 0.9))
COMPARISONS = (
    Comparison("1x16 against 16x16 at 75%", "pattern", "1x16", "16x16", 0.75),
    Comparison("Group lasso against one shot and retraining", "method", GROUP_LASSO, ONE_SHOT),
)
Groups = dict[Setting, dict[str, list[RunRecord]]]


def percent(share: float) -> str:
    return f"{100 * share:.4g}%"


def fp32_retention(record: RunRecord) -> float:
    """What the model keeps of the dense one's distance to the constant answer, before quantization."""
    return retention(record.score_fp32, record.constant, record.dense)


def int8_retention(record: RunRecord) -> float:
    """The same after quantization: of the packed model, as the accelerator computes it."""
    return retention(record.score_int8, record.constant, record.dense)


def setting_of(record: RunRecord) -> Setting:
    return Setting(record.model, record.method, record.pattern, record.sparsity)


def order_of(setting: Setting) -> tuple:
    """Dense first, then the patterns, each from dense to sparse."""
    return (setting.method != DENSE, setting.pattern, setting.sparsity, setting.method)


def group_runs(records: Sequence[RunRecord]) -> Groups:
    """Setting -> task -> runs by seed. Raises BertileError where runs cannot stand in one table."""
    check_runs(records)
    groups: Groups = {}
    for setting in sorted({setting_of(record) for record in records}, key=order_of):
        own = [record for record in records if setting_of(record) == setting]
        tasks = {task: [record for record in own if record.task == task] for task in TASKS}
        groups[setting] = {task: sorted(runs, key=lambda run: run.seed) for task, runs in tasks.items() if runs}
    return groups


def check_runs(records: Sequence[RunRecord]) -> None:
    """Raises BertileError for two records of one run, and for retentions of a task that have another measure."""
    seen: dict[tuple, RunRecord] = {}
    references: dict[tuple, RunRecord] = {}
    for record in records:
        key = (record.task, setting_of(record), record.seed)
        if key in seen:
            raise BertileError(f"runs {seen[key].name} and {record.name} differ in nothing but the name")
        seen[key] = record
        first = references.setdefault((record.model, record.task), record)
        for name in ("metric", "constant", "dense"):
            if getattr(record, name) != getattr(first, name):
                raise BertileError(f"runs {first.name} and {record.name} have another {name} for the same task")
        if record.tokens != records[0].tokens:
            raise BertileError(f"runs {records[0].name} and {record.name} have cycles of other lengths")
        if record.method == DENSE and record.seed == 0 and not abs(record.score_fp32 - record.dense) <= SAME:
            raise BertileError(f"run {record.name}: its FP32 score is {record.score_fp32}, dense is {record.dense}")


def mean_over(runs: Sequence[RunRecord], value: Callable[[RunRecord], float] = int8_retention) -> float:
    return fmean(value(run) for run in runs)


def spread(tasks: dict[str, list[RunRecord]]) -> tuple[float, float] | None:
    """INT8 retention of a setting: mean over the tasks, each the mean of its seeds, and the lowest run of all.

    None until every task was run.
    """
    if tasks.keys() != TASKS.keys():
        return None
    lowest = min(int8_retention(run) for runs in tasks.values() for run in runs)
    return fmean(mean_over(runs) for runs in tasks.values()), lowest


def shortfalls(record: RunRecord) -> list[str]:
    """What this run alone did not reach."""
    found = []
    if record.sparsity_reached < record.sparsity - TOLERANCE:
        found.append(f"sparsity: {record.sparsity_reached:.4f}")
    for limit in LIMITS:
        lowest = limit.lowest if limit.applies(setting_of(record)) else None
        if lowest is not None and not int8_retention(record) >= lowest:
            found.append(f"retention: under {lowest:.2f}")
    return found


def task_row(runs: Sequence[RunRecord]) -> str:
    """A row for a run, or for the mean over the seeds of several."""
    first = runs[0]

    def mean(value: Callable[[RunRecord], float]) -> float:
        return mean_over(runs, value)

    cells = [
        first.method,
        first.pattern or NONE,
        percent(first.sparsity),
        str(first.seed) if len(runs) == 1 else f"mean of {len(runs)}",
        *(f"{mean(value):.4f}" for value in (lambda run: run.score_fp32, lambda run: run.score_int8)),
        f"{first.constant:.4f}",
        f"{mean(fp32_retention):.4f}",
        f"{mean(int8_retention):.4f}",
        f"{mean(lambda run: run.vector_density):.1%}",
        f"{mean(lambda run: run.cycles):,.0f}",
        *(f"{mean(lambda run, clock=clock: run.projected_ms[str(clock)]):.3f}" for clock in target_clocks()),
        "; ".join(shortfalls(first)) or NONE if len(runs) == 1 else "",
    ]
    return f"| {' | '.join(cells)} |"


def task_lines(groups: Groups, task: str) -> list[str]:
    """The table of a task."""
    rows = []
    for tasks in groups.values():
        runs = tasks.get(task, [])
        rows += [task_row([run]) for run in runs]
        rows += [task_row(runs)] if len(runs) > 1 else []
    if not rows:
        return [f"### {TASKS[task]}", "", f"{NOT_RUN.capitalize()}.", ""]
    record = next(run for tasks in groups.values() for run in tasks.get(task, []))
    clocks = " | ".join(f"ms at {clock} MHz" for clock in target_clocks())
    return [
        f"### {TASKS[task]}",
        "",
        f"Score: {record.metric}. Dense, FP32: {record.dense:.4f}; the best constant answer: {record.constant:.4f}.",
        "",
        "| method | pattern | sparsity | seed | score, FP32 | score, INT8 | constant | retention, FP32 | "
        f"retention, INT8 | vectors executed | cycles, {record.tokens} tokens | {clocks} | not reached |",
        "|---" * (12 + len(target_clocks())) + "|",
        *rows,
        "",
    ]


def retention_cell(runs: Sequence[RunRecord]) -> str:
    """Mean over the seeds, and each of them where there are several."""
    if not runs:
        return NOT_RUN
    each = f" ({', '.join(f'{int8_retention(run):.4f}' for run in runs)})" if len(runs) > 1 else ""
    return f"{mean_over(runs):.4f}{each}"


def summary_rows(groups: Groups) -> list[str]:
    """A row a setting: each task, the mean and the lowest, and what of the limit asked for was reached."""
    rows = []
    for setting, tasks in groups.items():
        values = spread(tasks)
        limit = next((limit for limit in LIMITS if limit.applies(setting)), None)
        verdict = NONE if limit is None else NOT_RUN if values is None else limit.verdict(*values)
        cells = [setting.method, setting.pattern or NONE, percent(setting.sparsity)]
        cells += [retention_cell(tasks.get(task, [])) for task in TASKS]
        cells += [f"{value:.4f}" for value in values] if values else [NONE, NONE]
        rows.append(f"| {' | '.join([*cells, str(limit) if limit else NONE, verdict])} |")
    return rows


def limit_rows(groups: Groups) -> list[str]:
    """A row a limit, with the method that does best: the highest mean, among those that reach it if any does."""
    rows = []
    for limit in LIMITS:
        complete = [(setting, spread(tasks)) for setting, tasks in groups.items() if limit.applies(setting)]
        complete = [(limit.reached(*values), *values, setting.method) for setting, values in complete if values]
        cells = [NONE, NONE, NONE, NOT_RUN]
        if complete:
            _, mean, lowest, method = max(complete)
            cells = [method, f"{mean:.4f}", f"{lowest:.4f}", limit.verdict(mean, lowest)]
        rows.append(f"| {' | '.join([limit.pattern, percent(limit.sparsity), str(limit), *cells])} |")
    return rows


def pairs(groups: Groups, comparison: Comparison) -> list[tuple[Setting, Setting]]:
    """Settings that both sides of a comparison ran."""
    found = []
    for setting in groups:
        other = replace(setting, **{comparison.field: comparison.second})
        asked = comparison.sparsity is None or setting.sparsity == comparison.sparsity
        if asked and getattr(setting, comparison.field) == comparison.first and other in groups:
            found.append((setting, other))
    return found


def comparison_rows(first: dict[str, list[RunRecord]], second: dict[str, list[RunRecord]], head: str) -> list[str]:
    """A row a task, and their mean where all were run. Points: hundredths of retention and of score."""
    rows, points = [], []
    for task, name in TASKS.items():
        if not (first.get(task) and second.get(task)):
            missing = (retention_cell(side.get(task, [])) for side in (first, second))
            rows.append(f"| {head} | {name} | {' | '.join(missing)} | {NOT_RUN} | {NOT_RUN} |")
            continue
        one, two = mean_over(first[task]), mean_over(second[task])
        scores = [mean_over(side[task], lambda run: run.score_int8) for side in (first, second)]
        points.append((one, two, 100 * (one - two), 100 * (scores[0] - scores[1])))
        cells = [retention_cell(side[task]) for side in (first, second)]
        rows.append(f"| {head} | {name} | {' | '.join(cells)} | {points[-1][2]:+.2f} | {points[-1][3]:+.2f} |")
    if len(points) == len(TASKS):
        one, two, retained, scored = map(fmean, zip(*points, strict=True))
        rows.append(f"| {head} | mean | {one:.4f} | {two:.4f} | {retained:+.2f} | {scored:+.2f} |")
    return rows


def comparison_lines(groups: Groups, comparison: Comparison) -> list[str]:
    """Heading and table of a comparison."""
    lines = [f"### {comparison.title}", ""]
    found = pairs(groups, comparison)
    if not found:
        return [*lines, f"{NOT_RUN.capitalize()}: no two runs that differ in the {comparison.field} alone.", ""]
    lines += [
        f"Differences in points: hundredths, {comparison.first} less {comparison.second}.",
        "",
        f"| {'method' if comparison.field == 'pattern' else 'pattern'} | sparsity | task | {comparison.first}, "
        f"retention INT8 | {comparison.second}, retention INT8 | retention, points | score, points |",
        "|---" * 7 + "|",
    ]
    for first, second in found:
        kept = first.method if comparison.field == "pattern" else first.pattern
        lines += comparison_rows(groups[first], groups[second], f"{kept} | {percent(first.sparsity)}")
    return [*lines, ""]


def missing_runs(groups: Groups) -> list[str]:
    """Runs that the limits, the comparisons or a summary over all tasks still need, in words."""
    found = []
    for setting in groups:
        tasks = [name for task, name in TASKS.items() if task not in groups[setting]]
        found += [f"{setting}: {', '.join(tasks)}"] * bool(tasks)
    if not any(setting.method == DENSE for setting in groups):
        found.append(f"{DENSE}: every task")
    for limit in LIMITS:
        if not any(limit.applies(setting) for setting in groups):
            found.append(f"{limit.pattern} at {percent(limit.sparsity)}, any method: every task")
    for comparison in COMPARISONS:
        if not pairs(groups, comparison):
            found.append(f"{comparison.title[0].lower()}{comparison.title[1:]}: the same setting on both sides")
    return found


def source_lines(groups: Groups) -> list[str]:
    """How each run was made."""
    lines = ["<details><summary>How each run was made</summary>", ""]
    for tasks in groups.values():
        for run in (run for runs in tasks.values() for run in runs):
            distilled = f", distilled: {run.distill}" if run.distill else ""
            comment = f" {run.comment}" if run.comment else ""
            lines += [
                f"**{run.name}**: {run.epochs:g} epochs, {run.steps:,} steps, {run.train_seconds:,.0f} s of training "
                f"on {run.hardware}{distilled}.{comment}",
                "",
                "```sh",
                *run.commands,
                "```",
                "",
            ]
    return [*lines, "</details>", ""]


def model_lines(groups: Groups, model: str, pictures: Sequence[tuple[str, str]]) -> list[str]:
    """All of a model's section: what was asked, the summary, comparisons, what is missing, and each task."""
    missing = missing_runs(groups)
    return [
        f"## Accuracy of pruned {model}",
        "",
        "Retention: what is left of the dense FP32 model's distance to the best constant answer, (score - constant) /",
        "(dense - constant); scores are of the dev sets. INT8: the packed model, as the integer reference computes it.",
        "The accelerator skips vectors of 16 weights: sparsity in other shapes costs the vectors it still executes.",
        "Epochs and learning rate of a dense model were chosen on its dev set, which makes it harder to come near to;",
        "of pruned models, the last step's is taken.",
        "",
        "### What was asked, what was reached",
        "",
        "INT8 retention: the mean is over the tasks, the lowest is of any task and seed. Of several methods, the best,",
        "chosen by these numbers.",
        "",
        "| pattern | sparsity | asked | method | mean | lowest | |",
        "|---|---|---|---|---|---|---|",
        *limit_rows(groups),
        "",
        *(line for text, file in pictures for line in (f"![{text}](images/{file})", "")),
        "### INT8 retention of each setting",
        "",
        f"| method | pattern | sparsity | {' | '.join(TASKS.values())} | mean | lowest | asked | |",
        "|---" * (7 + len(TASKS)) + "|",
        *summary_rows(groups),
        "",
        *(line for comparison in COMPARISONS for line in comparison_lines(groups, comparison)),
        *([f"### {NOT_RUN.capitalize()}", "", *(f"- {text}" for text in missing), ""] if missing else []),
        "Cycles are estimated for one sequence on one compute unit; latencies are projected from estimated cycles, not",
        "measured on a board. Vectors executed: share of all 1x16 vectors.",
        "",
        *(line for task in TASKS for line in task_lines(groups, task)),
        *source_lines(groups),
    ]


def accuracy_lines(records: Sequence[RunRecord], pictures: dict[str, list[tuple[str, str]]]) -> list[str]:
    """The part of the page, a section a model. `pictures`: of each model, (text, file in docs/images)."""
    if not records:
        lines = ["## Accuracy of pruned models", "", "No pruned model was trained yet; what is missing:", ""]
        return [*lines, *(f"- {text}: {NOT_RUN}" for text in missing_runs({})), ""]
    lines: list[str] = []
    for model in sorted({record.model for record in records}):
        groups = group_runs([record for record in records if record.model == model])
        lines += model_lines(groups, model, pictures.get(model, []))
    return lines
