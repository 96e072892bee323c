"""Order and batches of training examples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from bertile.errors import BertileError
from bertile.train.data import BATCHES_SORTED, LengthSampler, PadBatch, TokenizedTexts, split_texts


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "a": 2, "b": 3, "c": 4}, "[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]")


@given(
    lengths=st.lists(st.integers(1, 128), max_size=300),
    batch=st.integers(1, 9),
    seed=st.integers(0, 3),
    epoch=st.integers(0, 3),
)
def test_order(lengths, batch, seed, epoch):
    sampler = LengthSampler(lengths, batch, seed)
    sampler.set_epoch(epoch)
    order = list(sampler)
    assert len(sampler) == len(order)
    assert sorted(order) == list(range(len(lengths)))
    again = LengthSampler(lengths, batch, seed)
    assert (list(again) == order) or epoch > 0
    again.set_epoch(epoch)
    assert list(again) == list(again) == order
    for first in range(0, len(order), batch):  # only the last may be short: every batch is sorted
        part = [lengths[index] for index in order[first : first + batch]]
        assert part == sorted(part, reverse=True)


def test_order_depends_on_seed_and_epoch():
    lengths = np.random.default_rng(0).integers(1, 128, 500)
    orders = []
    for seed in (0, 1):
        for epoch in (0, 1):
            sampler = LengthSampler(lengths, 8, seed)
            sampler.set_epoch(epoch)
            orders.append(tuple(sampler))
    assert len(set(orders)) == 4


def test_batches_are_of_like_length():
    lengths = np.random.default_rng(0).integers(1, 128, 8 * BATCHES_SORTED * 3 + 5)
    order = list(LengthSampler(lengths, 8, 0))
    spreads = [np.ptp(lengths[order[i : i + 8]]) for i in range(0, len(order) - 5, 8)]
    assert np.mean(spreads) < 15  # about 100 in a random order
    means = [np.mean(lengths[order[i : i + 8]]) for i in range(0, len(order) - 5, 8)]
    assert np.mean(np.diff(means) > 0) == pytest.approx(0.5, abs=0.2)  # batches themselves are in no order
    assert len({index // (8 * BATCHES_SORTED) for index in order[:80]}) > 1


@pytest.mark.parametrize(("labels", "dtype"), [([1, 0, 2], torch.int64), ([1.0, 0.5, 2.0], torch.float32)])
def test_batch(tokenizer, labels, dtype):
    examples = TokenizedTexts(["a b c", ("a", "b b b b b b b"), "z"], np.array(labels), tokenizer, 6)
    assert examples.lengths == [3, 6, 1]
    assert len(examples) == 3
    batch = PadBatch(tokenizer)([examples[index] for index in range(3)])
    assert batch["input_ids"].tolist() == [[2, 3, 4, 0, 0, 0], [2, 3, 3, 3, 3, 3], [1, 0, 0, 0, 0, 0]]
    assert batch["attention_mask"].sum(1).tolist() == examples.lengths
    assert batch["input_ids"].dtype == batch["attention_mask"].dtype == torch.int64
    assert batch["labels"].dtype == dtype
    assert batch["labels"].tolist() == labels
    assert "labels" in examples[0]  # padding does not eat the label


def test_batch_without_labels(tokenizer):
    examples = TokenizedTexts(["a b c", "a"], None, tokenizer, 6)
    assert "labels" not in PadBatch(tokenizer)([examples[0], examples[1]])


def test_labels_must_match(tokenizer):
    with pytest.raises(ValueError):
        TokenizedTexts(["a", "b"], np.array([1]), tokenizer, 6)


def test_split_texts():
    texts = [f"text {index % 30}" for index in range(50)] + [("a", "b"), ("a", "b")]
    train, held = split_texts(texts, 7, seed=1)
    assert (len(train), len(held)) == (24, 7)
    assert set(train) | set(held) == set(texts)
    assert not set(train) & set(held)
    assert split_texts(texts, 7, seed=1) == (train, held)
    assert split_texts(texts, 7, seed=2) != (train, held)
    assert train != sorted(train, key=texts.index)


def test_too_few_texts():
    with pytest.raises(BertileError, match="3 different texts are too few: at least 4 are needed"):
        split_texts(["a", "b", "c", "a"], 2, seed=0)
    with pytest.raises(BertileError, match="1 different texts are too few: at least 2 are needed"):
        split_texts(["a", "a"], 0, seed=0)
    assert [len(part) for part in split_texts(["a", "b", "c"], 0, seed=0)] == [2, 1]
