"""`python -m bertile.perf.host_bench`: what a request costs the host, stage by stage, with the emulated card, as JSON.

The card here runs an empty program: it answers with whatever lies in its memory, after a set time. Buffers, sizes and
calls are those of the real model; what is left out is the simulation, which would compete for the processor.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from bertile.cli.console import library_output_aside, output, working
from bertile.config.paths import BUILD_DIR
from bertile.errors import run_program
from bertile.pack.deal import UNITS
from bertile.pack.packer import PackedModel
from bertile.perf.bench import processor
from bertile.perf.rtl_bench import shape_study
from bertile.runtime import Encoder
from bertile.runtime.jobs import Answer, StageTimes
from bertile.text import random_sequences

SHAPE, TOKENS = "bert-base", 128
SINGLE, QUEUED, WARM = 200, 300, 20
SWITCHES, BURST = 100, 6  # bursts that leave the units to a request each, and requests of one
RUN_MILLISECONDS = 5  # how long the emulated card takes for a launch
Span = tuple[float, float]
STAGES = tuple(StageTimes.__dataclass_fields__)


def empty_model(folder: Path) -> PackedModel:
    """One layer of the shape, whose program is nothing but its end."""
    packed = shape_study(folder, SHAPE, 1, 0.9, UNITS)
    return replace(packed, program=np.zeros_like(packed.program))


def milliseconds(values: list[float]) -> dict[str, float]:
    """Median and tenth and ninetieth percentile of seconds."""
    low, *_, high = statistics.quantiles(values, n=10)
    return {"median_ms": statistics.median(values) * 1e3, "p10_ms": low * 1e3, "p90_ms": high * 1e3}


def stage_table(answers: list[Answer]) -> dict:
    """Every stage, the work of the host, and the whole."""
    times = [answer.times for answer in answers]
    table = {stage: milliseconds([getattr(entry, stage) for entry in times]) for stage in STAGES}
    table["host"] = milliseconds([entry.host for entry in times])
    table["total"] = milliseconds([entry.total for entry in times])
    return table


def measure_single(encoder: Encoder, ids: np.ndarray) -> dict:
    """One request after the other."""
    answers = [encoder.submit_tokens([ids]).result() for _ in range(SINGLE + WARM)]
    return {"requests": SINGLE, "stages": stage_table(answers[WARM:])}


def measure_queued(encoder: Encoder, ids: np.ndarray) -> dict:
    """All at once: how much of the host's work happens while a unit runs."""
    begin = time.perf_counter()
    answers = [future.result() for future in [encoder.submit_tokens([ids]) for _ in range(QUEUED)]]
    wall = time.perf_counter() - begin
    runs = merged([span(answer, "run") for answer in answers])
    work = [span(answer, stage) for answer in answers for stage in ("embed", "result")]
    return {
        "requests": QUEUED,
        "wall_seconds": wall,
        "requests_per_second": QUEUED / wall,
        "host_work_overlapped": sum(inside(one, runs) for one in work) / sum(last - first for first, last in work),
        "stages": stage_table(answers),
    }


def measure_switching(encoder: Encoder, ids: np.ndarray) -> dict:
    """A lone request, which all units share, right behind others of both modes."""
    behind: dict[str, list[Answer]] = {"burst": [], "lone": []}
    for _ in range(SWITCHES + WARM):
        for future in [encoder.submit_tokens([ids]) for _ in range(BURST)]:
            future.result()
        for answers in behind.values():
            answers.append(encoder.submit_tokens([ids]).result())
    return {
        "requests": SWITCHES,
        "behind": {mode: stage_table(answers[WARM:]) for mode, answers in behind.items()},
    }


def span(answer: Answer, stage: str) -> Span:
    """From when until when a stage of a request lasted."""
    before = STAGES[1 : STAGES.index(stage)]  # `queued` lies before its preparation
    first = answer.began + sum(getattr(answer.times, name) for name in before)
    return first, first + getattr(answer.times, stage)


def merged(spans: list[Span]) -> list[Span]:
    """The same time without overlaps."""
    result: list[Span] = []
    for first, last in sorted(spans):
        if result and first <= result[-1][1]:
            result[-1] = (result[-1][0], max(last, result[-1][1]))
        else:
            result.append((first, last))
    return result


def inside(one: Span, spans: list[Span]) -> float:
    """Seconds of a span that lie in others, which do not overlap."""
    return sum(max(0.0, min(one[1], last) - max(one[0], first)) for first, last in spans)


def measure() -> dict:
    """Every number."""
    with tempfile.TemporaryDirectory() as folder, library_output_aside():
        os.environ["BERTILE_EMU_LOG"] = str(Path(folder) / "card.log")
        with working(f"packing one layer of {SHAPE}"):
            packed = empty_model(Path(folder))
        ids = random_sequences(packed.config, [TOKENS], seed=0)[0]
        results = {
            "machine": {
                "processor": processor(),
                "cores": os.cpu_count(),
                "python": platform.python_version(),
                "load": os.getloadavg()[0],
            },
            "shape": SHAPE,
            "tokens": TOKENS,
            "run_ms": RUN_MILLISECONDS,
        }
        os.environ["BERTILE_EMU_FAULT"] = f"slow:{RUN_MILLISECONDS}"  # for the first card that this process opens
        for name, function, together in (
            ("queued", measure_queued, False),
            ("single", measure_single, False),
            ("shared", measure_single, True),
            ("switching", measure_switching, None),
        ):
            with working(name), Encoder(None, packed, together=together) as encoder:
                results[name] = function(encoder, ids)
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=BUILD_DIR / "host.json", help="JSON to write")
    arguments = parser.parse_args()
    results = measure()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(results, indent=1) + "\n")
    output.print_json(data=results)
    return 0


if __name__ == "__main__":
    run_program(main)
