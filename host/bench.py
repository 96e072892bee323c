"""Latency of an encoder: CPU runtimes measured here, the Alveo U200 projected, published numbers beside them.

    python host/bench.py --quick --json build/bench.json

A table on the terminal, all rows as JSON, and a picture if asked for. Weights are random: shapes count, not accuracy.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bertile.cli.console import messages, output, warn
from bertile.config.paths import BUILD_DIR
from bertile.errors import run_program
from bertile.perf.latency.cpu import Advance
from bertile.perf.latency.machine import checked_threads
from bertile.perf.latency.plan import Plan, full_plan, quick_plan, smoke_plan
from bertile.perf.latency.rows import check_target, write_json
from bertile.perf.latency.run import run_bench
from bertile.perf.latency.table import published_lines, render_table
from bertile.report.latency import draw_latency

WAIT_HELP = "seconds at most to wait for a quiet machine and to repeat disturbed rounds; 15 if not given"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one layer, 128 tokens: under two minutes")
    parser.add_argument("--json", type=Path, default=BUILD_DIR / "bench.json", metavar="FILE", help="rows to write")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="PNG to draw")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of the CPU runtimes; one a core if not given")
    parser.add_argument("--shape", default="bert-base", help="a shape as in `bertile prune --config`")
    parser.add_argument("--wait", type=float, default=15, metavar="S", help=WAIT_HELP)
    parser.add_argument("--smoke", action="store_true", help=argparse.SUPPRESS)  # for tests: every path, no time
    return parser.parse_args()


@contextmanager
def progress(plan: Plan) -> Iterator[Advance]:
    """A function (text, steps) that moves a bar on stderr. It draws only when called: nothing else runs in a timing."""
    steps = len({(case.layers, case.batch, case.tokens) for case in plan.cpu}) + len(
        {(case.layers, case.sparsity) for case in plan.card}
    )
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    bar = Progress(*columns, console=messages, transient=True, auto_refresh=False, disable=not messages.is_terminal)
    task = bar.add_task("", total=steps)

    def advance(text: str, done: int) -> None:
        bar.update(task, description=text, advance=done, refresh=True)

    with bar:
        yield advance


def main() -> int:
    options = parse_arguments()
    threads = checked_threads(options.threads)
    for path in (options.json, options.picture):
        if path:
            check_target(path)
    plan = (smoke_plan if options.smoke else quick_plan if options.quick else full_plan)(options.shape)
    plan = replace(plan, patience=options.wait)
    with progress(plan) as advance:
        results = run_bench(plan, threads, " ".join(["python host/bench.py", *sys.argv[1:]]), advance)
    write_json(results, options.json)
    if options.picture:
        draw_latency(results, options.picture)
    output.print(render_table(results))
    output.print("\nPublished by others, on other systems:", *published_lines(results), sep="\n- ", highlight=False)
    for wrong in results["rejected"]:
        request = f"{wrong['what']}, {wrong['batch']} x {wrong['tokens']} tokens"
        warn(f"{wrong['runtime']} left out of {request}: {wrong['problem']}")
    return 1 if results["rejected"] else 0


if __name__ == "__main__":
    run_program(main)
