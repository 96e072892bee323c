"""`bertile head`: train, build and compare a task head; and what `bertile run --head` prints."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from bertile.cli.console import output, print_json, progress_bar, warn, working
from bertile.devices.registry import DeviceOptions
from bertile.errors import BertileError
from bertile.pack.container import load_packed
from bertile.pack.packer import PackedModel

app = typer.Typer(help="A task head: pooler and classifier as a further kernel.", no_args_is_help=True)
Model = Annotated[Path, typer.Argument(help="A .bertile file.", show_default=False)]
HeadFile = Annotated[Path, typer.Argument(help="A head that `bertile head train` wrote.", show_default=False)]
Data = Annotated[Path | None, typer.Option(help="TSV with sentence1 and label, or a GLUE folder; else a small set.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def train(
    model: Model,
    output_file: Annotated[Path, typer.Option("-o", "--output", help="File to write.", show_default=False)],
    data: Data = None,
    labels: Annotated[str | None, typer.Option(help="Names of the labels, comma separated, in sorted order.")] = None,
    sentences: Annotated[int, typer.Option(min=2, help="Take the first so many sentences.")] = 10_000,
    features: Annotated[int, typer.Option(min=1, help="Features of the pooler; BERT's has as many as hidden.")] = 64,
    pooling: Annotated[str, typer.Option(help="mean: of all tokens; first: the first token.")] = "mean",
    device: Annotated[str, typer.Option("--device", help="Hidden states of fp32, integer, csim or rtl.")] = "fp32",
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the training.")] = 0,
    json: Json = False,
) -> None:
    """Train a head on the frozen hidden states of a model. Writes a safetensors file."""
    from bertile.cli.evaluate import open_target
    from bertile.head.data import label_names, open_labelled, training_indices
    from bertile.head.model import POOLINGS, save_head
    from bertile.head.train import Training, pool_states, train_head
    from bertile.inference import whole
    from bertile.text import TextEncoder

    output_file = output_file.expanduser()
    check_target(output_file, features, pooling, POOLINGS)
    text = open_labelled(data, "train").first(sentences)
    names, targets = label_names(text, labels), training_indices(text)
    if len(names) < 2:
        raise BertileError(f"{text.source}: all sentences have the label {names[0]}")
    packed = load_packed(model)
    target = open_target(model, device)
    token_ids = TextEncoder(target.tokenizer, target.config).encode(text.sentences, warn)
    pooled = pool_states(target.hidden_states(token_ids, whole), pooling)
    provenance = {**model_identity(packed), "data": text.source, "sentences": len(targets), "device": device}
    with working("training"):
        head = train_head(pooled, targets, names, pooling, Training(features, seed=seed), provenance)
        save_head(head, output_file)
    accuracy = training_accuracy(head, pooled, targets)
    if json:
        print_json({"head": str(output_file), "labels": list(names), **provenance, "training_accuracy": accuracy})
    else:
        output.print(
            f"{output_file}: {', '.join(names)}; {head.hidden} to {features} to {len(names)} features, "
            f"{accuracy:.1%} of its {len(targets)} training sentences right",
            highlight=False,
        )


def check_target(file: Path, features: int, pooling: str, poolings: dict) -> None:
    """Refuse before the long part what cannot be trained or written."""
    from bertile.config.spec import load_spec

    limit = load_spec().capacity.hidden
    if pooling not in poolings:
        raise BertileError(f"unknown pooling {pooling!r}; choose one of {', '.join(poolings)}")
    if features > limit:
        raise BertileError(f"{features} pooler features; a head has 1 to {limit}")
    if file.exists() and not file.is_file():
        raise BertileError(f"{file} is a folder or a device; -o names a file")
    if not file.absolute().parent.is_dir():
        raise BertileError(f"{file.parent}: no such folder")


def training_accuracy(head, pooled: np.ndarray, targets: np.ndarray) -> float:
    from bertile.head.train import float_logits

    return float((float_logits(head, pooled).argmax(axis=1) == targets).mean())


def model_identity(packed: PackedModel) -> dict:
    """What a head remembers of the model it was trained on."""
    return {"model": packed.provenance.get("model"), "weights_sha256": packed.provenance.get("weights_sha256")}


def open_head(file: Path, packed: PackedModel):
    """The C-simulated head of a file, for a model; a note where it was trained on another one."""
    from bertile.head.csim import HeadSimulation
    from bertile.head.model import load_head

    head = load_head(file)
    if any(head.provenance.get(key) != value for key, value in model_identity(packed).items()):
        warn(f"{file} was trained on another model ({head.provenance.get('model')}, other weights)")
    with working("opening the head (converted by hls4ml first if need be, which takes ten seconds)"):
        return HeadSimulation(head, packed)


@app.command()
def build(model: Model, head: HeadFile, json: Json = False) -> None:
    """Convert a head with hls4ml and compile its C-simulation; show the folder that `make hw HEAD=FOLDER` takes."""
    from bertile.head.convert import multipliers

    simulation = open_head(head, load_packed(model))
    fixed, made = simulation.fixed, simulation.build
    summary = {
        "folder": str(made.folder),
        "sources": [str(path) for path in made.sources],
        "includes": [str(path) for path in made.includes],
        "head_digest": f"{fixed.digest_word:016x}",
        "hidden": fixed.hidden,
        "features": fixed.features,
        "labels": list(simulation.head.labels),
        "multipliers": multipliers(fixed),
        "weight": str(fixed.pooler.weight_format),
        "accumulator": str(fixed.pooler.accumulator),
        "logit": str(fixed.logit),
    }
    if json:
        print_json(summary)
        return
    for key, value in summary.items():
        output.print(f"{key}: {' '.join(value) if isinstance(value, list) else value}", highlight=False)
    output.print(f"link it with: make hw HEAD={shlex.quote(summary['folder'])}", highlight=False)


@app.command()
def check(
    model: Model,
    head: HeadFile,
    data: Data = None,
    sentences: Annotated[int, typer.Option(min=1, help="Take the first so many sentences.")] = 1_000,
    device: Annotated[str, typer.Option("--device", help="Where the encoder runs: integer, csim or rtl.")] = "integer",
    json: Json = False,
) -> None:
    """Compare the C-simulated head with PyTorch, and score both on a dev set. Exit code 1 outside the tolerance."""
    from bertile.cli.commands import opened
    from bertile.head.data import label_indices, open_labelled
    from bertile.head.evaluate import compare_head
    from bertile.text import TextEncoder

    text = open_labelled(data, "dev").first(sentences)
    packed = load_packed(model)
    simulation = open_head(head, packed)
    targets = label_indices(text, simulation.head.labels)
    sequences = TextEncoder(packed.tokenizer, packed.config).encode(text.sentences, warn)
    with (
        opened(device, packed, DeviceOptions()) as encoder,
        progress_bar(f"classifying on {device}") as progress,
    ):
        result = compare_head(encoder, simulation, sequences, targets, progress)
    if json:
        print_json({"data": text.source, "device": device, **vars(result), "passed": result.passed})
    else:
        print_comparison(text.source, result)
    raise typer.Exit(0 if result.passed else 1)


def print_comparison(source: str, result) -> None:
    """What `check` says to a reader."""
    output.print(
        f"{source}, {result.sentences} sentences: accuracy {result.accuracy_pytorch:.4f} in PyTorch, "
        f"{result.accuracy_kernel:.4f} in the C-simulated head; {result.labels_agree} labels agree\n"
        f"logits: largest difference {result.max_error:.4f} (tolerance {result.tolerance:.4f}), "
        f"{result.differing_bits} differ from hls4ml's own C-simulation",
        highlight=False,
    )


def run_labels(
    packed: PackedModel,
    lines: list[str],
    sequences: list[np.ndarray],
    head_file: Path,
    device_name: str,
    options: DeviceOptions,
    as_json: bool,
) -> None:
    """Text in, labels out, for `bertile run --head`: the encoder on a device, the head in C-simulation.

    sequences: token ids of the lines.
    """
    from bertile.cli.commands import opened
    from bertile.head.csim import classify_sequences, real_logits

    simulation = open_head(head_file, packed)
    with (
        opened(device_name, packed, options) as device,
        progress_bar(f"classifying on {device_name}") as progress,
    ):
        logits = real_logits(classify_sequences(device, simulation, sequences, progress)[0])
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    labels = simulation.head.labels
    rows = [
        {
            "text": line,
            "label": labels[int(scores.argmax())],
            "probabilities": dict(zip(labels, map(float, share), strict=True)),
            "logits": dict(zip(labels, map(float, scores), strict=True)),
        }
        for line, scores, share in zip(lines, logits, shares, strict=True)
    ]
    if as_json:
        print_json({"device": device_name, "head": str(head_file), "head_device": "csim", "sentences": rows})
        return
    table = Table("sentence", "label", "probability")
    for row in rows:
        table.add_row(row["text"], row["label"], f"{row['probabilities'][row['label']]:.3f}")
    output.print(table)
