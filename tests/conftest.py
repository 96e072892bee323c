"""What the tests share: tiny random models, hypothesis without deadlines, and which of them may run side by side."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

# Before PyTorch is loaded: processes side by side (pytest -n) share the cores, and so do the programs that they start.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    SHARE = len(os.sched_getaffinity(0)) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, SHARE)))

# What a shell runs in the background of a script ignores interrupts, and all that it starts does: tests send them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
from hypothesis import settings
from transformers import BertConfig, DistilBertConfig, RobertaConfig

from bertile.models.load import Model, random_model_of

settings.register_profile("bertile", deadline=None, max_examples=50)
settings.load_profile("bertile")

# Folders whose tests open the one emulated card that lies in build/.
CARD_FOLDERS = {"emulation", "pynq"}

# No dimension is a multiple of another: 3 layers, hidden 64, FFN 112, 97 words, 40 tokens.
BERT_SIZES = {
    "num_hidden_layers": 3,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_attention_heads": 2,
    "vocab_size": 97,
    "max_position_embeddings": 40,
}
DISTILBERT_SIZES = {
    "n_layers": 3,
    "dim": 64,
    "hidden_dim": 112,
    "n_heads": 2,
    "vocab_size": 97,
    "max_position_embeddings": 40,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With pytest -n, tests of a file run one after another, for what they share, and so do all of the one card."""
    for item in items:
        one_card = item.path.parent.name in CARD_FOLDERS
        item.add_marker(pytest.mark.xdist_group("card" if one_card else str(item.path)))


def make_tiny(family: str, seed: int = 1) -> Model:
    """A random model of three small layers. Its embeddings are ten times Hugging Face's, so that they matter."""
    config = {
        "bert": lambda: BertConfig(**BERT_SIZES, initializer_range=0.2),
        "roberta": lambda: RobertaConfig(
            **{**BERT_SIZES, "max_position_embeddings": 44}, pad_token_id=3, initializer_range=0.2
        ),
        "distilbert": lambda: DistilBertConfig(**DISTILBERT_SIZES, initializer_range=0.2),
    }[family]()
    return random_model_of(f"tiny-{family}", config, seed)


@pytest.fixture(scope="session")
def tiny_model() -> Callable[[str], Model]:
    """`tiny_model(family)`, family bert, roberta or distilbert: shared by all tests, so never change it."""
    cache: dict[str, Model] = {}

    def tiny(family: str = "bert") -> Model:
        if family not in cache:
            cache[family] = make_tiny(family)
        return cache[family]

    return tiny


@pytest.fixture
def folder(tiny_model: Callable[[str], Model], tmp_path: Path) -> Path:
    """A folder with a tiny BERT as Hugging Face writes it: without Bertile's mark."""
    tiny_model("bert").network.save_pretrained(tmp_path / "model")
    return tmp_path / "model"
