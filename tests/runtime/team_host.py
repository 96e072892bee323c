"""Programs that let units share launches, for tests: as host.py, which has what they have in common."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
from tests.runtime.host import afterwards, digest, main, outcome, requests, submit_by_two

from bertile.config.spec import load_spec
from bertile.emulation.control import card_processes
from bertile.runtime import Encoder, jobs

SPEC = load_spec()
LAUNCHES = ([1], [512], [33, 15, 64], [32], [200, 100])  # lengths
BURST, LONE, PRESSED = 60, 3, 20
TIMEOUT = 1.5


def launch_ids(vocabulary: int) -> list[list[np.ndarray]]:
    """Seeded token ids of LAUNCHES; the test makes the same."""
    rng = np.random.default_rng(5)
    return [[rng.integers(0, vocabulary, tokens) for tokens in lengths] for lengths in LAUNCHES]


def modes(xclbin: Path, model: Path) -> dict:
    """One launch after the other, in each mode: digests of all sequences, and who ran each launch."""
    result = {}
    for together in (False, True, None):
        with Encoder(xclbin, model, together=together) as encoder:
            ids = launch_ids(encoder.packed.config.vocabulary)
            answers = [encoder.submit_tokens(sequences).result() for sequences in ids]
        result[str(together)] = {
            "digests": [digest([hidden]) for answer in answers for hidden in answer.value],
            "units": [answer.unit for answer in answers],
        }
    return result


def chosen(xclbin: Path, model: Path) -> dict:
    """One launch, on whatever can run it."""
    with Encoder(xclbin, model) as encoder:
        answer = encoder.submit_tokens(launch_ids(encoder.packed.config.vocabulary)[2]).result()
    return {"digests": [digest([hidden]) for hidden in answer.value], "unit": answer.unit}


def burst(xclbin: Path, model: Path) -> dict:
    """Lone requests, then many from two threads, then lone ones again."""
    with Encoder(xclbin, model) as encoder:
        ids = requests(BURST + 2 * LONE, encoder.packed.config.vocabulary, 130)
        answers = [encoder.submit_tokens([one]).result() for one in ids[:LONE]]
        answers += [future.result() for future in submit_by_two(encoder, ids[LONE : LONE + BURST])]
        answers += [encoder.submit_tokens([one]).result() for one in ids[LONE + BURST :]]
    return {"digests": [digest(answer.value) for answer in answers], "units": [answer.unit for answer in answers]}


def pressed(xclbin: Path, model: Path) -> dict:
    """Many requests, all of which take all units."""
    with Encoder(xclbin, model, together=True) as encoder:
        ids = requests(PRESSED, encoder.packed.config.vocabulary, 130)
        answers = [future.result() for future in [encoder.submit_tokens([item]) for item in ids]]
    return {"digests": [digest(answer.value) for answer in answers], "units": [answer.unit for answer in answers]}


def texts_at_once(xclbin: Path, model: Path) -> dict:
    """Texts of one call: which units had them, and all units together."""
    result = {}
    for together in (None, True):
        with Encoder(xclbin, model, together=together) as encoder:
            ids = requests(3, encoder.packed.config.vocabulary)
            encoder.tokenize = lambda texts, ids=ids: ids  # the model has no tokenizer
            result[str(together)] = [encoding.unit for encoding in encoder.encode_detailed(["a", "b", "c"])]
    return result


def refused(xclbin: Path, model: Path) -> dict:
    """The launch table of one unit has another spec's digest, of each unit in turn; a request behind each."""
    original, said = jobs.encode_launches, []
    field = SPEC.records["launch"].dtype.fields["spec_digest"][1]
    with Encoder(xclbin, model, together=True) as encoder:
        ids = requests(2, encoder.packed.config.vocabulary)
        for unit in range(3):

            def broken(*arguments, unit=unit):
                tables = [table.copy() for table in original(*arguments)]
                tables[unit][0, field] ^= 1
                return tables

            jobs.encode_launches = broken
            said.append(outcome(encoder.submit_tokens([ids[0]])))
            jobs.encode_launches = original
            said.append(digest(encoder.submit_tokens([ids[1]]).result().value))
    return {"said": said}


def hanging(xclbin: Path, model: Path) -> dict:
    """A unit that never begins (the caller sets the fault), and several launches behind it."""
    with Encoder(xclbin, model, timeout_s=TIMEOUT, together=True) as encoder:
        ids = requests(8, encoder.packed.config.vocabulary)
        futures = [encoder.submit_tokens([item]) for item in ids]
        begin = time.perf_counter()
        said = [outcome(future) for future in futures]
        seconds = time.perf_counter() - begin
        return {"said": said, "seconds": seconds, **afterwards(encoder, ids[0])}


def flawed(xclbin: Path, model: Path) -> dict:
    """The shared program of one unit goes wrong in the middle (the caller wrote it so); then a request a unit."""
    with Encoder(xclbin, model, timeout_s=TIMEOUT, together=True) as encoder:
        ids = requests(4, encoder.packed.config.vocabulary)
        begin = time.perf_counter()
        said = outcome(encoder.submit_tokens([ids[0]]))
        seconds = time.perf_counter() - begin
    with Encoder(xclbin, model, timeout_s=30, together=False) as encoder:
        after = [digest(encoder.submit_tokens([item]).result().value) for item in ids]
    return {"said": said, "seconds": seconds, "after": after}


def lost(xclbin: Path, model: Path) -> dict:
    """The card's process is killed while units wait for another (the caller sets the fault)."""
    with Encoder(xclbin, model, timeout_s=30, together=True) as encoder:
        ids = requests(4, encoder.packed.config.vocabulary)
        futures = [encoder.submit_tokens([item]) for item in ids]
        time.sleep(0.3)
        for process in card_processes():
            os.kill(process, signal.SIGKILL)
        return {"said": [outcome(future) for future in futures], **afterwards(encoder, ids[0])}


def closed(xclbin: Path, model: Path) -> dict:
    """Closed while a launch is under way that does not end (the caller sets the fault); then opened again."""
    encoder = Encoder(xclbin, model, timeout_s=60, together=True)
    ids = requests(3, encoder.packed.config.vocabulary)
    futures = [encoder.submit_tokens([item]) for item in ids]
    time.sleep(0.3)
    begin = time.perf_counter()
    encoder.close()
    seconds, cards = time.perf_counter() - begin, len(card_processes())
    said = [outcome(future) for future in futures]
    with Encoder(xclbin, model, timeout_s=60, together=True) as encoder:
        after = outcome(encoder.submit_tokens([ids[0]]))
    return {"said": said, "seconds": seconds, "cards": cards, "after": after}


def endless(xclbin: Path, model: Path) -> dict:
    """Shared launches until somebody interrupts."""
    with Encoder(xclbin, model, timeout_s=60, together=True) as encoder:
        ids = requests(1000, encoder.packed.config.vocabulary)
        futures = [encoder.submit_tokens([item]) for item in ids]
        print("running", flush=True)
        for future in futures:
            future.result()
    return {}


if __name__ == "__main__":
    sys.exit(main((modes, chosen, burst, pressed, texts_at_once, refused, hanging, flawed, lost, closed, endless)))
