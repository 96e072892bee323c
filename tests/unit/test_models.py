"""Extraction against PyTorch, random models, and what the accelerator can hold."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.special import erf
from transformers import (
    BertConfig,
    RobertaConfig,
)

from bertile.errors import BertileError, CapacityError
from bertile.models.encoder import MATRICES, EncoderLayer, Linear, Norm
from bertile.models.families import encoder_config
from bertile.models.load import (
    RANDOM_MODELS,
    check_capacity,
    embeddings,
    encoder_layers,
    load_model,
    random_model,
    random_model_of,
)

FAMILIES = ("bert", "roberta", "distilbert")


def linear(x: np.ndarray, part: Linear) -> np.ndarray:
    return x @ part.weight.T + part.bias


def normalize(x: np.ndarray, norm: Norm, epsilon: float) -> np.ndarray:
    x = x - x.mean(axis=-1, keepdims=True)
    return x / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + epsilon) * norm.gain + norm.bias


def forward(x: np.ndarray, layers: list[EncoderLayer], heads: int, epsilon: float) -> np.ndarray:
    """The encoder with exact GELU in NumPy: [tokens, hidden] to [tokens, hidden]."""

    def split(y: np.ndarray) -> np.ndarray:
        return y.reshape(len(y), heads, -1).swapaxes(0, 1)  # [heads, tokens, head size]

    for layer in layers:
        query, key, value = (split(linear(x, part)) for part in (layer.query, layer.key, layer.value))
        scores = query @ key.swapaxes(1, 2) / np.sqrt(query.shape[-1])
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        context = weights / weights.sum(axis=-1, keepdims=True) @ value
        context = context.swapaxes(0, 1).reshape(x.shape)
        x = normalize(x + linear(context, layer.attention_output), layer.attention_norm, epsilon)
        inner = linear(x, layer.ffn_in)
        inner = inner * 0.5 * (1 + erf(inner / np.sqrt(2)))
        x = normalize(x + linear(inner, layer.ffn_out), layer.ffn_norm, epsilon)
    return x


def run_network(network: torch.nn.Module, ids: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return network(torch.from_numpy(ids)[None]).last_hidden_state[0].numpy()


@pytest.mark.parametrize("tokens", [1, 37, 40])
@pytest.mark.parametrize("family", FAMILIES)
def test_extracted_arrays_compute_what_the_network_computes(tiny_model, family, tokens):
    model = tiny_model(family)
    ids = np.random.default_rng(tokens).integers(5, 97, tokens)  # no padding token
    x = embeddings(model).embed(ids)
    y = forward(x, encoder_layers(model), model.config.heads, model.config.norm_epsilon)
    expected = run_network(model.network, ids)
    assert y.shape == expected.shape == (tokens, 64)
    error = np.abs(y - expected).max()
    assert not np.isnan(error)
    assert not (error > 1e-4), error
    assert expected.std() > 0.5  # a comparison of something


@pytest.mark.parametrize("family", FAMILIES)
def test_config_describes_the_network(tiny_model, family):
    model = tiny_model(family)
    config = model.config
    assert (config.family, config.layers, config.hidden, config.ffn, config.heads) == (family, 3, 64, 112, 2)
    assert (config.head_size, config.max_tokens, config.vocabulary, config.activation) == (32, 40, 97, "gelu")
    assert len(embeddings(model).position) == config.max_tokens
    layer = encoder_layers(model)[2]
    shapes = {name: getattr(layer, name).weight.shape for name in MATRICES}
    assert shapes == {**dict.fromkeys(MATRICES, (64, 64)), "ffn_in": (112, 64), "ffn_out": (64, 112)}
    assert all(getattr(layer, name).weight.dtype == np.float32 for name in MATRICES)


def test_arrays_are_copies(tiny_model):
    model = tiny_model("bert")
    ids = np.arange(5, 12)
    before = run_network(model.network, ids)
    for layer in encoder_layers(model):
        layer.query.weight[:] = 7
        layer.ffn_norm.gain[:] = 7
    embeddings(model).word[:] = 7
    np.testing.assert_array_equal(run_network(model.network, ids), before)


def test_minilm_is_the_real_model():
    model = load_model("minilm")
    assert model.name == "minilm"
    assert not model.synthetic
    config = model.config
    assert (config.layers, config.hidden, config.ffn, config.heads, config.max_tokens) == (6, 384, 1536, 12, 512)
    assert not model.network.training
    assert all(weight.dtype == torch.float32 for weight in model.network.parameters())

    def embed(text: str) -> np.ndarray:
        x = run_network(model.network, np.array(model.tokenizer(text)["input_ids"])).mean(axis=0)
        return x / np.linalg.norm(x)

    near = embed("A man is eating food.") @ embed("A man is eating a meal.")
    far = embed("A man is eating food.") @ embed("The stock market fell sharply.")
    assert near > 0.7 > 0.3 > far


@pytest.mark.parametrize("name", RANDOM_MODELS)
def test_random_models_have_their_published_shapes(name):
    shapes = {
        "bert-base": ("bert", 12, 768, 3072, 12, 512, 30522),
        "bert-large": ("bert", 24, 1024, 4096, 16, 512, 30522),
        "minilm-l6": ("bert", 6, 384, 1536, 12, 512, 30522),
        "distilbert-base": ("distilbert", 6, 768, 3072, 12, 512, 30522),
        "roberta-base": ("roberta", 12, 768, 3072, 12, 512, 50265),
        "bert-tiny": ("bert", 2, 128, 512, 2, 512, 30522),
    }
    config_type, sizes = RANDOM_MODELS[name]
    config = encoder_config(config_type(**sizes))
    fields = (config.family, config.layers, config.hidden, config.ffn, config.heads, config.max_tokens)
    assert (*fields, config.vocabulary) == shapes[name]
    check_capacity(config)


def test_random_model_is_seeded_and_leaves_the_generator_alone():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, second, other = (random_model("bert-tiny", None, seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    weights = [model.network.encoder.layer[1].output.dense.weight for model in (first, second, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert first.synthetic
    assert first.tokenizer is None
    layer = encoder_layers(first)[0]
    for array in (layer.query.bias, layer.ffn_in.bias, layer.ffn_norm.gain, layer.attention_norm.bias):
        assert array.std() > 0.01


def test_random_model_takes_a_number_of_layers():
    assert len(encoder_layers(random_model("bert-tiny", 1, 0))) == 1
    assert random_model("distilbert-base", 1, 0).config.layers == 1
    with pytest.raises(BertileError, match="layers = 0"):
        random_model("bert-tiny", 0, 0)
    with pytest.raises(BertileError, match="unknown configuration 'bert-huge'; known are bert-base,"):
        random_model("bert-huge", None, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden": 1056, "heads": 33}, "hidden size 1056 is over the accelerator's 1024"),
        ({"ffn": 4112}, "feed-forward size 4112 is over the accelerator's 4096"),
        ({"hidden": 48, "heads": 1}, "hidden size 48 is not a multiple of 32"),
        ({"ffn": 120}, "feed-forward size 120 is not a multiple of 16"),
        ({"hidden": 96, "heads": 1}, "head size 96 .* it must be 32 or 64"),
        ({"hidden": 64, "heads": 4}, "head size 16 .* it must be 32 or 64"),
    ],
)
def test_capacity(tiny_model, changes, message):
    config = tiny_model("bert").config
    check_capacity(config)
    check_capacity(dataclasses.replace(config, hidden=1024, heads=16, ffn=4096, layers=99))
    with pytest.raises(CapacityError, match=message):
        check_capacity(dataclasses.replace(config, **changes))


def test_capacity_of_a_real_configuration():
    with pytest.raises(CapacityError, match="1280"):
        check_capacity(encoder_config(BertConfig(hidden_size=1280, num_attention_heads=20)))


def test_roberta_without_padding_token_is_refused():
    with pytest.raises(BertileError, match="pad_token_id"):
        random_model_of("x", RobertaConfig(pad_token_id=None), 0)
