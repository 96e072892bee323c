"""From cycles to the latency of a card: launches on three units, words over PCIe. Arithmetic, no measurement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from bertile.config.spec import load_spec
from bertile.devices.launch import batch_launches, row_blocks_of
from bertile.perf.latency.plan import Case

SPEC = load_spec()
WORD_BYTES = SPEC.word.tokens  # one feature of 32 tokens, INT8


@dataclass(frozen=True)
class Cycles:
    """Clock cycles of one launch. source: `rtl` (counted in simulation) or `estimate`."""

    total: int
    source: str


@dataclass(frozen=True)
class Projection:
    """Latency of a batch, and its parts, in milliseconds. cycles, launches: of the unit with the most to do.

    together: whether the units share every launch.
    """

    latency_ms: float
    compute_ms: float
    transfer_ms: float
    round_trip_ms: float
    cycles: int
    launches: int
    units: int
    together: bool
    cycles_from: str

    def as_dict(self) -> dict:
        return asdict(self)


def share_out(batch: int, units: int) -> list[int]:
    """Requests of each unit that gets any, the fullest first."""
    return [count for unit in range(units) if (count := len(range(unit, batch, units)))]


def transfer_milliseconds(batch: int, tokens: int, hidden: int, units: int, pcie: dict) -> float:
    """Inputs to the card and results back: INT8 words of whole row blocks, a transfer each way for every unit.

    Units that share a request each get their part of its words, and give theirs back: as many bytes in more transfers.
    All units share the link, and no transfer overlaps anything: what a careful host could hide is counted.
    """
    size = 2 * batch * row_blocks_of(tokens) * hidden * WORD_BYTES
    return size / (pcie["gigabytes_per_second"] * 1e6) + 2 * units * pcie["transfer_us"] / 1e3


def project(
    case: Case, hidden: int, megahertz: int, target: dict, cycles_of: Callable[[list[int]], Cycles]
) -> Projection:
    """Latency of the requests of `case`, which arrive at once.

    cycles_of(lengths): cycles of one launch of requests of these lengths, on one unit or, for `case.together`, on all.
    Units work at the same time, each on its share of the requests or all on the same; one that needs several launches
    does them one after the other, each with its round trip.
    """
    pcie, everyone = target["pcie"], len(target["unit"])
    counts = [case.batch] * everyone if case.together else share_out(case.batch, everyone)
    launches = [[case.tokens] * len(group) for group in batch_launches([case.tokens] * counts[0])]
    cycles = [cycles_of(lengths) for lengths in launches]
    total = sum(part.total for part in cycles)
    compute = total / megahertz / 1e3
    transfer = transfer_milliseconds(case.batch, case.tokens, hidden, len(counts), pcie)
    round_trip = len(launches) * pcie["round_trip_us"] / 1e3
    # A sum is counted only if all of it is.
    source = "rtl" if all(part.source == "rtl" for part in cycles) else "estimate"
    return Projection(
        compute + transfer + round_trip, compute, transfer, round_trip, total, len(launches), len(counts),
        case.together, source,
    )  # fmt: skip
