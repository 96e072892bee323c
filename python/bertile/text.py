"""Text to token ids, with the tokenizer that travels in a `.bertile` file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from bertile.config.spec import load_spec
from bertile.errors import BertileError
from bertile.models.encoder import EncoderConfig

SPEC = load_spec()
Text = str | tuple[str, str]  # a sentence or a pair of them
PAIR_SEPARATOR = "\t"  # between the sentences of a pair in a line
# Calibration of a model without a tokenizer: seeded random ids.
RANDOM_SEQUENCES, RANDOM_TOKENS = 16, 64


def shown(text: Text) -> str:
    """As the line that it came from."""
    return text if isinstance(text, str) else PAIR_SEPARATOR.join(text)


def token_limit(config: EncoderConfig) -> int:
    """Tokens of one sequence at most: the accelerator's limit or the model's, whichever is smaller."""
    return min(SPEC.capacity.tokens, config.max_tokens)


def bundled_lines(name: str) -> list[str]:
    """Lines of a text file that comes with the package: `calibration.txt` or `demo.txt`."""
    return (resources.files("bertile") / "data" / name).read_text(encoding="utf-8").splitlines()


def read_lines(source: Path) -> list[Text]:
    """Lines of a text file that are not empty; one with a TAB is a pair of sentences.

    Raises BertileError for a missing, undecodable or empty file, and for a line that is neither sentence nor pair.
    """
    try:
        lines = source.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise BertileError(f"{source}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BertileError(f"{source}: not UTF-8 text") from None
    return parse_lines(lines, str(source))


def read_stdin() -> list[Text]:
    """The same from standard input."""
    text = sys.stdin.read() if sys.stdin else ""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # bytes that are not UTF-8 arrive as lone surrogates
        raise BertileError("standard input: not UTF-8 text") from None
    return parse_lines(text.splitlines(), "standard input")


def parse_lines(lines: list[str], source: str) -> list[Text]:
    """Sentences and pairs of the lines that are not empty. Raises BertileError naming the line."""
    texts: list[Text] = []
    for number, line in enumerate(lines, 1):
        parts = [part.strip() for part in line.split(PAIR_SEPARATOR)]
        if not any(parts):
            continue
        if len(parts) > 2 or not all(parts):
            raise BertileError(f"{source}: line {number}: a TAB separates the two sentences of a pair, and only those")
        texts.append(parts[0] if len(parts) == 1 else (parts[0], parts[1]))
    if not texts:
        raise BertileError(f"{source}: no text")
    return texts


class TextEncoder:
    """Tokenizes as the model was trained, special tokens included, and cuts what is too long."""

    def __init__(self, tokenizer: str, config: EncoderConfig, max_tokens: int | None = None):
        """tokenizer: the text of a tokenizer.json; max_tokens: a limit below the model's own.

        Raises BertileError for a tokenizer that is empty.
        """
        if not tokenizer:
            raise BertileError("this model has no tokenizer (random weights or a folder without one): it reads no text")
        self.limit, self.vocabulary = min(token_limit(config), max_tokens or SPEC.capacity.tokens), config.vocabulary
        self.tokenizer = Tokenizer.from_str(tokenizer)
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    def encode(self, texts: list[Text], warn: Callable[[str], None] = lambda message: None) -> list[np.ndarray]:
        """Token ids [tokens] of each text; warn(message) once a text that is cut: of a pair the longer sentence first.

        A special token's name in a text, such as [SEP], becomes that token, as Hugging Face has it.
        """
        sequences = []
        for number, text in enumerate(texts, 1):
            sentences = (text,) if isinstance(text, str) else text
            ids = self.tokenizer.encode(*sentences).ids
            if len(ids) > self.limit:
                warn(f"text {number}: {len(ids)} tokens, cut to its first {self.limit} (special tokens kept)")
                self.tokenizer.enable_truncation(self.limit, strategy="longest_first")
                ids = self.tokenizer.encode(*sentences).ids
                self.tokenizer.no_truncation()
            if max(ids) >= self.vocabulary:
                raise BertileError(
                    f"the tokenizer gives token {max(ids)}, the model's vocabulary has {self.vocabulary}"
                )
            sequences.append(np.array(ids))
        return sequences


def random_sequences(config: EncoderConfig, lengths: list[int], seed: int) -> list[np.ndarray]:
    """Seeded random token ids, one sequence a length."""
    generator = np.random.default_rng(seed)
    return [generator.integers(0, config.vocabulary, length) for length in lengths]


def calibration_sequences(tokenizer: str, config: EncoderConfig, text: Path | None) -> tuple[list[np.ndarray], dict]:
    """Token ids to calibrate on, and what to write about them into the provenance."""
    if not tokenizer and text is None:
        lengths = [min(RANDOM_TOKENS, token_limit(config))] * RANDOM_SEQUENCES
        return random_sequences(config, lengths, seed=0), {"source": "random token ids", "sequences": len(lengths)}
    lines = read_lines(text) if text else bundled_lines("calibration.txt")
    sequences = TextEncoder(tokenizer, config).encode(lines)
    source = text.name if text else "bundled calibration.txt"
    return sequences, {"source": source, "sequences": len(sequences), "tokens": int(sum(map(len, sequences)))}
