"""The checks of inference find every single thing that can be wrong with DSPs, cascades and memories."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from bertile.errors import BertileError
from bertile.synthesis.checks import check_inference
from bertile.synthesis.netlist import Cell, Flat

ONE, ZERO = f"{1:032b}", f"{0:032b}"


def dsp(name: str, number: int, cascaded: bool) -> Cell:
    """DSP `number` of all drives the nets from 100 times its number on; it adds those of the one before."""
    pins = {
        "OPMODE": list("1010" + ("1" if cascaded else "0") + "0000"),
        "PCOUT": list(range(100 * number, 100 * number + 48)),
    }
    if cascaded:
        pins["PCIN"] = list(range(100 * number - 100, 100 * number - 52))
    parameters = dict.fromkeys(("AREG", "BREG", "MREG", "PREG"), ONE)
    return Cell("DSP48E2", name, "dsp_mac", pins, frozenset({"PCOUT"}), parameters)


def uram(name: str) -> Cell:
    return Cell("URAM288_BASE", name, "uram", {}, frozenset(), {"OREG_A": "TRUE", "OREG_B": "TRUE"})


def engine() -> Flat:
    """All DSPs and UltraRAMs of an engine as they should be."""
    cells, instances, number = [], {"reader.memory": "activation_memory", "tiles": "tile_memory"}, 1
    for module, path, count, each in (("mac_cell", "array.cell", 256, 4), ("requantizer_lane", "drain.lane", 32, 2)):
        for instance in range(count):
            instances[f"{path}[{instance}]"] = module
            for index in range(each):
                cells.append(dsp(f"{path}[{instance}].g[{index}].mac.dsp", number, index > 0))
                number += 1
    for bank in range(24):
        instances[f"reader.memory.bank[{bank}].m"] = "uram"
        cells += [uram(f"reader.memory.bank[{bank}].m.g_block[{block}].block") for block in range(4)]
    instances["tiles.m"] = "uram"
    cells += [uram(f"tiles.m.g_block[{block}].block") for block in range(8)]
    return Flat(cells, instances, {}, {})


def change(flat: Flat, name: str, **changes: object) -> Flat:
    """The same with another cell of this name."""
    assert any(cell.name == name for cell in flat.cells)
    return replace(flat, cells=[replace(cell, **changes) if cell.name == name else cell for cell in flat.cells])


def without(flat: Flat, name: str) -> Flat:
    return replace(flat, cells=[cell for cell in flat.cells if cell.name != name])


def plus(flat: Flat, kind: str, name: str) -> Flat:
    return replace(flat, cells=[*flat.cells, Cell(kind, name, "", {}, frozenset(), {})])


MAC = "array.cell[7].g[2].mac.dsp"
LANE = "drain.lane[3].g[1].mac.dsp"
BLOCK = "reader.memory.bank[5].m.g_block[1].block"


def test_the_engine_as_it_should_be_passes() -> None:
    check_inference(engine())


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda flat: plus(flat, "DSP48E2", "loader.$mul.dsp"), "loader.*outside the array"),
        (lambda flat: without(flat, MAC), "256 of mac_cell with 4 DSPs"),
        (lambda flat: without(flat, LANE), "32 of requantizer_lane with 2 DSPs"),
        (
            lambda flat: replace(flat, cells=[cell for cell in flat.cells if "cell[7]" not in cell.name]),
            "256 of mac_cell",
        ),
        (lambda flat: without(flat, BLOCK), "activation_memory: 24 memories of 4"),
        (lambda flat: without(flat, "tiles.m.g_block[0].block"), "tile_memory: 1 memories of 8"),
        (lambda flat: plus(flat, "URAM288_BASE", "drain.g_block[0].block"), "outside the memories|no output register"),
        (
            lambda flat: change(flat, BLOCK, parameters={"OREG_A": "TRUE", "OREG_B": "FALSE"}),
            "no output register OREG_B",
        ),
        (lambda flat: change(flat, BLOCK, parameters={"OREG_B": "TRUE"}), "no output register OREG_A"),
        (lambda flat: plus(flat, "RAM64M8", "reader.memory.cells.0.0"), "large memory in LUTs"),
        (lambda flat: plus(flat, "RAM32M16", "tiles.m.cells.0.0"), "large memory in LUTs"),
        (lambda flat: plus(flat, "RAMB36E2", "results.memory.0.0"), "block RAM"),
    ],
)
def test_a_wrong_cell_is_found(broken: Callable[[Flat], Flat], message: str) -> None:
    with pytest.raises(BertileError, match=message):
        check_inference(broken(engine()))


def test_distributed_ram_elsewhere_is_fine() -> None:
    check_inference(plus(engine(), "RAM32M16", "results.memory.0.0"))


@pytest.mark.parametrize("register", ["AREG", "BREG", "MREG", "PREG"])
@pytest.mark.parametrize("name", [MAC, LANE])
def test_every_register_of_a_dsp_must_be_there(register: str, name: str) -> None:
    parameters = {**dict.fromkeys(("AREG", "BREG", "MREG", "PREG"), ONE), register: ZERO}
    with pytest.raises(BertileError, match=f"no register {register}"):
        check_inference(change(engine(), name, parameters=parameters))


@pytest.mark.parametrize("name", [MAC, LANE])
def test_a_cascade_must_come_from_the_neighbour(name: str) -> None:
    flat = engine()
    pins = next(cell.pins for cell in flat.cells if cell.name == name)
    other_chain = next(cell.pins["PCOUT"] for cell in flat.cells if "cell[9]" in cell.name)
    for wrong in (["0"] * 48, other_chain, pins["PCOUT"]):
        with pytest.raises(BertileError, match="no neighbour drives"):
            check_inference(change(flat, name, pins={**pins, "PCIN": wrong}))


def test_a_broken_chain_is_found() -> None:
    flat = engine()
    pins = next(cell.pins for cell in flat.cells if cell.name == MAC)
    with pytest.raises(BertileError, match="not one chain"):
        check_inference(change(flat, MAC, pins={**pins, "OPMODE": list("101000000")}))
