"""The `.bertile` file: a safetensors file with the images, the host's data, and where all of it came from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from bertile.config.spec import load_spec
from bertile.errors import FormatError
from bertile.files import write_tensors
from bertile.models.encoder import Embeddings, EncoderConfig, Linear, Norm
from bertile.models.task_head import TaskHead
from bertile.pack.deal import Deal
from bertile.pack.packer import PackedModel, ProgramVariant
from bertile.pack.program import Extent, LayerImages

SPEC = load_spec()
FORMAT = "bertile"
FORMAT_VERSION = "3"


def to_tensors(packed: PackedModel) -> dict[str, np.ndarray]:
    """Every array of the file by name."""
    tensors = {
        "program": packed.program,
        "weights": packed.weights,
        "parameters": packed.parameters,
        "input_scale": packed.input_scale,
        "output_scale": packed.output_scale,
        "embeddings.word": packed.embeddings.word,
        "embeddings.position": packed.embeddings.position,
        "embeddings.norm.gain": packed.embeddings.norm.gain,
        "embeddings.norm.bias": packed.embeddings.norm.bias,
        "tokenizer": np.frombuffer(packed.tokenizer.encode(), np.uint8),
    }
    if packed.embeddings.second is not None:
        tensors["embeddings.second"] = packed.embeddings.second
    if packed.head is not None:
        for name, layer in (("dense", packed.head.dense), ("output", packed.head.output)):
            tensors |= {f"head.{name}.weight": layer.weight, f"head.{name}.bias": layer.bias}
    for number, layer in enumerate(packed.layers):
        for matrix, ends in layer.tile_ends.items():
            tensors[f"layers.{number}.{matrix}.tile_ends"] = ends.astype(np.int64)
    return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}


def to_metadata(packed: PackedModel) -> dict[str, str]:
    """Everything that is not an array, as safetensors metadata (text)."""
    layout = {
        "exponential": asdict(packed.exponential),
        "layers": [
            {
                "matrices": {name: asdict(extent) for name, extent in layer.matrices.items()},
                "activation_table": asdict(layer.activation_table),
                "attention_norm": asdict(layer.attention_norm),
                "ffn_norm": asdict(layer.ffn_norm),
            }
            for layer in packed.layers
        ],
    }
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "spec_digest": SPEC.digest,
        "config": json.dumps(asdict(packed.config)),
        "norm_epsilon": repr(packed.embeddings.norm_epsilon),
        "separator": str(packed.embeddings.separator),
        "head": encode_head(packed.head),
        "deal": json.dumps(packed.deal.to_json()) if packed.deal else "",
        "variants": json.dumps([asdict(variant) for variant in packed.variants]),
        "layout": json.dumps(layout),
        "provenance": json.dumps(packed.provenance),
    }


def encode_head(head: TaskHead | None) -> str:
    """What is not an array of a task head, as JSON; "" without one."""
    if head is None:
        return ""
    return json.dumps({"activation": head.activation, "labels": head.labels, "task": head.task})


def decode_head(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> TaskHead | None:
    """The task head of a file's arrays and metadata."""
    if not metadata["head"]:
        return None
    dense, output = (
        Linear(tensors[f"head.{name}.weight"], tensors[f"head.{name}.bias"]) for name in ("dense", "output")
    )
    data = json.loads(metadata["head"])
    return TaskHead(dense, data["activation"], output, tuple(data["labels"]), data["task"])


def content_digest(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> str:
    """SHA-256 over every array and every metadata entry but itself."""
    digest = hashlib.sha256()
    for name in sorted(metadata):
        if name != "content_digest":
            digest.update(f"{name}={metadata[name]}\n".encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}:{tensor.dtype}:{tensor.shape}\n".encode())
        digest.update(np.ascontiguousarray(tensor).data)
    return digest.hexdigest()


def save_packed(packed: PackedModel, path: Path) -> None:
    """Write the file under a temporary name, then rename: a file with its final name is complete."""
    tensors, metadata = to_tensors(packed), to_metadata(packed)
    metadata["content_digest"] = content_digest(tensors, metadata)
    write_tensors(tensors, metadata, path)


def read_file(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays and metadata, checked: format, contract, completeness. Raises FormatError."""
    if not path.is_file():
        raise FormatError(f"{path}: {'a folder, not a .bertile file' if path.is_dir() else 'no such file'}")
    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise FormatError(f"{path}: not a complete .bertile file ({error})") from None
    if metadata.get("format") != FORMAT:
        raise FormatError(f"{path}: a safetensors file, but not a .bertile file")
    if metadata.get("format_version") != FORMAT_VERSION:
        version = metadata.get("format_version")
        raise FormatError(f"{path}: format version {version}, this program reads {FORMAT_VERSION}")
    if metadata.get("spec_digest") != SPEC.digest:
        raise FormatError(
            f"{path}: packed for spec {metadata.get('spec_digest', '')[:12]}, this program has {SPEC.digest[:12]}; "
            "pack the model again"
        )
    if metadata.get("content_digest") != content_digest(tensors, metadata):
        raise FormatError(f"{path}: altered since it was packed (content digest differs)")
    return tensors, metadata


def load_packed(path: Path) -> PackedModel:
    """Read a `.bertile` file. Raises FormatError for anything but a complete, unaltered file of this contract."""
    tensors, metadata = read_file(path)
    layout = json.loads(metadata["layout"])
    layers = tuple(
        LayerImages(
            {name: Extent(**extent) for name, extent in layer["matrices"].items()},
            {name: tensors[f"layers.{number}.{name}.tile_ends"] for name in layer["matrices"]},
            Extent(**layer["activation_table"]),
            Extent(**layer["attention_norm"]),
            Extent(**layer["ffn_norm"]),
        )
        for number, layer in enumerate(layout["layers"])
    )
    embeddings = Embeddings(
        tensors["embeddings.word"],
        tensors["embeddings.position"],
        Norm(tensors["embeddings.norm.gain"], tensors["embeddings.norm.bias"]),
        float(metadata["norm_epsilon"]),
        tensors.get("embeddings.second"),
        int(metadata["separator"]),
    )
    return PackedModel(
        config=EncoderConfig(**json.loads(metadata["config"])),
        program=tensors["program"],
        variants=tuple(ProgramVariant(**variant) for variant in json.loads(metadata["variants"])),
        weights=tensors["weights"],
        parameters=tensors["parameters"],
        exponential=Extent(**layout["exponential"]),
        layers=layers,
        input_scale=tensors["input_scale"],
        output_scale=tensors["output_scale"],
        embeddings=embeddings,
        tokenizer=tensors["tokenizer"].tobytes().decode(),
        provenance=json.loads(metadata["provenance"]),
        head=decode_head(tensors, metadata),
        deal=Deal.from_json(json.loads(metadata["deal"])) if metadata["deal"] else None,
    )
