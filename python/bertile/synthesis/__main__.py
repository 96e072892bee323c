"""`python -m bertile.synthesis`: what `make area` runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bertile.errors import BertileError, run_program
from bertile.synthesis.area import LEVELS_WANTED, RESULT, build_area

USAGE = "usage: python -m bertile.synthesis [--output FILE]"


def show(area: dict) -> None:
    """Totals and the longest paths."""
    engine = area["engine"]
    print(", ".join(f"{count:,g} {name}" for name, count in engine.items() if name != "levels"))
    print(f"longest path: {engine['levels']} logic levels; {len(area['long_paths'])} above {LEVELS_WANTED}")
    for path in area["paths"]:
        print(f"{path['levels']:3}  {path['start']} -> {path['end']} ({path['module'] or 'port'})")
    print(RESULT)


def main(arguments: list[str]) -> int:
    """Build, show and, with --output, save a copy."""
    if arguments and (len(arguments) != 2 or arguments[0] != "--output"):
        raise BertileError(USAGE)
    area = build_area(lambda text: print(text, flush=True))
    show(area)
    if arguments:
        try:
            Path(arguments[1]).write_text(json.dumps(area, indent=1) + "\n")
        except OSError as error:
            raise BertileError(f"{arguments[1]} cannot be written: {error.strerror}") from None
    return 0


if __name__ == "__main__":
    run_program(lambda: main(sys.argv[1:]))
