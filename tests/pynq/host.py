"""Programs that use the card through PYNQ, for tests: `python host.py SCENARIO XCLBIN MODEL`; the last line is JSON.

They run in PYNQ's own environment (build/pynq/venv), which has neither pytest nor PyTorch; the tests import from here
what both must have the same of.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys

import numpy as np

from bertile.emulation.control import card_processes
from bertile.errors import BertileError

LENGTHS = (1, 31, 32, 33, 200, 5, 64, 97, 511, 2, 70)
TEXTS = ("A man plays the guitar.", "Shares fell.", "Someone plays music.", "The market lost.")
ROUNDS = 30


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def requests(vocabulary: int) -> list[np.ndarray]:
    """Seeded token ids of ragged lengths; the test makes the same."""
    rng = np.random.default_rng(7)
    return [rng.integers(0, vocabulary, tokens) for tokens in LENGTHS]


def inputs(hidden: int, unit: int) -> list[np.ndarray]:
    """Words of a launch for a unit, from -128 to 127, other ones for each; the test makes the same."""
    rng = np.random.default_rng(100 + unit)
    return [rng.integers(-128, 128, (tokens, hidden)).astype(np.int8) for tokens in (37 + unit, 1, 64, 5)]


def units(overlay) -> dict:
    """Every layer of a launch on every unit."""
    digests, names = [], []
    for unit in range(overlay.units):
        names.append(overlay.encoders[overlay.turn].instance)
        digests.append(digest(overlay.run(inputs(overlay.packed.config.hidden, unit))))
    return {"digests": digests, "units": names, "overlay": sorted(overlay.ip_dict)}


def hidden(overlay) -> dict:
    """Hidden states of requests that share launches on all units, and of each alone."""
    ids = requests(overlay.packed.config.vocabulary)
    together = [digest(states) for states in overlay.hidden_states(ids)]
    alone = [digest(overlay.hidden_states([item])[0]) for item in ids]
    return {"together": together, "alone": alone, "none": overlay.hidden_states([])}


def texts(overlay) -> dict:
    return {"embeddings": overlay.encode(TEXTS).tolist()}


def said(overlay, sequences: list[np.ndarray]) -> str:
    """ "answered", or why not."""
    try:
        overlay.hidden_states(sequences)
        return "answered"
    except BertileError as error:
        return str(error)


def mistakes(overlay) -> dict:
    """Wrong requests, and right ones between them."""
    good, words = requests(overlay.packed.config.vocabulary)[:3], np.zeros((3, overlay.packed.config.hidden), np.int8)
    answers = [said(overlay, good), said(overlay, [np.zeros(513, int)]), said(overlay, [good[0], np.array([], int)])]
    answers += [said(overlay, [np.array([5, 61])]), said(overlay, [np.array([-1])])]
    try:
        overlay.run([words] * 17)
    except BertileError as error:
        answers.append(str(error))
    return {"said": [*answers, said(overlay, good)]}


def leftover(overlay) -> dict:
    """Two streams in turns, and one that nobody reads to its end: the overlay is freed with runs under way."""
    hidden = overlay.packed.config.hidden
    first, second = ([inputs(hidden, number + odd) for number in range(0, 10, 2)] for odd in (0, 1))
    pairs = zip(overlay.stream(first), overlay.stream(second), strict=True)
    digests = [digest(rows) for pair in pairs for rows in pair]
    next(overlay.stream(first))
    return {"digests": digests, "running": sum(encoder.handle is not None for encoder in overlay.encoders)}


def lost(overlay) -> dict:
    """The card's process is killed."""
    good = requests(overlay.packed.config.vocabulary)[:3]
    before = said(overlay, good)
    for process in card_processes():
        os.kill(process, signal.SIGKILL)
    return {"said": [before, said(overlay, good)]}


def hanging(overlay) -> dict:
    """A unit that never finishes (the caller sets the fault)."""
    overlay.timeout_s = 1.5
    return {"said": said(overlay, requests(overlay.packed.config.vocabulary))}


def opened(overlay) -> dict:
    """Wait for a line on standard input."""
    print("running", flush=True)
    sys.stdin.readline()
    return {}


SCENARIOS = (units, hidden, texts, mistakes, leftover, lost, hanging, opened)


def rounds(make) -> dict:
    """Open, run, free: open files and digests of every round; cards at the end."""
    seen = set()
    for _ in range(ROUNDS):
        with make() as overlay:
            seen.add((digest(overlay.run(inputs(overlay.packed.config.hidden, 0))), len(os.listdir("/proc/self/fd"))))
    return {"seen": sorted(seen), "cards": card_processes()}


def run(scenario: str, xclbin: str, model: str) -> dict:
    from emulated_card import use_emulated_card

    use_emulated_card(xclbin)
    from bertile_overlay import BertileOverlay

    if scenario == "rounds":
        return rounds(lambda: BertileOverlay(xclbin, model))
    with BertileOverlay(xclbin, model) as overlay:
        result = {function.__name__: function for function in SCENARIOS}[scenario](overlay)
    with BertileOverlay(xclbin, model) as overlay:
        after = said(overlay, requests(overlay.packed.config.vocabulary)[:1])
    return {**result, "after": after, "cards": card_processes()}


def main() -> int:
    try:
        result = run(*sys.argv[1:])
    except BertileError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
