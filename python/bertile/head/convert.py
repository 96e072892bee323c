"""Pooler and classifier to HLS by hls4ml: Vitis backend, io_parallel, resource strategy."""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from pathlib import Path

import numpy as np

from bertile.config.target import load_target, target_clocks
from bertile.errors import DeviceError
from bertile.head.fixed import (
    ACTIVATION_BITS,
    ACTIVATION_FRACTION,
    INPUT_BITS,
    INPUT_FRACTION,
    TABLE_SIZE,
    TANH_FRACTION,
    TANH_INTEGER,
    FixedHead,
    FixedLayer,
    Format,
)
from bertile.head.folder import NETWORK
from bertile.models.folder import first_line

# One DSP each. The pooler of MiniLM then takes 2,304 cycles, of BERT-base 9,216: little beside their encoders.
POOLER_MULTIPLIERS = 64

# Without it hls4ml takes PyTorch's weights for transposed ones, and says nothing.
LAYOUT = {"ChannelsLastConversion": "full", "TransposeOutputs": False}


def pooler_multipliers(features: int) -> int:
    """Multipliers of the pooler: the largest divisor of its features within the budget; hls4ml shares evenly."""
    return next(count for count in range(POOLER_MULTIPLIERS, 0, -1) if features % count == 0)


def multipliers(fixed: FixedHead) -> int:
    """Multipliers of both layers: DSPs, one each, before anything else of the kernel."""
    return pooler_multipliers(fixed.features) + fixed.labels


def rounded(target: Format) -> str:
    """The format as a C++ type that rounds halves up and saturates."""
    return f"ap_fixed<{target.bits},{target.integer},AP_RND,AP_SAT>"


def layer_config(layer: FixedLayer, result: Format, reuse: int) -> dict:
    """What hls4ml is told about a dense layer."""
    precision = {"weight": layer.weight_format, "bias": layer.bias_format, "accum": layer.accumulator}
    names = {name: str(target) for name, target in precision.items()}
    return {"Precision": {**names, "result": rounded(result)}, "Strategy": "Resource", "ReuseFactor": reuse}


def hls_config(fixed: FixedHead) -> dict:
    """hls4ml's configuration: every format stated, nothing inferred."""
    tanh_input = Format(TANH_INTEGER + TANH_FRACTION, TANH_FRACTION)
    activation = Format(ACTIVATION_BITS, ACTIVATION_FRACTION)
    pooler_reuse = fixed.hidden * fixed.features // pooler_multipliers(fixed.features)
    return {
        "Model": {"Precision": {"default": rounded(activation)}, "ReuseFactor": 1, "Strategy": "Resource", **LAYOUT},
        "InputShape": (fixed.hidden,),
        "LayerName": {
            "pooled": {"Precision": {"result": str(Format(INPUT_BITS, INPUT_FRACTION))}},
            "pooler": layer_config(fixed.pooler, tanh_input, pooler_reuse),
            "tanh": {
                "Precision": {"result": str(activation)},
                "TableT": f"ap_fixed<{activation.bits},{activation.integer},AP_RND>",
                "TableSize": TABLE_SIZE,
                "ReuseFactor": 1,
            },
            "classifier": layer_config(fixed.classifier, fixed.logit, fixed.features),
        },
    }


def torch_network(fixed: FixedHead):
    """The PyTorch module that hls4ml reads: its weights are exact multiples of their formats' steps."""
    import torch

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pooler = torch.nn.Linear(fixed.hidden, fixed.features)
            self.tanh = torch.nn.Tanh()
            self.classifier = torch.nn.Linear(fixed.features, fixed.labels)

        def forward(self, pooled):
            return self.classifier(self.tanh(self.pooler(pooled)))

    network = Network().eval()
    for layer, numbers in ((network.pooler, fixed.pooler), (network.classifier, fixed.classifier)):
        weight = np.ldexp(numbers.weight.astype(np.float32), -numbers.weight_format.fraction)
        bias = np.ldexp(numbers.bias.astype(np.float32), -numbers.bias_format.fraction)
        layer.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
    return network


def convert(fixed: FixedHead, folder: Path):
    """hls4ml's ModelGraph of the network, its project written into `folder` and compiled. Raises DeviceError."""
    # hls4ml prints what it does, and a compiler's errors; standard output belongs to the command.
    with contextlib.redirect_stdout(io.StringIO()) as printed, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import hls4ml

            graph = hls4ml.converters.convert_from_pytorch_model(
                torch_network(fixed),
                hls_config=hls_config(fixed),
                output_dir=str(folder),
                project_name=NETWORK,
                backend="Vitis",
                io_type="io_parallel",
                part=load_target()["target"]["part"],
                clock_period=1e3 / target_clocks()[0],
            )
            graph.compile()
        except ImportError as error:
            raise DeviceError(f"the head's converter hls4ml lacks a package ({error}); run `make setup`") from error
        except Exception as error:  # hls4ml raises plain Exceptions
            sys.stderr.write(printed.getvalue())
            raise DeviceError(f"hls4ml could not convert the head: {first_line(error)}") from error
    return graph
