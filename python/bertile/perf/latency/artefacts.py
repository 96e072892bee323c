"""The model as other runtimes want it: exported, quantized, and kept in build/bench for the next run."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

from bertile.config.paths import BUILD_DIR
from bertile.errors import BertileError
from bertile.models.load import Model
from bertile.perf.latency import encoder
from bertile.perf.latency.encoder import CALIBRATION_TOKENS, EncoderStack, calibration

CACHE = BUILD_DIR / "bench"
PACKAGES = ("torch", "transformers", "onnx", "onnxruntime", "openvino", "nncf")
ORT_DYNAMIC, ORT_STATIC = "int8-dynamic.onnx", "int8-static.onnx"
OPENVINO_FP32, OPENVINO_INT8 = "fp32.xml", "int8.xml"
OPSET = 17


def package_versions() -> dict[str, str]:
    """Versions of what the bench runs. Raises BertileError when something is missing."""
    try:
        return {name: version(name) for name in PACKAGES}
    except PackageNotFoundError as error:
        raise BertileError(
            f"the bench needs the package {error.name}: pip install --no-deps -r requirements.lock"
        ) from None


def prepared_folder(model: Model, sparsity: float, sequences: int, cache: Path = CACHE) -> Path:
    """Folder with the model for every runtime; made when it is not there.

    Its name is a digest of all that made it: versions, shape, seeds, calibration and this package's own source. The
    folder appears when it is complete. Raises BertileError where it cannot be written.
    """
    recipe = {
        "versions": package_versions(),
        "model": [model.name, vars(model.config), sparsity, encoder.MODEL_SEED],
        "calibration": [sequences, CALIBRATION_TOKENS, encoder.CALIBRATION_SEED],
        "source": [Path(module).read_text(encoding="utf-8") for module in (__file__, encoder.__file__)],
    }
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]
    target = cache / digest
    if target.is_dir():
        return target
    try:
        cache.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=cache, prefix=f"{digest}."))
    except OSError as error:
        raise BertileError(f"cannot write to {cache}: {error.strerror}") from None
    try:
        with quiet():
            samples = calibration(model, sequences)
            prepare_onnxruntime(model, samples, folder)
            prepare_openvino(model, samples, folder)
        folder.chmod(0o755)  # mkdtemp's folder is for its owner only
        os.replace(folder, target)
    except OSError as error:
        if not target.is_dir():  # another run may have been faster
            raise BertileError(f"cannot write to {target}: {error.strerror}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return target


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars, hints or warnings of the tools; what fails is raised."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


class Samples:
    """Calibration data as ONNX Runtime's quantizer asks for it."""

    def __init__(self, samples: list[np.ndarray]):
        self.left = iter(samples)

    def get_next(self) -> dict[str, np.ndarray] | None:
        sample = next(self.left, None)
        return None if sample is None else {"hidden": sample}


def prepare_onnxruntime(model: Model, samples: list[np.ndarray], folder: Path) -> None:
    """INT8: dynamic, and for a single layer static, too. Weights have a scale per channel.

    Signed weights and unsigned activations are what VNNI multiplies.
    """
    quantization = importlib.import_module("onnxruntime.quantization")
    exported = folder / "fp32.onnx"
    axes = {0: "batch", 1: "tokens"}
    with torch.inference_mode():
        torch.onnx.export(
            EncoderStack(model), (torch.from_numpy(samples[0]),), exported, input_names=["hidden"],
            output_names=["output"], dynamic_axes={"hidden": axes, "output": axes}, opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    # Products of two activations stay FP32: ONNX Runtime has no fast INT8 form of attention without its weights.
    options = {"MatMulConstBOnly": True}
    signed, unsigned = quantization.QuantType.QInt8, quantization.QuantType.QUInt8
    quantization.quantize_dynamic(
        exported, folder / ORT_DYNAMIC, per_channel=True, weight_type=signed, extra_options=options
    )
    if model.config.layers == 1:
        quantization.quantize_static(
            exported, folder / ORT_STATIC, Samples(samples), quant_format=quantization.QuantFormat.QDQ,
            per_channel=True, op_types_to_quantize=["MatMul"], activation_type=unsigned, weight_type=signed,
            extra_options=options,
        )  # fmt: skip
    exported.unlink()


def prepare_openvino(model: Model, samples: list[np.ndarray], folder: Path) -> None:
    """FP32, and INT8 by NNCF's post-training quantization for transformers (SmoothQuant, fast bias correction)."""
    openvino, nncf = importlib.import_module("openvino"), importlib.import_module("nncf")
    hidden = samples[0].shape[-1]
    stack = EncoderStack(model)
    converted = openvino.convert_model(
        stack, example_input=torch.from_numpy(samples[0]), input=[("hidden", [-1, -1, hidden])]
    )
    openvino.save_model(converted, folder / OPENVINO_FP32, compress_to_fp16=False)
    quantized = nncf.quantize(
        converted, nncf.Dataset(samples), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(samples)
    )
    openvino.save_model(quantized, folder / OPENVINO_INT8, compress_to_fp16=False)
