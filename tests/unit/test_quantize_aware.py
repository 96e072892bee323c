"""Fake quantization: close to the integers it stands for, straight-through, and resumed with the scales it had."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.fine_tuned import make_classifier, make_config
from torch.nn import functional

from bertile.golden.fp32 import run_fp32
from bertile.golden.integer import IntegerEncoder
from bertile.models.families import layer_modules, matrices
from bertile.models.load import Model, embeddings, encoder_layers, load_model, random_model_of
from bertile.models.quantized import dequantize_output, quantize_input
from bertile.quantize import aware
from bertile.quantize.aware import FakeQuantizer, Grid, calibrate, weight_steps
from bertile.quantize.quantizer import quantize_encoder
from bertile.quantize.scales import quantize_weight
from bertile.quantize.texts import CALIBRATION_FILE, calibration_lines, spread_indices
from bertile.tasks.glue import TASKS
from bertile.text import TextEncoder, bundled_lines, read_lines
from bertile.train.options import DistillOptions, Options, TrainOptions
from bertile.train.prepare import Job, count_steps
from bertile.train.run import run_job
from bertile.train.trainer import QUANTIZER_FILE, BertileTrainer
from bertile.train.work import complete_checkpoints, work_folder
from bertile.workflow import pack_model, tokenizer_json


def random_ids(seed: int, lengths: tuple[int, ...]) -> list[np.ndarray]:
    """Behind the special tokens: RoBERTa counts positions by its padding."""
    generator = np.random.default_rng(seed)
    return [generator.integers(5, 250, tokens) for tokens in lengths]


def tiny(family: str) -> Model:
    return random_model_of(family, make_config(family), seed=3)


def attached(model: Model, sequences: list[np.ndarray]) -> FakeQuantizer:
    quantizer = FakeQuantizer(model.network, model.config.family, calibrate(model, sequences))
    quantizer.enable()
    return quantizer


def distances(a: list[np.ndarray], b: list[np.ndarray]) -> np.ndarray:
    """1 - cosine of each token's two vectors."""
    a, b = np.concatenate(a).astype(float), np.concatenate(b).astype(float)
    return 1 - (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def integer_states(model: Model, calibration: list[np.ndarray], sequences: list[np.ndarray]) -> list[np.ndarray]:
    """Final hidden states of the integer reference."""
    parts = embeddings(model)
    quantized = quantize_encoder(encoder_layers(model), model.config, parts, calibration)
    device = IntegerEncoder(quantized)
    runs = [device.run([quantize_input(parts.embed(ids), quantized.input_scale)])[-1] for ids in sequences]
    return [
        dequantize_output(run[: len(ids)], quantized.output_scale[-1]) for run, ids in zip(runs, sequences, strict=True)
    ]


@pytest.mark.parametrize(("name", "share"), [("bert", 0.5), ("distilbert", 0.5), ("roberta", 0.5), ("minilm", 0.85)])
def test_fake_quantization_is_close_to_the_integer_network(name, share):
    """Closer than the float network, which comes back as it was. Over six layers even small differences grow."""
    if name == "minilm":
        model = load_model(name)
        encoder = TextEncoder(tokenizer_json(model), model.config)
        calibration = encoder.encode(bundled_lines("calibration.txt")[:24])
        sequences = encoder.encode(bundled_lines("demo.txt")[:3])
    else:
        model, calibration, sequences = tiny(name), random_ids(1, (40, 17, 64, 5)), random_ids(2, (29, 64, 3))
    exact, integer = run_fp32(model, sequences), integer_states(model, calibration, sequences)
    quantizer = attached(model, calibration)
    fake = run_fp32(model, sequences)
    quantizer.disable()
    without, with_fake = distances(exact, integer), distances(fake, integer)
    assert len(without) == sum(map(len, sequences))
    assert not (with_fake.mean() > share * without.mean())
    assert all(np.array_equal(a, b) for a, b in zip(exact, run_fp32(model, sequences), strict=True))


def test_every_matrix_sees_integers():
    """Inputs of all six matrices and the residuals lie on their grids, saturated; so do queries, keys and values."""
    model = tiny("bert")
    quantizer = attached(model, random_ids(1, (40, 17)))
    seen = {}
    for name, linear in matrices(model.network, "bert").items():
        # `forward` of the module is ours: the hooks see what goes in and out of it.
        linear.register_forward_hook(lambda module, inputs, output, name=name: seen.update({name: (inputs[0], output)}))
    run_fp32(model, [3 * random_ids(2, (29,))[0] % 250 + 5])
    assert len(seen) == 12
    for index, scales in enumerate(quantizer.scales):
        checked = [(seen[f"layers.{index}.query"][0], scales.input), (seen[f"layers.{index}.ffn_in"][0], scales.middle)]
        checked += [(seen[f"layers.{index}.{name}"][1], getattr(scales, name)) for name in ("query", "key", "value")]
        for values, scale in checked:
            steps = values.double().numpy() / scale
            assert not (np.abs(steps - np.rint(steps)).max() > 1e-3)
            assert -128.01 < steps.min() < steps.max() < 127.01


def test_values_beyond_the_range_saturate_as_in_hardware():
    signed = Grid(torch.tensor([0.5, 2.0]), -128, 127)
    assert signed.round(torch.tensor([[-1000.0, 1000.0], [1.3, -1.3]])).tolist() == [[-64.0, 254.0], [1.5, -2.0]]
    unsigned = Grid(torch.tensor(0.1), 0, 255, zero=9)
    assert unsigned.steps(torch.tensor([-5.0, 0.0, 0.26, 99.0])).tolist() == [-9.0, 0.0, 3.0, 246.0]


def test_gradient_is_the_identity_inside_and_zero_outside():
    x = torch.tensor([[-80.0, -63.0, 0.1, 63.0, 64.5]], requires_grad=True)
    upstream = torch.tensor([[3.0, 5.0, 7.0, 11.0, 13.0]])
    Grid(torch.tensor(0.5), -128, 127).round(x).backward(upstream)
    assert x.grad.tolist() == [[0.0, 5.0, 7.0, 11.0, 0.0]]
    x.grad = None
    Grid(torch.tensor(0.5), 0, 255, zero=10).round(x).backward(upstream)
    assert x.grad.tolist() == [[0.0, 0.0, 7.0, 11.0, 13.0]]


def test_weights_round_as_the_quantizer_rounds_them():
    rng = np.random.default_rng(6)
    weight = rng.standard_normal((48, 70)).astype(np.float32)
    weight[5], weight[16:32, 11] = 0, 0
    scale = rng.uniform(0.01, 3.0, 70)
    integer, step = quantize_weight(weight * scale)
    parameter = torch.from_numpy(weight).requires_grad_()
    steps, real_step = weight_steps(parameter, torch.from_numpy(scale).float())
    # A weight halfway between two steps may fall either way in float32.
    assert not ((steps.detach().numpy() != integer).mean() > 1e-3)
    assert np.allclose(real_step.numpy(), step, rtol=1e-6)
    assert (steps[16:32, 11] == 0).all()
    assert (steps[5] == 0).all()
    steps.sum().backward()
    assert np.allclose(parameter.grad.numpy(), scale / step[:, None], rtol=1e-5)


def test_gradients_of_a_matrix_are_those_of_its_rounded_self():
    """Weight and bias gradients as if the rounded matrix were an ordinary one, and weights follow an optimizer."""
    model = tiny("bert")
    quantizer = attached(model, random_ids(1, (40, 17)))
    value, scales = layer_modules(model.network, "bert")[0]["value"], quantizer.scales[0]
    grid = Grid(torch.tensor(scales.input).float(), -128, 127)
    x = torch.randn(9, 64, generator=torch.Generator().manual_seed(4)) * 0.3 * 127 * grid.scale
    with torch.no_grad():
        value.weight[16:32, 7] = 0
    output = value(x)
    output.sum().backward()
    rounded = grid.round(x)
    inside = output.detach().abs() < 126 * torch.tensor(scales.value).float()
    assert inside.any(0).all()
    assert torch.allclose(value.bias.grad, inside.float().sum(0), atol=2.0)  # but for values right at the edge
    rows = inside.all(0)
    assert torch.allclose(value.weight.grad[rows], rounded.sum(0).expand(int(rows.sum()), -1), rtol=1e-4, atol=1e-4)
    weight, step = weight_steps(value.weight.detach(), grid.scale)
    exact = functional.linear(rounded, weight * step[:, None] / grid.scale, value.bias.detach())
    error = (output - exact).detach().abs()[inside] / torch.tensor(scales.value).float().expand(9, -1)[inside]
    assert not (error.max() > 0.51)
    assert (weight[16:32, 7] == 0).all()
    with torch.no_grad():
        value.weight.mul_(0.5)
    assert not torch.allclose(value(x), output)


def test_autocast_multiplies_the_same_integers(monkeypatch):
    """Both factors of every product survive bfloat16 as they are."""
    model, sequences = tiny("bert"), random_ids(1, (40, 17))
    attached(model, sequences)
    factors = []

    def watched(x, weight):
        factors.append((x, weight))
        return functional.linear(x, weight)

    monkeypatch.setattr(aware, "functional", SimpleNamespace(linear=watched))
    with torch.autocast("cpu", torch.bfloat16):
        run_fp32(model, sequences[:1])
        assert layer_modules(model.network, "bert")[0]["query"](torch.ones(3, 64)).dtype == torch.bfloat16
    assert len(factors) == 13
    for values in (x for pair in factors for x in pair):
        assert torch.equal(values.bfloat16().float(), values)


def test_state_brings_the_same_scales_back():
    model, sequences = tiny("distilbert"), random_ids(1, (40, 17))
    quantizer = attached(model, sequences)
    assert quantizer.enabled
    outputs = run_fp32(model, sequences)
    names = set(model.network.state_dict())
    state = {name: tensor.clone() for name, tensor in quantizer.state().items()}
    quantizer.disable()
    assert not quantizer.enabled
    assert set(model.network.state_dict()) == names
    again = FakeQuantizer.from_state(model.network, "distilbert", state)
    again.enable()
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.state().items())
    assert all(np.array_equal(a, b) for a, b in zip(outputs, run_fp32(model, sequences), strict=True))


WORDS = ("train", "boat", "stands", "runs", "slowly", "near", "under", "house", "lake", "hill")


def write_task(folder: Path) -> Path:
    """An MRPC of 40 and 12 random pairs; the label says whether they begin alike."""
    generator = np.random.default_rng(0)
    folder.mkdir()
    for split, count in (("train", 40), ("dev", 12)):
        rows = ["sentence1\tsentence2\tlabel"]
        for _ in range(count):
            first, second = (" ".join(generator.choice(WORDS, generator.integers(3, 9))) for _ in range(2))
            rows.append(f"{first}\t{second}\t{int(first[0] == second[0])}")
        (folder / f"{split}.tsv").write_text("\n".join(rows) + "\n")
    return folder


def make_job(tmp_path: Path, output: str, **changes) -> Job:
    """10 steps an epoch of batches of 4, for 1.2 epochs; all behind the first 7 steps are quantized."""
    source, data = tmp_path / "source", tmp_path / "data"
    if not source.exists():
        source.mkdir()
        make_classifier(source)
        write_task(data)
    options = replace(
        TrainOptions(
            epochs=1.2,
            batch_size=4,
            learning_rate=1e-3,
            save_steps=2,
            log_steps=1,
            precision="fp32",
            quantized_epochs=0.5,
        ),
        **changes,
    )
    return Job(str(source), tmp_path / output, Options(options, DistillOptions()), TASKS["mrpc"], data)


class Killed(Exception):
    pass


def stop_behind(step: int):
    def progress(done: int, total: int) -> None:
        if done > step:
            raise Killed

    return progress


def test_a_resumed_run_keeps_the_scales_of_its_quantized_steps(tmp_path, monkeypatch):
    started = []
    start = BertileTrainer.start_quantizing

    def watched(trainer, state=None):
        start(trainer, state)
        started.append((trainer.state.global_step, state is not None))

    monkeypatch.setattr(BertileTrainer, "start_quantizing", watched)
    log = run_job(make_job(tmp_path, "whole"))
    assert started == [(7, False)]
    assert (log["steps"], log["quantized_steps"]) == (12, 5)
    with pytest.raises(Killed):
        run_job(make_job(tmp_path, "broken"), stop_behind(10))
    last = complete_checkpoints(work_folder(tmp_path / "broken"))[-1]
    assert last.name == "checkpoint-10"
    kept = load_file(last / QUANTIZER_FILE)
    restored = []
    monkeypatch.setattr(
        BertileTrainer, "start_quantizing", lambda trainer, state=None: (restored.append(state), start(trainer, state))
    )
    run_job(make_job(tmp_path, "broken"))
    assert len(restored) == 1
    assert all(torch.equal(tensor, kept[name]) for name, tensor in restored[0].items())
    whole, broken = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "broken"))
    assert whole.keys() == broken.keys()
    assert all(torch.equal(tensor, broken[name]) for name, tensor in whole.items())


def test_quantized_steps_change_what_is_trained(tmp_path):
    run_job(make_job(tmp_path, "aware"))
    log = run_job(make_job(tmp_path, "float", quantized_epochs=0.0))
    assert log["quantized_steps"] == 0
    rounded, plain = (load_file(tmp_path / name / "model.safetensors") for name in ("aware", "float"))
    assert rounded.keys() == plain.keys()
    name = "bert.encoder.layer.0.output.dense.weight"
    assert not torch.equal(rounded[name], plain[name])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (TrainOptions(epochs=3, batch_size=4), (30, 0)),
        (TrainOptions(epochs=3, batch_size=4, quantized_epochs=1), (30, 10)),
        (TrainOptions(epochs=3, batch_size=4, accumulate=2, quantized_epochs=0.5), (15, 3)),
        (TrainOptions(max_steps=7, batch_size=4, quantized_epochs=1), (7, 7)),
    ],
)
def test_quantized_steps_of_the_options(options, expected):
    assert count_steps(options, 40) == expected


def test_a_trained_folder_brings_its_calibration_text(tmp_path):
    """Packing takes the folder's, --calibrate before it, the bundled text without either; provenance says which."""
    job = make_job(tmp_path, "trained", max_steps=1, quantized_epochs=0.0)
    run_job(job)
    folder = str(job.output)
    lines = read_lines(job.output / CALIBRATION_FILE)
    assert len(lines) == 40
    assert all(isinstance(line, tuple) for line in lines)
    model = load_model(folder)
    own = pack_model(model, folder)
    assert own.provenance["calibration"]["source"] == "training text of the model"
    assert own.provenance["calibration"]["sequences"] == 40
    (tmp_path / "other.txt").write_text("a boat\n")
    other = pack_model(model, folder, tmp_path / "other.txt")
    assert other.provenance["calibration"]["source"] == "other.txt"
    (job.output / CALIBRATION_FILE).unlink()
    bundled = pack_model(model, folder)
    assert bundled.provenance["calibration"]["source"] == "bundled calibration.txt"
    assert not np.array_equal(own.input_scale, bundled.input_scale)


def test_calibration_lines_are_readable_and_few(tmp_path):
    texts = [("one  two\tthree", "four\u2028five"), ("", "six"), "seven eight nine ten"]
    assert calibration_lines(texts, 3) == ["one two three\tfour five", "seven eight nine"]
    (tmp_path / "lines.txt").write_text("\n".join(calibration_lines(texts, 3)))
    assert read_lines(tmp_path / "lines.txt") == [("one two three", "four five"), "seven eight nine"]
    assert spread_indices(3) == [0, 1, 2]
    assert len(spread_indices(1000)) == 256
    assert spread_indices(1000)[-1] == 999
