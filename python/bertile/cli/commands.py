"""The commands behind `bertile.cli.main`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
from rich.table import Table

from bertile.cli.console import library_output_aside, output, print_json, progress_bar, warn, working
from bertile.config.spec import load_spec
from bertile.config.target import target_clocks
from bertile.devices.registry import Device, DeviceOptions, close_device, open_device
from bertile.errors import BertileError, CapacityError
from bertile.inference import compare_devices, mean_pool, run_sequences
from bertile.pack.container import load_packed, save_packed
from bertile.pack.packer import PackedModel, kept_vectors, packed_sparsity
from bertile.perf.estimate import estimate_cycles, project_milliseconds

SPEC = load_spec()
# Lengths of `check`: one token, a row block less and more than full, several blocks, unequal neighbours.
CHECK_LENGTHS = (1, 32, 45, 128)


def pack(source: str, file: Path, calibrate: Path | None, units: int) -> None:
    """Load, quantize, pack, write."""
    from bertile.models.load import load_model
    from bertile.workflow import pack_model

    file = file.expanduser()
    if file.exists() and not file.is_file():
        raise BertileError(f"{file} is a folder or a device; -o names a file")
    if not file.absolute().parent.is_dir():
        raise BertileError(f"{file.parent}: no such folder")
    with working(f"loading {source}"):
        model = load_model(source)
    with progress_bar("quantizing") as quantizing, progress_bar("packing") as packing:
        packed = pack_model(model, source, calibrate, quantizing, packing, units)
    with working(f"writing {file}"):
        save_packed(packed, file)
    if model.synthetic:
        warn("random weights: good for shapes and cycles, never for accuracy")
    output.print(
        f"{file}: {packed.config.layers} layers, {packed_sparsity(packed):.1%} sparse, "
        f"{len(packed.weights) * SPEC.packet.beat_bytes / 1e6:.1f} MB of weight tiles"
        + (f", for one unit or {units} together" if units > 1 else "")
    )


def inspect(file: Path, tokens: int, picture: Path | None, layer: int | None, as_json: bool) -> None:
    """Print the summary of a packed model; draw the tiles of a layer, or of all, if asked."""
    packed = load_packed(file)
    summary = summarize(packed, checked_tokens(packed, tokens))
    if picture:
        from bertile.report.tiles import draw_model_tiles, draw_tiles

        if layer is None:
            draw_model_tiles(packed, picture)
        elif 0 <= layer < packed.config.layers:
            draw_tiles(packed, layer, picture)
        else:
            raise BertileError(f"layer {layer}: this model has layers 0 to {packed.config.layers - 1}")
    if as_json:
        print_json(summary)
        return
    table = Table(title=str(file), show_header=False)
    for key, value in summary.items():
        if key not in ("matrices", "provenance", "projected_ms"):
            table.add_row(key, str(value))
    for clock, milliseconds in summary["projected_ms"].items():
        table.add_row(f"latency at {clock} MHz", f"{milliseconds:.3f} ms, projected, not measured on a board")
    output.print(table)
    matrices = Table("layer", "matrix", "out x in", "vectors", "sparsity", title="weight matrices")
    for row in summary["matrices"]:
        shape = f"{row['outputs']} x {row['inputs']}"
        matrices.add_row(str(row["layer"]), row["matrix"], shape, str(row["vectors"]), f"{row['sparsity']:.1%}")
    output.print(matrices)


def summarize(packed: PackedModel, tokens: int) -> dict:
    """What `inspect` prints, as data."""
    matrices = []
    for layer in range(packed.config.layers):
        for matrix in packed.layers[layer].matrices:
            kept = kept_vectors(packed, layer, matrix)
            matrices.append(
                {
                    "layer": layer,
                    "matrix": matrix,
                    "outputs": len(kept) * SPEC.array.outputs,
                    "inputs": kept.shape[1],
                    "vectors": int(kept.sum()),
                    "sparsity": 1 - float(kept.mean()),
                }
            )
    cycles = estimate_cycles(packed, [tokens])
    config = packed.config
    return {
        "model": packed.provenance.get("model"),
        "synthetic": packed.provenance.get("synthetic"),
        "layers": config.layers,
        "hidden": config.hidden,
        "ffn": config.ffn,
        "heads": config.heads,
        "sparsity": packed_sparsity(packed),
        "weight_bytes": packed.weights.size,
        "parameter_bytes": packed.parameters.size,
        "program_bytes": packed.program.size,
        "spec_digest": SPEC.digest,
        "tokens": tokens,
        "estimated_cycles": cycles.total,
        "estimated_cycles_by_part": cycles.parts(),
        "projected_ms": project_milliseconds(packed, tokens),
        "provenance": packed.provenance,
        "matrices": matrices,
    }


def checked_tokens(packed: PackedModel, tokens: int) -> int:
    """A sequence length that the model and the accelerator can do."""
    from bertile.text import token_limit

    limit = token_limit(packed.config)
    if not 1 <= tokens <= limit:
        raise CapacityError(f"{tokens} tokens: this model takes 1 to {limit}")
    return tokens


@contextmanager
def opened(name: str, packed: PackedModel, options: DeviceOptions) -> Iterator[Device]:
    """A device, with a spinner while it is made, which may take long; closed at the end."""
    built = " (built first if need be, which takes a minute)" if name == "rtl" else ""
    with library_output_aside() if name == "xrt" else nullcontext():
        with working(f"opening {name}{built}"):
            device = open_device(name, packed, options)
        try:
            yield device
        finally:
            close_device(device)


def run(file: Path, text: str, device_name: str, options: DeviceOptions, head: Path | None, as_json: bool) -> None:
    """Encode the lines of a text, or classify them: with a head, or else with the model's own classifier."""
    from bertile.text import TextEncoder, read_lines, read_stdin, shown

    texts = read_stdin() if text == "-" else read_lines(Path(text))
    packed = load_packed(file)
    sequences = TextEncoder(packed.tokenizer, packed.config).encode(texts, warn)
    lines = [shown(one) for one in texts]
    if head:
        from bertile.head.commands import run_labels

        return run_labels(packed, lines, sequences, head, device_name, options, as_json)
    if packed.head:
        from bertile.cli.classify import classify

        return classify(packed, lines, sequences, device_name, options, as_json)
    with opened(device_name, packed, options) as device, progress_bar(f"encoding on {device_name}") as progress:
        embeddings = mean_pool(run_sequences(packed, device, sequences, progress))
    if as_json:
        rows = [{"text": line, "embedding": row.tolist()} for line, row in zip(lines, embeddings, strict=True)]
        print_json({"device": device_name, "hidden": packed.config.hidden, "sentences": rows})
    elif len(lines) == 1:
        output.print(" ".join(f"{value:.5f}" for value in embeddings[0]), highlight=False)
    else:
        output.print(nearest_table(lines, embeddings))


def nearest_table(lines: list[str], embeddings: np.ndarray) -> Table:
    """Each sentence with the most similar other one."""
    similarity = embeddings @ embeddings.T
    np.fill_diagonal(similarity, -np.inf)
    table = Table("sentence", "nearest", "cosine")
    for index, nearest in enumerate(similarity.argmax(axis=1)):
        table.add_row(lines[index], lines[nearest], f"{similarity[index, nearest]:.3f}")
    return table


def check(
    file: Path,
    device_name: str,
    tokens: int | None,
    seed: int,
    options: DeviceOptions,
    as_json: bool,
) -> int:
    """Compare; returns the exit code."""
    from bertile.text import random_sequences, token_limit

    packed = load_packed(file)
    limit = token_limit(packed.config)
    lengths = [checked_tokens(packed, tokens)] if tokens is not None else [n for n in CHECK_LENGTHS if n <= limit]
    reference = open_device("integer", packed)
    sequences = random_sequences(packed.config, lengths, seed)
    with opened(device_name, packed, options) as device, working(f"comparing {device_name} with the integer reference"):
        comparison = compare_devices(packed, reference, device, sequences)
    if as_json:
        print_json(comparison.to_json())
    else:
        output.print(
            f"{comparison.compared} values of {packed.config.layers} layers compared on {device_name}, "
            f"{comparison.mismatches} mismatches"
        )
        if comparison.first_mismatch:
            output.print(f"first: {comparison.first_mismatch}")
        if comparison.cycles:
            clock = target_clocks()[0]
            milliseconds = comparison.total_cycles / clock / 1e3
            output.print(
                f"{comparison.total_cycles:,} clock cycles, emulated; {milliseconds:.3f} ms projected at {clock} MHz, "
                "not measured on a board"
            )
    return 1 if comparison.mismatches else 0
