"""Encoders with removed heads, neurons and layers: programs leave them out, and no bit of any layer changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from tests.random_encoder import encoder_config, random_layers

from bertile.config.spec import load_spec
from bertile.devices.csim import CsimEncoder
from bertile.golden.integer import IntegerEncoder
from bertile.models.encoder import MATRICES, EncoderConfig, EncoderLayer, Linear
from bertile.models.quantized import QuantizedEncoder
from bertile.pack.packer import PackedModel, ProgramVariant, pack_encoder, unpack_encoder
from bertile.pack.program import decode_program
from bertile.quantize.quantizer import quantize_encoder

SPEC = load_spec()
OUTPUTS = SPEC.array.outputs


def without(linear: Linear, *, outputs: np.ndarray | None = None, inputs: np.ndarray | None = None) -> Linear:
    """The matrix with these output or input features zeroed; biases stay, as pruning leaves them."""
    weight = linear.weight.copy()
    if outputs is not None:
        weight[outputs] = 0
    if inputs is not None:
        weight[:, inputs] = 0
    return Linear(weight, linear.bias)


def remove_heads(layer: EncoderLayer, size: int, heads: list[int], only_context: bool = False) -> EncoderLayer:
    """only_context: queries, keys and values keep their weights; nobody reads what comes of them."""
    if not heads:
        return layer
    features = np.concatenate([np.arange(head * size, (head + 1) * size) for head in heads])
    projections = (
        {} if only_context else {name: without(getattr(layer, name), outputs=features) for name in MATRICES[:3]}
    )
    return replace(layer, attention_output=without(layer.attention_output, inputs=features), **projections)


def remove_neurons(layer: EncoderLayer, neurons: np.ndarray) -> EncoderLayer:
    return replace(layer, ffn_in=without(layer.ffn_in, outputs=neurons), ffn_out=without(layer.ffn_out, inputs=neurons))


def empty(layer: EncoderLayer) -> EncoderLayer:
    return replace(
        layer, **{name: Linear(getattr(layer, name).weight * 0, getattr(layer, name).bias) for name in MATRICES}
    )


@dataclass(frozen=True)
class Case:
    """An encoder with parts removed, and what its programs must still visit: heads, tiles of ffn_in, by layer."""

    config: EncoderConfig
    change: Callable[[int, EncoderLayer], EncoderLayer]
    heads: list[list[int]]
    ffn_tiles: list[int]
    density: float = 0.4


def heads_case(config: EncoderConfig, heads: list[list[int]], only_context: bool = False, **fields: float) -> Case:
    """All heads but these removed, by layer."""

    def change(number: int, layer: EncoderLayer) -> EncoderLayer:
        gone = [head for head in range(config.heads) if head not in heads[number]]
        return remove_heads(layer, config.head_size, gone, only_context)

    return Case(config, change, heads, [config.ffn // OUTPUTS] * config.layers, **fields)


def neurons_case(neurons: list[range], ffn_tiles: list[int]) -> Case:
    """These neurons removed, by layer."""
    return Case(
        SMALL, lambda number, layer: remove_neurons(layer, np.array(neurons[number], int)), [FOUR] * 2, ffn_tiles
    )


SMALL = encoder_config(128, 112, 4)  # heads of 32, an FFN of 7 tiles
WIDE = encoder_config(192, 80, 3, activation="relu")  # heads of 64
BASE = encoder_config(768, 3072, 12, layers=1)
LARGEST = encoder_config(1024, 4096, 16)
FOUR, THREE = [0, 1, 2, 3], [0, 1, 2]
SMALL_CASES = {
    "first head": heads_case(SMALL, [[1, 2, 3]] * 2),
    "last head": heads_case(SMALL, [[0, 1, 2]] * 2),
    "every other head": heads_case(SMALL, [[0, 2], [1, 3]]),
    "all heads of 64 but one": heads_case(WIDE, [[1], [2]]),
    "context alone": heads_case(WIDE, [[0, 2], [1]], only_context=True),
    "all heads of the first layer": heads_case(SMALL, [[], FOUR]),
    "all heads": heads_case(SMALL, [[], []]),
    "neurons behind 49": neurons_case([range(49, 112), range(112, 112)], [4, 7]),
    "neurons between": neurons_case([range(16, 95), range(95)], [7, 7]),  # those in front of one that is read stay
    "all neurons of a layer": neurons_case([range(112), range(48, 112)], [0, 3]),
    # A neuron without weights has a bias, and is read; one that nobody reads may have weights.
    "half of a neuron": Case(
        SMALL,
        lambda n, layer: (
            replace(layer, ffn_out=without(layer.ffn_out, inputs=np.arange(64, 112)))
            if n
            else replace(layer, ffn_in=without(layer.ffn_in, outputs=np.arange(64, 112)))
        ),
        [FOUR] * 2,
        [7, 4],
    ),
    "heads and neurons": Case(
        SMALL,
        lambda n, layer: remove_neurons(remove_heads(layer, 32, [[2], [0, 1, 3]][n]), np.arange([96, 16][n], 112)),
        [[0, 1, 3], [2]],
        [6, 1],
    ),
    "first layer": Case(WIDE, lambda n, layer: layer if n else empty(layer), [[], THREE], [0, 5]),
    "last layer": Case(WIDE, lambda n, layer: empty(layer) if n else layer, [THREE, []], [5, 0]),
    "every layer": Case(replace(SMALL, layers=3), lambda n, layer: empty(layer), [[]] * 3, [0] * 3),
}
# Launches of 9 row blocks and more have at most 6 heads at a time, and two row chunks.
SPLIT_CASES = {
    "two groups of four heads": heads_case(BASE, [[0, 1, 3, 4, 6, 8, 10, 11]], density=0.1),
    "one group of five heads": heads_case(BASE, [[1, 2, 6, 10, 11]], density=0.1),
    "the second half of the heads": heads_case(BASE, [[6, 7, 8, 9, 10, 11]], density=0.1),
    "no head": heads_case(BASE, [[]], density=0.1),
    "nothing": Case(LARGEST, lambda n, layer: empty(layer), [[], []], [0, 0]),
}
CASES = SMALL_CASES | SPLIT_CASES


@dataclass(frozen=True)
class Removed:
    """A case as a quantized encoder, packed."""

    model: QuantizedEncoder
    packed: PackedModel

    def assert_equal_run(self, lengths: list[int], late_words: bool = False) -> None:
        """One launch: every value of every layer, padding included."""
        rng, config = np.random.default_rng(0), self.model.config
        sequences = [rng.integers(-128, 128, (tokens, config.hidden)).astype(np.int8) for tokens in lengths]
        expected = IntegerEncoder(self.model).run(sequences)
        output = CsimEncoder(self.packed, late_words).run(sequences)
        rows = sum(-(-tokens // SPEC.word.tokens) * SPEC.word.tokens for tokens in lengths)
        assert int((output == expected).sum()) == expected.size == config.layers * rows * config.hidden


@cache
def removed(name: str) -> Removed:
    case = CASES[name]
    layers, embeddings, calibration = random_layers(case.config, 5, dict.fromkeys(MATRICES, case.density))
    layers = [case.change(number, layer) for number, layer in enumerate(layers)]
    model = quantize_encoder(layers, case.config, embeddings, calibration)
    return Removed(model, pack_encoder(model))


@dataclass
class Visit:
    """What a program visits of a layer: heads, tiles of ffn_in, and of queries, keys and values; head groups."""

    heads: list[int]
    ffn_tiles: int = 0
    projection_tiles: int = 0
    groups: int = 0


def visits(packed: PackedModel, variant: ProgramVariant) -> list[Visit]:
    """By layer."""
    config, result = packed.config, [Visit([])]
    context = variant.row_blocks * config.hidden  # the region behind x
    for descriptor in decode_program(packed.program.tobytes(), variant.offset):
        visit, tiles = result[-1], int(descriptor["tiles"])
        if descriptor["row_first"] > 0:  # another chunk of row blocks
            continue
        if descriptor["opcode"] == SPEC.opcode.attention:
            visit.heads.append((int(descriptor["target"]) - context) // config.head_size)
        elif descriptor["opcode"] == SPEC.opcode.gemm and descriptor["post"] == SPEC.post.none:
            visit.projection_tiles += tiles
            visit.groups += 1
        elif descriptor["opcode"] == SPEC.opcode.gemm:
            visit.ffn_tiles += tiles * (descriptor["post"] == SPEC.post.activation)
            if int(descriptor["flags"]) >> SPEC.flag.trace & 1:
                result.append(Visit([]))
    assert result.pop() == Visit([])
    return [replace(visit, groups=visit.groups // 3) for visit in result]


def assert_same_layers(actual: QuantizedEncoder, expected: QuantizedEncoder) -> None:
    """All arrays of all layers."""
    compared = 0
    for layer, reference in zip(actual.layers, expected.layers, strict=True):
        for name, value in vars(reference).items():
            part, other = getattr(layer, name), value
            pairs = (
                {"table": (part, other)}
                if isinstance(value, np.ndarray)
                else {field: (getattr(part, field), array) for field, array in vars(other).items()}
            )
            for field, (left, right) in pairs.items():
                assert np.array_equal(left, right), f"{name} {field}"
                compared += 1
    assert compared == len(expected.layers) * (6 * 4 + 4 + 2 * 6 + 1)


@pytest.mark.parametrize("name", CASES)
def test_programs_visit_what_is_read(name):
    case, packed = CASES[name], removed(name).packed
    for variant in packed.variants:
        found = visits(packed, variant)
        assert [visit.heads for visit in found] == case.heads
        assert [visit.ffn_tiles for visit in found] == case.ffn_tiles
        widths = [len(heads) * case.config.head_size for heads in case.heads]
        assert [visit.projection_tiles for visit in found] == [3 * width // OUTPUTS for width in widths]


@pytest.mark.parametrize(("name", "groups"), list(zip(SPLIT_CASES, (2, 1, 1, 0, 0), strict=True)))
def test_heads_that_are_left_share_groups(name, groups):
    packed = removed(name).packed
    assert [variant.row_blocks for variant in packed.variants] == [3, 8, 16]
    assert {visit.groups for visit in visits(packed, packed.variants[-1])} == {groups}


@pytest.mark.parametrize("lengths", [[1], [33, 1, 130, 64, 95, 31], [512]], ids=str)
@pytest.mark.parametrize("name", SMALL_CASES)
def test_equals_the_integer_reference(name, lengths):
    removed(name).assert_equal_run(lengths)


@pytest.mark.parametrize("lengths", [[70], [200, 57]], ids=str)
@pytest.mark.parametrize("name", SPLIT_CASES)
def test_split_launches_equal_the_integer_reference(name, lengths):
    removed(name).assert_equal_run(lengths)


@pytest.mark.parametrize(
    ("name", "lengths"),
    [*((name, [40, 3, 130]) for name in SMALL_CASES), ("two groups of four heads", [200, 57]), ("nothing", [300])],
)
def test_every_command_awaits_its_words(name, lengths):
    removed(name).assert_equal_run(lengths, late_words=True)


@pytest.mark.parametrize("name", CASES)
def test_unpacked_encoder_is_whole(name):
    """Weights and attention parameters of removed heads, too, at their own places."""
    encoder = removed(name)
    assert_same_layers(unpack_encoder(encoder.packed), encoder.model)
