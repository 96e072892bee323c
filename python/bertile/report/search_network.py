"""The network that a search ended with, as it would run: packed, its cycles, and what INT8 costs in every layer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bertile.config.paths import TRAINING_LOG
from bertile.devices.launch import batch_launches, spans
from bertile.devices.registry import open_device
from bertile.errors import BertileError
from bertile.inference import embed_tokens
from bertile.models.encoder import MATRICES
from bertile.models.folder import find_folder, first_line
from bertile.models.load import Model, embeddings, encoder_layers, load_model
from bertile.models.quantized import dequantize_output
from bertile.pack.container import load_packed
from bertile.pack.packer import PackedModel
from bertile.perf.estimate import CycleEstimate, estimate_cycles
from bertile.perf.masked import CycleModel
from bertile.quantize.calibration import join_sequences, trace_layer
from bertile.quantize.texts import own_calibration, spread_indices
from bertile.report.search_folder import training_command
from bertile.text import calibration_sequences, token_limit
from bertile.workflow import pack_model, weights_digest

MODEL_FOLDER, PACKED_FILE = "model", "model.bertile"
TEXTS = 8  # that INT8 is compared with FP32 on
LOG_KEYS = ("source", "task", "metric", "teacher", "options", "steps", "seconds", "metrics")


@dataclass(frozen=True)
class Network:
    """The chosen network. tokens, units: of the request that is estimated.

    errors: of each layer's output, INT8 to FP32. log: what its training left, None without. texts: of the errors.
    """

    packed: PackedModel
    from_file: bool
    log: dict | None
    estimate: CycleEstimate
    tokens: int
    units: int
    errors: list[float]
    texts: int


def read_network(folder: Path, tokens: int, units: int = 1) -> Network | None:
    """The network in a search's folder, packed here where its file is not there or is another's; None without one.

    Raises BertileError where it is broken.
    """
    source = folder / MODEL_FOLDER
    if not source.is_dir():
        return None
    log = read_log(source)
    model = load_model(str(source))
    packed = _packed_file(folder / PACKED_FILE, source, units)
    from_file = packed is not None
    packed = packed or pack_model(model, str(source), units=units)
    tokens = min(tokens, token_limit(packed.config))
    sequences, _ = calibration_sequences(packed.tokenizer, packed.config, own_calibration(source))
    sequences = [sequences[index] for index in spread_indices(len(sequences), TEXTS)]
    errors = layer_errors(model, packed, sequences)
    estimate = estimate_cycles(packed, [tokens], units=units)
    return Network(packed, from_file, log, estimate, tokens, units, errors, len(sequences))


def _packed_file(file: Path, source: Path, units: int) -> PackedModel | None:
    """The packed network, None where there is none or it was packed from other weights, or for other units."""
    if not file.is_file():
        return None
    packed = load_packed(file)
    if all(variant.units != units for variant in packed.variants):
        return None
    digest = weights_digest(source)
    return packed if digest is not None and packed.provenance.get("weights_sha256") == digest else None


def read_log(source: Path) -> dict | None:
    """The training log of a model folder, None where there is none. Raises BertileError."""
    file = source / TRAINING_LOG
    if not file.is_file():
        return None
    try:
        log = json.loads(file.read_text(encoding="utf-8"))
        missing = [key for key in LOG_KEYS if key not in log]
        if missing:
            raise ValueError(f"nothing is said about {missing[0]}")
        for number in (log["steps"], log["seconds"], *log["metrics"].values()):
            float(number)
        training_command(log, source)
        (log.get("plan") or {}).get("shares")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BertileError(f"{file} is no training log: {first_line(error)}") from None
    return log


def layer_errors(model: Model, packed: PackedModel, sequences: Sequence[np.ndarray]) -> list[float]:
    """Squared error of each layer's output over its square: integer network against FP32, each on its own inputs.

    sequences: token ids [tokens]. Padding does not count.
    """
    device = open_device("integer", packed)
    outputs: list[list[np.ndarray]] = [[] for _ in range(packed.config.layers)]
    groups = batch_launches([len(ids) for ids in sequences])
    for group in groups:
        states = device.run([embed_tokens(packed, sequences[index]) for index in group])
        for first, _, tokens in spans([len(sequences[index]) for index in group]):
            for layer, kept in enumerate(outputs):
                kept.append(dequantize_output(states[layer, first : first + tokens], packed.output_scale[layer]))
    table = embeddings(model)
    x, lengths = join_sequences([table.embed(ids) for ids in sequences])
    errors = []
    for layer, ours in zip(encoder_layers(model), outputs, strict=True):
        x = trace_layer(layer, model.config, x, lengths).output
        difference = np.concatenate(ours).astype(np.float64) - x.numpy()
        errors.append(float((difference**2).sum() / (x.double() ** 2).sum()))
    return errors


def dense_cycles(identity: dict) -> int | None:
    """Cycles of the network before pruning, None where it is not here any more, or is another one."""
    source = str(identity["model"])
    if source != "minilm" and not Path(source).is_dir():
        return None  # a report asks no hub
    try:
        digest = weights_digest(find_folder(source))
    except BertileError:
        return None
    if digest is None or digest != identity.get("weights"):
        return None
    model = load_model(source)
    shapes = {
        f"layers.{index}.{name}": getattr(layer, name).weight.shape
        for index, layer in enumerate(encoder_layers(model))
        for name in MATRICES
    }
    return CycleModel(model, identity["tokens"], identity["units"]).cycles(
        {name: torch.ones(shape, dtype=torch.bool) for name, shape in shapes.items()}
    )
