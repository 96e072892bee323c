"""What pruning adds to a training step: `python -m bertile.perf.training_bench --output docs/results/training.json`.

MiniLM with a task head, batches of 32 sequences of 53 tokens (MRPC's mean). A round measures every variant once, so
that what else the machine does falls on all of them; ratios are of medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from bertile.errors import run_program
from bertile.models.classifier import TrainedModel, load_trainable
from bertile.perf.bench import processor
from bertile.prune.groups import group_sets
from bertile.prune.pattern import parse_pattern
from bertile.prune.pruner import Pruner
from bertile.prune.regularize import ReweightedGroupLasso
from bertile.prune.schedule import PruneSchedule
from bertile.tasks.glue import find_task
from bertile.train.prepare import use_bfloat16

BATCH, TOKENS, ROUNDS, WARM_UP = 32, 53, 15, 2
PATTERN, SPARSITY = "1x16", 0.75
LIMIT = 0.15  # of a step


def make_pruner(model: TrainedModel, method: str) -> Pruner:
    """Masks from the first step on, or the penalty on every step."""
    pattern = parse_pattern(PATTERN)
    sets = group_sets(pattern, model.config)
    end = 0 if method == "oneshot" else 10**9
    lasso = ReweightedGroupLasso(sets, 1e-5, 1e-3) if method == "group-lasso" else None
    schedule = PruneSchedule(method, max(1, end), SPARSITY, end=end)
    pruner = Pruner(pattern, sets, model.weights(), schedule, lasso=lasso, refresh=30)
    pruner.after_step(0, model.weights())
    return pruner


def make_step(method: str) -> Callable[[], None]:
    """One optimizer step on a seeded batch, as the trainer makes it; without a method nothing is pruned."""
    model = load_trainable("minilm", find_task("mrpc"), 0)
    network = model.network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5, fused=True)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1000, 20000, (BATCH, TOKENS), generator=generator)
    labels = torch.randint(0, 2, (BATCH,), generator=generator)
    pruner = make_pruner(model, method) if method else None
    tensors, done = model.weights(), [0]

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=use_bfloat16("auto")):
            loss = network(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss
        loss.backward()
        if pruner is not None:
            pruner.regularize(done[0], tensors, {name: tensor.grad for name, tensor in tensors.items()}, 1.0)
        optimizer.step()
        done[0] += 1
        if pruner is not None:
            pruner.after_step(done[0], tensors)
        optimizer.zero_grad()

    return step


def measure() -> dict:
    """Milliseconds of every variant's step in every round, and the ratios of their medians."""
    steps = {"plain": make_step(""), "masks": make_step("oneshot"), "group lasso": make_step("group-lasso")}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(WARM_UP + ROUNDS):
        for name, step in steps.items():
            begin = time.perf_counter()
            step()
            if number >= WARM_UP:
                times[name].append(1e3 * (time.perf_counter() - begin))
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "machine": {"processor": processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "model": "minilm",
        "pattern": PATTERN,
        "batch": BATCH,
        "tokens": TOKENS,
        "bfloat16": use_bfloat16("auto"),
        "milliseconds": times,
        "milliseconds_median": medians,
        "added": {name: medians[name] / medians["plain"] - 1 for name in steps if name != "plain"},
        "limit": LIMIT,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what masks and group Lasso add to a training step.")
    parser.add_argument("--output", type=Path, help="JSON file to write; else standard output")
    options = parser.parse_args()
    text = json.dumps(measure(), indent=2) + "\n"
    if options.output:
        options.output.write_text(text)
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    run_program(main)
