"""The machine the CPU rows were measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from bertile.errors import BertileError
from bertile.perf.bench import processor
from bertile.perf.latency.artefacts import package_versions

FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "asimddp")


def usable_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def checked_threads(threads: int | None) -> int:
    """`threads`, or one a core. Raises BertileError for a number that this machine has not."""
    cores = usable_cores()
    if threads is None:
        return cores
    if not 1 <= threads <= cores:
        raise BertileError(f"--threads {threads}: this machine has 1 to {cores}")
    return threads


def processor_features() -> list[str]:
    """The vector instructions that matter here and that this CPU has."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return [name for name in FEATURES if name in flags]


def load_average() -> list[float]:
    """Runnable programs over the last 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


def describe_machine(threads: int) -> dict:
    """What a reader needs to judge the measured rows."""
    return {
        "processor": processor(),
        "features": processor_features(),
        "cores": usable_cores(),
        "threads": threads,
        "python": platform.python_version(),
        "versions": package_versions(),
        "load_before": load_average(),
    }
