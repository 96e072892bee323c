"""Packets into parameters and beats, against the format: any packets, pauses of beats, room that comes and goes."""

from __future__ import annotations

import random
from itertools import pairwise

import cocotb
from tests.rtl.bench.module import Module, pack, parameter
from tests.rtl.bench.shape import INPUTS, LAST, SPEC, VALID

INDEX_BITS = SPEC.packet.index_bits


def random_tile(rng: random.Random, outputs: int, packets: list[list[bool]]) -> tuple[list[int], list, list]:
    """Beats of a tile with these valid entries; its parameter beats; its weight beats with their indices."""
    bits = outputs * 32
    parameters = [rng.getrandbits(bits) for _ in range(SPEC.tile.parameter_beats)]
    beats, weights = list(parameters), []
    for number, valid in enumerate(packets):
        index = [rng.getrandbits(INDEX_BITS) if is_valid else 0 for is_valid in valid]
        entries = [VALID * is_valid | k for is_valid, k in zip(valid, index, strict=True)]
        for i in range(1, len(entries)):
            entries[i] |= LAST * rng.getrandbits(1)  # means nothing here
        for i, is_valid in enumerate(valid):
            entries[i] |= (rng.getrandbits(2) << INDEX_BITS) * is_valid  # nor do these bits
        entries[0] |= LAST * (number == len(packets) - 1)
        beats.append(pack(entries, 16))
        for first in range(0, -(-sum(valid) // INPUTS) * INPUTS, INPUTS):
            weights.append((pack(index[first : first + INPUTS], INDEX_BITS), rng.getrandbits(bits)))
            beats.append(weights[-1][1])
    return beats, parameters, weights


async def decode(module: Module, beats: list[int], more: int, share: float, roomy: float) -> dict:
    """Start a tile, feed its beats, and see what comes out until it is done. `more`: the beat behind it, not taken."""
    seen = {"parameters": [], "weights": [], "errors": 0, "groups": None, "taken": 0}
    module.drive(start=1)
    await module.next()
    module.drive(start=0)
    offered, quiet = False, 0
    for _ in range(40 * len(beats) + 200):
        offered = offered or module.coin(share)
        beat = beats[seen["taken"]] if seen["taken"] < len(beats) else more
        module.drive(beat_valid=offered, beat=beat if offered else 0, room=module.coin(roomy))
        await module.settle()
        if module.see("parameter_write"):
            seen["parameters"].append((module.see("parameter_half"), module.see("parameter_data")))
        if module.see("weight_write"):
            seen["weights"].append((module.see("weight_index"), module.see("weight_data")))
        seen["errors"] += module.see("packet_error")
        if module.see("done"):
            assert seen["groups"] is None, "done twice"
            seen["groups"] = module.see("groups")
        taken = offered and module.see("beat_ready")
        quiet += seen["groups"] is not None
        await module.next()
        seen["taken"] += taken
        offered = offered and not taken
        if quiet > 5 or (quiet and seen["taken"] > len(beats)):
            break
    # A beat that already waits inside belongs to the next tile.
    module.drive(beat_valid=0)
    return seen


def packets_of(rng: random.Random, entries: int) -> list[list[bool]]:
    """Valid entries of packets: full, empty, short."""
    counts = [rng.choice([0, 1, entries, rng.randint(0, entries)]) for _ in range(rng.choice([1, 1, 2, 5]))]
    return [[i < count for i in range(entries)] for count in counts]


@cocotb.test()
@cocotb.parametrize(share=[1.0, 0.4], roomy=[1.0, 0.5])
async def packets(dut, share: float, roomy: float) -> None:
    outputs = parameter("OUTPUTS")
    seed = int(10 * share + 100 * roomy)
    for number in range(40):
        module = await Module.start(dut, seed + number, start=0, beat_valid=0, room=0)
        beats, parameters, weights = random_tile(module.rng, outputs, packets_of(module.rng, 2 * outputs))
        seen = await decode(module, beats, 0, share, roomy)
        assert seen["parameters"] == list(enumerate(parameters))
        assert seen["weights"] == weights
        assert seen["groups"] == len(weights)
        assert not seen["errors"]
        assert not module.see("busy")


@cocotb.test()
async def gaps(dut) -> None:
    """A valid entry behind an invalid one is an error, and all its beats are taken."""
    outputs = parameter("OUTPUTS")
    for number in range(60):
        module = await Module.start(dut, number, start=0, beat_valid=0, room=0)
        valid = [module.coin() for _ in range(2 * outputs)]
        beats, *_ = random_tile(module.rng, outputs, [valid])
        seen = await decode(module, beats, 0, 1.0, 1.0)
        is_broken = any(after and not before for before, after in pairwise(valid))
        assert bool(seen["errors"]) == is_broken, valid
        assert seen["taken"] >= len(beats)
        assert seen["groups"] == -(-sum(valid) // INPUTS)


@cocotb.test()
async def capacity(dut) -> None:
    """The longest tile is whole; of a longer one the beats behind are taken and dropped."""
    outputs, most = parameter("OUTPUTS"), SPEC.capacity.tile_beats
    for beats_wanted in (most, most + 1, most + 20):
        module = await Module.start(dut, beats_wanted, start=0, beat_valid=0, room=0)
        full = 2 * outputs // INPUTS
        counts = [2 * outputs] * (beats_wanted // full) + [INPUTS * (beats_wanted % full)]
        packets = [[i < count for i in range(2 * outputs)] for count in counts]
        beats, _, weights = random_tile(module.rng, outputs, packets)
        seen = await decode(module, beats, 0, 1.0, 1.0)
        assert seen["weights"] == weights[:most]
        assert seen["groups"] == most
        assert bool(seen["errors"]) == (beats_wanted > most)
        assert seen["taken"] >= len(beats)


@cocotb.test()
async def one_behind_the_other(dut) -> None:
    """Beats of the next tile may wait already; none is lost."""
    outputs = parameter("OUTPUTS")
    module = await Module.start(dut, 7, start=0, beat_valid=0, room=1)
    tiles = [random_tile(module.rng, outputs, packets_of(module.rng, 2 * outputs)) for _ in range(20)]
    stream = [beat for beats, _, _ in tiles for beat in beats]
    position, got, expected = 0, [], [weight for _, _, weights in tiles for weight in weights]
    started, finished, idle = 0, 0, 0
    for _ in range(20 * len(stream)):
        start = started == finished and started < len(tiles) and module.coin(0.5)
        started += start
        module.drive(start=start, beat_valid=position < len(stream), beat=stream[min(position, len(stream) - 1)])
        await module.settle()
        if module.see("weight_write"):
            got.append((module.see("weight_index"), module.see("weight_data")))
        finished += module.see("done")
        position += position < len(stream) and module.see("beat_ready")
        idle = idle + 1 if finished == len(tiles) else 0
        await module.next()
        if idle > 3:
            break
    assert finished == len(tiles)
    assert got == expected
    assert position == len(stream)
