"""What a run of the bench covers: models, requests, and how long each is timed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product

SPARSITIES = (0.0, 0.5, 0.75, 0.9)
CPU_SPARSITY = 0.75  # at which the CPU runtimes are measured once more, to see whether zeros help them


@dataclass(frozen=True)
class Case:
    """`batch` requests of `tokens` tokens each. sparsity: share of the weights that the `layers` layers lost.

    together: on the card, all units share each request; else each unit has its own.
    """

    layers: int
    batch: int
    tokens: int
    sparsity: float
    together: bool = False


def both_modes(cases: Iterable[Case]) -> tuple[Case, ...]:
    """What a card does with these: a lone request on one unit, and again on all of them."""
    cases = tuple(cases)
    return cases + tuple(replace(case, together=True) for case in cases if case.batch == 1)


@dataclass(frozen=True)
class Plan:
    """One run of the bench.

    cpu, card: what is measured on the CPU and what is projected. rounds: how often each runtime is timed for a case;
    seconds: for how long each time. calibration: sequences that the static quantizers see. patience: seconds in all
    that the bench may spend on waiting for a quiet machine and on repeating disturbed rounds.
    """

    shape: str
    cpu: tuple[Case, ...]
    card: tuple[Case, ...]
    rounds: int
    seconds: float
    calibration: int
    patience: float = 0.0


def quick_plan(shape: str) -> Plan:
    """One layer, 128 tokens."""
    cpu = (Case(1, 1, 128, 0.0), Case(1, 8, 128, 0.0), Case(1, 1, 128, CPU_SPARSITY))
    card = (Case(1, batch, 128, sparsity) for batch, sparsity in product((1, 8), SPARSITIES))
    return Plan(shape, cpu, both_modes(card), rounds=5, seconds=0.25, calibration=8)


def full_plan(shape: str) -> Plan:
    """One layer and twelve, requests of 32, 128 and 384 tokens, alone and eight at a time."""
    requests = tuple(product((1, 12), (1, 8), (32, 128, 384)))
    cpu = tuple(Case(layers, batch, tokens, 0.0) for layers, batch, tokens in requests)
    pruned = tuple(Case(layers, 1, 128, CPU_SPARSITY) for layers in (1, 12))
    card = (Case(*request, sparsity) for request, sparsity in product(requests, SPARSITIES))
    return Plan(shape, cpu + pruned, both_modes(card), rounds=7, seconds=0.4, calibration=32)


def smoke_plan(shape: str) -> Plan:
    """The least that takes every path; its numbers mean nothing."""
    cpu = (Case(1, 1, 32, 0.0), Case(1, 2, 32, 0.5))
    return Plan(shape, cpu, both_modes(cpu), rounds=1, seconds=0.01, calibration=2)
