"""A task head: pooling, pooler and classifier in FP32, and its file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from bertile.config.spec import load_spec
from bertile.errors import CapacityError, FormatError
from bertile.files import write_tensors
from bertile.pack.container import content_digest

SPEC = load_spec()
FORMAT = "bertile-head"
FORMAT_VERSION = "1"
TENSORS = ("pooler.weight", "pooler.bias", "classifier.weight", "classifier.bias")
# Tokens of a sequence that are pooled at most: all of them, or the first ([CLS], as BERT's own pooler).
POOLINGS = {"mean": SPEC.capacity.tokens, "first": 1}
# The kernel answers with a beat of 32-bit logits a sequence.
LABELS_MAX = SPEC.packet.beat_bytes // 4


@dataclass(frozen=True)
class Head:
    """logits = classifier(tanh(pooler(pooled))), pooled [hidden] the mean of the pooled tokens' hidden states.

    pooler_weight [features, hidden], pooler_bias [features], classifier_weight [labels, features], classifier_bias
    [labels], all float32; pooling: a key of `POOLINGS`; provenance: plain JSON data.
    """

    pooler_weight: np.ndarray
    pooler_bias: np.ndarray
    classifier_weight: np.ndarray
    classifier_bias: np.ndarray
    labels: tuple[str, ...]
    pooling: str = "mean"
    provenance: dict = field(default_factory=dict)

    @property
    def features(self) -> int:
        return self.pooler_weight.shape[0]

    @property
    def hidden(self) -> int:
        return self.pooler_weight.shape[1]

    def tensors(self) -> dict[str, np.ndarray]:
        """Every array of the file by name."""
        arrays = (self.pooler_weight, self.pooler_bias, self.classifier_weight, self.classifier_bias)
        return {name: np.ascontiguousarray(array, np.float32) for name, array in zip(TENSORS, arrays, strict=True)}


def check_shapes(head: Head) -> str | None:
    """What is wrong with a head, None when nothing is."""
    if head.pooler_weight.ndim != 2 or head.classifier_weight.ndim != 2:
        return "a weight is not a matrix"
    labels, features = head.classifier_weight.shape
    if head.features != features or head.pooler_bias.shape != (features,) or head.classifier_bias.shape != (labels,):
        return "its shapes do not fit each other"
    if not all(np.isfinite(tensor).all() for tensor in head.tensors().values()):
        return "a weight is not finite"
    if len(head.labels) != labels or len(set(head.labels)) != labels:
        return f"{len(head.labels)} label names for {labels} labels, or one twice"
    if head.pooling not in POOLINGS:
        return f"unknown pooling {head.pooling!r}"
    return None


def check_capacity(head: Head) -> None:
    """Raise CapacityError for a head that the kernel cannot be."""
    if not 2 <= len(head.labels) <= LABELS_MAX:
        raise CapacityError(f"{len(head.labels)} labels; the head's kernel answers with 2 to {LABELS_MAX}")
    for name, size in (("hidden", head.hidden), ("pooler", head.features)):
        if not 1 <= size <= SPEC.capacity.hidden:
            raise CapacityError(f"{size} {name} features; a head has 1 to {SPEC.capacity.hidden}")


def encode_head(head: Head) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays and metadata of the file. Raises FormatError or CapacityError for a head that is none."""
    if wrong := check_shapes(head):
        raise FormatError(f"not a head: {wrong}")
    check_capacity(head)
    tensors = head.tensors()
    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "labels": json.dumps(head.labels),
        "hidden": str(head.hidden),
        "pooling": head.pooling,
        "provenance": json.dumps(head.provenance),
    }
    return tensors, {**metadata, "content_digest": content_digest(tensors, metadata)}


def save_head(head: Head, path: Path) -> None:
    """Write the file under a temporary name, then rename. Raises FormatError or CapacityError."""
    tensors, metadata = encode_head(head)
    write_tensors(tensors, metadata, path)


def read_file(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays and metadata, checked: format, version, completeness. Raises FormatError."""
    if not path.is_file():
        raise FormatError(f"{path}: {'a folder, not a head file' if path.is_dir() else 'no such file'}")
    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:  # before its tensors: another kind of file may be large
                raise FormatError(f"{path}: a safetensors file, but not a head that `bertile head train` wrote")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise FormatError(f"{path}: not a complete head file ({error})") from None
    if metadata.get("format_version") != FORMAT_VERSION:
        version = metadata.get("format_version")
        raise FormatError(f"{path}: head format version {version}, this program reads {FORMAT_VERSION}")
    if metadata.get("content_digest") != content_digest(tensors, metadata):
        raise FormatError(f"{path}: altered since it was written (content digest differs)")
    return tensors, metadata


def load_head(path: Path) -> Head:
    """Read a head file. Raises FormatError for anything but a complete, unaltered one; CapacityError."""
    tensors, metadata = read_file(path)
    try:
        head = Head(
            *(tensors[name] for name in TENSORS),
            labels=tuple(json.loads(metadata["labels"])),
            pooling=metadata["pooling"],
            provenance=json.loads(metadata["provenance"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{path}: not a complete head file ({error})") from None
    if wrong := check_shapes(head):
        raise FormatError(f"{path}: not a head: {wrong}")
    check_capacity(head)
    return head
