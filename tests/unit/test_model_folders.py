"""Model folders: round trips, and every broken one refused in one line."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub.utils import are_progress_bars_disabled
from safetensors.torch import load_file, save_file
from transformers import (
    AlbertConfig,
    AutoModel,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
)
from transformers.utils import logging as transformers_logging

from bertile.errors import BertileError
from bertile.models.load import encoder_layers, load_model, random_model, save_model


def assert_same_weights(network: torch.nn.Module, expected: torch.nn.Module) -> None:
    weights, expected_weights = network.state_dict(), expected.state_dict()
    assert weights.keys() == expected_weights.keys()
    assert len(weights) > 50
    for name, weight in weights.items():
        assert torch.equal(weight, expected_weights[name]), name


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_saved_models_come_back(tiny_model, tmp_path, family):
    model = tiny_model(family)
    save_model(model, tmp_path / "saved")
    back = load_model(str(tmp_path / "saved"))
    assert (back.name, back.synthetic, back.tokenizer) == (f"tiny-{family}", True, None)
    assert back.config == model.config
    assert back.network.config._attn_implementation == "eager"
    assert_same_weights(back.network, model.network)
    assert_same_weights(AutoModel.from_pretrained(tmp_path / "saved"), model.network)
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_saved_tokenizer_comes_back(tmp_path):
    model = dataclasses.replace(random_model("bert-tiny", 1, 0), tokenizer=load_model("minilm").tokenizer)
    save_model(model, tmp_path / "saved")
    text = "Prune, pack, run."
    expected = model.tokenizer(text)["input_ids"]
    assert len(expected) > 5
    assert load_model(str(tmp_path / "saved")).tokenizer(text)["input_ids"] == expected


def test_save_replaces_only_what_is_ours(tiny_model, folder, tmp_path, monkeypatch):
    model = tiny_model("bert")
    with pytest.raises(BertileError, match="not empty, and not a folder that Bertile wrote"):
        save_model(model, folder)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BertileError, match="is a file"):
        save_model(model, tmp_path / "file")
    with pytest.raises(BertileError, match="cannot write"):
        save_model(model, tmp_path / "file" / "below")
    (tmp_path / "empty").mkdir()
    save_model(model, tmp_path / "empty")
    (tmp_path / "empty" / "mine").touch()
    with pytest.raises(BertileError, match="holds mine, which Bertile did not write"):
        save_model(model, tmp_path / "empty")
    (tmp_path / "empty" / "mine").unlink()
    save_model(dataclasses.replace(model, name="newer", synthetic=False), tmp_path / "empty")
    back = load_model(str(tmp_path / "empty"))
    assert (back.name, back.synthetic) == ("newer", False)

    def fail(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(model.network, "save_pretrained", fail)
    with pytest.raises(BertileError, match="No space left"):
        save_model(model, tmp_path / "empty")
    assert load_model(str(tmp_path / "empty")).name == "newer"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "model"]


def test_failed_replacement_puts_the_old_folder_back(tiny_model, tmp_path, monkeypatch):
    model = tiny_model("bert")
    save_model(model, tmp_path / "saved")
    rename = Path.rename

    def fail_for_the_new(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError("Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new)
    with pytest.raises(BertileError, match=r"cannot write .* Input/output error"):
        save_model(dataclasses.replace(model, name="newer"), tmp_path / "saved")
    assert load_model(str(tmp_path / "saved")).name == model.name
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


@pytest.mark.parametrize("text", ["{", "[]", '{"name": "x", "synthetic": "yes", "pruning": null}', '{"name": "x"}'])
def test_broken_mark_is_refused(folder, tiny_model, text):
    (folder / "bertile.json").write_text(text)
    with pytest.raises(BertileError, match=r"bertile\.json is broken"):
        load_model(str(folder))
    with pytest.raises(BertileError, match=r"bertile\.json is broken"):
        save_model(tiny_model("bert"), folder)


@pytest.mark.parametrize("task", [BertForSequenceClassification, BertForMaskedLM])
def test_task_heads_are_dropped(tiny_model, tmp_path, task):
    network = task(tiny_model("bert").network.config).eval()
    network.save_pretrained(tmp_path / "task")
    model = load_model(str(tmp_path / "task"))
    assert model.name == "task"
    assert_same_weights(model.network, network.bert)
    assert (model.network.pooler is None) == (task is BertForMaskedLM)  # never a random one


def test_half_precision_weights_become_float32(tiny_model, tmp_path):
    BertModel(tiny_model("bert").network.config).half().save_pretrained(tmp_path / "half")
    assert encoder_layers(load_model(str(tmp_path / "half")))[0].query.weight.dtype == np.float32
    assert next(load_model(str(tmp_path / "half")).network.parameters()).dtype == torch.float32


def edit_config(folder, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def edit_weights(folder, change) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def set_to(name: str, value: float):
    return lambda weights: weights[name][1, 2].fill_(value)


def truncate(folder) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


KEY = "encoder.layer.1.intermediate.dense.weight"
BREAKAGES = {
    "no config": (lambda f: (f / "config.json").unlink(), "has no config.json"),
    "config is no JSON": (lambda f: (f / "config.json").write_text("{"), "config.json cannot be read.*JSON"),
    "config of no model": (lambda f: (f / "config.json").write_text("{}"), "config.json cannot be read.*model_type"),
    "config of a wrong type": (lambda f: edit_config(f, hidden_size="many"), "config.json cannot be read"),
    "unknown architecture": (lambda f: edit_config(f, model_type="nonsense"), "config.json cannot be read.*nonsense"),
    "decoder": (lambda f: edit_config(f, is_decoder=True), "bert decoder; only encoders"),
    "relative positions": (
        lambda f: edit_config(f, position_embedding_type="relative_key"),
        "position_embedding_type 'relative_key' is not supported",
    ),
    "heads": (lambda f: edit_config(f, num_attention_heads=3), "hidden size 64 is not a multiple of .* heads 3"),
    "no heads": (lambda f: edit_config(f, num_attention_heads=0), "heads = 0"),
    "other sizes": (lambda f: edit_config(f, intermediate_size=128), "the weights cannot be read"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "the weights cannot be read"),
    "truncated weights": (truncate, "the weights cannot be read"),
    "weights of rubbish": (lambda f: (f / "model.safetensors").write_bytes(b"rubbish"), "the weights cannot be read"),
    "missing weight": (lambda f: edit_weights(f, lambda w: w.pop(KEY)), f"1 weights are missing, among them {KEY}"),
    "missing layer": (lambda f: edit_config(f, num_hidden_layers=4), r"16 weights are missing.*encoder\.layer\.3"),
    "layer too many": (lambda f: edit_config(f, num_hidden_layers=2), r"16 weights have no place.*encoder\.layer\.2"),
    "NaN": (lambda f: edit_weights(f, set_to(KEY, float("nan"))), f"{KEY} holds NaN or infinite"),
    "infinity": (lambda f: edit_weights(f, set_to(KEY, float("-inf"))), f"{KEY} holds NaN or infinite"),
    "tokenizer": (lambda f: (f / "tokenizer.json").write_text("{"), "the tokenizer cannot be read"),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_broken_folders_are_refused_in_one_line(folder, name):
    load_model(str(folder))  # whole before
    change, message = BREAKAGES[name]
    change(folder)
    with pytest.raises(BertileError, match=message) as caught:
        load_model(str(folder))
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("config", [GPT2Config(n_layer=1, n_embd=32, n_head=1), AlbertConfig(hidden_size=64)])
def test_other_architectures_are_refused(tmp_path, config):
    config.save_pretrained(tmp_path)
    message = f"architecture '{config.model_type}' is not supported; supported are bert, roberta, distilbert"
    with pytest.raises(BertileError, match=message):
        load_model(str(tmp_path))


def test_loading_leaves_the_loggers_as_they_were(folder):
    before = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    bars = are_progress_bars_disabled()
    load_model(str(folder))
    assert (transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()) == before
    assert are_progress_bars_disabled() == bars
