"""The program: a plan of the activation memory, and the descriptors that carry it out (docs/program.md)."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from bertile.config.spec import load_spec
from bertile.errors import CapacityError, FormatError
from bertile.models.encoder import EncoderConfig
from bertile.models.quantized import QuantizedAttention, QuantizedLayer

SPEC = load_spec()
OUTPUTS = SPEC.array.outputs
RECORD = SPEC.records["descriptor"]
OPCODE, POST, FLAG = SPEC.opcode, SPEC.post, SPEC.flag
PROJECTIONS = ("query", "key", "value")
NORM_FEATURES = SPEC.packet.beat_bytes // SPEC.records["layernorm_feature"].bytes  # of a beat of parameters
ATTENTION_FIELDS = tuple(field.name for field in fields(QuantizedAttention))
# Programs are written for launches of at most this many row blocks: what helps a long launch may cost a short one.
VARIANT_ROW_BLOCKS = (3, SPEC.row_blocks // 2, SPEC.row_blocks)
# Row blocks whose gemm runs while a LayerNorm of the others ends. With fewer, tiles would not come as fast as they are
# multiplied; with these, a launch of three would leave one for the rest.
AHEAD_ROW_BLOCKS = 2


@dataclass(frozen=True)
class Extent:
    """Beats `offset .. offset + beats` of an image."""

    offset: int
    beats: int


@dataclass(frozen=True)
class LayerImages:
    """Where a layer's data is: tile_ends[matrix] are the beats, counted from the matrix's start, behind each tile."""

    matrices: dict[str, Extent]
    tile_ends: dict[str, np.ndarray]
    activation_table: Extent
    attention_norm: Extent
    ffn_norm: Extent


@dataclass(frozen=True)
class MemoryPlan:
    """Addresses in the activation memory for launches of up to `row_blocks`.

    Attention and FFN share the words behind x, or behind the context. Heads are handled `heads` at a time, and row
    blocks from the output projection on `rows` at a time, so that everything fits. ahead: row blocks that go ahead of
    the others, so that these need not wait for their LayerNorm, nor those for theirs; 0 if all go together.
    """

    row_blocks: int
    heads: int
    rows: int
    context: int
    projections: int
    probability: int
    ffn_hidden: int
    ahead: int = 0

    def row_chunks(self) -> list[tuple[int, int]]:
        """(first, count) of each group of row blocks."""
        if self.ahead:
            return [(0, self.ahead), (self.ahead, self.row_blocks - self.ahead)]
        return [(first, min(self.rows, self.row_blocks - first)) for first in range(0, self.row_blocks, self.rows)]

    def head_groups(self, heads: int) -> list[range]:
        """Equal groups of so many heads; none of none."""
        share = -(-heads // max(1, -(-heads // self.heads)))
        return [range(first, min(first + share, heads)) for first in range(0, heads, max(1, share))]


def read_heads(attention_output: np.ndarray, heads: int) -> np.ndarray:
    """Whose context some weight of attention_output [out, in] reads: [heads] bool."""
    return attention_output.any(axis=0).reshape(heads, -1).any(axis=1)


def tile_order(matrix: str, tiles: int, read: np.ndarray) -> np.ndarray:
    """The tiles of a matrix as they lie in the weights image: [tiles].

    Queries, keys and values of heads that nobody reads (`read` [heads] bool) lie behind all others, so that those a
    program visits follow each other.
    """
    if matrix not in PROJECTIONS:
        return np.arange(tiles)
    return np.argsort(~np.repeat(read, tiles // len(read)), kind="stable")


@dataclass(frozen=True)
class LayerWork:
    """What a program has to compute of a layer: its results that some weight reads.

    heads: [heads] bool. ffn_tiles: tiles of ffn_in up to the last that is read.
    """

    heads: np.ndarray
    ffn_tiles: int

    @classmethod
    def of(cls, layer: QuantizedLayer) -> LayerWork:
        neurons = np.flatnonzero(layer.ffn_out.weight.any(axis=0))
        ffn_tiles = int(neurons[-1]) // OUTPUTS + 1 if len(neurons) else 0
        return cls(read_heads(layer.attention_output.weight, len(layer.attention.score_shift)), ffn_tiles)


@dataclass(frozen=True)
class Part:
    """What a unit computes. x: tiles of the hidden size; heads, ffn: of each layer, places of heads and of tiles."""

    x: range
    heads: tuple[range, ...]
    ffn: tuple[range, ...]

    @classmethod
    def whole(cls, config: EncoderConfig, works: list[LayerWork]) -> Part:
        """Of a unit alone."""
        heads = tuple(range(int(work.heads.sum())) for work in works)
        return cls(range(config.hidden // OUTPUTS), heads, tuple(range(work.ffn_tiles) for work in works))


def plan_memory(config: EncoderConfig, row_blocks: int, most_heads: int | None = None) -> MemoryPlan:
    """The plan with the largest groups that fit. most_heads: of a unit in any layer, all if not given.

    Raises CapacityError when nothing fits.
    """
    most_heads = config.heads if most_heads is None else max(1, most_heads)
    x_words = row_blocks * config.hidden
    shared = SPEC.activation_words - x_words
    probability_words = SPEC.capacity.probability_slots * SPEC.capacity.tokens
    projection_words = 3 * row_blocks * config.head_size
    heads = min(most_heads, (shared - x_words - probability_words) // projection_words)
    rows = min(row_blocks, shared // config.ffn)
    if heads < 1 or rows < 1:
        raise CapacityError(
            f"hidden {config.hidden} with FFN {config.ffn} does not fit {SPEC.activation_words} activation words"
        )
    # Equal shares rather than a full and a small one.
    heads = -(-most_heads // -(-most_heads // heads))
    rows = -(-row_blocks // -(-row_blocks // rows))
    projections = 2 * x_words
    probability = projections + heads * projection_words
    return MemoryPlan(row_blocks, heads, rows, x_words, projections, probability, x_words)


def go_ahead(config: EncoderConfig, plan: MemoryPlan, shared_features: int) -> MemoryPlan:
    """The plan with row blocks that go ahead, where that is possible.

    FFN words then lie behind the context, which another unit may still read. shared_features: the most that a unit has
    of a launch that several share, else 0; the stream to another unit must hold a LayerNorm that nobody awaits.
    """
    behind = 2 * plan.row_blocks * config.hidden
    late = plan.row_blocks - AHEAD_ROW_BLOCKS
    fits = plan.rows == plan.row_blocks and behind + plan.row_blocks * config.ffn <= SPEC.activation_words
    if late < AHEAD_ROW_BLOCKS or not fits or late * shared_features >= SPEC.stream.words_from:
        return plan
    return replace(plan, ahead=AHEAD_ROW_BLOCKS, ffn_hidden=behind)


def plan_variants(config: EncoderConfig, most_heads: int | None = None, shared_features: int = 0) -> list[MemoryPlan]:
    """One plan a program variant, smallest launch first; none that a larger one makes needless.

    most_heads: as `plan_memory`; shared_features: as `go_ahead`. Raises CapacityError.
    """
    plans = [
        go_ahead(config, plan_memory(config, row_blocks, most_heads), shared_features)
        for row_blocks in VARIANT_ROW_BLOCKS
    ]

    def shape(plan: MemoryPlan) -> tuple[bool, bool, bool]:
        return plan.heads == (most_heads or config.heads), plan.rows == plan.row_blocks, plan.ahead > 0

    return [
        plan
        for plan, larger in zip(plans, [*plans[1:], None], strict=True)
        if not larger or shape(plan) != shape(larger)
    ]


def gemm(images: LayerImages, matrix: str, tiles: range, **fields: int) -> bytes:
    """A gemm descriptor over some output tiles of a matrix."""
    ends = images.tile_ends[matrix]
    begin = int(ends[tiles.start - 1]) if tiles.start else 0
    return RECORD.encode(
        opcode=OPCODE.gemm,
        tiles=len(tiles),
        tile_offset=images.matrices[matrix].offset + begin,
        tile_beats=int(ends[tiles.stop - 1]) - begin,
        **fields,
    )


def attention_fields(config: EncoderConfig, attention: QuantizedAttention, head: int) -> dict[str, int]:
    """Descriptor fields of a head that do not depend on the memory plan."""
    return {
        "opcode": OPCODE.attention,
        "head_size": config.head_size,
        **{name: int(getattr(attention, name)[head]) for name in ATTENTION_FIELDS},
    }


class ProgramWriter:
    """Writes the descriptors of one unit and variant. peers: the parts of the other units, none for a unit alone.

    What the others share is joined in front of the first command that reads it, or writes where they may still read:
    their words come in the order of their programs, which is the order of this one.
    """

    def __init__(self, config: EncoderConfig, plan: MemoryPlan, part: Part, peers: tuple[Part, ...] = ()):
        self.config, self.plan, self.part, self.peers = config, plan, part, peers
        self.descriptors: list[bytes] = []
        self.shared: list[dict[str, int]] = []  # by the others, and not joined yet
        self.all_rows = {"row_first": 0, "row_count": plan.row_blocks}
        self.share = bool(peers) << FLAG.share
        first = part.x.start * OUTPUTS
        self.to_x = {"target": first, "target_stride": config.hidden, "features_before": first}

    def add(self, **values: int) -> None:
        self.descriptors.append(RECORD.encode(**values))

    def others_share(self, tiles: list[int], rows: dict[str, int]) -> None:
        """So many tiles of these row blocks come from each of the others."""
        if any(tiles):
            self.shared.append({f"peer_tiles_{peer}": count for peer, count in enumerate(tiles)} | rows)

    def join(self, rows: dict[str, int]) -> None:
        """What the others share, up to the last that has any of these row blocks."""

        def end(rows: dict[str, int]) -> int:
            return rows["row_first"] + rows["row_count"]

        needed = [s["row_first"] < end(rows) and rows["row_first"] < end(s) for s in self.shared]
        while any(needed):
            self.add(opcode=OPCODE.join, **self.shared.pop(0))
            needed.pop(0)

    def gemm(self, images: LayerImages, matrix: str, tiles: range, joins: dict[str, int], **values: int) -> None:
        """Some output tiles of a matrix. joins: which row blocks the others must have shared."""
        self.join(joins)
        self.descriptors.append(gemm(images, matrix, tiles, **values))

    def chunks(self) -> list[dict[str, int]]:
        """Descriptor fields of each group of row blocks."""
        return [{"row_first": first, "row_count": count} for first, count in self.plan.row_chunks()]

    def load(self) -> None:
        for rows in self.chunks():
            self.add(opcode=OPCODE.load, tiles=len(self.part.x), flags=self.share, **self.to_x, **rows)
            self.others_share([len(peer.x) for peer in self.peers], rows)

    def norm(self, extent: Extent) -> dict[str, int]:
        """Descriptor fields of a gemm whose results go through a LayerNorm to x."""
        return {
            "post": POST.layernorm,
            "parameter_offset": extent.offset,
            "parameter_beats": len(self.part.x) * OUTPUTS // NORM_FEATURES,
            **self.to_x,
        }

    def attention(self, images: LayerImages, attention: QuantizedAttention, work: LayerWork, layer: int) -> None:
        """Projections and attention, one group of heads after another."""
        config, plan, size = self.config, self.plan, self.config.head_size
        heads, own = np.flatnonzero(work.heads).tolist(), self.part.heads[layer]
        for group in plan.head_groups(len(own)):
            width = len(group) * size
            places = range(own.start + group.start, own.start + group.stop)
            addresses = [plan.projections + i * plan.row_blocks * width for i in range(3)]
            tiles = range(places.start * size // OUTPUTS, places.stop * size // OUTPUTS)
            for matrix, address in zip(PROJECTIONS, addresses, strict=True):
                # The first ones of a layer go ahead; what they read is complete when they have ended.
                goes_ahead = plan.ahead and matrix == "query" and group.start == 0
                for rows in self.chunks() if goes_ahead else [self.all_rows]:
                    self.gemm(images, matrix, tiles, rows, source=0, source_stride=config.hidden,
                              target=address, target_stride=width, **rows)  # fmt: skip
            for index, place in enumerate(places):
                query, key, value = (address + index * size for address in addresses)
                self.add(
                    source=query,
                    key=key,
                    value=value,
                    source_stride=width,
                    target=plan.context + heads[place] * size,
                    target_stride=config.hidden,
                    probability=plan.probability,
                    flags=self.share,
                    **attention_fields(config, attention, heads[place]),
                    **self.all_rows,
                )
        self.others_share([len(peer.heads[layer]) * size // OUTPUTS for peer in self.peers], self.all_rows)

    def layer(self, images: LayerImages, attention: QuantizedAttention, work: LayerWork, layer: int) -> None:
        """One layer. x is at address 0, before and after."""
        self.attention(images, attention, work, layer)
        for rows in self.chunks():
            self.gemm(images, "attention_output", self.part.x, rows, source=self.plan.context,
                      source_stride=self.config.hidden, flags=self.share, **rows,
                      **self.norm(images.attention_norm))  # fmt: skip
            self.others_share([len(peer.x) for peer in self.peers], rows)
        if self.plan.ahead:  # hidden words of all row blocks fit: so no chunk awaits its own
            for rows in self.chunks():
                self.ffn_in(images, layer, rows, rows)
            for rows in self.chunks():
                self.ffn_out(images, layer, rows, rows)
        else:  # those of every chunk start at the same place: all units must have read the ones before
            for rows in self.chunks():
                self.ffn_in(images, layer, rows, self.all_rows)
                self.ffn_out(images, layer, rows, self.all_rows)

    def hidden_base(self, rows: dict[str, int]) -> int:
        """Where row block 0 of a chunk's hidden words would be."""
        first = 0 if self.plan.ahead else rows["row_first"]
        return (self.plan.ffn_hidden - first * self.config.ffn) % (1 << 16)

    def ffn_in(self, images: LayerImages, layer: int, rows: dict[str, int], joins: dict[str, int]) -> None:
        tiles = self.part.ffn[layer]
        if tiles:
            before = tiles.start * OUTPUTS
            self.gemm(images, "ffn_in", tiles, joins, source=0, source_stride=self.config.hidden,
                      target=(self.hidden_base(rows) + before) % (1 << 16), target_stride=self.config.ffn,
                      features_before=before, post=POST.activation, flags=self.share,
                      parameter_offset=images.activation_table.offset,
                      parameter_beats=images.activation_table.beats, **rows)  # fmt: skip
        self.others_share([len(peer.ffn[layer]) for peer in self.peers], rows)

    def ffn_out(self, images: LayerImages, layer: int, rows: dict[str, int], joins: dict[str, int]) -> None:
        last = layer + 1 == self.config.layers
        flags = 1 << FLAG.unsigned_source | 1 << FLAG.trace | last << FLAG.store | (0 if last else self.share)
        self.gemm(images, "ffn_out", self.part.x, joins, source=self.hidden_base(rows), source_stride=self.config.ffn,
                  flags=flags, trace_slot=layer, **rows, **self.norm(images.ffn_norm))  # fmt: skip
        if not last:
            self.others_share([len(peer.x) for peer in self.peers], rows)


def write_program(
    config: EncoderConfig,
    plan: MemoryPlan,
    exponential: Extent,
    layers: list[LayerImages],
    attentions: list[QuantizedAttention],
    works: list[LayerWork],
    part: Part,
    peers: tuple[Part, ...] = (),
) -> list[bytes]:
    """All descriptors of one unit and variant, `end` included."""
    writer = ProgramWriter(config, plan, part, peers)
    writer.add(opcode=OPCODE.tables, parameter_offset=exponential.offset, parameter_beats=exponential.beats)
    writer.load()
    for number, (images, attention, work) in enumerate(zip(layers, attentions, works, strict=True)):
        writer.layer(images, attention, work, number)
    writer.add(opcode=OPCODE.end)
    return writer.descriptors


def idle_descriptors(
    config: EncoderConfig, attentions: list[QuantizedAttention], works: list[LayerWork]
) -> list[bytes]:
    """Attention of the heads that no program visits: they lie behind all programs, for `decode_attention` alone."""
    return [
        RECORD.encode(**attention_fields(config, attention, head))
        for attention, work in zip(attentions, works, strict=True)
        for head in np.flatnonzero(~work.heads).tolist()
    ]


def decode_program(program: bytes, offset: int) -> np.ndarray:
    """Descriptors of the variant at beat `offset`, without `end`. Raises FormatError when there is no end."""
    records = RECORD.decode(program)[offset:]
    ends = np.flatnonzero(records["opcode"] == OPCODE.end)
    if not len(ends):
        raise FormatError("the program has no end")
    return records[: ends[0]]


def decode_attention(program: bytes, offset: int, read: np.ndarray) -> list[QuantizedAttention]:
    """Attention parameters of every layer from the variant at beat `offset`, and from what lies behind all variants.

    read: [layers, heads] bool, the heads that the variant visits. Raises FormatError.
    """
    visited, records = decode_program(program, offset), RECORD.decode(program)
    behind = records[np.flatnonzero(records["opcode"] == OPCODE.end)[-1] + 1 :]
    values = {name: np.zeros(read.shape, behind.dtype[name]) for name in ATTENTION_FIELDS}
    for descriptors, heads, kind in ((visited, read, "read"), (behind, ~read, "not read")):
        rows = descriptors[descriptors["opcode"] == OPCODE.attention]
        if len(rows) != heads.sum():
            raise FormatError(
                f"the program has {len(rows)} attention descriptors for {heads.sum()} heads whose context is {kind}"
            )
        for name, array in values.items():
            array[heads] = rows[name]
    return [QuantizedAttention(*layer) for layer in zip(*values.values(), strict=True)]
