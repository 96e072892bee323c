"""Every error code, and what goes on behind an error: counts are kept, the next command and launch are right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cocotb
import numpy as np
from tests.rtl.bench.engine import EngineBench, log_seed
from tests.rtl.bench.launch import BYTE, ERROR, FLAG, HALF, OPCODE, Attention, Launch
from tests.rtl.bench.reference import requantize
from tests.rtl.bench.shape import INPUTS, SPEC, VALID, WORDS, Shape, Tile
from tests.rtl.bench.stimulus import SHIFT_MAX, Stimulus

KIND = SPEC.word_kind
SLOTS = SPEC.capacity.probability_slots
ROW_BLOCKS = SPEC.row_blocks


async def run_with(dut, seed: int, error: int, *faults: Callable[[Stimulus, Launch], None]) -> None:
    """Launches with a fault between a gemm and a head, behind and before launches without."""
    rng = log_seed(seed)
    bench = await EngineBench.start(dut, seed)
    stimulus = Stimulus(bench.shape, rng)
    launches = []
    for fault in (*faults, None):
        launch = stimulus.launch()
        stimulus.gemm(launch, 20, 0.6, 2, 2)
        if fault:
            fault(stimulus, launch)
            launch.error = error
        stimulus.gemm(launch, 20, 0.6, 2, 2)
        stimulus.attention(launch, rng.randint(1, 40), bench.shape.outputs, 2)
        launches.append(launch.halt())
    await bench.run(launches)


# Commands that are skipped


@cocotb.test()
async def unknown_opcodes(dut) -> None:
    def fault(opcode: int) -> Callable:
        return lambda stimulus, launch: launch.send([], opcode=opcode, tiles=1, row_count=1)

    await run_with(dut, 200, ERROR.opcode, *(fault(opcode) for opcode in (4, 5, 16, 129, 255)))


@cocotb.test()
async def nothing_to_do(dut) -> None:
    """No tiles or no row blocks: no result, no tile, no keys, whatever else the command says."""

    def fault(opcode: int, tiles: int, rows: int) -> Callable:
        fields = {"flags": 1 << FLAG.reload, "keys": 9, "head_size": 16, "row_scale_slot": 9, "row_first": 200}
        return lambda stimulus, launch: launch.send([], opcode=opcode, tiles=tiles, row_count=rows, **fields)

    operations = (OPCODE.gemm, OPCODE.scores, OPCODE.context)
    faults = [fault(opcode, *counts) for opcode in operations for counts in ((0, 1), (3, 0), (0, 0))]
    await run_with(dut, 201, ERROR.shape, *faults)


# Commands that multiply nothing


def blank_gemm(row_first: int, row_count: int) -> Callable:
    """Row blocks that do not exist: tiles are taken, sums are the biases."""

    def fault(stimulus: Stimulus, launch: Launch) -> None:
        made = [stimulus.tile(20, count) for count in (20, 0, 7)]
        empty = [Tile(tile.index[:0], tile.weight[:0], tile.bias, tile.multiplier, tile.shift, (0,)) for tile in made]
        launch.gemm(empty, 0, 20, row_first, row_count, limits=HALF)
        first = len(launch.tiles) - sum(len(tile.encode(launch.shape)) for tile in empty)
        launch.tiles[first:] = [beat for tile in made for beat in tile.encode(launch.shape)]

    return fault


@cocotb.test()
async def too_many_row_blocks(dut) -> None:
    faults = [blank_gemm(*rows) for rows in ((0, ROW_BLOCKS + 1), (ROW_BLOCKS, 1), (255, 1), (15, 2), (1, 255))]
    await run_with(dut, 202, ERROR.shape, *faults[:4])


def blank_head(opcode: int, tiles: int | None = None, limits: tuple = BYTE, rows: int = 1, **wrong: int) -> Callable:
    """Scores or context with one wrong number: every sum is zero, and no keys or values are fetched."""

    def fault(stimulus: Stimulus, launch: Launch) -> None:
        outputs = launch.shape.outputs
        fields = {"keys": 3 * outputs - 2, "head_size": 2 * outputs, "multiplier": 77, "shift": 20, **wrong}
        right = 3 if opcode == OPCODE.scores else 2
        count = right if tiles is None else tiles
        zeros = requantize(np.zeros((outputs, launch.shape.tokens)), 1, 0, limits)
        launch.send(
            [zeros] * count * rows,
            limits,
            opcode=opcode,
            tiles=count,
            row_count=rows,
            flags=1 << FLAG.reload,
            **launch.awaits_all(),
            **fields,
        )

    return fault


@cocotb.test()
@cocotb.parametrize(opcode=[OPCODE.scores, OPCODE.context])
async def wrong_heads(dut, opcode: int) -> None:
    outputs = SPEC.array.outputs
    wrong = [
        {"head_size": 0},
        {"head_size": 2 * outputs - 1},
        {"head_size": 2 * outputs + 1},
        {"head_size": 128},
        {"head_size": 255},
        {"keys": 0},
        {"keys": SPEC.capacity.tokens + 1},
        {"keys": 65535},
        {"tiles": 1},
        {"tiles": 5, "rows": 2},
        {"shift": SHIFT_MAX + 1},
        {"shift": 64},
        {"shift": 255},
        {"row_first": ROW_BLOCKS, "limits": (5, 100)},
        {"row_first": 15, "rows": 2, "limits": (-100, -5)},
    ]
    if opcode == OPCODE.context:
        wrong += [{"row_scale_slot": slot} for slot in (SLOTS, 4, 256, 65535)]
    await run_with(dut, 203, ERROR.shape, *(blank_head(opcode, **fields) for fields in wrong))


@cocotb.test()
async def weights_outlive_a_blank_command(dut) -> None:
    """Scores and context use the keys and values from before a blank command that wanted new ones."""

    def fault(stimulus: Stimulus, launch: Launch) -> None:
        head = Attention(**stimulus.place_head(launch, 10, launch.shape.outputs, 1), is_unsigned=True, shift=12)
        launch.row_scales(0, stimulus.values(0, 65535, launch.shape.tokens))
        for add, opcode in ((launch.scores, OPCODE.scores), (launch.context, OPCODE.context)):
            stimulus.fill(launch, head.source, 2 * INPUTS + INPUTS)
            add(head)
            blank_head(opcode, shift=50)(stimulus, launch)
            add(replace(head, reload=False))

    await run_with(dut, 204, ERROR.shape, fault)


# Addresses


@cocotb.test()
async def operands_past_the_memory(dut) -> None:
    """Rows of a gemm, queries, keys and values of which the last word is missing, or all."""

    def gemm(source: int) -> Callable:
        def fault(stimulus: Stimulus, launch: Launch) -> None:
            launch.gemm([stimulus.tile(20, 20)] * 2, source, 20, known=False)

        return fault

    def head(opcode: int, **others: int) -> Callable:
        def fault(stimulus: Stimulus, launch: Launch) -> None:
            outputs = launch.shape.outputs
            tiles = 2 if opcode == OPCODE.scores else 1
            fields = {"keys": outputs + 1, "head_size": outputs, "flags": 1 << FLAG.reload, **others}
            launch.send([None] * tiles, opcode=opcode, tiles=tiles, row_count=1, **fields)

        return fault

    end = Shape.of_simulation().words
    scores, context = OPCODE.scores, OPCODE.context
    faults = [gemm(end - 19), gemm(end), gemm(65535 - 25)]
    for opcode in (scores, context):
        faults += [head(opcode, **{field: at}) for field in ("source", "weight") for at in (end - 7, end, 65000)]
    await run_with(dut, 205, ERROR.address, *faults)


@cocotb.test()
async def indices_past_the_row_block(dut) -> None:
    """An input index that is not below source_stride; the last one that is."""

    def fault(index: int, stride: int) -> Callable:
        def add(stimulus: Stimulus, launch: Launch) -> None:
            tile = stimulus.tile(stride, 1)
            stimulus.fill(launch, 0, stride)
            launch.gemm([replace(tile, index=np.array([stride - 1]))], 0, stride)
            launch.gemm([replace(tile, index=np.array([index]))], 0, stride, known=False)

        return add

    await run_with(dut, 206, ERROR.index, fault(20, 20), fault(21, 20), fault(4095, 33), fault(5, 5))


# Tiles and words


@cocotb.test()
async def broken_packets(dut) -> None:
    """A gap between valid entries; one weight beat more than a tile may have. All beats are taken."""

    def gap(valid: list[int]) -> Callable:
        def fault(stimulus: Stimulus, launch: Launch) -> None:
            tile = stimulus.tile(20, len(valid))
            entries = np.zeros(launch.shape.entries, np.uint16)
            entries[valid] = VALID
            entries[0] |= 1 << SPEC.packet.last_bit
            launch.gemm([tile], 0, 20, known=False)
            launch.tiles[-len(tile.encode(launch.shape)) :] = tile.encode(launch.shape, entries)

        return fault

    def too_long(beats: int) -> Callable:
        def fault(stimulus: Stimulus, launch: Launch) -> None:
            tile = stimulus.tile(1, 0)
            weight = np.ones((beats, launch.shape.outputs))
            long = replace(tile, index=np.zeros(beats, int), weight=weight, packets=(1,) * beats)
            launch.gemm([long], 0, 20, known=False)

        return fault

    beats = SPEC.capacity.tile_beats
    gaps = [gap([0, 2]), gap([1]), gap([0, 1, 2, 3, 5]), gap([7]), gap([0, 1, 2, 3, 4, 6, 7])]
    await run_with(dut, 207, ERROR.packet, *gaps, too_long(beats + 1), too_long(beats + 9))


@cocotb.test()
async def words_without_a_place(dut) -> None:
    """Dropped, but counted: nobody waits for ever, and what lies where they would wrap to is as it was."""
    end = Shape.of_simulation().words

    def fault(stream: int, address: int, kind: int) -> Callable:
        def add(stimulus: Stimulus, launch: Launch) -> None:
            launch.eager = False
            stimulus.fill(launch, 0, 20)
            launch.row_scales(0, stimulus.values(0, 65535, launch.shape.tokens))
            launch.stray_word(address, kind, stream)
            launch.gemm([stimulus.tile(20, 20)], 0, 20)
            head = stimulus.place_head(launch, 8, launch.shape.outputs, 1)
            launch.context(Attention(**head, shift=16, is_unsigned=True))

        return add

    strays = [(5, 2), (5, 3), (0, 128), (5, 255), (end, KIND.activation), (65535, KIND.activation)]
    strays += [(end + 5, KIND.activation), (2 * SLOTS, KIND.row_scale), (8, KIND.row_scale), (65535, KIND.row_scale)]
    strays += [((end + 65535) // 2, KIND.activation), (32768, KIND.row_scale)]
    await run_with(dut, 208, ERROR.word, *(fault(0, *stray) for stray in strays))
    # Peers send activation words only: a row scale that is right on the other stream overwrites nothing here.
    strays = [*strays, (0, KIND.row_scale), (1, KIND.row_scale), (2 * SLOTS - 1, KIND.row_scale)]
    faults = [fault(stream, *stray) for stream in range(1, len(WORDS)) for stray in strays]
    await run_with(dut, 212, ERROR.word, *faults)


# Several


@cocotb.test()
async def the_first_error_stays(dut) -> None:
    def both(first: Callable, second: Callable) -> Callable:
        def fault(stimulus: Stimulus, launch: Launch) -> None:
            first(stimulus, launch)
            stimulus.gemm(launch, 20, 0.5, 3, 3)
            second(stimulus, launch)

        return fault

    def opcode(stimulus: Stimulus, launch: Launch) -> None:
        launch.send([], opcode=99)

    def index(stimulus: Stimulus, launch: Launch) -> None:
        # A command far behind: its check must not come before the result of this one.
        launch.gemm([replace(stimulus.tile(9, 1), index=np.array([9]))], 0, 9, known=False)
        for _ in range(24):
            launch.gemm([stimulus.tile(9, 0)], 0, 9)

    await run_with(dut, 209, ERROR.opcode, both(opcode, blank_gemm(15, 2)), both(opcode, index))
    await run_with(dut, 210, ERROR.shape, both(blank_gemm(15, 2), opcode))
    await run_with(dut, 211, ERROR.index, both(index, opcode))
