"""From a quantized encoder to the images the accelerator reads, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bertile.config.spec import load_spec
from bertile.errors import CapacityError
from bertile.models.encoder import MATRICES, Embeddings, EncoderConfig
from bertile.models.quantized import QuantizedEncoder, QuantizedLayer, QuantizedLinear
from bertile.models.task_head import TaskHead
from bertile.pack.deal import UNITS, Deal, Hand, arrange, deal, restore
from bertile.pack.packets import decode_matrix, encode_matrix, tile_features
from bertile.pack.parameters import decode_norm, decode_table, encode_norm, encode_table
from bertile.pack.program import (
    OUTPUTS,
    PROJECTIONS,
    Extent,
    LayerImages,
    LayerWork,
    Part,
    decode_attention,
    idle_descriptors,
    plan_variants,
    read_heads,
    tile_order,
    write_program,
)

SPEC = load_spec()
BEAT = SPEC.packet.beat_bytes


@dataclass(frozen=True)
class ProgramVariant:
    """A program for launches of up to `row_blocks`; `offset` in beats of the program image.

    units: 1, or how many run the launch together, each its own program; unit: whose this one is.
    """

    row_blocks: int
    offset: int
    units: int = 1
    unit: int = 0


@dataclass(frozen=True)
class PackedModel:
    """What a `.bertile` file holds: three images for the card, and what the host needs.

    program, weights, parameters: [beats, 64] uint8. head: the classifier of a fine-tuned model, None without one.
    deal: what each of several units computes, and so the order of features in the images; None where it is the model's.
    """

    config: EncoderConfig
    program: np.ndarray
    variants: tuple[ProgramVariant, ...]
    weights: np.ndarray
    parameters: np.ndarray
    exponential: Extent
    layers: tuple[LayerImages, ...]
    input_scale: np.ndarray
    output_scale: np.ndarray
    embeddings: Embeddings
    tokenizer: str
    provenance: dict
    head: TaskHead | None = None
    deal: Deal | None = None

    def variant(self, row_blocks: int, units: int = 1) -> list[ProgramVariant]:
        """The programs of a launch of so many row blocks, one a unit. Raises CapacityError where there is none."""
        fitting = [v for v in self.variants if v.units == units and v.row_blocks >= row_blocks]
        if not fitting and units != UNITS:
            raise CapacityError(f"{units} units: one runs a launch alone, or {UNITS} together")
        if not fitting:
            raise CapacityError(f"the file is packed for one unit: bertile pack --units {units} makes one for {units}")
        least = min(variant.row_blocks for variant in fitting)
        return sorted((v for v in fitting if v.row_blocks == least), key=lambda variant: variant.unit)

    def features(self, unit: int) -> slice:
        """Places of a unit's features in the images' order."""
        places = self.deal.hidden.of(unit)
        return slice(places.start * OUTPUTS, places.stop * OUTPUTS)

    def feature_order(self) -> np.ndarray | None:
        """Which feature of the model lies at each place of the images; None where the order is the model's."""
        return None if self.deal is None else self.deal.hidden.features(OUTPUTS)

    def matrix_beats(self, layer: int, matrix: str) -> np.ndarray:
        """The beats [n, 64] of one weight matrix."""
        extent = self.layers[layer].matrices[matrix]
        return self.weights[extent.offset : extent.offset + extent.beats]

    def tiles(self, layer: int, matrix: str) -> list[np.ndarray]:
        """The beats of each tile of one weight matrix, first output features first."""
        parts = np.split(self.matrix_beats(layer, matrix), self.layers[layer].tile_ends[matrix][:-1])
        if matrix not in PROJECTIONS:
            return parts
        read = read_heads(decode_image(self, layer, "attention_output").weight, self.config.heads)
        return [parts[place] for place in np.argsort(tile_order(matrix, len(parts), read))]

    def matrix_inputs(self, matrix: str) -> int:
        """Input features of a weight matrix."""
        return self.config.ffn if matrix == "ffn_out" else self.config.hidden


class Image:
    """Beats appended one extent at a time."""

    def __init__(self) -> None:
        self.parts: list[np.ndarray] = []
        self.beats = 0

    def append(self, beats: np.ndarray) -> Extent:
        extent = Extent(self.beats, len(beats))
        self.parts.append(beats)
        self.beats += len(beats)
        return extent

    def array(self) -> np.ndarray:
        return np.concatenate(self.parts)


def pack_layer(layer: QuantizedLayer, weights: Image, parameters: Image) -> LayerImages:
    """Append one layer's data to the images."""
    matrices, tile_ends = {}, {}
    read = LayerWork.of(layer).heads
    for matrix in MATRICES:
        tiles = encode_matrix(getattr(layer, matrix))
        tiles = [tiles[tile] for tile in tile_order(matrix, len(tiles), read)]
        matrices[matrix] = weights.append(np.concatenate(tiles))
        tile_ends[matrix] = np.cumsum([len(tile) for tile in tiles])
    return LayerImages(
        matrices,
        tile_ends,
        parameters.append(encode_table(layer.activation_table)),
        parameters.append(encode_norm(layer.attention_norm)),
        parameters.append(encode_norm(layer.ffn_norm)),
    )


def write_programs(
    config: EncoderConfig,
    exponential: Extent,
    layers: list[LayerImages],
    ordered: tuple[QuantizedLayer, ...],
    dealt: Deal | None,
) -> tuple[list[bytes], list[ProgramVariant]]:
    """All variants for one unit, then those of every unit where several share a launch. Raises CapacityError."""
    attentions, works = [layer.attention for layer in ordered], [LayerWork.of(layer) for layer in ordered]
    descriptors: list[bytes] = []
    variants: list[ProgramVariant] = []
    teams = [(Part.whole(config, works),)]
    if dealt is not None:
        teams.append(tuple(part_of(dealt, unit) for unit in range(UNITS)))
    for parts in teams:
        most = max((len(heads) for part in parts for heads in part.heads), default=0)
        alone = len(parts) == 1
        features = 0 if alone else max(len(part.x) for part in parts) * OUTPUTS
        for plan in plan_variants(config, None if alone else most, features):
            for unit, part in enumerate(parts):
                peers = (*parts[unit + 1 :], *parts[:unit])
                variants.append(ProgramVariant(plan.row_blocks, len(descriptors), len(parts), unit))
                descriptors += write_program(config, plan, exponential, layers, attentions, works, part, peers)
    return descriptors + idle_descriptors(config, attentions, works), variants


def part_of(dealt: Deal, unit: int) -> Part:
    """What a unit computes of a shared launch."""
    heads, ffn = (tuple(hand.of(unit) for hand in hands) for hands in (dealt.heads, dealt.ffn))
    return Part(dealt.hidden.of(unit), heads, ffn)


def pack_encoder(
    model: QuantizedEncoder, progress: Callable[[int, int], None] = lambda done, total: None, units: int = 1
) -> PackedModel:
    """Encode every matrix and write the programs, of one unit or of all that can share a launch, too.

    Raises CapacityError; progress(done, total) counts layers.
    """
    config = model.config
    if units not in (1, UNITS):
        raise CapacityError(f"{units} units: one runs a launch alone, or {UNITS} together")
    if units > 1 and config.hidden // OUTPUTS < UNITS:
        raise CapacityError(f"hidden {config.hidden} has {config.hidden // OUTPUTS} tiles: {UNITS} units need one each")
    plan_variants(config)  # what does not fit is said before anything is encoded
    dealt = deal(model) if units > 1 else None
    ordered = arrange(model.layers, dealt) if dealt else model.layers
    weights, parameters = Image(), Image()
    exponential = parameters.append(encode_table(model.exponential_table))
    layers = []
    for layer in ordered:
        layers.append(pack_layer(layer, weights, parameters))
        progress(len(layers), len(model.layers))
    descriptors, variants = write_programs(config, exponential, layers, ordered, dealt)
    return PackedModel(
        config=config,
        program=np.frombuffer(b"".join(descriptors), np.uint8).reshape(-1, BEAT),
        variants=tuple(variants),
        weights=weights.array(),
        parameters=parameters.array(),
        exponential=exponential,
        layers=tuple(layers),
        input_scale=model.input_scale,
        output_scale=model.output_scale,
        embeddings=model.embeddings,
        tokenizer=model.tokenizer,
        provenance=model.provenance,
        deal=dealt,
    )


def decode_image(packed: PackedModel, layer: int, matrix: str) -> QuantizedLinear:
    """A matrix with its tiles in the order of the weights image. Raises FormatError."""
    tiles = len(packed.layers[layer].tile_ends[matrix])
    return decode_matrix(packed.matrix_beats(layer, matrix), tiles, packed.matrix_inputs(matrix))


def unpack_matrices(packed: PackedModel, layer: int) -> dict[str, QuantizedLinear]:
    """All matrices of a layer, first output features first. Raises FormatError."""
    matrices = {matrix: decode_image(packed, layer, matrix) for matrix in MATRICES}
    read = read_heads(matrices["attention_output"].weight, packed.config.heads)
    for matrix in PROJECTIONS:
        tiles = len(packed.layers[layer].tile_ends[matrix])
        places = np.argsort(tile_order(matrix, tiles, read))
        matrices[matrix] = QuantizedLinear(
            *(array.reshape(tiles, -1)[places].reshape(array.shape) for array in vars(matrices[matrix]).values())
        )
    return matrices


def unpack_encoder(packed: PackedModel) -> QuantizedEncoder:
    """The quantized encoder that the packed images describe. Raises FormatError."""

    def parameter_beats(extent: Extent) -> np.ndarray:
        return packed.parameters[extent.offset : extent.offset + extent.beats]

    matrices = [unpack_matrices(packed, layer) for layer in range(packed.config.layers)]
    read = np.stack([read_heads(layer["attention_output"].weight, packed.config.heads) for layer in matrices])
    attentions = decode_attention(packed.program.tobytes(), packed.variants[0].offset, read)
    layers = []
    for number, images in enumerate(packed.layers):
        layers.append(
            QuantizedLayer(
                **matrices[number],
                attention=attentions[number],
                attention_norm=decode_norm(parameter_beats(images.attention_norm)),
                activation_table=decode_table(
                    parameter_beats(images.activation_table), "u1", 1 << SPEC.law.gelu_index_bits
                ),
                ffn_norm=decode_norm(parameter_beats(images.ffn_norm)),
            )
        )
    return QuantizedEncoder(
        packed.config,
        restore(tuple(layers), packed.deal) if packed.deal else tuple(layers),
        decode_table(parameter_beats(packed.exponential), "<u2", 1 << SPEC.law.score_fraction_bits),
        packed.input_scale,
        packed.output_scale,
        packed.embeddings,
        packed.tokenizer,
        packed.provenance,
    )


def kept_vectors(packed: PackedModel, layer: int, matrix: str) -> np.ndarray:
    """Which weight vectors a packed matrix holds, in the order of the model: [tiles, in] bool."""
    tiles, inputs = packed.tiles(layer, matrix), packed.matrix_inputs(matrix)
    kept = np.zeros((len(tiles), inputs), bool)
    for row, tile in zip(kept, tiles, strict=True):
        row[tile_features(tile, inputs)] = True
    if packed.deal is None:
        return kept
    outward, inward = (packed_order(packed, layer, matrix, side) for side in ("out", "in"))
    return kept[np.argsort(outward.features(packed.config.head_size // OUTPUTS if matrix in PROJECTIONS else 1))][
        :, np.argsort(inward.features(packed.config.head_size if matrix == "attention_output" else OUTPUTS))
    ]


def packed_order(packed: PackedModel, layer: int, matrix: str, side: str) -> Hand:
    """How one side of a matrix lies in the images: its heads, tiles of the FFN, or tiles of the hidden size."""
    inner = {"query": "heads", "key": "heads", "value": "heads", "ffn_in": "ffn"} if side == "out" else {
        "attention_output": "heads", "ffn_out": "ffn"}  # fmt: skip
    kind = inner.get(matrix, "hidden")
    return packed.deal.hidden if kind == "hidden" else getattr(packed.deal, kind)[layer]


def packed_sparsity(packed: PackedModel) -> float:
    """Share of weight vectors that the packed matrices leave out."""
    kept = total = 0
    for layer in range(packed.config.layers):
        for matrix in MATRICES:
            vectors = kept_vectors(packed, layer, matrix)
            kept += int(vectors.sum())
            total += vectors.size
    return 1 - kept / total
