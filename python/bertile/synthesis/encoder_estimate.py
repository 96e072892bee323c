"""What the encoder kernel takes of a card: estimated by counting its operations, not synthesized.

Vitis HLS has never been run on these sources. Every stage of `hls/kernels/encoder` is a list of operations, their
number and their width, and below is what one of each costs. Widths are those that the values have (docs/numerics.md),
not those of the C++ types: HLS finds many of them, not all (`TYPED_DSPS`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bertile.config.spec import load_spec
from bertile.config.target import load_target
from bertile.perf.timeline import ACTIVATED_FIFO, WORD_FIFO

SPEC = load_spec()
DEPTHS = load_target()["latency"]  # of the pipelines, assumed there
LANES = SPEC.word.tokens
WIDE_WORD = 16 * LANES
WORD = 8 * LANES
BEAT = 8 * SPEC.packet.beat_bytes
ROW_BLOCKS = SPEC.capacity.tokens // SPEC.word.tokens
PARAMETER_FIFO = 258  # kNormParameterDepth
SHIFT_BITS = 6


@dataclass(frozen=True)
class Cost:
    """Resources of a card, `bram` in blocks of 36 Kb."""

    lut: int = 0
    ff: int = 0
    dsp: int = 0
    bram: int = 0
    uram: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(mine + its for mine, its in zip(vars(self).values(), vars(other).values(), strict=True)))

    def __mul__(self, count: int) -> Cost:
        return Cost(*(count * mine for mine in vars(self).values()))


@dataclass(frozen=True)
class Item:
    """Some operations or memories of one kind."""

    what: str
    count: int
    each: Cost

    @property
    def cost(self) -> Cost:
        return self.each * self.count


def ceil_divide(value: int, divisor: int) -> int:
    return -(-value // divisor)


def add(width: int) -> Cost:
    """Addition, subtraction, comparison: a LUT a bit on the carry chain, the result in a register."""
    return Cost(lut=width, ff=width)


def choose(width: int, ways: int) -> Cost:
    """Multiplexer: four ways a LUT, sixteen with MUXF7 and MUXF8; the result in a register."""
    luts, left = 0, ways
    while left > 1:
        luts += ceil_divide(left, 4)
        left = ceil_divide(left, 16)
    return Cost(lut=width * luts, ff=width)


def multiply(signed_width: int, other_width: int) -> Cost:
    """Product of two signed numbers in DSPs of 27 x 18 bits; parts of a wider one have 26 and 17 bits."""
    wide, narrow = max(signed_width, other_width), min(signed_width, other_width)
    parts = (1 if wide <= 27 else ceil_divide(wide, 26)) * (1 if narrow <= 18 else ceil_divide(narrow, 17))
    return Cost(dsp=parts, ff=wide + narrow)


def rounding_shift(width: int) -> Cost:
    """Half of the divisor, its addition, then a shift by six bits, two a LUT."""
    steps = SHIFT_BITS // 2
    return Cost(lut=width, ff=width) + add(width) + Cost(lut=steps * width, ff=steps * width)


def saturate(width: int, result: int) -> Cost:
    """The bits above the result are all alike, or it is chosen."""
    return Cost(lut=ceil_divide(width - result, 5) + result, ff=result)


def divide(quotient: int, denominator: int) -> Cost:
    """Unrolled restoring division, every step in a register: difference and choice over all bits, operands carried."""
    width = quotient + denominator
    return Cost(lut=2 * width, ff=width + denominator + quotient) * quotient


def square_root(bits: int) -> Cost:
    """Unrolled, a result bit a step: difference and choice; rest, root and argument carried."""
    width = bits // 2 + 2
    return Cost(lut=2 * width, ff=width + bits // 2 + bits) * (bits // 2)


def block_ram(width: int, depth: int) -> Cost:
    """FIFO or memory in block RAM of 512 x 72 bits, with pointers."""
    return Cost(lut=60, ff=60, bram=ceil_divide(width, 72) * ceil_divide(depth, 512))


def ultra_ram(width: int, depth: int) -> Cost:
    """FIFO in UltraRAM of 4,096 x 72 bits, with an output register."""
    return Cost(lut=100, ff=100 + width, uram=ceil_divide(width, 72) * ceil_divide(depth, 4096))


def lut_ram(width: int, depth: int) -> Cost:
    """Memory in distributed RAM, 14 bits x 32 in the eight LUTs of a slice; the output in a register."""
    return Cost(lut=8 * ceil_divide(width, 14) * ceil_divide(depth, 32), ff=width)


def address() -> list[Item]:
    """RegionCounter, RegionWords and TargetAddress of a stage that walks over a region."""
    return [
        Item("region: products of counts and strides", 3, multiply(17, 17)),
        Item("region: counters and sums of 16 bits", 8, add(16)),
    ]


def carried(width: int, cycles: int) -> Item:
    """A word on its way beside a pipeline, in shift registers of up to 32 cycles."""
    return Item(f"word of {width} bits beside {cycles} cycles", 1, Cost(lut=width * ceil_divide(cycles, 32), ff=width))


def activate() -> list[Item]:
    entries = 1 << SPEC.law.gelu_index_bits
    # The source partitions one table into 64 banks, which do not serve 32 look-ups of any entry a cycle: copies do.
    return [
        *address(),
        Item(f"table of {entries} x 8, a copy in half a block RAM for two lanes", LANES // 4, Cost(bram=1)),
        Item("choice of table or result, 8 bits", LANES, choose(8, 2)),
        carried(BEAT, DEPTHS["Activate"]),
    ]


def softmax_scan() -> list[Item]:
    return [
        Item("maximum: comparison and choice, 16 bits", LANES, add(16) + choose(16, 2)),
        carried(WIDE_WORD, DEPTHS["SoftmaxScan"]),
    ]


def softmax_exponentiate() -> list[Item]:
    entries = 1 << SPEC.law.score_fraction_bits
    sum_bits = 17
    return [
        Item("distance to the maximum, 16 bits", LANES, add(16)),
        Item(f"table of {entries} x 16 in registers", entries, Cost(ff=16, lut=1)),
        Item(f"look-up: 1 of {entries}, 16 bits", LANES, choose(16, entries)),
        Item("rounding shift, 17 bits", LANES, rounding_shift(17)),
        Item(f"row sum, {sum_bits} bits", LANES, add(sum_bits)),
        Item(f"division, {SPEC.law.row_scale_bits} bits by {sum_bits}", 1, divide(SPEC.law.row_scale_bits, sum_bits)),
        Item("choice of a row sum", 1, choose(sum_bits, LANES)),
        carried(WIDE_WORD, DEPTHS["SoftmaxExponentiate"]),
    ]


def norm_accumulate() -> list[Item]:
    return [
        *address(),
        Item("residual x multiplier, 8 x 17 bits", LANES, multiply(8, 17)),
        Item("rounding shift, 26 bits", LANES, rounding_shift(26)),
        Item("sum with the residual, saturated", LANES, add(27) + saturate(27, 16)),
        Item("square, 16 x 16 bits", LANES, multiply(16, 16)),
        Item("totals of a tile and of a row, 27 and 42 bits", 2 * LANES, add(27) + add(42)),
        Item("totals of 16 row blocks, 32 + 64 bits", LANES, lut_ram(96, ROW_BLOCKS)),
        Item("parameters of 1,024 features, 8 written a cycle", 1, block_ram(512, 128)),
        carried(WIDE_WORD, DEPTHS["NormAccumulate"]),
    ]


def norm_moments() -> list[Item]:
    """One lane after the other; partial sums come and go in beats."""
    beats, peers = SPEC.cooperation.moment_beats, SPEC.cooperation.units - 1
    return [
        Item("sums of 16 row blocks, 96 bits a lane", LANES, lut_ram(96, ROW_BLOCKS)),
        Item(f"choice of one of {beats} beats to send", 1, choose(BEAT, beats)),
        Item("sums of another unit, added a beat at a time", peers, add(BEAT)),
        Item("choice of a lane for the moments, 96 bits", 1, choose(96, LANES)),
        Item("variance: features x squares, total x total", 1, multiply(42, 17) + multiply(27, 27) + add(54) * 2),
        Item("reciprocal root: leading one, two shifts of 54 bits", 1, Cost(lut=54, ff=54) + rounding_shift(54) * 2),
        Item("square root, 32 bits", 1, square_root(SPEC.law.rsqrt_bits)),
        Item("division, 17 bits by 16", 1, divide(SPEC.law.rsqrt_bits // 2 + 1, SPEC.law.rsqrt_bits // 2)),
    ]


def norm_apply() -> list[Item]:
    return [
        *address(),
        Item("features x value, 17 x 16 bits, minus the total", LANES, multiply(17, 16) + add(33)),
        Item("centered x mantissa, 33 x 18 bits", LANES, multiply(33, 18)),
        Item("rounding shift, 51 bits, saturated to 16", LANES, rounding_shift(51) + saturate(51, 16)),
        Item("normalized x gain, 16 x 16 bits, plus offset", LANES, multiply(16, 16) + add(33)),
        Item("rounding shift, 34 bits, saturated to 8", LANES, rounding_shift(34) + saturate(34, 8)),
        Item("moments of 16 row blocks, 72 bits a lane", LANES, lut_ram(72, ROW_BLOCKS)),
        Item("parameters of 1,024 features, 8 written a cycle", 1, block_ram(512, 128)),
        Item("choice of loaded or normalized", LANES, choose(8, 2)),
        carried(WORD, DEPTHS["NormApply"]),
    ]


def memory_access() -> list[Item]:
    """Sizes of the adapters and of the control port are assumed, after what Vitis HLS makes of such ports."""
    adapter = Cost(lut=2000, ff=4000, bram=15)
    return [
        Item("AXI master, one direction of a bundle (assumed)", 6, adapter),
        Item("AXI-Lite control (assumed)", 1, Cost(lut=500, ff=800)),
        *address() * 2,
        Item("counters and multiplexers of six read, write, route and merge stages (assumed)", 6, Cost(1200, 1500)),
    ]


def sequence() -> list[Item]:
    """Not counted operation by operation: a program of its own, one command after another."""
    return [Item("sequencer (assumed)", 1, Cost(lut=8000, ff=10000, dsp=8, bram=2))]


def streams() -> list[Item]:
    """FIFOs inside the kernel, and those between the two kernels."""
    capacity = SPEC.capacity
    sums = ROW_BLOCKS * capacity.hidden
    return [
        Item("512 x 64: three tables and parameters, two of the results", 5, lut_ram(BEAT, WORD_FIFO)),
        Item("512 x 64: results for Activate, two words", 3, block_ram(BEAT, WORD_FIFO)),
        Item(f"512 x {ACTIVATED_FIFO}: words of a gemm", 1, block_ram(BEAT, ACTIVATED_FIFO)),
        Item("256 x 64: loaded, stored", 2, block_ram(WORD, WORD_FIFO)),
        Item(f"512 x {PARAMETER_FIFO}: parameters of the second pass", 1, block_ram(BEAT, PARAMETER_FIFO)),
        Item(f"512 x {2 * capacity.tokens}: scores", 1, block_ram(WIDE_WORD, 2 * capacity.tokens)),
        Item(f"512 x {sums}: sums, in UltraRAM", 1, ultra_ram(WIDE_WORD, sums)),
        Item(f"256 x {sums}: residuals, in UltraRAM", 1, ultra_ram(WORD, sums)),
        Item("partial sums, 3,152 x 16", 1, lut_ram(96 * LANES + 80, ROW_BLOCKS)),
        Item("moments, 2,304 x 16", 1, lut_ram(72 * LANES, ROW_BLOCKS)),
        Item("512 x 2: maxima, both statuses", 3, lut_ram(WIDE_WORD, 2)),
        Item("commands, 12 of up to 160 x 8", 12, lut_ram(160, 8)),
        Item(f"512 x {SPEC.stream.words}: engine words", 1, block_ram(BEAT, SPEC.stream.words)),
        Item(f"512 x {SPEC.stream.words_from}: words of two other units", 2, block_ram(BEAT, SPEC.stream.words_from)),
        Item(f"512 x {SPEC.stream.moments_from}: their sums", 2, lut_ram(BEAT, SPEC.stream.moments_from)),
        Item(f"512 x {SPEC.stream.tiles}: tiles, results", 2, block_ram(BEAT, SPEC.stream.tiles)),
        Item(f"512 x {SPEC.stream.commands}: engine commands", 1, lut_ram(BEAT, SPEC.stream.commands)),
    ]


STAGES = {
    "Sequence": sequence,
    "memory access, routing": memory_access,
    "Activate": activate,
    "SoftmaxScan": softmax_scan,
    "SoftmaxExponentiate": softmax_exponentiate,
    "NormAccumulate": norm_accumulate,
    "NormMoments": norm_moments,
    "NormApply": norm_apply,
    "streams": streams,
}

# DSPs of the 32 lanes of the two LayerNorm stages if HLS takes the C++ types for the widths: z * z as 32 x 32 bits,
# centered * mantissa as 33 x 33, normalized * gain as 64 x 16.
TYPED_DSPS = LANES * (4 - 1 + multiply(33, 33).dsp - multiply(33, 18).dsp + multiply(64, 16).dsp - 1)


def stage_costs() -> Iterator[tuple[str, list[Item], Cost]]:
    """Every stage with its items and their sum."""
    for name, items in STAGES.items():
        listed = items()
        yield name, listed, sum((item.cost for item in listed), Cost())


def encoder_cost() -> Cost:
    """All stages of one encoder kernel."""
    return sum((cost for _, _, cost in stage_costs()), Cost())
