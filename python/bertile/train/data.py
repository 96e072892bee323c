"""Tokenized examples, in batches of like length."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler
from transformers import PreTrainedTokenizerBase

from bertile.errors import BertileError
from bertile.text import Text

# Batches whose examples are sorted together: enough to be of like length, few enough to stay random.
BATCHES_SORTED = 20


class TokenizedTexts(Dataset):
    """Texts or pairs as token ids, cut to `max_tokens`, with their labels where there are any."""

    def __init__(
        self,
        texts: Sequence[Text],
        labels: np.ndarray | None,
        tokenizer: PreTrainedTokenizerBase,
        max_tokens: int,
    ):
        firsts = [text if isinstance(text, str) else text[0] for text in texts]
        seconds = [None if isinstance(text, str) else text[1] for text in texts]
        self.examples = [
            dict(tokenizer(first, second, truncation=True, max_length=max_tokens))
            for first, second in zip(firsts, seconds, strict=True)
        ]
        if labels is not None:
            for example, label in zip(self.examples, labels, strict=True):
                example["labels"] = label.item()
        self.lengths = [len(example["input_ids"]) for example in self.examples]

    def digest(self) -> str:
        """SHA-256 of all tokens and labels."""
        return hashlib.sha256(repr(self.examples).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict:
        return self.examples[index]


class LengthSampler(Sampler):
    """Examples in an order that depends on seed and epoch alone, so that a resumed run sees what it would have seen.

    Shuffled, then sorted by length within chunks of some batches, then the batches shuffled.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int):
        self.lengths, self.batch, self.seed, self.epoch = np.asarray(lengths), batch, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng([self.seed, self.epoch])
        order = generator.permutation(len(self.lengths))
        chunk = self.batch * BATCHES_SORTED
        batches = []
        for first in range(0, len(order), chunk):
            part = order[first : first + chunk]
            part = part[np.argsort(-self.lengths[part], kind="stable")]
            batches += [part[i : i + self.batch] for i in range(0, len(part), self.batch)]
        # A batch that is not full stays last: anywhere else it would shift the ones behind it.
        full = [batch for batch in batches if len(batch) == self.batch]
        rest = [batch for batch in batches if len(batch) < self.batch]
        ordered = [full[i] for i in generator.permutation(len(full))] + rest
        return iter(np.concatenate(ordered).tolist() if ordered else [])


class PadBatch:
    """Examples to tensors: padded to the longest. labels become int64 or float32."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer

    def __call__(self, examples: list[dict]) -> dict[str, torch.Tensor]:
        features = [{key: value for key, value in example.items() if key != "labels"} for example in examples]
        batch = dict(self.tokenizer.pad(features, return_tensors="pt"))
        if "labels" in examples[0]:
            labels = [example["labels"] for example in examples]
            batch["labels"] = torch.tensor(labels, dtype=torch.long if isinstance(labels[0], int) else torch.float32)
        return batch


def padded_batches(
    examples: TokenizedTexts, chosen: Sequence[int], tokenizer: PreTrainedTokenizerBase, size: int
) -> list[dict[str, torch.Tensor]]:
    """The chosen examples as batches of like length, the shortest first."""
    ordered, collate = sorted(chosen, key=lambda index: examples.lengths[index]), PadBatch(tokenizer)
    return [collate([examples[i] for i in ordered[a : a + size]]) for a in range(0, len(ordered), size)]


def without_labels(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What a network reads of a batch."""
    return {name: tensor for name, tensor in batch.items() if name != "labels"}


def split_texts(texts: Sequence[Text], held_out: int, seed: int) -> tuple[list[Text], list[Text]]:
    """Texts without repetition, shuffled: all but `held_out`, and those, one at least.

    Raises BertileError where there are too few.
    """
    held_out = max(1, held_out)  # an evaluation needs something to look at
    unique = list(dict.fromkeys(texts))
    if len(unique) < 2 * held_out:
        raise BertileError(f"{len(unique)} different texts are too few: at least {2 * held_out} are needed")
    order = np.random.default_rng(seed).permutation(len(unique))
    shuffled = [unique[index] for index in order]
    return shuffled[held_out:], shuffled[:held_out]
