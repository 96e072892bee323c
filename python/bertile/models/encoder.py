"""The encoder as plain arrays: one set of names for BERT, RoBERTa and DistilBERT."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# The six weight matrices of a layer, in the order in which a layer uses them.
MATRICES = ("query", "key", "value", "attention_output", "ffn_in", "ffn_out")


@dataclass(frozen=True)
class EncoderConfig:
    """Shape of an encoder. `max_tokens` is how many tokens its position embeddings allow."""

    family: str  # bert, roberta or distilbert
    layers: int
    hidden: int
    ffn: int
    heads: int
    activation: str  # gelu, gelu_new, relu ... as Hugging Face names it
    norm_epsilon: float
    max_tokens: int
    vocabulary: int

    @property
    def head_size(self) -> int:
        return self.hidden // self.heads


@dataclass(frozen=True)
class Linear:
    """`y = x @ weight.T + bias`: weight [out, in] float32, bias [out] float32."""

    weight: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class Norm:
    """LayerNorm: gain [hidden] float32, bias [hidden] float32."""

    gain: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class EncoderLayer:
    """One post-LayerNorm transformer layer."""

    query: Linear
    key: Linear
    value: Linear
    attention_output: Linear
    attention_norm: Norm
    ffn_in: Linear
    ffn_out: Linear
    ffn_norm: Norm


def first_tokens(token_ids: np.ndarray, separator: int) -> int:
    """How many of token_ids [tokens] are of token type 0: up to the first separator and with it, or all."""
    found = np.flatnonzero(token_ids == separator)
    return int(found[0]) + 1 if len(found) else len(token_ids)


def token_types(token_ids: np.ndarray, separator: int) -> np.ndarray:
    """Token types [tokens] int64 of token_ids [tokens]: 1 behind the first separator, where a second sentence stands.

    So ids alone say what a sequence is, also where a text contains the separator's name.
    """
    return (np.arange(len(token_ids)) >= first_tokens(token_ids, separator)).astype(np.int64)


@dataclass(frozen=True)
class Embeddings:
    """What the host needs to turn token ids into the encoder's input.

    word [vocabulary, hidden] float32; position [max_tokens, hidden] float32, row i for the i-th token of a sequence,
    token type 0 added to it already; norm as in the model. second: what token type 1 adds to that, [hidden] float32,
    None where the model has no second type; separator: the token behind which it begins, -1 where there is none.
    """

    word: np.ndarray
    position: np.ndarray
    norm: Norm
    norm_epsilon: float
    second: np.ndarray | None = None
    separator: int = -1

    def embed(self, token_ids: np.ndarray) -> np.ndarray:
        """Input of layer 0: [tokens, hidden] float32 for token_ids [tokens] int."""
        x = self.word[token_ids]
        x += self.position[: len(token_ids)]  # from here in place: this is most of what a request costs the host
        if self.second is not None:
            x[first_tokens(token_ids, self.separator) :] += self.second
        x -= (np.einsum("ij->i", x) / x.shape[1])[:, None]
        variance = np.einsum("ij,ij->i", x, x) / x.shape[1]
        x *= (1 / np.sqrt(variance + self.norm_epsilon))[:, None].astype(np.float32)
        x *= self.norm.gain
        x += self.norm.bias
        return x
