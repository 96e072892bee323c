"""From a quantized encoder to the images the accelerator reads, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bertile.config.spec import load_spec
from bertile.models.encoder import MATRICES, Embeddings, EncoderConfig
from bertile.models.quantized import QuantizedEncoder, QuantizedLayer, QuantizedLinear
from bertile.models.task_head import TaskHead
from bertile.pack.packets import decode_matrix, encode_matrix, tile_features
from bertile.pack.parameters import decode_norm, decode_table, encode_norm, encode_table
from bertile.pack.program import (
    PROJECTIONS,
    Extent,
    LayerImages,
    LayerWork,
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
    """A program for launches of up to `row_blocks`; `offset` in beats of the program image."""

    row_blocks: int
    offset: int


@dataclass(frozen=True)
class PackedModel:
    """What a `.bertile` file holds: three images for the card, and what the host needs.

    program, weights, parameters: [beats, 64] uint8. head: the classifier of a fine-tuned model, None without one.
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


def pack_encoder(
    model: QuantizedEncoder, progress: Callable[[int, int], None] = lambda done, total: None
) -> PackedModel:
    """Encode every matrix and write the programs. Raises CapacityError; progress(done, total) counts layers."""
    plans = plan_variants(model.config)
    weights, parameters = Image(), Image()
    exponential = parameters.append(encode_table(model.exponential_table))
    layers = []
    for layer in model.layers:
        layers.append(pack_layer(layer, weights, parameters))
        progress(len(layers), len(model.layers))
    attentions = [layer.attention for layer in model.layers]
    works = [LayerWork.of(layer) for layer in model.layers]
    descriptors, variants = [], []
    for plan in plans:
        variants.append(ProgramVariant(plan.row_blocks, len(descriptors)))
        descriptors += write_program(model.config, plan, exponential, layers, attentions, works)
    descriptors += idle_descriptors(model.config, attentions, works)
    return PackedModel(
        config=model.config,
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
        tuple(layers),
        decode_table(parameter_beats(packed.exponential), "<u2", 1 << SPEC.law.score_fraction_bits),
        packed.input_scale,
        packed.output_scale,
        packed.embeddings,
        packed.tokenizer,
        packed.provenance,
    )


def kept_vectors(packed: PackedModel, layer: int, matrix: str) -> np.ndarray:
    """Which weight vectors a packed matrix holds: [tiles, in] bool."""
    tiles, inputs = packed.tiles(layer, matrix), packed.matrix_inputs(matrix)
    kept = np.zeros((len(tiles), inputs), bool)
    for row, tile in zip(kept, tiles, strict=True):
        row[tile_features(tile, inputs)] = True
    return kept


def packed_sparsity(packed: PackedModel) -> float:
    """Share of weight vectors that the packed matrices leave out."""
    kept = total = 0
    for layer in range(packed.config.layers):
        for matrix in MATRICES:
            vectors = kept_vectors(packed, layer, matrix)
            kept += int(vectors.sum())
            total += vectors.size
    return 1 - kept / total
