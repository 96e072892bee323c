"""`python -m bertile.perf.bench`: the numbers of docs/results.md, measured on this machine, as JSON.

Each step that reports memory runs in a process of its own. Cycles are `bertile.perf.rtl_bench`'s business.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bertile.cli.console import messages, output, working
from bertile.config.paths import BUILD_DIR
from bertile.config.spec import load_spec
from bertile.devices.registry import open_device
from bertile.errors import run_program
from bertile.evaluate import similarity_outputs
from bertile.golden.fp32 import run_fp32
from bertile.inference import compare_devices, embed_tokens, measure_fidelity, run_sequences
from bertile.models.load import load_model, random_model
from bertile.pack.container import load_packed, save_packed
from bertile.prune.magnitude import prune_magnitude, save_pruned
from bertile.prune.pattern import parse_pattern
from bertile.tasks.data import Split, read_split
from bertile.tasks.glue import Task, find_task
from bertile.tasks.metrics import compute_metrics
from bertile.text import TextEncoder, random_sequences
from bertile.workflow import pack_model, tokenizer_json

CHECK_LENGTHS = (1, 17, 32, 45, 128, 100)
SHAPE, TOKENS, REPEATS = "bert-base", 128, 5


def seconds(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def pack_once(source: str, target: str) -> None:
    """Load, quantize, pack and write one model; print seconds and peak memory. Runs in its own process."""

    def work() -> None:
        save_packed(pack_model(load_model(source), source), Path(target))

    duration = seconds(work)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    print(json.dumps({"seconds": duration, "peak_gibibytes": peak}))


def measure_packing(folder: Path, sparsity: float) -> tuple[dict, Path]:
    """Pack a random model of SHAPE in a process of its own."""
    source, target = folder / f"model-{sparsity}", folder / f"model-{sparsity}.bertile"
    save_pruned(prune_magnitude(random_model(SHAPE, None, seed=0), parse_pattern("1x16"), sparsity), source)
    command = [sys.executable, "-m", "bertile.perf.bench", "--pack-once", str(source), str(target)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(result.stdout.splitlines()[-1]), target


def measure_shape(folder: Path, sparsity: float) -> dict:
    """Packing, C-simulation time and exactness of a 12-layer random model of SHAPE."""
    packing, file = measure_packing(folder, sparsity)
    packed = load_packed(file)
    integer, csim = open_device("integer", packed), open_device("csim", packed)
    words = [embed_tokens(packed, ids) for ids in random_sequences(packed.config, [TOKENS], seed=0)]
    times = [seconds(lambda: csim.run(words)) for _ in range(REPEATS)]
    comparison = compare_devices(packed, integer, csim, random_sequences(packed.config, list(CHECK_LENGTHS), seed=1))
    return {
        "shape": SHAPE,
        "layers": packed.config.layers,
        "sparsity": sparsity,
        "packing": packing,
        "weight_megabytes": packed.weights.size / 1e6,
        "csim_tokens": TOKENS,
        "csim_seconds_median": statistics.median(times),
        "csim_seconds_all": times,
        "compared": comparison.compared,
        "mismatches": comparison.mismatches,
        "checked_lengths": list(CHECK_LENGTHS),
    }


def similarity(task: Task, split: Split, token_ids: list[np.ndarray], states: list[np.ndarray]) -> float:
    """The deciding metric of hidden states that were computed before; shapes as in `similarity_outputs`."""
    outputs = similarity_outputs(split, token_ids, lambda _, keep: [keep(one) for one in states])
    return compute_metrics(task, outputs, split.labels)[task.metrics[0]]


def measure_accuracy(folder: Path, data: Path, sparsity: float) -> dict:
    """MiniLM pruned in one shot, W8A8 integer reference against the same model in FP32, on the STS-B dev set."""
    task = find_task("stsb", "spearman")
    split = read_split(task, data, "dev")
    source = folder / f"minilm-{sparsity}"
    save_pruned(prune_magnitude(load_model("minilm"), parse_pattern("1x16"), sparsity), source)
    model = load_model(str(source))
    packed = pack_model(model, str(source))
    token_ids = TextEncoder(tokenizer_json(model), model.config).encode([*split.first, *split.second])
    states: dict[str, list[np.ndarray]] = {
        "fp32": run_fp32(model, token_ids),
        "integer": run_sequences(packed, open_device("integer", packed), token_ids),
    }
    scores = {name: similarity(task, split, token_ids, states[name]) for name in states}
    fidelity = measure_fidelity(states["fp32"], states["integer"])
    return {
        "model": "minilm",
        "pattern": "1x16",
        "sparsity": sparsity,
        "task": "stsb dev",
        "metric": "spearman",
        "pairs": len(split),
        "score_fp32": scores["fp32"],
        "score_integer": scores["integer"],
        **vars(fidelity),
    }


def processor() -> str:
    """Name of the processor."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


def measure(data: Path | None) -> dict:
    """Every number of the bench."""
    results = {
        "machine": {"processor": processor(), "cores": os.cpu_count(), "python": platform.python_version()},
        "spec_digest": load_spec().digest,
        "shapes": [],
        "accuracy": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        for sparsity in (0.0, 0.75):
            with working(f"{SHAPE}, {sparsity:.0%} sparse"):
                results["shapes"].append(measure_shape(Path(folder), sparsity))
        for sparsity in (0.0, 0.5) if data else ():
            with working(f"STS-B, {sparsity:.0%} sparse"):
                results["accuracy"].append(measure_accuracy(Path(folder), data, sparsity))
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="GLUE folder; without it, accuracy is left out")
    parser.add_argument("--output", type=Path, default=BUILD_DIR / "slice.json", help="JSON to write")
    parser.add_argument("--pack-once", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.pack_once:
        pack_once(*arguments.pack_once)
        return 0
    if not arguments.data:
        messages.print("note: no --data, accuracy on STS-B is left out")
    results = measure(arguments.data)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(results, indent=2) + "\n")
    output.print_json(data=results)
    return 0


if __name__ == "__main__":
    run_program(main)
