"""Weight tiles over row blocks: every kind of pauses, densities, packets and values, at the pace of the array."""

from __future__ import annotations

from collections.abc import Callable

import cocotb
import numpy as np
from tests.rtl.bench.engine import EngineBench, Traffic, log_seed
from tests.rtl.bench.launch import HALF
from tests.rtl.bench.shape import INPUTS, SPEC, WORDS, Tile
from tests.rtl.bench.stimulus import Stimulus
from tests.rtl.bench.streams import PAUSES, Source

WIDEST = 1 << SPEC.packet.index_bits


@cocotb.test()
@cocotb.parametrize(results=PAUSES, words=PAUSES)
async def idle_and_backpressure(dut, results: str, words: str) -> None:
    """Idle times of words and tiles x backpressure, over ragged gemms one behind the other."""
    seed = PAUSES.index(results) * len(PAUSES) + PAUSES.index(words)
    rng = log_seed(seed)
    tiles, commands = rng.choice(PAUSES), rng.choice(PAUSES)
    bench = await EngineBench.start(dut, seed, traffic=Traffic(commands, tiles, words, results))
    stimulus = Stimulus(bench.shape, rng)
    launch = stimulus.launch()
    for _ in range(8):
        density = rng.choice([0.0, 0.1, 0.5, 1.0, rng.random()])
        stimulus.gemm(launch, rng.randint(1, 60), density, rng.randint(1, 5), rng.randint(1, 4))
    await bench.run([launch.halt()])


@cocotb.test()
@cocotb.parametrize(density=[0.0, 0.03, 0.3, 1.0])
async def densities(dut, density: float) -> None:
    """Tiles without vectors, with one, with some, with all."""
    rng = log_seed(int(100 * density))
    bench = await EngineBench.start(dut, int(100 * density))
    stimulus = Stimulus(bench.shape, rng)
    launch = stimulus.launch()
    for inputs in (1, 3, INPUTS, bench.shape.entries, bench.shape.entries + 1, 90):
        stimulus.gemm(launch, inputs, density, tiles=3, rows=2)
    await bench.run([launch.halt()])


def extreme_tile(stimulus: Stimulus, inputs: int, weight: int, bias: int, multiplier: int, shift: int) -> Tile:
    """All weights the same, all outputs the same."""
    outputs = stimulus.shape.outputs
    return Tile(
        np.arange(inputs),
        np.full((inputs, outputs), weight),
        np.full(outputs, bias),
        np.full(outputs, multiplier),
        np.full(outputs, shift),
        stimulus.packets(inputs, short=False),
    )


@cocotb.test()
@cocotb.parametrize(is_unsigned=[False, True])
async def ends_of_ranges(dut, is_unsigned: bool) -> None:
    """The largest sums of either sign, with the ends of weights, activations, biases, multipliers and shifts."""
    rng = log_seed(is_unsigned)
    bench = await EngineBench.start(dut, is_unsigned, traffic=Traffic())
    stimulus = Stimulus(bench.shape, rng)
    launch, inputs = stimulus.launch(), 40
    ends = [0, 255] if is_unsigned else [128, 127]  # as bytes
    for row, lane in enumerate(ends):
        for i in range(inputs):
            launch.word(row * inputs + i, np.full(bench.shape.tokens, lane))
    for weight in (-128, 127):
        tiles = [
            extreme_tile(stimulus, inputs, weight, bias, multiplier, shift)
            for bias in (-(2**31), 0, 2**31 - 1)
            for multiplier in (0, 1, 65535)
            for shift in (0, 1, 31, SPEC.law.shift_max)
        ]
        launch.gemm(tiles, 0, inputs, 0, 2, is_unsigned, HALF)
    await bench.run([launch.halt()])


@cocotb.test()
async def rounding(dut) -> None:
    """Halves go up, on both sides of zero: sums that are the bias alone, around every half of every shift."""
    rng = log_seed(3)
    bench = await EngineBench.start(dut, 3, traffic=Traffic())
    stimulus = Stimulus(bench.shape, rng)
    launch, outputs = stimulus.launch(), bench.shape.outputs
    none = np.zeros(0, np.int64)
    for shift in range(31):
        half = 1 << shift >> 1
        near = [sign * (odd * half) + step for sign in (-1, 1) for odd in (1, 3) for step in (-1, 0, 1)]
        near += [0] * (-len(near) % outputs)
        tiles = [
            Tile(none, np.zeros((0, outputs)), bias, np.ones(outputs), np.full(outputs, shift), (0,))
            for bias in np.split(np.array(near), len(near) // outputs)
        ]
        launch.gemm(tiles, 0, 1, limits=HALF)
    await bench.run([launch.halt()])


def longest_tile(stimulus: Stimulus, inputs: int, vectors: int) -> Tile:
    """As many beats as a tile may have, with so many vectors a packet."""
    groups, tile = SPEC.capacity.tile_beats, stimulus.tile(inputs, 0)
    index = np.arange(groups * min(vectors, INPUTS)) % inputs
    weight = stimulus.values(-128, 127, (len(index), stimulus.shape.outputs))
    packets = (vectors,) * (len(index) // vectors)
    return Tile(index, weight, tile.bias, tile.multiplier, tile.shift, packets)


@cocotb.test()
@cocotb.parametrize(vectors=[1, 2 * INPUTS])
async def longest_tiles(dut, vectors: int) -> None:
    """More of them than the tile memory holds, each for several row blocks: it is full all the time."""
    rng = log_seed(vectors)
    bench = await EngineBench.start(dut, vectors, traffic=Traffic())
    stimulus = Stimulus(bench.shape, rng)
    launch, inputs = stimulus.launch(), min(WIDEST, bench.shape.words) // 4
    stimulus.fill(launch, 0, 4 * inputs)
    tiles = [longest_tile(stimulus, inputs, vectors) for _ in range(7)]
    launch.gemm(tiles, 0, inputs, 0, 4, is_unsigned=True)
    await bench.run([launch.halt()])


@cocotb.test()
async def pace(dut) -> None:
    """Without pauses, a pass costs a cycle for each group and no less than its results need; nothing between passes."""
    rng = log_seed(5)
    bench = await EngineBench.start(dut, 5, traffic=Traffic())
    stimulus = Stimulus(bench.shape, rng)
    outputs = bench.shape.outputs
    for inputs, rows in ((INPUTS * outputs * 2, 4), (INPUTS * outputs, 6), (INPUTS, 12)):
        launch, tiles = stimulus.launch(), 6
        stimulus.fill(launch, 0, inputs * rows)
        launch.gemm([stimulus.tile(inputs, inputs) for _ in range(tiles)], 0, inputs, 0, rows)
        await bench.run([launch.halt()])
        *results, _ = bench.arrivals
        passes = (tiles * rows - 1) * max(inputs // INPUTS, outputs) + outputs
        spent = results[-1] - results[0] + 1
        assert spent == passes, f"{inputs} inputs: {spent} cycles, not {passes}"


@cocotb.test()
async def words_get_through(dut) -> None:
    """While the array reads one bank only, words of all streams for this bank still arrive, a few cycles late."""
    rng = log_seed(6)
    bench = await EngineBench.start(dut, 6, traffic=Traffic())
    stimulus = Stimulus(bench.shape, rng)
    launch, inputs = stimulus.launch(), 160
    stimulus.fill(launch, 0, inputs)
    tile = stimulus.tile(inputs, 0)
    index = np.arange(0, inputs, INPUTS)
    weight = stimulus.values(-128, 127, (len(index), bench.shape.outputs))
    tile = Tile(index, weight, tile.bias, tile.multiplier, tile.shift, stimulus.packets(len(index), False))
    launch.gemm([tile] * 20, 0, inputs, 0, 1)
    for i in range(100):
        for stream in range(len(WORDS)):
            address = inputs + INPUTS * (i % 8 + 8 * stream)
            launch.word(address, stimulus.values(0, 255, bench.shape.tokens), stream)
    launch.halt()
    waits = dict.fromkeys(WORDS, 0)

    def timed(source: Source, name: str) -> Callable[[], bool]:
        step, waited = source.step, 0

        def timed_step() -> bool:
            nonlocal waited
            taken = step()
            waited = 0 if taken or not source.is_offering else waited + 1
            waits[name] = max(waits[name], waited)
            return taken

        return timed_step

    for name in WORDS:
        bench.sources[name].step = timed(bench.sources[name], name)
    await bench.run([launch])
    assert 8 < max(waits.values()) <= 20, f"words waited {waits} cycles"
