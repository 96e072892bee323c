"""What the packer writes around the parts that programs leave out: order of tiles, attention behind the programs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.random_encoder import encoder_config, random_quantized

from bertile.config.spec import load_spec
from bertile.errors import FormatError
from bertile.models.encoder import MATRICES
from bertile.models.quantized import QuantizedEncoder, QuantizedLinear
from bertile.pack.packer import PackedModel, kept_vectors, pack_encoder, unpack_encoder
from bertile.pack.packets import encode_tile
from bertile.pack.program import go_ahead, plan_memory, plan_variants

SPEC = load_spec()
OUTPUTS = SPEC.array.outputs
HEADS, SIZE = 4, 32
REMOVED = [[0, 2], [3]]  # by layer


def model_with_removed_heads() -> QuantizedEncoder:
    """Nobody reads the context of these heads; their queries, keys and values have weights."""
    model = random_quantized(encoder_config(HEADS * SIZE, 48, HEADS), 3)
    layers = []
    for layer, heads in zip(model.layers, REMOVED, strict=True):
        weight = layer.attention_output.weight.copy().reshape(-1, HEADS, SIZE)
        weight[:, heads] = 0
        output = replace(layer.attention_output, weight=weight.reshape(-1, HEADS * SIZE))
        layers.append(replace(layer, attention_output=output))
    return replace(model, layers=tuple(layers))


@pytest.fixture(scope="module")
def model() -> QuantizedEncoder:
    return model_with_removed_heads()


@pytest.fixture(scope="module")
def packed(model) -> PackedModel:
    return pack_encoder(model)


def descriptors(packed: PackedModel) -> np.ndarray:
    return SPEC.records["descriptor"].decode(packed.program.tobytes())


def tile(linear: QuantizedLinear, number: int) -> np.ndarray:
    """The beats of one tile."""
    rows = slice(number * OUTPUTS, (number + 1) * OUTPUTS)
    return encode_tile(*(array[rows] for array in vars(linear).values()))


def test_tiles_of_removed_heads_lie_behind_the_others(model, packed):
    for layer, (heads, images) in enumerate(zip(REMOVED, packed.layers, strict=True)):
        left = [head for head in range(HEADS) if head not in heads]
        for matrix in MATRICES[:3]:
            order = [head * 2 + half for head in [*left, *heads] for half in (0, 1)]
            expected = [tile(getattr(model.layers[layer], matrix), number) for number in order]
            assert np.array_equal(packed.matrix_beats(layer, matrix), np.concatenate(expected))
            assert images.tile_ends[matrix].tolist() == np.cumsum([len(beats) for beats in expected]).tolist()


def test_tools_see_tiles_in_the_order_of_features(model, packed):
    compared = 0
    for layer, quantized in enumerate(model.layers):
        for matrix in MATRICES:
            linear = getattr(quantized, matrix)
            tiles = packed.tiles(layer, matrix)
            assert len(tiles) == len(linear.weight) // OUTPUTS
            for number, beats in enumerate(tiles):
                assert np.array_equal(beats, tile(linear, number))
                compared += 1
            vectors = linear.weight.reshape(len(tiles), OUTPUTS, -1).any(axis=1)
            assert np.array_equal(kept_vectors(packed, layer, matrix), vectors)
    assert compared == 2 * (5 * 8 + 3)


def test_attention_of_removed_heads_lies_behind_the_programs(model, packed):
    records = descriptors(packed)
    ends = np.flatnonzero(records["opcode"] == SPEC.opcode.end)
    assert len(ends) == len(packed.variants)
    behind = records[ends[-1] + 1 :]
    assert behind["opcode"].tolist() == [SPEC.opcode.attention] * sum(map(len, REMOVED))
    expected = [
        [int(value[head]) for value in vars(layer.attention).values()]
        for layer, heads in zip(model.layers, REMOVED, strict=True)
        for head in heads
    ]
    names = list(vars(model.layers[0].attention))
    assert [[int(record[name]) for name in names] for record in behind] == expected


def test_a_whole_encoder_has_nothing_behind_its_programs():
    packed = pack_encoder(random_quantized(encoder_config(HEADS * SIZE, 48, HEADS), 3))
    records = descriptors(packed)
    assert records["opcode"][-1] == SPEC.opcode.end
    assert (records["opcode"] == SPEC.opcode.attention).sum() == 2 * HEADS * len(packed.variants)


@pytest.mark.parametrize(("place", "kind"), [(0, "read"), (-1, "not read")])
def test_a_missing_attention_descriptor_is_refused(packed, place, kind):
    attention = np.flatnonzero(descriptors(packed)["opcode"] == SPEC.opcode.attention)
    program = np.delete(packed.program, attention[place], axis=0)
    with pytest.raises(FormatError, match=rf"\d heads whose context is {kind}$"):
        unpack_encoder(replace(packed, program=program))


def test_attention_to_a_head_that_nobody_reads_is_refused(packed):
    """A program of another encoder."""
    whole = pack_encoder(random_quantized(encoder_config(HEADS * SIZE, 48, HEADS), 3))
    with pytest.raises(FormatError, match=r"8 attention descriptors for 5 heads whose context is read$"):
        unpack_encoder(replace(packed, program=whole.program))


@pytest.mark.parametrize(
    ("heads", "groups"),
    [(0, []), (1, [1]), (5, [5]), (6, [6]), (7, [4, 3]), (8, [4, 4]), (11, [6, 5]), (12, [6, 6])],
)
def test_groups_of_heads_are_equal_and_complete(heads, groups):
    plan = plan_memory(encoder_config(768, 3072, 12), SPEC.row_blocks)
    assert plan.heads == 6
    ranges = plan.head_groups(heads)
    assert [len(group) for group in ranges] == groups
    assert [head for group in ranges for head in group] == list(range(heads))


@pytest.mark.parametrize(
    ("hidden", "ffn", "row_blocks", "shared", "ahead"),
    [
        (768, 3072, 3, 0, 0),  # one row block behind two
        (768, 3072, 4, 0, 2),
        (768, 3072, 8, 0, 2),
        (768, 3072, 16, 0, 0),  # needs row chunks
        (1024, 4096, 8, 0, 2),  # all 49,152 words
        (1024, 4112, 8, 0, 0),
        (768, 3072, 8, 336, 2),  # 6 x 336 words of a LayerNorm that nobody awaits, of 2,048
        (768, 3072, 8, 352, 0),
    ],
)
def test_row_blocks_go_ahead_where_there_is_room(hidden, ffn, row_blocks, shared, ahead):
    config = encoder_config(hidden, ffn, 12 if hidden == 768 else 16)
    plan = go_ahead(config, plan_memory(config, row_blocks), shared)
    assert plan.ahead == ahead
    chunks = plan.row_chunks()
    assert chunks[0][0] == 0
    assert sum(count for _, count in chunks) == row_blocks
    if ahead:
        assert chunks[0] == (0, ahead)
        # Behind the context, which an output projection may still read.
        assert plan.ffn_hidden >= plan.context + row_blocks * hidden
        assert plan.ffn_hidden + row_blocks * ffn <= SPEC.activation_words


@pytest.mark.parametrize(
    ("hidden", "ffn", "heads", "row_blocks"),
    [(384, 1536, 12, [3, 16]), (768, 3072, 12, [3, 8, 16]), (1024, 4112, 16, [8, 16])],
)
def test_a_variant_that_the_next_larger_does_not_differ_from_is_left_out(hidden, ffn, heads, row_blocks):
    assert [plan.row_blocks for plan in plan_variants(encoder_config(hidden, ffn, heads))] == row_blocks
