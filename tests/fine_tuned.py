"""Small random classifiers with real tokenizers, in folders as Hugging Face's training leaves them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    DistilBertConfig,
    PretrainedConfig,
    RobertaConfig,
    RobertaTokenizer,
)

from bertile.models.folder import find_folder

SIZES = {"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 112, "num_attention_heads": 2}
DISTILBERT_SIZES = {"n_layers": 2, "dim": 64, "hidden_dim": 112, "n_heads": 2, "max_position_embeddings": 80}
ROBERTA_SIZES = {**SIZES, "max_position_embeddings": 82, "type_vocab_size": 1, "vocab_size": 261}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json")


def make_config(family: str) -> PretrainedConfig:
    """Two layers, 80 tokens, the vocabulary of the family's tokenizer below."""
    if family == "roberta":
        return RobertaConfig(**ROBERTA_SIZES, initializer_range=0.2)
    if family == "distilbert":
        return DistilBertConfig(**DISTILBERT_SIZES, initializer_range=0.2)
    return BertConfig(**SIZES, max_position_embeddings=80, initializer_range=0.2)


def write_tokenizer(family: str, folder: Path) -> None:
    """RoBERTa: bytes as tokens; the others: MiniLM's, which is BERT's."""
    if family == "roberta":
        names = ["<s>", "<pad>", "</s>", "<unk>", *sorted(ByteLevel.alphabet()), "<mask>"]
        RobertaTokenizer(vocab={name: number for number, name in enumerate(names)}, merges=[]).save_pretrained(folder)
        return
    for name in TOKENIZER_FILES:
        shutil.copy(find_folder("minilm") / name, folder)


def make_classifier(
    folder: Path, family: str = "bert", labels: tuple[str, ...] = ("no", "yes"), task: str = "", seed: int = 0
) -> Path:
    """A fine-tuned model in `folder`, a regression without labels; its biases are not zero, as after a training."""
    config = make_config(family)
    config.bertile_task = task
    config.problem_type = "single_label_classification" if labels else "regression"
    config.id2label = dict(enumerate(labels or ("LABEL_0",)))
    config.label2id = {label: number for number, label in config.id2label.items()}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        network = AutoModelForSequenceClassification.from_config(config)
        for module in network.modules():
            if isinstance(module, torch.nn.Linear):
                module.bias.normal_(0.0, 0.1)
    network.save_pretrained(folder)
    write_tokenizer(family, folder)
    return folder


def change_config(folder: Path, **changes: object) -> None:
    """Other entries in a folder's config.json."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def hugging_face_logits(folder: Path, texts: list[str | tuple[str, str]], max_tokens: int = 80) -> torch.Tensor:
    """Logits [texts, labels] float32, each text alone, from nothing but Hugging Face's own code."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager").eval()
    rows = []
    for text in texts:
        sentences = (text,) if isinstance(text, str) else text
        batch = tokenizer(*sentences, return_tensors="pt", truncation="longest_first", max_length=max_tokens)
        with torch.inference_mode():
            rows.append(network(**batch).logits[0])
    return torch.stack(rows)
