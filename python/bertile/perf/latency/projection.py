"""From cycles to the latency of a card: launches on three units, words over PCIe. Arithmetic, no measurement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from bertile.config.spec import load_spec
from bertile.devices.launch import batch_launches, row_blocks_of

SPEC = load_spec()
WORD_BYTES = SPEC.word.tokens  # one feature of 32 tokens, INT8


@dataclass(frozen=True)
class Cycles:
    """Clock cycles of one launch on one unit. source: `rtl` (counted in simulation) or `estimate`."""

    total: int
    source: str


@dataclass(frozen=True)
class Projection:
    """Latency of a batch, and its parts, in milliseconds. cycles, launches: of the unit with the most to do."""

    latency_ms: float
    compute_ms: float
    transfer_ms: float
    round_trip_ms: float
    cycles: int
    launches: int
    units: int
    cycles_from: str

    def as_dict(self) -> dict:
        return asdict(self)


def share_out(batch: int, units: int) -> list[int]:
    """Requests of each unit that gets any, the fullest first."""
    return [count for unit in range(units) if (count := len(range(unit, batch, units)))]


def transfer_milliseconds(batch: int, tokens: int, hidden: int, units: int, pcie: dict) -> float:
    """Inputs to the card and results back: INT8 words of whole row blocks, a transfer each way for every unit.

    All units share the link, and no transfer overlaps anything: what a careful host could hide is counted.
    """
    size = 2 * batch * row_blocks_of(tokens) * hidden * WORD_BYTES
    return size / (pcie["gigabytes_per_second"] * 1e6) + 2 * units * pcie["transfer_us"] / 1e3


def project(
    batch: int, tokens: int, hidden: int, megahertz: int, target: dict, cycles_of: Callable[[list[int]], Cycles]
) -> Projection:
    """Latency of `batch` requests of `tokens` tokens that arrive together.

    cycles_of(lengths): cycles of one launch of requests of these lengths. Units work at the same time, each on its
    share of the requests; one that needs several launches does them one after the other, each with its round trip.
    """
    pcie = target["pcie"]
    counts = share_out(batch, len(target["unit"]))
    launches = [[tokens] * len(group) for group in batch_launches([tokens] * counts[0])]
    cycles = [cycles_of(lengths) for lengths in launches]
    total = sum(part.total for part in cycles)
    compute = total / megahertz / 1e3
    transfer = transfer_milliseconds(batch, tokens, hidden, len(counts), pcie)
    round_trip = len(launches) * pcie["round_trip_us"] / 1e3
    # A sum is counted only if all of it is.
    source = "rtl" if all(part.source == "rtl" for part in cycles) else "estimate"
    return Projection(
        compute + transfer + round_trip, compute, transfer, round_trip, total, len(launches), len(counts), source
    )
