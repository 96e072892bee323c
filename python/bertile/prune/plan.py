"""A plan: how much of every group set goes. What a search finds, and what pruning follows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertile.errors import BertileError
from bertile.files import write_text
from bertile.models.folder import first_line
from bertile.prune.groups import GroupSet
from bertile.prune.pattern import parse_pattern

FORMAT = "bertile-plan"


@dataclass(frozen=True)
class Plan:
    """shares: of each group set's weights, by its name, those that are zero in the end. sparsity: of all weights."""

    pattern: str
    sparsity: float
    shares: Mapping[str, float]

    def to_json(self) -> dict:
        return {"format": FORMAT, "pattern": self.pattern, "sparsity": self.sparsity, "shares": dict(self.shares)}


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
        plan = Plan(
            data["pattern"], float(data["sparsity"]), {name: float(share) for name, share in data["shares"].items()}
        )
        if data["format"] != FORMAT:
            raise ValueError(f"format {data['format']!r}")
    except OSError as error:
        raise BertileError(f"cannot read plan {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BertileError(f"{path} is no plan: {first_line(error)}") from None
    parse_pattern(plan.pattern)
    return plan
