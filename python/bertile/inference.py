"""Running texts or token ids on a device, and comparing devices word for word."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from bertile.devices.launch import BLOCK, batch_launches, spans
from bertile.devices.registry import Device
from bertile.devices.rtl import LaunchCycles
from bertile.models.quantized import dequantize_output, quantize_input
from bertile.pack.packer import PackedModel

Progress = Callable[[int, int], None]
# What is kept of a sequence's hidden states [tokens, hidden]: all of them for a whole data set would fill the memory.
Keep = Callable[[np.ndarray], np.ndarray]


def no_progress(done: int, total: int) -> None:
    """Ignore progress."""


def whole(states: np.ndarray) -> np.ndarray:
    """Keep all hidden states [tokens, hidden]."""
    return states


def first_token(states: np.ndarray) -> np.ndarray:
    """Keep those of the first token, [hidden]: what a classifier reads."""
    return states[0].copy()


def embed_tokens(packed: PackedModel, token_ids: np.ndarray) -> np.ndarray:
    """Embed token ids [tokens] on the host and quantize: [tokens, hidden] int8."""
    return quantize_input(packed.embeddings.embed(token_ids), packed.input_scale)


def stream_launches(device: Device, launches: Iterable[list[np.ndarray]]) -> Iterator[np.ndarray]:
    """[rows, hidden] int8 of the last layer of each launch, in order; several at once where the device can."""
    stream = getattr(device, "stream", None)
    if stream is not None:
        return stream(launches)
    return (device.run(sequences)[-1] for sequences in launches)


def run_sequences(
    packed: PackedModel,
    device: Device,
    sequences: list[np.ndarray],
    progress: Progress = no_progress,
    keep: Keep = whole,
) -> list[np.ndarray]:
    """Final hidden states [tokens, hidden] float32 of each sequence of token ids: what `keep` keeps of them."""
    results: list[np.ndarray] = []
    groups = batch_launches([len(ids) for ids in sequences])
    launches = ([embed_tokens(packed, sequences[index]) for index in group] for group in groups)
    for group, output in zip(groups, stream_launches(device, launches), strict=True):
        for first, _, tokens in spans([len(sequences[index]) for index in group]):
            results.append(keep(dequantize_output(output[first : first + tokens], packed.output_scale[-1])))
        progress(len(results), len(sequences))
    return results


def mean_pool(hidden: list[np.ndarray]) -> np.ndarray:
    """Sentence embeddings [sequences, hidden]: the mean over tokens, of length one."""
    means = np.stack([states.mean(axis=0) for states in hidden])
    return means / np.linalg.norm(means, axis=1, keepdims=True)


@dataclass(frozen=True)
class Comparison:
    """Word-for-word comparison of a device with the integer reference over every layer's output, padding included.

    cycles: of each launch, where the device counts them.
    """

    device: str
    compared: int
    mismatches: int
    launches: int
    tokens: tuple[int, ...]
    first_mismatch: str | None
    cycles: tuple[LaunchCycles, ...] = ()

    @property
    def total_cycles(self) -> int:
        return sum(launch.total for launch in self.cycles)

    def to_json(self) -> dict:
        data = {name: value for name, value in vars(self).items() if name != "cycles"}
        if self.cycles:
            data["cycles"] = self.total_cycles
            data["launch_cycles"] = [launch.to_json() for launch in self.cycles]
        return {**data, "tokens": list(self.tokens)}


def describe_mismatch(expected: np.ndarray, got: np.ndarray, launch: int) -> str:
    """Where the first difference is, and what it is."""
    layer, row, feature = (int(i) for i in np.argwhere(expected != got)[0])
    return (
        f"launch {launch}, layer {layer}, row block {row // BLOCK}, lane {row % BLOCK}, feature {feature}: "
        f"expected {expected[layer, row, feature]}, got {got[layer, row, feature]}"
    )


def compare_devices(
    packed: PackedModel,
    reference: Device,
    device: Device,
    sequences: list[np.ndarray],
    progress: Progress = no_progress,
) -> Comparison:
    """Run sequences of token ids on both, on every unit of the device, and count the int8 values that differ."""
    compared = mismatches = launches = 0
    first = None
    cycles: list[LaunchCycles] = []
    groups = batch_launches([len(ids) for ids in sequences])
    for number, group in enumerate(groups):
        inputs = [embed_tokens(packed, sequences[index]) for index in group]
        expected = reference.run(inputs)
        for _ in range(getattr(device, "units", 1)):
            got = device.run(inputs)
            assert expected.shape == got.shape, (expected.shape, got.shape)
            different = int((expected != got).sum())
            if different and first is None:
                first = describe_mismatch(expected, got, number)
            compared += expected.size
            mismatches += different
            launches += 1
            cycles += [counted] if (counted := getattr(device, "cycles", None)) else []
        progress(number + 1, len(groups))
    lengths = tuple(len(ids) for ids in sequences)
    return Comparison(device.name, compared, mismatches, launches, lengths, first, tuple(cycles))


@dataclass(frozen=True)
class Fidelity:
    """Cosine between hidden states of each token, device against FP32."""

    cosine_mean: float
    cosine_min: float
    tokens: int


def measure_fidelity(reference: list[np.ndarray], hidden: list[np.ndarray]) -> Fidelity:
    """Both lists of [tokens, hidden] float32. A cosine that is not a number raises ValueError."""
    a, b = np.concatenate(reference).astype(np.float64), np.concatenate(hidden).astype(np.float64)
    cosine = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    if not np.isfinite(cosine).all():
        raise ValueError("a hidden state is zero or not finite")
    return Fidelity(float(cosine.mean()), float(cosine.min()), len(cosine))
