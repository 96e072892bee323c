"""Keys and values from the activation memory into beats, for heads of any size. Requests wait, and words come late."""

from __future__ import annotations

import cocotb
import numpy as np
from tests.rtl.bench.module import Module, pack, packed_struct, parameter
from tests.rtl.bench.shape import INPUTS, SPEC

LATENCY = 5  # of the memory at least
MODE_SCORES, MODE_CONTEXT = 1, 2
LARGEST = max(SPEC.capacity.head_sizes)


def command(mode: int, weight: int, stride: int, keys: int, head_size: int) -> int:
    fields = [(mode, 2), (0, 16), (0, 32), (weight, 16), (stride, 16), (keys, 10), (head_size, 7)]
    return packed_struct(*fields)


def beats_of(mode: int, words: np.ndarray, keys: int, first: int) -> dict[int, int]:
    """Beats by position. `words` is [features, tokens]; vectors of keys are outputs, of values inputs."""
    outputs = parameter("OUTPUTS")
    matrix = words if mode == MODE_SCORES else words.T  # [inputs, outputs]
    inputs = len(words) if mode == MODE_SCORES else keys
    columns = keys if mode == MODE_SCORES else len(words)
    groups, beats = -(-inputs // INPUTS), {}
    for tile in range(-(-columns // outputs)):
        for group in range(groups):
            vectors = matrix[group * INPUTS : (group + 1) * INPUTS, tile * outputs : (tile + 1) * outputs]
            beats[first + tile * groups + group] = int.from_bytes(vectors.astype(np.uint8).tobytes(), "little")
    return beats


async def fetch(module: Module, mode: int, keys: int, head_size: int, share: float) -> None:
    tokens = parameter("TOKENS")
    rows = -(-keys // tokens)
    stride = head_size + module.rng.choice([0, 1, 7])
    weight = module.rng.choice([0, 65536 - rows * stride, module.rng.randrange(40000)])
    noise = np.random.default_rng(module.rng.getrandbits(32))
    words = noise.integers(0, 256, (rows, head_size, tokens))
    places = [(row, feature) for row in range(rows) for feature in range(head_size)]
    memory = {weight + row * stride + feature: pack(words[row, feature], 8) for row, feature in places}
    first = module.rng.randrange(30000)
    expected = beats_of(mode, words.transpose(1, 0, 2).reshape(head_size, -1), keys, first)
    module.drive(command=command(mode, weight, stride, keys, head_size), first=first)
    await module.next()
    module.drive(start=1)
    await module.next()
    module.drive(start=0)

    due: dict[int, int] = {}
    beats: dict[int, int] = {}
    after_done, arrival = None, 0
    for cycle in range(60 * len(memory) + 200):
        word = due.pop(cycle, None)
        module.drive(word_valid=word is not None, word=module.rng.getrandbits(8 * tokens) if word is None else word)
        ready = module.coin(share)
        module.drive(fetch_ready=ready)
        await module.settle()
        if ready and module.see("fetch_valid"):
            arrival = max(arrival + 1, cycle + LATENCY + (module.rng.randint(0, 9) if module.coin(1 - share) else 0))
            due[arrival] = memory.pop(module.see("fetch_address"))
        if module.see("write"):
            position = module.see("write_position")
            assert after_done is None or after_done < 1, "a write behind done"
            assert position not in beats, f"position {position} twice"
            beats[position] = module.see("write_data")
        if module.see("done"):
            after_done = 0
        elif after_done is not None:
            after_done += 1
        await module.next()
        if after_done == 4:
            break
    assert after_done is not None, "not done"
    assert not memory, f"{len(memory)} words were not fetched"
    assert beats == expected, f"{keys} keys, head size {head_size}"
    assert not module.see("busy")


@cocotb.test()
@cocotb.parametrize(mode=[MODE_SCORES, MODE_CONTEXT], share=[1.0, 0.5, 0.1])
async def heads(dut, mode: int, share: float) -> None:
    outputs, tokens = parameter("OUTPUTS"), parameter("TOKENS")
    idle = {"start": 0, "fetch_ready": 0, "word_valid": 0}
    module = await Module.start(dut, 10 * mode + int(10 * share), **idle)
    for keys in (1, INPUTS, outputs, tokens, tokens + 1, 3 * tokens, *module.rng.sample(range(1, 4 * tokens), 6)):
        head_size = outputs * module.rng.randint(1, min(4, LARGEST // outputs))
        await fetch(module, mode, keys, head_size, share)
    if share == 1.0:
        await fetch(module, mode, 5 * tokens - 3, LARGEST, share)
