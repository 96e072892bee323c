"""Models from the outside: checkpoints and seeded random ones in, plain arrays and folders out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from huggingface_hub.utils import logging as hub_logging
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    BertConfig,
    DistilBertConfig,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    RobertaConfig,
)
from transformers.utils import logging as transformers_logging

from bertile.errors import BertileError
from bertile.models.encoder import MATRICES, Embeddings, EncoderConfig, EncoderLayer, Linear, Norm, token_types
from bertile.models.families import (
    FAMILIES,
    NORMS,
    check_capacity,
    encoder_config,
    first_position,
    layer_modules,
)
from bertile.models.folder import find_folder, first_line, new_folder, read_marker

__all__ = [
    "RANDOM_MODELS",
    "Model",
    "check_capacity",
    "embeddings",
    "encoder_layers",
    "load_model",
    "random_model",
    "random_model_of",
    "save_model",
    "separator_of",
]

VOCABULARY_FILES = ("tokenizer.json", "vocab.txt", "vocab.json")
_BERT_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
_MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
_BERT_TINY = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512}
_ROBERTA = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
# What is not named is Hugging Face's default, which is the base model of the family.
RANDOM_MODELS: dict[str, tuple[type[PretrainedConfig], dict]] = {
    "bert-base": (BertConfig, {}),
    "bert-large": (BertConfig, _BERT_LARGE),
    "minilm-l6": (BertConfig, _MINILM),
    "distilbert-base": (DistilBertConfig, {}),
    "roberta-base": (RobertaConfig, _ROBERTA),
    "bert-tiny": (BertConfig, _BERT_TINY),
}


@dataclass(frozen=True)
class Model:
    """An encoder as PyTorch runs it: `network` without a task head, float32, in eval mode, with eager attention.

    `tokenizer` is None where the source has none; `synthetic` says that the weights are random, so that accuracy
    means nothing.
    """

    name: str
    network: nn.Module
    config: EncoderConfig
    tokenizer: PreTrainedTokenizerBase | None
    synthetic: bool


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars, log lines or warnings of transformers and the hub: what matters is raised as an error."""
    verbosity, hub_verbosity = transformers_logging.get_verbosity(), hub_logging.get_verbosity()
    bars, no_hub_bars = transformers_logging.is_progress_bar_enabled(), are_progress_bars_disabled()
    transformers_logging.set_verbosity(transformers_logging.CRITICAL)
    hub_logging.set_verbosity(hub_logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        hub_logging.set_verbosity(hub_verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
        if not no_hub_bars:
            enable_progress_bars()


def load_model(source: str) -> Model:
    """The model `source`: `minilm` (the embedded all-MiniLM-L6-v2), a folder, or a Hugging Face id.

    Raises BertileError, one line, for a model that is not there, broken, not an encoder that we can run, or without
    some of its weights.
    """
    with quiet():
        folder = find_folder(str(source))
        if not (folder / "config.json").is_file():
            raise BertileError(f"{source} has no config.json")
        marker = read_marker(folder) or {"name": _name(source), "synthetic": False}
        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # transformers has no common base for what a foreign file can cause
            raise BertileError(f"{source}: config.json cannot be read: {first_line(error)}") from error
        try:
            shape = encoder_config(config)
        except BertileError as error:
            raise BertileError(f"{source}: {error}") from None
        network = _load_network(source, folder, config)
        return Model(marker["name"], network, shape, _load_tokenizer(source, folder), marker["synthetic"])


def _name(source: str) -> str:
    """`minilm` and hub ids name themselves; a folder is named by its last part."""
    path = Path(source).expanduser()
    return path.resolve().name if path.is_dir() else str(source)


def _load_network(source: str, folder: Path, config: PretrainedConfig) -> nn.Module:
    try:
        network, report = AutoModel.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            attn_implementation="eager",
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # as above
        raise BertileError(f"{source}: the weights cannot be read: {first_line(error)}") from error
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise BertileError(f"{source}: {len(missing)} weights are missing, among them {missing[0]}")
    # Task heads may go, but a layer with parts of its own (an adapter, one layer too many) is another network.
    foreign = sorted(key for key in report["unexpected_keys"] if f"{FAMILIES[config.model_type].layers}." in key)
    if foreign:
        raise BertileError(f"{source}: {len(foreign)} weights have no place in the encoder, among them {foreign[0]}")
    if any(key.startswith("pooler.") for key in report["missing_keys"]):
        network.pooler = None  # rather than a random one
    for name, tensor in network.named_parameters():
        if not torch.isfinite(tensor).all():
            raise BertileError(f"{source}: {name} holds NaN or infinite weights")
    return network.eval()


def _load_tokenizer(source: str, folder: Path) -> PreTrainedTokenizerBase | None:
    if not any((folder / name).is_file() for name in VOCABULARY_FILES):
        return None
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # as above
        raise BertileError(f"{source}: the tokenizer cannot be read: {first_line(error)}") from error


def random_model(name: str, layers: int | None, seed: int) -> Model:
    """A model of the shape `name`, a key of `RANDOM_MODELS`, with seeded random weights and no tokenizer.

    `layers` replaces the number of layers. Raises BertileError for an unknown name or less than one layer.
    """
    if name not in RANDOM_MODELS:
        raise BertileError(f"unknown configuration {name!r}; known are {', '.join(RANDOM_MODELS)}")
    config_type, sizes = RANDOM_MODELS[name]
    config = config_type(**sizes)
    if layers is not None:
        config.num_hidden_layers = layers
    return random_model_of(name, config, seed)


def random_model_of(name: str, config: PretrainedConfig, seed: int) -> Model:
    """As `random_model`, for any supported Hugging Face configuration.

    Matrices are as Hugging Face initializes them; its zero biases and unit gains become mildly random, so that
    whoever forgets one of them is found out. Raises BertileError for a configuration that is not supported.
    """
    shape = encoder_config(config)
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = AutoModel.from_config(config, attn_implementation="eager").float().eval()
        with torch.no_grad():
            for module in network.modules():
                if isinstance(module, nn.LayerNorm):
                    module.weight.normal_(1.0, 0.1)
                    module.bias.normal_(0.0, 0.1)
                elif isinstance(module, nn.Linear):
                    module.bias.normal_(0.0, 0.05)
    return Model(name, network, shape, None, synthetic=True)


def _array(tensor: torch.Tensor) -> np.ndarray:
    """A float32 copy: whoever changes it does not change the network."""
    return tensor.detach().cpu().numpy().astype(np.float32, copy=True)


def encoder_layers(model: Model) -> list[EncoderLayer]:
    """The layers of `model` as arrays of their own; shapes as in `EncoderLayer`."""
    return [
        EncoderLayer(
            **{name: Linear(_array(modules[name].weight), _array(modules[name].bias)) for name in MATRICES},
            **{name: Norm(_array(modules[name].weight), _array(modules[name].bias)) for name in NORMS},
        )
        for modules in layer_modules(model.network, model.config.family)
    ]


def separator_of(model: Model) -> int:
    """The token behind which a second sentence, of token type 1, begins; -1 where all tokens are of type 0.

    The tokenizer decides: it may give no types to a model that has them. Raises BertileError where it gives others
    than `token_types` does.
    """
    parts = getattr(model.network.embeddings, "token_type_embeddings", None)
    if parts is None or len(parts.weight) < 2 or model.tokenizer is None or model.tokenizer.sep_token_id is None:
        return -1
    pair = model.tokenizer("a", "b")
    types = pair.get("token_type_ids", [0])
    if not any(types):
        return -1
    separator = model.tokenizer.sep_token_id
    if types != token_types(np.array(pair["input_ids"]), separator).tolist():
        raise BertileError(f"{model.name}: its tokenizer's token types do not change behind the first separator")
    return separator


def embeddings(model: Model) -> Embeddings:
    """The embeddings of `model` as arrays of their own; shapes as in `Embeddings`."""
    parts = model.network.embeddings
    position = _array(parts.position_embeddings.weight)[first_position(model.config.family, model.network.config) :]
    second, separator = None, separator_of(model)
    if model.config.family != "distilbert":
        types = _array(parts.token_type_embeddings.weight)
        position = position + types[0]
        second = types[1] - types[0] if separator >= 0 else None
    norm = Norm(_array(parts.LayerNorm.weight), _array(parts.LayerNorm.bias))
    word = _array(parts.word_embeddings.weight)
    return Embeddings(word, position, norm, model.config.norm_epsilon, second, separator)


def write_model(model: Model, folder: Path) -> None:
    """The Hugging Face files of `model` into an existing folder."""
    with quiet():
        model.network.save_pretrained(folder)
        if model.tokenizer is not None:
            model.tokenizer.save_pretrained(folder)


def save_model(model: Model, directory: str | Path) -> None:
    """Write `model` to `directory` as `from_pretrained` reads it; an empty folder or one of Bertile's is replaced.

    Raises BertileError where something else is in the way; the target is then as it was.
    """
    with new_folder(directory, model.name, model.synthetic, pruning=None) as folder:
        write_model(model, folder)
