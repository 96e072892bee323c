"""Classifiers and pairs of sentences: what Hugging Face computes, in FP32 and through the packed file."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.fine_tuned import change_config, hugging_face_logits, make_classifier
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, BertModel, XLMRobertaTokenizer

from bertile.errors import BertileError
from bertile.golden.fp32 import run_fp32
from bertile.inference import first_token
from bertile.models.encoder import first_tokens, token_types
from bertile.models.load import embeddings, load_model, separator_of
from bertile.models.task_head import read_task_head
from bertile.pack.container import load_packed, save_packed
from bertile.pack.packer import unpack_encoder
from bertile.text import TextEncoder, parse_lines, shown
from bertile.workflow import pack_model, tokenizer_json

FAMILIES = ("bert", "roberta", "distilbert")
TEXTS = [
    "A man plays the guitar.",
    ("A man plays the guitar.", "Someone makes music, and nobody listens to it."),
    ("Shares fell.", "The market lost."),
    "word " * 100,
    ("word " * 30, "another word " * 40),
]


def encode(model, texts):
    return TextEncoder(tokenizer_json(model), model.config).encode(texts)


@pytest.mark.parametrize("labels", [(), ("no", "yes"), ("a", "b", "c")])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_hugging_faces(family, labels, tmp_path):
    """Sentences and pairs, some of them cut, several in a batch: encoder, token types and classifier together."""
    folder = make_classifier(tmp_path / "model", family, labels, "mrpc")
    model, head = load_model(str(folder)), read_task_head(folder)
    assert (head.labels, head.task) == (labels, "mrpc")
    expected = hugging_face_logits(folder, TEXTS).numpy()
    logits = head.logits(np.stack(run_fp32(model, encode(model, TEXTS), keep=first_token)))
    assert logits.shape == expected.shape == (5, max(1, len(labels)))
    assert logits.dtype == np.float32
    error = np.abs(logits - expected).max()
    assert error <= 1e-5, error
    assert expected.std(axis=0).min() > 0.05  # the texts differ


def test_an_encoder_has_no_classifier(folder):
    assert read_task_head(folder) is None
    assert read_task_head("minilm") is None


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def drop(name):
    return lambda folder: change_weights(folder, lambda weights: weights.pop(name))


def spoil(name):
    return lambda folder: change_weights(folder, lambda weights: weights[name][0].fill_(torch.nan))


def reconfigure(**changes):
    return lambda folder: change_config(folder, **changes)


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        ("bert", drop("classifier.weight"), "the classifier has no classifier.weight"),
        ("bert", drop("bert.pooler.dense.bias"), "the classifier has no bert.pooler.dense.bias"),
        ("roberta", drop("classifier.out_proj.bias"), "the classifier has no classifier.out_proj.bias"),
        ("distilbert", drop("pre_classifier.weight"), "the classifier has no pre_classifier.weight"),
        ("bert", spoil("classifier.weight"), "classifier holds NaN or infinite weights"),
        ("distilbert", spoil("pre_classifier.bias"), "pre_classifier holds NaN or infinite weights"),
        ("bert", reconfigure(id2label={"0": "a", "1": "b", "2": "c"}), "the classifier cannot be read"),
        ("bert", reconfigure(id2label={"0": "a", "1": "a"}), "two classes of the same name"),
        ("bert", reconfigure(problem_type="multi_label_classification"), "multi_label_classification with 2 outputs"),
        ("bert", reconfigure(problem_type="regression"), "a regression with 2 outputs"),
        ("bert", reconfigure(model_type="electra"), "classifier of architecture 'electra'"),
        ("bert", lambda folder: (folder / "config.json").write_text("{"), "config.json cannot be read"),
    ],
)
def test_broken_classifiers_are_one_line(family, change, message, tmp_path):
    folder = make_classifier(tmp_path / "model", family)
    change(folder)
    with pytest.raises(BertileError, match=message) as caught:
        read_task_head(folder)
    assert "\n" not in str(caught.value)


def test_without_a_problem_type_one_output_is_a_regression(tmp_path):
    folder = make_classifier(tmp_path / "model", labels=())
    change_config(folder, problem_type=None)
    assert read_task_head(folder).labels == ()


def test_a_packed_file_holds_classifier_and_token_types(tmp_path):
    """All of it comes back, and the digest guards it."""
    source = make_classifier(tmp_path / "model", labels=("x", "y", "z"), task="mnli")
    packed = pack_model(load_model(str(source)), str(source))
    save_packed(packed, tmp_path / "model.bertile")
    loaded = load_packed(tmp_path / "model.bertile")
    head = read_task_head(source)
    for one in (packed.head, loaded.head):
        assert (one.activation, one.labels, one.task) == ("tanh", ("x", "y", "z"), "mnli")
        for layer, expected in ((one.dense, head.dense), (one.output, head.output)):
            np.testing.assert_array_equal(layer.weight, expected.weight)
            np.testing.assert_array_equal(layer.bias, expected.bias)
    assert loaded.embeddings.separator == 102
    ids = TextEncoder(loaded.tokenizer, loaded.config).encode(TEXTS)[1]
    expected = embeddings(load_model(str(source))).embed(ids)
    np.testing.assert_array_equal(loaded.embeddings.embed(ids), expected)
    np.testing.assert_array_equal(unpack_encoder(loaded).embeddings.embed(ids), expected)
    bias = head.output.bias + np.float32(1)
    other = dataclasses.replace(
        packed, head=dataclasses.replace(head, output=dataclasses.replace(head.output, bias=bias))
    )
    save_packed(other, tmp_path / "other.bertile")
    assert load_packed(tmp_path / "other.bertile").head.output.bias[0] == bias[0]
    data = (tmp_path / "model.bertile").read_bytes()
    assert data.count(head.output.bias.tobytes()) == 1
    (tmp_path / "altered.bertile").write_bytes(data.replace(head.output.bias.tobytes(), bias.tobytes()))
    with pytest.raises(BertileError, match="altered since it was packed"):
        load_packed(tmp_path / "altered.bertile")


@pytest.mark.parametrize("family", ["roberta", "distilbert"])
def test_a_packed_file_without_second_type(family, tmp_path):
    source = make_classifier(tmp_path / "model", family)
    save_packed(pack_model(load_model(str(source)), str(source)), tmp_path / "model.bertile")
    loaded = load_packed(tmp_path / "model.bertile")
    assert (loaded.embeddings.second, loaded.embeddings.separator) == (None, -1)
    assert loaded.head.activation == {"roberta": "tanh", "distilbert": "relu"}[family]


@pytest.mark.parametrize("family", FAMILIES)
def test_embeddings_of_pairs_are_hugging_faces(family, tmp_path):
    """The embedding module with the tokenizer's own token types."""
    folder = make_classifier(tmp_path / "model", family)
    model, tokenizer = load_model(str(folder)), AutoTokenizer.from_pretrained(folder)
    ours = embeddings(model)
    for sentences in (("One sentence.",), ("One sentence.", "Another one, which is longer.")):
        batch = tokenizer(*sentences, return_tensors="pt")
        types = {name: batch[name] for name in ("token_type_ids",) if name in batch and family == "bert"}
        with torch.inference_mode():
            expected = model.network.embeddings(input_ids=batch["input_ids"], **types)[0].numpy()
        x = ours.embed(batch["input_ids"][0].numpy())
        assert x.shape == expected.shape
        error = np.abs(x - expected).max()
        assert error <= 1e-5, error
        if family == "bert":
            assert types["token_type_ids"].any() == (len(sentences) == 2)
            np.testing.assert_array_equal(
                types["token_type_ids"][0].numpy(), token_types(batch["input_ids"][0].numpy(), ours.separator)
            )


def test_a_single_sentence_is_as_without_types(tmp_path):
    """To the bit: the second type costs it nothing."""
    model = load_model(str(make_classifier(tmp_path / "model")))
    ours = embeddings(model)
    plain = dataclasses.replace(ours, second=None)
    ids, pair = encode(model, ["A single sentence.", ("One.", "Two.")])
    np.testing.assert_array_equal(ours.embed(ids), plain.embed(ids))
    ends = first_tokens(pair, ours.separator)
    assert (pair[ends - 1], ends) == (102, 4)
    np.testing.assert_array_equal(ours.embed(pair)[:ends], plain.embed(pair)[:ends])
    assert np.abs(ours.embed(pair) - plain.embed(pair))[ends:].max(axis=1).min() > 0.01


def test_token_types():
    assert token_types(np.array([1, 7, 2, 8, 2, 2]), 2).tolist() == [0, 0, 0, 1, 1, 1]
    assert token_types(np.array([2, 7]), 2).tolist() == [0, 1]
    assert token_types(np.array([1, 7, 2]), 2).tolist() == [0, 0, 0]
    assert token_types(np.array([1, 7, 3]), 2).tolist() == [0, 0, 0]
    assert token_types(np.array([1]), -1).tolist() == [0]
    assert token_types(np.array([], int), 2).tolist() == []


def test_a_separator_in_the_text_begins_the_second_sentence(tmp_path):
    """Known, and in docs/numerics.md: the name of a special token becomes that token, and types follow the tokens."""
    model = load_model(str(make_classifier(tmp_path / "model")))
    literal, pair = encode(model, ["One. [SEP] Two.", ("One.", "Two.")])
    np.testing.assert_array_equal(literal, pair)


def test_a_tokenizer_without_types_keeps_the_first_type(tmp_path):
    """BERT with XLM-R's tokenizer, as multilingual sentence encoders are: Hugging Face gives it no types either."""
    model = load_model(str(make_classifier(tmp_path / "model")))
    assert separator_of(model) == 102
    names = ["<s>", "<pad>", "</s>", "<unk>", "\u2581a", "\u2581b"]
    tokenizer = XLMRobertaTokenizer(vocab=[(name, 0.0) for name in names])
    other = dataclasses.replace(model, tokenizer=tokenizer)
    assert len(tokenizer("a", "b")["input_ids"]) == 6
    assert separator_of(other) == -1
    assert embeddings(other).second is None
    assert separator_of(dataclasses.replace(model, tokenizer=None)) == -1


def test_token_types_of_another_kind_are_refused(tmp_path):
    model = load_model(str(make_classifier(tmp_path / "model")))
    model.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS]:0 $A:0 [SEP]:1 $B:1 [SEP]:1", [("[CLS]", 101), ("[SEP]", 102)]
    )
    with pytest.raises(BertileError, match="do not change behind the first separator"):
        embeddings(model)


def test_the_encoder_of_a_classifier_is_loaded_alone(tmp_path):
    folder = make_classifier(tmp_path / "model")
    model = load_model(str(folder))
    assert type(model.network) is BertModel
    assert not any("classifier" in name for name, _ in model.network.named_parameters())


def test_pairs_are_tokenized_and_cut_as_by_hugging_face(tmp_path):
    folder = make_classifier(tmp_path / "model")
    model, tokenizer = load_model(str(folder)), AutoTokenizer.from_pretrained(folder)
    notes: list[str] = []
    encoder = TextEncoder(tokenizer_json(model), model.config, 24)
    ids = encoder.encode(TEXTS, notes.append)
    for text, row in zip(TEXTS, ids, strict=True):
        sentences = (text,) if isinstance(text, str) else text
        assert row.tolist() == tokenizer(*sentences, truncation="longest_first", max_length=24)["input_ids"]
    assert [note.split(":")[0] for note in notes] == ["text 4", "text 5"]
    assert [len(row) for row in ids] == [8, 20, 10, 24, 24]


def test_lines_are_sentences_or_pairs():
    texts = parse_lines(["one ", "", "two\t three", " \t "], "file")
    assert texts == ["one", ("two", "three")]
    assert [shown(text) for text in texts] == ["one", "two\tthree"]
    for lines in (["fine", "a\tb\tc"], ["fine", "\tb"], ["fine", "a\t"]):
        with pytest.raises(BertileError, match=r"^file: line 2: a TAB separates"):
            parse_lines(lines, "file")
    with pytest.raises(BertileError, match=r"^file: no text"):
        parse_lines([" ", "\t"], "file")
