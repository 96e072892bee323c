"""`bertile run` on a fine-tuned model: the label or value of each line."""

from __future__ import annotations

import numpy as np
from rich.table import Table

from bertile.cli.commands import opened
from bertile.cli.console import output, print_json, progress_bar
from bertile.devices.registry import DeviceOptions
from bertile.inference import first_token, run_sequences
from bertile.models.task_head import TaskHead
from bertile.pack.packer import PackedModel


def answers(head: TaskHead, lines: list[str], logits: np.ndarray) -> list[dict]:
    """What `--json` prints of each line; logits [lines, labels]."""
    if not head.labels:
        rows = zip(lines, logits.tolist(), strict=True)
        return [{"text": line, "value": row[0], "logits": row} for line, row in rows]
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return [
        {
            "text": line,
            "label": head.labels[int(row.argmax())],
            "probability": float(share.max()),
            "logits": row.tolist(),
        }
        for line, row, share in zip(lines, logits, shares, strict=True)
    ]


def classify(
    packed: PackedModel,
    lines: list[str],
    sequences: list[np.ndarray],
    device_name: str,
    options: DeviceOptions,
    as_json: bool,
) -> None:
    """Text in, labels out: the encoder on a device, the model's own classifier on the host.

    sequences: token ids of the lines.
    """
    with (
        opened(device_name, packed, options) as device,
        progress_bar(f"classifying on {device_name}") as progress,
    ):
        hidden = run_sequences(packed, device, sequences, progress, first_token)
    rows = answers(packed.head, lines, packed.head.logits(np.stack(hidden)))
    if as_json:
        named = {"device": device_name, "task": packed.head.task, "labels": list(packed.head.labels)}
        print_json({**named, "sentences": rows})
        return
    table = Table("text", "label", "probability") if packed.head.labels else Table("text", "value")
    for row in rows:
        cells = (row["label"], f"{row['probability']:.3f}") if packed.head.labels else (f"{row['value']:.3f}",)
        table.add_row(row["text"], *cells)
    output.print(table)
