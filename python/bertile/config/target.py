"""What is known, or assumed, of a card: `spec/targets/NAME.toml`."""

from __future__ import annotations

import sys
from functools import lru_cache

from bertile.config.paths import TARGETS_DIR

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@lru_cache(maxsize=1)
def load_target(name: str = "u200") -> dict:
    """The file's tables; nothing in it has a default."""
    return tomllib.loads((TARGETS_DIR / f"{name}.toml").read_text())


def target_clocks() -> list[int]:
    """Clock frequencies, in MHz, for which latencies of the target are projected."""
    return load_target()["clock"]["megahertz"]
