"""Where BERT, RoBERTa and DistilBERT keep the parts of an encoder, and which of their configurations we can run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn
from transformers import PretrainedConfig
from transformers.activations import ACT2FN

from bertile.config.spec import load_spec
from bertile.errors import BertileError, CapacityError
from bertile.models.encoder import MATRICES, EncoderConfig

NORMS = ("attention_norm", "ffn_norm")


@dataclass(frozen=True)
class Family:
    """Names inside a Hugging Face network: `layers` the module list, `modules` the parts of a layer by our names."""

    layers: str
    modules: Mapping[str, str]
    ffn: str  # configuration key of the feed-forward size
    activation: str  # configuration key of the activation function


_BERT = Family(
    layers="encoder.layer",
    modules={
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "attention_output": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "ffn_in": "intermediate.dense",
        "ffn_out": "output.dense",
        "ffn_norm": "output.LayerNorm",
    },
    ffn="intermediate_size",
    activation="hidden_act",
)
_DISTILBERT = Family(
    layers="transformer.layer",
    modules={
        "query": "attention.q_lin",
        "key": "attention.k_lin",
        "value": "attention.v_lin",
        "attention_output": "attention.out_lin",
        "attention_norm": "sa_layer_norm",
        "ffn_in": "ffn.lin1",
        "ffn_out": "ffn.lin2",
        "ffn_norm": "output_layer_norm",
    },
    ffn="hidden_dim",
    activation="activation",
)
FAMILIES: Mapping[str, Family] = {"bert": _BERT, "roberta": _BERT, "distilbert": _DISTILBERT}


def layer_modules(network: nn.Module, family: str) -> list[dict[str, nn.Module]]:
    """The parts of every layer, by the names in `MATRICES` and `NORMS`; the modules themselves, not copies."""
    names = FAMILIES[family]
    return [
        {name: layer.get_submodule(path) for name, path in names.modules.items()}
        for layer in network.get_submodule(names.layers)
    ]


def matrices(network: nn.Module, family: str) -> dict[str, nn.Linear]:
    """The six matrices of every layer as `layers.<index>.<name>`, in the order in which the encoder uses them."""
    return {
        f"layers.{index}.{name}": modules[name]
        for index, modules in enumerate(layer_modules(network, family))
        for name in MATRICES
    }


def first_position(family: str, config: PretrainedConfig) -> int:
    """Row of the position embeddings that the first token of a sequence uses."""
    return config.pad_token_id + 1 if family == "roberta" else 0


def encoder_config(config: PretrainedConfig) -> EncoderConfig:
    """Shape of the encoder that `config` describes. Raises BertileError where it is none that we can run."""
    family = config.model_type
    if family not in FAMILIES:
        raise BertileError(f"architecture {family!r} is not supported; supported are {', '.join(FAMILIES)}")
    if getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False):
        raise BertileError(f"the model is a {family} decoder; only encoders are supported")
    position_type = getattr(config, "position_embedding_type", "absolute")
    if position_type != "absolute":
        raise BertileError(f"position_embedding_type {position_type!r} is not supported; supported is 'absolute'")
    if family == "roberta" and config.pad_token_id is None:
        raise BertileError("a roberta configuration without pad_token_id has no first position")
    names = FAMILIES[family]
    shape = EncoderConfig(
        family=family,
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        ffn=getattr(config, names.ffn),
        heads=config.num_attention_heads,
        activation=getattr(config, names.activation),
        norm_epsilon=getattr(config, "layer_norm_eps", 1e-12),  # DistilBERT has this one built in
        max_tokens=config.max_position_embeddings - first_position(family, config),
        vocabulary=config.vocab_size,
    )
    for name in ("layers", "hidden", "ffn", "heads", "max_tokens", "vocabulary"):
        if getattr(shape, name) < 1:
            raise BertileError(f"the configuration has {name} = {getattr(shape, name)}")
    if not shape.norm_epsilon > 0:
        raise BertileError(f"the configuration has layer_norm_eps = {shape.norm_epsilon}")
    if shape.activation not in ACT2FN:
        raise BertileError(f"unknown activation function {shape.activation!r}")
    if shape.hidden % shape.heads:
        raise BertileError(f"hidden size {shape.hidden} is not a multiple of the number of heads {shape.heads}")
    return shape


def check_capacity(config: EncoderConfig) -> None:
    """Raises CapacityError, naming number and limit, where the accelerator of this checkout cannot hold the encoder."""
    spec = load_spec()
    for name, size, limit, multiple in (
        ("hidden size", config.hidden, spec.capacity.hidden, spec.word.tokens),
        ("feed-forward size", config.ffn, spec.capacity.ffn, spec.array.outputs),
    ):
        if size > limit:
            raise CapacityError(f"{name} {size} is over the accelerator's {limit}")
        if size % multiple:
            raise CapacityError(f"{name} {size} is not a multiple of {multiple}")
    if config.head_size not in spec.capacity.head_sizes:
        sizes = " or ".join(map(str, spec.capacity.head_sizes))
        raise CapacityError(f"head size {config.head_size} does not fit the accelerator; it must be {sizes}")
