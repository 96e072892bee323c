"""What a candidate must meet: a sparsity, a number of clock cycles, or a latency."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from bertile.config.target import target_clocks
from bertile.errors import BertileError
from bertile.prune.plan import Plan
from bertile.search.space import Genes, Space, fit_plan


@dataclass(frozen=True)
class Constraint:
    """kind: `sparsity` (at least `value`) or `cycles` (at most `value`)."""

    kind: str
    value: float

    def __str__(self) -> str:
        return f"sparsity {self.value}" if self.kind == "sparsity" else f"{self.value:,.0f} cycles"


def make_constraint(sparsity: float | None, cycles: int | None, latency_us: float | None) -> Constraint:
    """The one that is given. A latency is one at the target's first clock. Raises BertileError."""
    given = [value for value in (sparsity, cycles, latency_us) if value is not None]
    if len(given) != 1:
        raise BertileError("give one of --sparsity, --cycles and --latency-us")
    if sparsity is not None:
        if not 0 <= sparsity < 1:
            raise BertileError(f"sparsity {sparsity} is not in [0, 1)")
        return Constraint("sparsity", sparsity)
    if not 0 < given[0] < math.inf:
        raise BertileError(f"{given[0]} is not above 0 and finite")
    return Constraint("cycles", cycles if cycles is not None else int(latency_us * target_clocks()[0]))


def fit(constraint: Constraint, space: Space, genes: Genes, count_cycles: Callable[[Plan], int]) -> Plan:
    """The plan of these genes that keeps most under the constraint.

    Raises BertileError, with what can be reached, where they cannot meet it.
    """
    if constraint.kind == "sparsity":
        plan = fit_plan(space, genes, lambda plan: 1 - plan.sparsity, 1 - constraint.value)
    else:
        plan = fit_plan(space, genes, count_cycles, constraint.value)
    if plan is None:
        least = space.plan(genes, 0.0)
        reach = f"a sparsity of {least.sparsity:.4f}"
        if constraint.kind == "cycles":
            cycles = count_cycles(least)
            reach = f"{cycles:,} cycles ({cycles / target_clocks()[0]:.0f} us at {target_clocks()[0]} MHz)"
        raise BertileError(f"{constraint} cannot be met with pattern {space.pattern}: the bound is {reach}")
    return plan


def fit_any(constraint: Constraint, space: Space, count_cycles: Callable[[Plan], int]) -> Plan:
    """The plan without any preference that meets the constraint, losing whole groups first where it must.

    Raises BertileError, with the bound, where none can meet it.
    """
    try:
        return fit(constraint, space, space.neutral(), count_cycles)
    except BertileError:
        return fit(constraint, space, space.barest(), count_cycles)
