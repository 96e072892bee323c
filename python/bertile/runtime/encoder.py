"""`Encoder`: texts in, embeddings out, on a card."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from bertile.config.spec import load_spec
from bertile.devices.launch import Launch, row_blocks_of
from bertile.errors import CapacityError
from bertile.inference import embed_tokens, mean_pool
from bertile.models.quantized import dequantize_output
from bertile.pack.container import load_packed
from bertile.pack.packer import PackedModel
from bertile.runtime.card import Card, CardInfo
from bertile.runtime.jobs import Answer, Finish, StageTimes, can_share
from bertile.runtime.lifetime import interrupts_deferred
from bertile.runtime.pipeline import Pipeline
from bertile.text import TextEncoder, token_limit

SPEC = load_spec()


@dataclass(frozen=True)
class Encoding:
    """One text: embedding [hidden] float32, of length one; hidden [tokens, hidden] float32, the last layer's output.

    times, unit: of the launch it was in, which it may share with other texts.
    """

    embedding: np.ndarray
    hidden: np.ndarray
    times: StageTimes
    unit: str


def plan_launches(lengths: Sequence[int], units: int) -> list[list[int]]:
    """Indices of texts, in order, in as many launches as keep all units busy and no more than need be.

    With few texts a launch takes its share of them, so that no unit idles; with many, as much as it holds.
    """
    blocks = [row_blocks_of(length) for length in lengths]
    room = min(SPEC.row_blocks, max(-(-sum(blocks) // units), *blocks)) if blocks else 0
    groups: list[list[int]] = []
    used = room + 1
    for index, count in enumerate(blocks):
        if used + count > room or len(groups[-1]) == SPEC.capacity.sequences:
            groups.append([])
            used = 0
        groups[-1].append(index)
        used += count
    return groups


def embed_requests(packed: PackedModel, sequences: list[np.ndarray]) -> list[np.ndarray]:
    """What goes to the card, [tokens, hidden] int8, of token ids [tokens]. Raises CapacityError for wrong ones."""
    limit, vocabulary = token_limit(packed.config), packed.config.vocabulary
    for ids in sequences:
        if ids.ndim != 1 or not (np.issubdtype(ids.dtype, np.integer) or ids.size == 0):
            raise CapacityError(f"token ids of type {ids.dtype} and shape {ids.shape}: a row of integers is needed")
        if not 1 <= len(ids) <= limit:
            raise CapacityError(f"{len(ids)} tokens: this model takes 1 to {limit}")
        if ids.min() < 0 or ids.max() >= vocabulary:
            raise CapacityError(f"token ids {ids.min()} to {ids.max()}: the vocabulary has {vocabulary}")
    return [embed_tokens(packed, ids) for ids in sequences]


class Encoder:
    """A packed model on a card, ready for texts. Use it in a `with` statement, or call `close`.

    Calls may come from several threads; not from callbacks of its futures, nor from a forked process. After a failure
    of the card every call raises its error until `reset`.
    """

    def __init__(
        self,
        xclbin: Path | str | None,
        model: Path | str | PackedModel,
        card: int = 0,
        timeout_s: float | None = None,
        together: bool | None = None,
    ):
        """xclbin: a file, or None for the usual one; model: a `.bertile` file; card: index; timeout_s: of one launch.
        together: True: a launch takes all units; False: one; None: a lone one takes all, where file and card can.

        Raises FormatError for a file that is not right, DeviceError for what is wrong with XRT or the card; with
        `together`, CapacityError for a file that was packed for one unit.
        """
        self.packed = model if isinstance(model, PackedModel) else load_packed(Path(model))
        self._text_encoder: TextEncoder | None = None
        self._tokenizing = threading.Lock()  # it is told to cut and not to cut
        self._card_arguments = (Path(xclbin) if xclbin is not None else None, card, timeout_s)
        self._together = together
        self._opening = threading.RLock()
        self._open()

    def _open(self) -> None:
        self._card = Card(*self._card_arguments)
        try:
            can_share(self.packed, len(self._card.units), self._together)  # said before anything is copied
            self._card.load(self.packed)
            self._pipeline = Pipeline(self._card, self.packed, together=self._together)
        except BaseException:
            with interrupts_deferred():
                self._card.close()
            raise

    @property
    def info(self) -> CardInfo:
        """Card, xclbin and units."""
        return self._card.info

    def tokenize(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Token ids [tokens] of each text, cut to what fits. Raises BertileError for a model without tokenizer."""
        if isinstance(texts, str):
            raise TypeError("a list of texts is needed, not one text")
        with self._tokenizing:
            if self._text_encoder is None:
                self._text_encoder = TextEncoder(self.packed.tokenizer, self.packed.config)
            return self._text_encoder.encode(list(texts))

    def submit_tokens(self, sequences: Sequence[np.ndarray]) -> Future:
        """One launch of sequences of token ids; a future `Answer` with hidden states [tokens, hidden] float32 of each.

        The future raises CapacityError when they do not fit a launch, DeviceError when the card fails.
        """
        return self._submit_all([sequences], self._hidden_states)[0]

    def _submit_all(self, launches: Sequence[Sequence[np.ndarray]], finish: Finish) -> list[Future]:
        prepares = [
            partial(embed_requests, self.packed, [np.asarray(ids) for ids in sequences]) for sequences in launches
        ]
        return self._pipeline.submit_all(prepares, finish)

    def submit(self, text: str) -> Future:
        """A text in a launch of its own: a future `Answer`, as `submit_tokens`. The lowest latency."""
        return self.submit_tokens(self.tokenize([text]))

    def _hidden_states(self, rows: np.ndarray, launch: Launch) -> list[np.ndarray]:
        scale = self.packed.output_scale[-1]
        return [dequantize_output(rows[-1, first : first + tokens], scale) for first, _, tokens in launch.spans]

    def _launch_all(self, texts: Sequence[str], finish: Finish) -> list[Answer]:
        """The answers of all launches, in the order of the texts; after an error or interrupt no more are begun."""
        sequences = self.tokenize(texts)
        groups = plan_launches([len(ids) for ids in sequences], 1 if self._together else len(self._card.info.units))
        futures = self._submit_all([[sequences[index] for index in group] for group in groups], finish)
        try:
            return [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            raise

    def encode_detailed(self, texts: Sequence[str]) -> list[Encoding]:
        """Every text with its hidden states and times, in order; texts share launches."""
        return [one for answer in self._launch_all(texts, self._hidden_states) for one in to_encodings(answer)]

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings [texts, hidden] float32: the mean over tokens, of length one."""
        answers = self._launch_all(texts, lambda rows, launch: mean_pool(self._hidden_states(rows, launch)))
        empty = np.zeros((0, self.packed.config.hidden), np.float32)
        return np.concatenate([empty, *(answer.value for answer in answers)])

    async def encode_async(self, text: str) -> Encoding:
        """One text in a launch of its own; await many of them at once to keep every unit busy."""
        answer = await asyncio.wrap_future(self.submit(text))
        return to_encodings(answer)[0]

    def reset(self) -> None:
        """Open the card and load the model anew. Requests under way fail."""
        with self._opening:
            self.close()
            self._open()

    def close(self) -> None:
        """Give the card back; requests under way get a moment, those that wait fail. A second call does nothing."""
        with self._opening, interrupts_deferred():
            self._pipeline.close()
            self._card.close()

    def __enter__(self) -> Encoder:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def to_encodings(answer: Answer) -> list[Encoding]:
    """The texts of one launch."""
    embeddings = mean_pool(answer.value)
    return [
        Encoding(embedding, hidden, answer.times, answer.unit)
        for embedding, hidden in zip(embeddings, answer.value, strict=True)
    ]
