"""Equalization: how much of an activation's per-feature range the weights behind it take over.

The integer activation of feature k is `x[k] / scale[k]`, and `scale[k]` is folded into column k of the weights that
read it (SmoothQuant, Xiao et al. 2023, eq. 4). The producer's per-feature requantization makes it free at run time.
"""

from __future__ import annotations

import numpy as np
import torch

EXPONENTS = np.linspace(0.1, 1.0, 7)
# A feature's step over the step that its own range asks for, at most.
COARSEST_RATIO = 16
SAMPLE_ROWS = 256


def candidate_scale(peak: np.ndarray, weight_peak: np.ndarray, exponent: float) -> np.ndarray:
    """Scales [in] under which no activation leaves int8: the feature's range to the power `exponent`, levelled."""
    factor = np.maximum(peak, 1e-5) ** exponent / np.maximum(weight_peak, 1e-5) ** (1 - exponent)
    # The residual reads every feature, too: one with weak weights may get only so coarse, one without any not at all.
    coarsest = np.where(weight_peak > 0, COARSEST_RATIO, 1) * np.maximum(peak, 1e-5) / 127
    return np.minimum(factor * (peak / factor).max() / 127, coarsest)


def rounded_weight(weight: torch.Tensor) -> torch.Tensor:
    """Weight [out, in] float32 after INT8 rounding with one scale an output feature."""
    step = weight.abs().amax(dim=1, keepdim=True).clamp_(min=1e-12) / 127
    return (weight / step).round_().mul_(step)


def sample_rows(x: torch.Tensor) -> torch.Tensor:
    """At most SAMPLE_ROWS rows of x [tokens, features], evenly spaced."""
    return x[:: -(-len(x) // SAMPLE_ROWS)]


def output_error(x: torch.Tensor, weight: torch.Tensor, exact: torch.Tensor, scale: np.ndarray) -> float:
    """Squared error of `x @ weight.T` against `exact` when both are INT8, activations quantized by `scale` [in]."""
    steps = torch.from_numpy(scale.astype(np.float32))
    result = (x / steps).round_().clamp_(-128, 127) @ rounded_weight(weight * steps).T
    return float((result - exact).square_().mean())


@torch.inference_mode()
def equalized_scale(x: torch.Tensor, weight: np.ndarray) -> np.ndarray:
    """The scale [in] of least output error on calibration activations x [tokens, in], for weight [out, in]."""
    peak = x.abs().amax(dim=0).double().numpy()
    if not peak.any():
        return np.ones(len(peak))
    weight_peak = np.abs(weight).max(axis=0)
    sample, matrix = sample_rows(x), torch.from_numpy(weight)
    exact = sample @ matrix.T
    candidates = [candidate_scale(peak, weight_peak, exponent) for exponent in EXPONENTS]
    errors = [output_error(sample, matrix, exact, candidate) for candidate in candidates]
    return candidates[int(np.argmin(errors))]
