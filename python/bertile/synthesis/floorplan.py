"""Three compute units on the card: what lies in which super logic region, and what share of it that takes."""

from __future__ import annotations

from dataclasses import dataclass

from bertile.config.target import load_target
from bertile.errors import BertileError
from bertile.synthesis.encoder_estimate import encoder_cost

RESOURCES = ("lut", "ff", "dsp", "bram", "uram")


@dataclass(frozen=True)
class Region:
    """A super logic region, its contents, and the share of every resource that they take."""

    name: str
    contents: list[str]
    available: dict[str, int]
    used: dict[str, float]

    def share(self, resource: str) -> float:
        return self.used[resource] / self.available[resource]


def contents_of(region: str, target: dict) -> list[str]:
    """The kernels and memory controllers that the units put into a region."""
    banks = [bank["name"] for bank in target["bank"] if bank["slr"] == region]
    units = target["unit"]
    engines = ["engine" for unit in units if unit["engine"] == region]
    encoders = ["encoder" for unit in units if unit["encoder"] == region]
    return engines + encoders + ["memory" for bank in banks if any(unit["bank"] == bank for unit in units)]


def floorplan(engine: dict[str, float], target: dict | None = None) -> list[Region]:
    """Every region of the card with the kernels that spec/targets puts there."""
    target = load_target() if target is None else target
    costs = {"engine": engine, "encoder": vars(encoder_cost()), "memory": target["floorplan"]["memory"]}
    regions = []
    for region in target["slr"]:
        contents = contents_of(region["name"], target)
        used = {resource: sum(costs[part][resource] for part in contents) for resource in RESOURCES}
        regions.append(Region(region["name"], contents, {name: region[name] for name in RESOURCES}, used))
    return regions


def check_floorplan(regions: list[Region], target: dict | None = None) -> None:
    """Raise BertileError when a region is fuller than it should be, or a unit is in no region."""
    target = load_target() if target is None else target
    limit = target["floorplan"]["limit"]
    for kernel in ("engine", "encoder"):
        count = sum(region.contents.count(kernel) for region in regions)
        if count != len(target["unit"]):
            raise BertileError(f"the floorplan has {count} of {kernel}, not {len(target['unit'])}")
    for region in regions:
        over = [f"{region.share(name):.0%} of its {name}" for name in RESOURCES if region.share(name) > limit]
        if over:
            raise BertileError(f"{region.name} is too full: {', '.join(over)}; allowed is {limit:.0%}")
