"""`bertile evaluate`: the score of a model on a task, in FP32 or on any device."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bertile.cli.commands import opened
from bertile.cli.console import output, print_json, progress_bar, warn, working
from bertile.devices.registry import DeviceOptions
from bertile.errors import BertileError
from bertile.evaluate import Target, check_head, evaluate_task, take_first
from bertile.inference import Keep, run_sequences, whole
from bertile.pack.container import load_packed
from bertile.tasks.data import read_split
from bertile.tasks.glue import find_task

SPLITS = ("dev", "train")


def open_target(target: Path, device_name: str) -> Target:
    """A `.bertile` file on a device, or in FP32 a model folder or what a file was packed from."""
    return open_fp32(target) if device_name == "fp32" else open_packed(target, device_name)


def open_packed(file: Path, device_name: str) -> Target:
    """A packed model; the device is opened for each run."""
    packed = load_packed(file)

    def hidden_states(sequences: list[np.ndarray], keep: Keep = whole) -> list[np.ndarray]:
        with (
            opened(device_name, packed, DeviceOptions()) as device,
            progress_bar(f"evaluating on {device_name}") as progress,
        ):
            return run_sequences(packed, device, sequences, progress, keep)

    name = str(packed.provenance.get("model", ""))
    return Target(name, packed.tokenizer, packed.config, packed.head, hidden_states)


def open_fp32(target: Path) -> Target:
    """The FP32 model: of a folder, or of the folder a packed model came from."""
    from bertile.golden.fp32 import run_fp32
    from bertile.models.load import load_model
    from bertile.models.task_head import read_task_head
    from bertile.workflow import fp32_source, tokenizer_json

    is_model = target.is_dir() or str(target) == "minilm"
    with working("loading the FP32 model"):
        source = str(target) if is_model else fp32_source(load_packed(target))
        model = load_model(source)
        head = read_task_head(source)

    def hidden_states(sequences: list[np.ndarray], keep: Keep = whole) -> list[np.ndarray]:
        with progress_bar("evaluating in FP32") as progress:
            return run_fp32(model, sequences, progress, keep)

    return Target(model.name, tokenizer_json(model), model.config, head, hidden_states)


def evaluate(
    path: Path,
    task_name: str | None,
    data: Path | None,
    metric: str | None,
    device_name: str,
    split_name: str,
    limit: int | None,
    max_tokens: int | None,
    as_json: bool,
) -> None:
    """Load, read the split, run, print."""
    if split_name not in SPLITS:
        raise BertileError(f"unknown split {split_name!r}; choose one of {', '.join(SPLITS)}")
    target = open_target(path, device_name)
    task_name = task_name or (target.head.task if target.head else "")
    if not task_name:
        raise BertileError(f"{path} does not say what it was trained for: give --task")
    task = find_task(task_name, metric, data)
    check_head(target.head, task)  # before a download
    split = take_first(read_split(task, data, split_name), limit)
    metrics = evaluate_task(target, task, split, max_tokens, warn)
    score = metrics[task.metrics[0]]
    if as_json:
        result = {"task": task.name, "device": device_name, "metric": task.metrics[0], "score": score}
        print_json({**result, "metrics": metrics, "split": split_name, "examples": len(split), "model": target.name})
        return
    shown = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
    output.print(f"{task.name} {split_name}, {device_name}: {shown} over {len(split)} examples", highlight=False)
