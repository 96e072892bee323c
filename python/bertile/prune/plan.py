"""A plan: how much of every group set goes. What a search finds, and what pruning follows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bertile.errors import BertileError
from bertile.files import write_text
from bertile.models.folder import first_line
from bertile.prune.groups import GroupSet
from bertile.prune.pattern import parse_pattern
from bertile.prune.select import Masks

CountCycles = Callable[[Masks], int]  # of the network that pruning with these masks ends with
FORMAT = "bertile-plan"
# Under a limit: the least share of what a plan keeps that is tried, and the halvings that find the most.
LEAST_FACTOR, BISECTIONS = 0.8, 8


@dataclass(frozen=True)
class CycleLimit:
    """Clock cycles that a request of `tokens` may take at most on `units` compute units."""

    cycles: int
    tokens: int
    units: int


@dataclass(frozen=True)
class Plan:
    """shares: of each group set's weights, by its name, those that are zero in the end. sparsity: of all weights.

    limit: what the network may take; where its masks take more, a little more of every set goes.
    """

    pattern: str
    sparsity: float
    shares: Mapping[str, float]
    limit: CycleLimit | None = None

    def to_json(self) -> dict:
        data = {"format": FORMAT, "pattern": self.pattern, "sparsity": self.sparsity, "shares": dict(self.shares)}
        return data | ({"limit": asdict(self.limit)} if self.limit else {})

    def scaled(self, factor: float) -> dict[str, float]:
        """Shares where `factor` of what each set keeps is kept."""
        return {name: 1 - factor * (1 - share) for name, share in self.shares.items()}


def keep_within(plan: Plan, choose: Callable[[Mapping[str, float]], Masks], count_cycles: CountCycles | None) -> Masks:
    """Masks of a plan, of as much of what it keeps as its limit leaves.

    choose: masks for shares of zeros by set. count_cycles: needed where there is a limit. Raises BertileError where
    that is out of reach: the plan was made for another network.
    """
    masks = choose(plan.shares)
    if plan.limit is None or count_cycles(masks) <= plan.limit.cycles:
        return masks
    low, high, best = LEAST_FACTOR, 1.0, choose(plan.scaled(LEAST_FACTOR))
    if count_cycles(best) > plan.limit.cycles:
        over = f"it takes {count_cycles(masks):,} cycles, the limit is {plan.limit.cycles:,}"
        raise BertileError(f"the plan does not fit this network: {over}")
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        masks = choose(plan.scaled(middle))
        if count_cycles(masks) <= plan.limit.cycles:
            low, best = middle, masks
        else:
            high = middle
    return best


def check_plan(plan: Plan, sets: Sequence[GroupSet]) -> None:
    """Raises BertileError where the plan is one for another encoder, or its shares cannot be."""
    names = {s.name for s in sets}
    for name in (*(names - plan.shares.keys()), *(plan.shares.keys() - names)):
        raise BertileError(f"the plan is for another encoder: {name} is not in both")
    for name, share in plan.shares.items():
        if not 0 <= share <= 1:
            raise BertileError(f"the plan's share of {name} is {share}, not in [0, 1]")


def write_plan(plan: Plan, path: Path) -> None:
    write_text(path, json.dumps(plan.to_json(), indent=1) + "\n")


def read_plan(path: Path) -> Plan:
    """The plan in a file. Raises BertileError."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        limit = CycleLimit(**{name: int(value) for name, value in data["limit"].items()}) if "limit" in data else None
        if limit is not None and not (limit.cycles > 0 and limit.tokens > 0 and limit.units > 0):
            raise ValueError(f"its limit is {data['limit']}")
        shares = {name: float(share) for name, share in data["shares"].items()}
        plan = Plan(str(data["pattern"]), float(data["sparsity"]), shares, limit)
        if data["format"] != FORMAT:
            raise ValueError(f"format {data['format']!r}")
    except OSError as error:
        raise BertileError(f"cannot read plan {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise BertileError(f"{path} is no plan: {first_line(error)}") from None
    parse_pattern(plan.pattern)
    return plan
