"""The C-simulated head against its PyTorch head, on the same hidden states of the accelerator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bertile.devices.registry import Device
from bertile.errors import BertileError
from bertile.head.csim import HeadSimulation, classify_sequences, real_logits
from bertile.head.fixed import error_bound, pool
from bertile.head.model import Head
from bertile.head.train import float_logits, pool_states
from bertile.inference import Progress, no_progress
from bertile.models.quantized import dequantize_output

# What a logit may differ from PyTorch's, over the norm of its classifier weights: the tanh table's half step of 2^-8,
# spread evenly over features, has a standard deviation of 0.0023 of that norm; the other errors are smaller.
TOLERANCE = 0.02


def tolerance_of(head: Head) -> float:
    """The largest accepted difference of a logit: `TOLERANCE` times the largest norm of a label's weights, or 1."""
    return TOLERANCE * max(1.0, float(np.linalg.norm(head.classifier_weight, axis=1).max()))


@dataclass(frozen=True)
class HeadComparison:
    """Kernel against PyTorch over sentences; accuracies are None without targets.

    differing_bits: logits in which the kernel and hls4ml's own C-simulation differ; bound: what no input can exceed.
    """

    sentences: int
    labels_agree: int
    max_error: float
    mean_error: float
    bound: float
    tolerance: float
    differing_bits: int
    accuracy_pytorch: float | None
    accuracy_kernel: float | None

    @property
    def passed(self) -> bool:
        """A result that is not a number fails, too."""
        return self.max_error <= min(self.tolerance, self.bound) and self.differing_bits == 0


def compare_head(
    device: Device,
    simulation: HeadSimulation,
    sequences: list[np.ndarray],
    targets: np.ndarray | None,
    progress: Progress = no_progress,
) -> HeadComparison:
    """Run encoder and head over sequences of token ids. Raises BertileError where there are none."""
    if not sequences:
        raise BertileError("nothing to compare")
    packed, head, fixed = simulation.packed, simulation.head, simulation.fixed
    scale = packed.output_scale[-1]
    kernel, rows = classify_sequences(device, simulation, sequences, progress)
    expected = float_logits(head, pool_states([dequantize_output(states, scale) for states in rows], head.pooling))
    alone = simulation.predict(np.stack([pool(states, fixed.pooled_tokens) for states in rows]))
    errors = np.abs(real_logits(kernel) - expected)
    chosen, wanted = kernel.argmax(axis=1), expected.argmax(axis=1)
    return HeadComparison(
        len(sequences),
        int((chosen == wanted).sum()),
        float(errors.max()),
        float(errors.mean()),
        float(error_bound(head, fixed, scale).max()),
        tolerance_of(head),
        int((kernel != alone).sum()),
        None if targets is None else float((wanted == targets).mean()),
        None if targets is None else float((chosen == targets).mean()),
    )
