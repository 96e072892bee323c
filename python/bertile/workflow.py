"""The steps between a checkpoint and a packed model, shared by the command line and the demo."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from bertile import __version__
from bertile.errors import BertileError
from bertile.inference import Progress, no_progress
from bertile.models.folder import find_folder
from bertile.models.load import Model, check_capacity, embeddings, encoder_layers
from bertile.models.task_head import read_task_head
from bertile.pack.packer import PackedModel, pack_encoder
from bertile.prune.folder import read_pruning
from bertile.quantize.quantizer import quantize_encoder
from bertile.quantize.texts import own_calibration
from bertile.text import calibration_sequences

WEIGHTS_FILE = "model.safetensors"


def tokenizer_json(model: Model) -> str:
    """The model's tokenizer as the text of a tokenizer.json, "" when it has none."""
    if model.tokenizer is None:
        return ""
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise BertileError(f"{model.name}: its tokenizer has no fast form (tokenizer.json)")
    return backend.to_str()


def weights_digest(folder: Path) -> str | None:
    """SHA-256 of a model folder's weights file, None when it has another form."""
    file = folder / WEIGHTS_FILE
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None


def provenance_of(model: Model, source: str, calibration: dict) -> dict:
    """Where a packed model came from."""
    folder = find_folder(source)
    return {
        "bertile": __version__,
        "model": model.name,
        "synthetic": model.synthetic,
        "source": source if source == "minilm" else str(folder.resolve()),
        "weights_sha256": weights_digest(folder),
        "pruning": read_pruning(folder),
        "calibration": calibration,
    }


def fp32_source(packed: PackedModel) -> str:
    """What a packed model was made from, unchanged since. Raises BertileError when it is gone or altered."""
    source = packed.provenance.get("source", "")
    if source != "minilm" and not Path(source).is_dir():
        raise BertileError(f"the FP32 model this file was packed from ({source}) is gone; evaluate its folder instead")
    if weights_digest(find_folder(source)) != packed.provenance.get("weights_sha256"):
        raise BertileError(f"the FP32 model in {source} has changed since this file was packed")
    return source


def pack_model(
    model: Model,
    source: str,
    calibrate: Path | None = None,
    quantizing: Progress = no_progress,
    packing: Progress = no_progress,
    units: int = 1,
) -> PackedModel:
    """Quantize and pack `model`, loaded from `source`; calibrated on the lines of `calibrate`.

    Without those on the folder's own text, which a training run left there, else on the bundled one. Its task head
    comes along as it is.

    quantizing and packing count layers. units: as `pack_encoder`. Raises BertileError and its kin, before any file is
    written.
    """
    check_capacity(model.config)
    head = read_task_head(source)
    tokenizer = tokenizer_json(model)
    own = own_calibration(find_folder(source)) if calibrate is None and tokenizer else None
    sequences, calibration = calibration_sequences(tokenizer, model.config, calibrate or own)
    if own:
        calibration["source"] = "training text of the model"
    quantized = quantize_encoder(
        encoder_layers(model),
        model.config,
        embeddings(model),
        sequences,
        tokenizer,
        provenance_of(model, source, calibration),
        quantizing,
    )
    return replace(pack_encoder(quantized, packing, units), head=head)
