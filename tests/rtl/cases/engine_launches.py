"""What lies around commands: launches, resets, the ring through the encoder, the status."""

from __future__ import annotations

import random
from dataclasses import replace

import cocotb
from cocotb.triggers import FallingEdge
from tests.rtl.bench.engine import EngineBench, Traffic, log_seed
from tests.rtl.bench.launch import STATUS_LANES, Launch
from tests.rtl.bench.shape import SPEC
from tests.rtl.bench.stimulus import Stimulus
from tests.rtl.bench.streams import PAUSES


def mixed_launch(stimulus: Stimulus, rng: random.Random, commands: int) -> Launch:
    """Gemms and heads in any order."""
    launch, outputs = stimulus.launch(), stimulus.shape.outputs
    for _ in range(commands):
        if rng.random() < 0.5:
            stimulus.gemm(launch, rng.randint(1, 40), rng.random(), rng.randint(1, 4), rng.randint(1, 4))
        else:
            keys, head_size = rng.randint(1, 3 * outputs), outputs * rng.randint(1, 2)
            stimulus.attention(launch, keys, head_size, rng.randint(1, 3))
    return launch


@cocotb.test()
@cocotb.parametrize(seed=range(60, 76))
async def anything(dut, seed: int) -> None:
    """Several launches of anything, with pauses anywhere; words stay in the memory from one to the next."""
    rng = log_seed(seed)
    bench = await EngineBench.start(dut, seed)
    stimulus = Stimulus(bench.shape, rng)
    await bench.run([mixed_launch(stimulus, rng, rng.randint(0, 5)).halt() for _ in range(4)])


@cocotb.test()
@cocotb.parametrize(kind=PAUSES)
async def early(dut, kind: str) -> None:
    """Commands and tiles of the next launch already wait while this one runs."""
    seed = 80 + PAUSES.index(kind)
    rng = log_seed(seed)
    bench = await EngineBench.start(dut, seed, traffic=Traffic(kind, kind, "none", "rare"), early=True)
    stimulus = Stimulus(bench.shape, rng)
    await bench.run([mixed_launch(stimulus, rng, 2).halt() for _ in range(4)])


@cocotb.test()
async def empty_launches(dut) -> None:
    """Nothing but halt, and a launch without a command that awaits a word."""
    rng = log_seed(84)
    bench = await EngineBench.start(dut, 84, traffic=Traffic(), early=True)
    stimulus = Stimulus(bench.shape, rng)
    launches = []
    for words in (0, 0, 1, 30, 0):
        launch = stimulus.launch()
        stimulus.fill(launch, 5, words)
        launches.append(launch.halt())
    await bench.run(launches)


@cocotb.test()
@cocotb.parametrize(seed=range(90, 102))
async def reset(dut, seed: int) -> None:
    """A reset at any moment leaves nothing behind."""
    rng = log_seed(seed)
    bench = await EngineBench.start(dut, seed)
    stimulus = Stimulus(bench.shape, rng)
    await bench.run([mixed_launch(stimulus, rng, 4).halt()], stop_after=rng.randint(1, 1500))
    await bench.reset()
    for _ in range(40):
        await FallingEdge(dut.ap_clk)
        assert not int(dut.results_tvalid.value), "a result from before the reset"
    fresh = EngineBench(dut, seed + 1000)
    stimulus = Stimulus(bench.shape, rng)
    await fresh.run([mixed_launch(stimulus, rng, 2).halt() for _ in range(2)])


@cocotb.test()
@cocotb.parametrize(depth=[1, 2, 17, 100])
async def ring(dut, depth: int) -> None:
    """Every result must become a word before too many others leave, as in the ring through the encoder.

    The engine takes words at all times, so it never waits for itself.
    """
    rng = log_seed(110 + depth)
    bench = await EngineBench.start(dut, depth, traffic=Traffic(words=rng.choice(PAUSES), tiles=rng.choice(PAUSES)))
    stimulus = Stimulus(bench.shape, rng)
    launch = stimulus.launch()
    stimulus.gemm(launch, 50, 0.8, 5, 3)
    own = launch.words[0]
    first, results = len(own), len(launch.expected)
    # Nothing is read there, nor has a peer written there.
    places = enumerate(zip(launch.memory.read_until, launch.memory.writer, strict=True))
    free = [address for address, (until, writer) in places if not until and not writer]
    for number in range(results):
        launch.word(rng.choice(free), stimulus.values(0, 255, bench.shape.tokens))
        own[-1] = replace(own[-1], after=number + 1)
    bench.ring = (first, depth)
    await bench.run([launch.halt()])


@cocotb.test()
async def status_counts_cycles(dut) -> None:
    """From the first command to halt, where a result is wide enough to say so."""
    rng = log_seed(120)
    bench = await EngineBench.start(dut, 120, traffic=Traffic())
    stimulus = Stimulus(bench.shape, rng)
    for _ in range(2):
        launch = mixed_launch(stimulus, rng, 3).halt()
        before = bench.cycle
        await bench.run([launch])
        status = bench.statuses[-1].tobytes()
        assert int.from_bytes(status[:8], "little") == SPEC.digest_word
        if len(status) >= 2 * STATUS_LANES + 8:
            counted = int.from_bytes(status[16:24], "little")
            spent = bench.arrivals[-1] - before
            assert spent - 20 <= counted <= spent, f"{counted} cycles counted, {spent} spent"
