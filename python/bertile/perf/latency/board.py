"""Rows of the card, measured on a board, where there is one."""

from __future__ import annotations

import statistics
import time
from itertools import groupby
from pathlib import Path

import numpy as np

from bertile.config.paths import BITSTREAMS_DIR
from bertile.errors import BertileError, DeviceError
from bertile.pack.packer import PackedModel
from bertile.perf.latency.cpu import Advance, layers_text
from bertile.perf.latency.plan import Case, Plan
from bertile.perf.latency.rows import Row

WARM, RUNS = 10, 200  # launches of a case before it is timed, and timed ones


def find_board() -> Path | None:
    """The bitstream, where `make hw` has left one and XRT finds a card for it."""
    from bertile.runtime.extension import XCLBIN, load_extension, prepare_environment

    xclbin = BITSTREAMS_DIR / XCLBIN
    if not xclbin.is_file():
        return None
    try:
        emulated = prepare_environment(xclbin).mode != "hw"
        return None if emulated or load_extension().count_cards() == 0 else xclbin
    except BertileError:
        return None


def time_requests(device, packed: PackedModel, case: Case) -> list[float]:
    """Milliseconds until all requests of a batch are answered, again and again: embedded words to hidden states."""
    from bertile.runtime import plan_launches

    rng = np.random.default_rng(0)
    shape = (case.tokens, packed.config.hidden)
    requests = [rng.integers(-128, 128, shape).astype(np.int8) for _ in range(case.batch)]
    groups = plan_launches([case.tokens] * case.batch, device.units)
    launches = [[requests[index] for index in group] for group in groups]
    times = []
    for _ in range(WARM + RUNS):
        begin = time.perf_counter()
        for _ in device.stream(launches):
            pass
        times.append((time.perf_counter() - begin) * 1e3)
    return times[WARM:]


def measured_row(shape: str, case: Case, info, times: list[float]) -> Row:
    """A row of a board. Raises DeviceError for an emulated card, whose times mean nothing."""
    if info.emulated:
        raise DeviceError("an emulated card has no latency to measure")
    low, *_, high = statistics.quantiles(times, n=10)
    return Row(
        what=layers_text(shape, case.layers),
        device=f"{info.name}, {len(info.units)} compute units{' on each request' * case.together}",
        tokens=case.tokens,
        batch=case.batch,
        sparsity=case.sparsity,
        latency_ms=statistics.median(times),
        kind="measured",
        source=f"measured on the board at {info.address} with {info.xclbin.name}, host included but embedding",
        details={
            "layers": case.layers,
            "together": case.together,
            "p10_ms": low,
            "p90_ms": high,
            "runs": len(times),
        },
    )


def board_rows(plan: Plan, xclbin: Path, advance: Advance) -> list[Row]:
    """Every case of the card, measured. Raises DeviceError when the card fails."""
    from bertile.perf.latency.card import pack
    from bertile.runtime.device import XrtEncoder

    rows = []

    def model_of(case: Case) -> tuple[int, float]:
        return case.layers, case.sparsity

    for (layers, sparsity), cases in groupby(sorted(plan.card, key=model_of), model_of):
        text = f"the card, {layers_text(plan.shape, layers)}, {sparsity:.0%} sparse"
        advance(text, 0)
        packed = pack(plan.shape, layers, sparsity)
        for together, alike in groupby(cases, lambda case: case.together):
            device = XrtEncoder(packed, xclbin, together=together)
            try:
                for case in alike:
                    rows.append(measured_row(plan.shape, case, device.card.info, time_requests(device, packed, case)))
            finally:
                device.close()
        advance(text, 1)
    return rows
