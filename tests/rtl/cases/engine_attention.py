"""Scores and context: lengths that are multiples of nothing, several sequences, weights reloaded and kept."""

from __future__ import annotations

import cocotb
from tests.rtl.bench.engine import EngineBench, Traffic, log_seed
from tests.rtl.bench.launch import Attention
from tests.rtl.bench.shape import INPUTS, SPEC
from tests.rtl.bench.stimulus import Stimulus
from tests.rtl.bench.streams import PAUSES

LARGEST = max(SPEC.capacity.head_sizes)


@cocotb.test()
@cocotb.parametrize(results=PAUSES, words=PAUSES)
async def idle_and_backpressure(dut, results: str, words: str) -> None:
    """Idle times of words x backpressure, over heads of any size."""
    seed = 20 + PAUSES.index(results) * len(PAUSES) + PAUSES.index(words)
    rng = log_seed(seed)
    bench = await EngineBench.start(dut, seed, traffic=Traffic(rng.choice(PAUSES), "none", words, results))
    stimulus = Stimulus(bench.shape, rng)
    launch, outputs = stimulus.launch(), bench.shape.outputs
    for _ in range(3):
        keys = rng.choice([1, outputs, bench.shape.tokens, rng.randint(1, 3 * bench.shape.tokens)])
        head_size = outputs * rng.randint(1, min(4, LARGEST // outputs))
        stimulus.attention(launch, keys, head_size, rng.randint(1, 3))
    await bench.run([launch.halt()])


@cocotb.test()
async def every_length(dut) -> None:
    """All lengths up to a bit more than two row blocks: each fills its last tile and group in another way."""
    rng = log_seed(41)
    bench = await EngineBench.start(dut, 41, traffic=Traffic(words="rare"))
    stimulus = Stimulus(bench.shape, rng)
    launch = stimulus.launch()
    for keys in range(1, 2 * bench.shape.tokens + 3):
        stimulus.attention(launch, keys, bench.shape.outputs)
    await bench.run([launch.halt()])


@cocotb.test()
async def largest_head(dut) -> None:
    """The largest head over as many keys as the memory and half of the smallest tile memory hold."""
    rng = log_seed(42)
    bench = await EngineBench.start(dut, 42, traffic=Traffic())
    stimulus = Stimulus(bench.shape, rng)
    tokens, beats = bench.shape.tokens, SPEC.capacity.tile_beats
    keys = min(SPEC.capacity.tokens, beats * INPUTS * bench.shape.outputs // LARGEST)
    keys = min(keys, bench.shape.words // (LARGEST + 3) * tokens) - 1
    launch = stimulus.launch()
    stimulus.attention(launch, keys, LARGEST, queries=2)
    stimulus.attention(launch, keys - tokens, LARGEST)
    await bench.run([launch.halt()])


@cocotb.test()
async def largest_heads(dut) -> None:
    """Heads of the largest size over nearly the most keys: in the small shape, four of their eight sets of keys or
    values fill the tile memory. Each head's second context comes when the keys of the next head are already in use.
    """
    rng = log_seed(46)
    bench = await EngineBench.start(dut, 46, traffic=Traffic())
    stimulus = Stimulus(bench.shape, rng)
    launch, most = stimulus.launch(), SPEC.capacity.tokens
    stimulus.fill(launch, 0, most + 100)
    launch.row_scales(2, stimulus.values(0, 65535, bench.shape.tokens))
    # Row blocks lie a word or two apart: more of them than the memory would hold otherwise.
    common = {"head_size": LARGEST, "weight_stride": 1, "row_count": 6}
    heads = [{**common, "keys": most - 12 - head, "weight": 3 * head} for head in range(4)]
    context = {"source_stride": 2, "slot": 2, "shift": 30, "is_unsigned": True}
    for number, head in enumerate(heads):
        launch.scores(Attention(**head, source=50 + number, source_stride=1, multiplier=900, shift=22))
        if number:
            launch.context(Attention(**heads[number - 1], **context, source=20 + number, reload=False))
        launch.context(Attention(**head, **context, source=number))
    await bench.run([launch.halt()])


@cocotb.test()
@cocotb.parametrize(early_words=[False, True])
async def in_the_order_of_a_program(dut, early_words: bool) -> None:
    """Contexts two steps behind their scores, heads and sequences without a break, gemms before and behind.

    Keys and values of a head are so fetched while another head is under way, and kept over commands of the other kind.
    """
    rng = log_seed(43 + early_words)
    bench = await EngineBench.start(dut, 43 + early_words, traffic=Traffic(words="none" if early_words else "bursts"))
    stimulus = Stimulus(bench.shape, rng)
    launch, outputs = stimulus.launch(), bench.shape.outputs
    for _ in range(2):
        stimulus.gemm(launch, 30, 0.5, 2, 2)
        heads = [(rng.randint(1, 40), outputs * rng.randint(1, 2), rows) for rows in (1, 3, 2, 1, 1)]
        stimulus.program(launch, heads)
    stimulus.gemm(launch, 30, 0.5, 2, 2)
    await bench.run([launch.halt()])


@cocotb.test()
async def weights_stay(dut) -> None:
    """Keys and values stay until the next ones of their kind: the other kind may be reloaded in between."""
    rng = log_seed(45)
    bench = await EngineBench.start(dut, 45, traffic=Traffic())
    stimulus = Stimulus(bench.shape, rng)
    launch, outputs = stimulus.launch(), bench.shape.outputs
    first = stimulus.place_head(launch, 11, outputs, 2)
    second = stimulus.place_head(launch, 22, outputs, 2)
    slot = {"is_unsigned": True, "shift": 20, "slot": 1}
    launch.row_scales(1, stimulus.values(0, 65535, bench.shape.tokens))
    probability = {"source": 0, "source_stride": 0}
    stimulus.fill(launch, 0, 24)
    launch.scores(Attention(**first))
    launch.context(Attention(**{**second, **probability, **slot}))
    launch.scores(Attention(**{**first, "reload": False, "row_first": 1}))
    launch.scores(Attention(**second))
    launch.context(Attention(**{**second, **probability, **slot, "reload": False}))
    launch.context(Attention(**{**first, **probability, **slot}))
    for row in range(2):
        launch.scores(Attention(**{**second, "reload": False, "row_first": row}))
        launch.context(Attention(**{**first, **probability, **slot, "reload": False}))
    await bench.run([launch.halt()])
