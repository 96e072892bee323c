"""Other people's numbers: `published.toml`."""

from __future__ import annotations

import sys
from pathlib import Path

from bertile.perf.latency.rows import Row

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = Path(__file__).with_name("published.toml")
FIGURES = ("latency_ms", "sequences_per_second", "speedup")
COLUMNS = ("what", "device", "tokens", "batch", "sparsity", "latency_ms", "source")


def published_rows() -> list[Row]:
    """A row for each table of the file. Raises ValueError for one without any figure."""
    rows = []
    for table in tomllib.loads(FILE.read_text(encoding="utf-8"))["row"]:
        if not any(figure in table for figure in FIGURES):
            raise ValueError(f"{table.get('device')}: none of {', '.join(FIGURES)}")
        columns = {name: table.pop(name, None) for name in COLUMNS}
        rows.append(Row(**columns, kind="published", details=table))
    return rows
