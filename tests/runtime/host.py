"""Programs that use the card, for tests: `python host.py SCENARIO XCLBIN MODEL`, one line of JSON at the end.

XRT is never loaded into the process of the tests: it installs signal handlers of its own, and starts processes.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import resource
import signal
import sys
import threading
import time
from collections import Counter
from concurrent.futures import Future, wait
from pathlib import Path

import numpy as np

from bertile.emulation.control import card_processes
from bertile.errors import BertileError
from bertile.runtime import Encoder

REQUESTS = 1000


def digest(arrays: list[np.ndarray]) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


def requests(count: int, vocabulary: int, limit: int = 100) -> list[np.ndarray]:
    """Seeded token ids of random lengths; the test makes the same."""
    rng = np.random.default_rng(11)
    return [rng.integers(0, vocabulary, rng.integers(1, limit)) for _ in range(count)]


def outcome(future) -> str:
    """ "answered", or why not."""
    try:
        future.result(timeout=60)
        return "answered"
    except BertileError as error:
        return str(error)


def submit_by_two(encoder: Encoder, ids: list[np.ndarray]) -> list[Future]:
    """Requests submitted by two threads at once; their futures in order."""
    futures: dict[int, Future] = {}

    def submit(first: int) -> None:
        for index in range(first, len(ids), 2):
            futures[index] = encoder.submit_tokens([ids[index]])

    threads = [threading.Thread(target=submit, args=(first,)) for first in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [futures[index] for index in range(len(ids))]


def many(xclbin: Path, model: Path) -> dict:
    """1,000 requests, submitted by two threads at once."""
    with Encoder(xclbin, model) as encoder:
        futures = submit_by_two(encoder, requests(REQUESTS, encoder.packed.config.vocabulary))
        answers = [future.result() for future in futures]
    units = Counter(answer.unit for answer in answers)
    return {"digests": [digest(answer.value) for answer in answers], "units": units}


def shared(xclbin: Path, model: Path) -> dict:
    """Several sequences in a launch, in launches of different sizes."""
    with Encoder(xclbin, model) as encoder:
        ids = requests(12, encoder.packed.config.vocabulary)
        begin = time.perf_counter()
        answers = [encoder.submit_tokens(ids[:5]).result()]
        total = time.perf_counter() - begin
        answers += [encoder.submit_tokens(ids[first:end]).result() for first, end in ((5, 6), (6, 12))]
        times = vars(answers[0].times)
    return {
        "digests": [digest([hidden]) for answer in answers for hidden in answer.value],
        "times": times,
        "total": total,
    }


def texts(xclbin: Path, model: Path) -> dict:
    """Embeddings of texts through each way to ask for them."""
    lines = ["A man plays the guitar.", "Shares fell.", "Someone plays music.", "The market lost."]
    with Encoder(xclbin, model) as encoder:
        plain = encoder.encode(lines)
        detailed = [encoding.embedding for encoding in encoder.encode_detailed(lines)]

        async def ask() -> list:
            return await asyncio.gather(*(encoder.encode_async(line) for line in lines))

        awaited = [encoding.embedding for encoding in asyncio.run(ask())]
        info = encoder.info
        empty = encoder.encode([]).shape
    return {
        "plain": plain.tolist(),
        "detailed_equal": np.array_equal(plain, detailed),
        "awaited_off": float(np.abs(plain - awaited).max()),
        "emulated": info.emulated,
        "units": info.units,
        "empty": empty,
    }


def rounds(xclbin: Path, model: Path) -> dict:
    """Open, run, close, a hundred times: memory and file descriptors after 20 and after 100."""
    seen = []
    for number in range(100):
        with Encoder(xclbin, model) as encoder:
            encoder.submit_tokens([np.arange(40) % 50]).result()
        if number in (19, 99):
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            seen.append([len(os.listdir("/proc/self/fd")), pages * resource.getpagesize()])
    return {"seen": seen, "cards": card_processes()}


def mistakes(xclbin: Path, model: Path) -> dict:
    """Requests that are wrong fail alone."""
    with Encoder(xclbin, model) as encoder:
        ids = requests(3, encoder.packed.config.vocabulary)
        futures = [
            encoder.submit_tokens([ids[0]]),
            encoder.submit_tokens([np.zeros(513, int)]),
            encoder.submit_tokens([ids[1]]),
            encoder.submit_tokens([]),
            encoder.submit_tokens([np.array([5, 61])]),
            encoder.submit_tokens([ids[2]]),
        ]
        said = [outcome(future) for future in futures]
    return {"said": said}


def lost(xclbin: Path, model: Path) -> dict:
    """The card's process is killed while requests are under way; then the card is opened anew."""
    with Encoder(xclbin, model) as encoder:
        ids = requests(60, encoder.packed.config.vocabulary)
        futures = [encoder.submit_tokens([item]) for item in ids]
        futures[3].result()
        for process in card_processes():
            os.kill(process, signal.SIGKILL)
        said = [outcome(future) for future in futures]
        return {"said": said, **afterwards(encoder, ids[0])}


def stopped(xclbin: Path, model: Path) -> dict:
    """The same with a card that stops answering: XRT's calls do not return."""
    with Encoder(xclbin, model, timeout_s=1.5) as encoder:
        ids = requests(60, encoder.packed.config.vocabulary)
        futures = [encoder.submit_tokens([item]) for item in ids]
        futures[3].result()
        for process in card_processes():
            os.kill(process, signal.SIGSTOP)
        said = [outcome(future) for future in futures]
        return {"said": said, **afterwards(encoder, ids[0])}


def hanging(xclbin: Path, model: Path) -> dict:
    """A unit that never finishes a launch (the caller sets the fault)."""
    with Encoder(xclbin, model, timeout_s=1.5) as encoder:
        ids = requests(30, encoder.packed.config.vocabulary)
        said = [outcome(future) for future in [encoder.submit_tokens([item]) for item in ids]]
        return {"said": said, **afterwards(encoder, ids[0])}


def afterwards(encoder: Encoder, ids: np.ndarray) -> dict:
    """What a failed encoder says, and what it does after a reset."""
    try:
        encoder.submit_tokens([ids])
        refusal = ""
    except BertileError as error:
        refusal = str(error)
    encoder.reset()
    return {"refusal": refusal, "after": outcome(encoder.submit_tokens([ids])), "cards": len(card_processes())}


def endless(xclbin: Path, model: Path) -> dict:
    """Requests until somebody interrupts."""
    with Encoder(xclbin, model) as encoder:
        ids = requests(1000, encoder.packed.config.vocabulary)
        print("running", flush=True)
        while True:
            for future in [encoder.submit_tokens([item]) for item in ids]:
                future.result()


def opened(xclbin: Path, model: Path) -> dict:
    """Open and wait for a line on standard input."""
    print("opening", flush=True)
    with Encoder(xclbin, model):
        print("running", flush=True)
        sys.stdin.readline()
    return {}


def failing(xclbin: Path, model: Path) -> dict:
    """XRT says of a run that it failed."""
    from bertile.runtime import jobs

    with Encoder(xclbin, model) as encoder:
        error = encoder._card.extension.CardError

        class Failed:
            """An XRT slot whose run ends with ERT_CMD_STATE_ERROR."""

            def __init__(self, slot: object):
                self.slot = slot

            def __getattr__(self, name: str) -> object:
                return getattr(self.slot, name)

            def wait(self, seconds: float) -> bool:
                while not self.slot.wait(seconds):
                    pass
                raise error("encoder_1 failed: XRT command state 5")

        for slot in encoder._pipeline.slots:
            slot.xrt = Failed(slot.xrt)
        assert isinstance(slot, jobs.Slot)
        ids = requests(6, encoder.packed.config.vocabulary)
        return {"said": [outcome(future) for future in submit_all(encoder, ids)]}


def submit_all(encoder: Encoder, ids: list[np.ndarray]) -> list:
    """A future for each; one that is refused at once is a future all the same."""
    futures = []
    for item in ids:
        try:
            futures.append(encoder.submit_tokens([item]))
        except BertileError as error:
            futures.append(Future())
            futures[-1].set_exception(error)
    return futures


def unclosed(xclbin: Path, model: Path) -> dict:
    """The program ends while requests are under way."""
    encoder = Encoder(xclbin, model)
    submit_all(encoder, requests(50, encoder.packed.config.vocabulary))
    time.sleep(0.05)
    return {}


def cancelling(xclbin: Path, model: Path) -> dict:
    """Futures are cancelled by one thread while another closes the card."""
    unsettled = 0
    for _ in range(15):
        encoder = Encoder(xclbin, model)
        futures = submit_all(encoder, requests(100, encoder.packed.config.vocabulary))
        thread = threading.Thread(target=lambda waiting=futures: [future.cancel() for future in waiting])
        thread.start()
        encoder.close()
        thread.join()
        unsettled += len(wait(futures, timeout=5).not_done)
    return {"unsettled": unsettled}


def message(function, *arguments) -> str | None:
    """What an error says."""
    try:
        function(*arguments)
    except (BertileError, TypeError) as error:
        return str(error)
    return None


def misused(xclbin: Path, model: Path) -> dict:
    """Mistakes in using an encoder."""
    encoder = Encoder(xclbin, model)
    said = {"second": message(Encoder, xclbin, model), "text": message(encoder.encode, "Hi there")}
    said["floats"] = message(encoder.submit_tokens([np.array([1.0, 2.0])]).result)
    future, ended = encoder.submit("Hi there"), threading.Event()

    def callback(done: Future) -> None:
        said["from_callback"] = message(encoder.close)
        ended.set()

    future.add_done_callback(callback)
    ended.wait(20)
    encoder.close()
    return {**said, "closed": message(encoder.encode, ["x"]), "twice": message(encoder.close)}


def forking(xclbin: Path, model: Path) -> dict:
    """A child uses and closes what it inherited; the parent goes on."""
    with Encoder(xclbin, model) as encoder:
        ids = requests(3, encoder.packed.config.vocabulary)
        before = outcome(encoder.submit_tokens([ids[0]]))
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            refused = message(encoder.submit_tokens, [ids[0]])
            os.write(writer, b"refused" if refused and "after the fork" in refused else b"not refused")
            encoder.close()
            os._exit(0)  # as multiprocessing's children do; XRT's own end would wait for threads that are not there
        os.waitpid(child, 0)
        said = os.read(reader, 100).decode()
        parent = outcome(encoder.submit_tokens([ids[1]]))
        encoder.reset()
        assert before == "answered"
        return {"child": said, "parent": parent, "after_reset": outcome(encoder.submit_tokens([ids[2]]))}


SCENARIOS = (
    *(many, shared, texts, rounds, mistakes, lost, stopped, hanging, endless, opened),
    *(failing, unclosed, cancelling, misused, forking),
)


def main(scenarios: tuple) -> int:
    scenario, xclbin, model = sys.argv[1:]
    try:
        result = {scenario.__name__: scenario for scenario in scenarios}[scenario](Path(xclbin), Path(model))
    except BertileError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # one more while Python ends would decide the exit status
        print("interrupted", file=sys.stderr)
        return 130
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(SCENARIOS))
