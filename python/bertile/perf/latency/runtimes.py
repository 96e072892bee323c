"""The CPU runtimes: each opens the model for one request shape and a number of threads, and runs it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bertile.inference import measure_fidelity
from bertile.models.load import Model
from bertile.perf.latency.artefacts import OPENVINO_FP32, OPENVINO_INT8, ORT_DYNAMIC, ORT_STATIC
from bertile.perf.latency.encoder import EncoderStack

# Mean cosine of hidden states with PyTorch FP32, below which a runtime computes something else.
FP32_COSINE, INT8_COSINE = 0.9999, 0.98
Run = Callable[[], np.ndarray]


@dataclass(frozen=True)
class Session:
    """A model ready to run the request it was opened for. settings: what was set, and what the runtime made of it."""

    run: Run  # hidden states [batch, tokens, hidden] float32
    settings: dict


@dataclass(frozen=True)
class Runtime:
    """A runtime and a precision. open(model, folder, request, threads): request [batch, tokens, hidden] float32."""

    name: str
    package: str
    cosine_limit: float
    open: Callable[[Model, Path, np.ndarray, int], Session]


def open_torch(model: Model, folder: Path, request: np.ndarray, threads: int) -> Session:
    torch.set_num_threads(threads)
    stack, hidden = EncoderStack(model).eval(), torch.from_numpy(request)

    @torch.inference_mode()
    def run() -> np.ndarray:
        return stack(hidden).numpy()

    return Session(run, {"attention": model.network.config._attn_implementation, "mode": "eager, inference_mode"})


def open_onnxruntime(folder: Path, file: str, request: np.ndarray, threads: int) -> Session:
    onnxruntime = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(folder / file, options, providers=["CPUExecutionProvider"])
    inputs = {"hidden": request}
    quantization = "dynamic" if file == ORT_DYNAMIC else "static, QDQ"
    return Session(
        lambda: session.run(None, inputs)[0],
        {"quantization": f"{quantization}, weights per channel", "graph_optimization": "all"},
    )


def open_openvino(folder: Path, file: str, request: np.ndarray, threads: int) -> Session:
    openvino = importlib.import_module("openvino")
    core = openvino.Core()
    network = core.read_model(folder / file)
    network.reshape(list(request.shape))  # faster than dynamic shapes
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    if file == OPENVINO_FP32:
        settings["INFERENCE_PRECISION_HINT"] = "f32"  # where a CPU has bfloat16, that is the default
    compiled = core.compile_model(network, "CPU", settings)
    task = compiled.create_infer_request()
    precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    return Session(
        lambda: task.infer({0: request}, share_inputs=True, share_outputs=True)[0],
        {"shapes": "static", "hint": "latency", "precision_of_what_is_not_int8": precision},
    )


TORCH = Runtime("PyTorch FP32", "torch", FP32_COSINE, open_torch)
RUNTIMES = (
    TORCH,
    Runtime("ONNX Runtime INT8", "onnxruntime", INT8_COSINE, lambda m, f, r, t: open_onnxruntime(f, ORT_DYNAMIC, r, t)),
    Runtime("OpenVINO FP32", "openvino", FP32_COSINE, lambda m, f, r, t: open_openvino(f, OPENVINO_FP32, r, t)),
    Runtime("OpenVINO INT8", "openvino", INT8_COSINE, lambda m, f, r, t: open_openvino(f, OPENVINO_INT8, r, t)),
)
# Slower than the dynamic form; timed at one layer, so that this can be seen.
STATIC = Runtime(
    "ONNX Runtime INT8, static", "onnxruntime", INT8_COSINE, lambda m, f, r, t: open_onnxruntime(f, ORT_STATIC, r, t)
)


@dataclass(frozen=True)
class Check:
    """A runtime's hidden states beside PyTorch's: cosines of tokens, mean and worst. problem: why it may not run."""

    cosine_mean: float | None
    cosine_worst: float | None
    problem: str | None


def check_output(reference: np.ndarray, output: np.ndarray, limit: float) -> Check:
    """Both [batch, tokens, hidden]. Anything that is not as near as `limit` is a problem, NaN and wrong shapes too."""
    if output.shape != reference.shape:
        return Check(None, None, f"output has shape {output.shape}, not {reference.shape}")
    try:
        fidelity = measure_fidelity(list(reference), list(output))
    except ValueError as error:
        return Check(None, None, str(error))
    problem = None
    if not fidelity.cosine_mean >= limit:
        problem = f"cosine with PyTorch FP32 is {fidelity.cosine_mean:.4f}, less than {limit}"
    return Check(fidelity.cosine_mean, fidelity.cosine_min, problem)
