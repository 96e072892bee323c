"""Levels and counts of small netlists whose answer is known."""

from __future__ import annotations

import pytest
from tests.unit.netlists import cell, flat_netlist, lut, module, register

from bertile.errors import BertileError
from bertile.synthesis.area import modules_of
from bertile.synthesis.levels import Levels, Path, deepest_by_module, distinct_paths
from bertile.synthesis.netlist import Netlist, resources


def longest(netlist: Netlist) -> Path:
    return next(Levels(netlist.flatten()).paths())


def between_registers(**cells: dict) -> Netlist:
    """Registers drive nets 1 and 2; another takes net 9."""
    ends = {"a": register("0", 1), "b": register("1", 2), "c": register(9, 10)}
    return flat_netlist({**ends, **cells}, start=[1], side=[2], end=[10])


def carry(inputs: list, outputs: list, carry_out: list, carry_in: int | str = "0", start: int | str = "0") -> dict:
    return cell("CARRY4", S=inputs, DI=["0"] * 4, O=outputs, CO=carry_out, CI=[carry_in], CYINIT=[start])


def test_every_lut_is_a_level() -> None:
    assert longest(between_registers(l0=lut(3, 1, 2), l1=lut(4, 3), l2=lut(9, 4, 1))) == Path(
        3, "start", "end/D", "top", "top"
    )


def test_the_deeper_of_two_ways_counts() -> None:
    netlist = between_registers(l0=lut(3, 1), l1=lut(4, 3), l2=lut(9, 2, 4))
    assert (longest(netlist).levels, longest(netlist).start) == (3, "start")


def test_nothing_between_is_no_level() -> None:
    assert longest(flat_netlist({"a": register("0", 1), "b": register(1, 2)})).levels == 0


def test_an_inverter_is_a_level_and_a_wide_multiplexer_none() -> None:
    assert longest(between_registers(inverter=cell("INV", I=[1], O=[9]))).levels == 1
    select = cell("MUXF7", I0=[3], I1=[4], S=[2], O=[9])
    assert longest(between_registers(l0=lut(3, 1), l1=lut(4, 1), select=select)).levels == 1


def test_a_carry_chain_is_one_level_however_long() -> None:
    first = carry([3, "0", "0", "0"], [20, 21, 22, 23], [24, 25, 26, 27])
    second = carry(["0"] * 4, [30, 31, 32, 33], [34, 35, 36, 37], carry_in=27)
    third = carry(["0"] * 4, [40, 41, 42, 9], [44, 45, 46, 47], carry_in=37)
    assert longest(between_registers(l0=lut(3, 1), first=first, second=second, third=third)).levels == 2


def test_a_bit_of_a_chain_depends_on_lower_bits_only() -> None:
    chain = carry(["0", "0", "0", 1], [20, 21, 9, 23], [24, 25, 26, 27])
    assert not [path for path in Levels(between_registers(chain=chain).flatten()).paths() if path.end == "end/D"]


def test_a_carry_that_enters_from_logic_is_a_level() -> None:
    chain = carry(["0"] * 4, [9, 21, 22, 23], [24, 25, 26, 27], carry_in=1)
    assert longest(between_registers(chain=chain)).levels == 1
    chain = carry(["0"] * 4, [9, 21, 22, 23], [24, 25, 26, 27], start=1)
    assert longest(between_registers(chain=chain)).levels == 1


def ram(address: int | str, data: int | str, output: int) -> dict:
    return cell("RAM32M16", ADDRA=[address], ADDRH=["0"], DIA=[data], DOA=[output], WE=["1"], WCLK=["x"])


def test_a_read_of_distributed_ram_is_a_level() -> None:
    assert longest(between_registers(l0=lut(3, 1), ram=ram(3, "0", 9))).levels == 2
    assert longest(between_registers(ram=ram("0", "0", 4), l0=lut(9, 4))) == Path(2, "ram", "end/D", "top", "top")


def test_the_write_side_of_distributed_ram_is_a_register() -> None:
    assert longest(between_registers(l0=lut(3, 1), ram=ram("0", 3, 20))).end == "ram/DIA"
    written = cell("RAM32M16", ADDRA=["0"], ADDRH=[3], DIA=["0"], DOA=[20], WE=["1"], WCLK=["x"])
    assert longest(between_registers(l0=lut(3, 1), ram=written)).end == "ram/ADDRH"


def test_enable_and_reset_of_a_register_count() -> None:
    end = cell("FDRE", D=["0"], Q=[10], C=["x"], CE=["1"], R=[3])
    assert longest(flat_netlist({"a": register("0", 1), "l0": lut(3, 1), "c": end}, end=[10])).end == "end/R"


def test_dsps_and_shift_registers_end_a_path() -> None:
    dsp = cell("DSP48E2", A=[3], P=[4], CLK=["x"])
    shift = cell("SRL16E", D=[4], Q=[5], A0=["1"], CE=["1"], CLK=["x"])
    netlist = flat_netlist({"a": register("0", 1), "l0": lut(3, 1), "dsp": dsp, "shift": shift, "l1": lut(6, 5)})
    assert Levels(netlist.flatten()).histogram() == {0: 1, 1: 1}


def two_level_module() -> dict:
    """A LUT, and a register behind it, with a port on both sides."""
    cells = {"l0": lut(2, 1), "r": register(2, 3), "inside": register("0", 4)}
    ports = {"in": ("input", [1]), "out": ("output", [3])}
    return module(cells, ports, {"held": [3], "idle": [4]}, hdlname="\\leaf")


def hierarchy() -> Netlist:
    """Two leaves in a row with a LUT between, and a register in front."""
    cells = {
        "first": cell("$paramod\\leaf", **{"in": [1], "out": [2]}),
        "second": cell("$paramod\\leaf", **{"in": [3], "out": [4]}),
        "front": register("0", 1),
        "between": lut(3, 2),
    }
    modules = {"top": module(cells, names={"start": [1]}), "$paramod\\leaf": two_level_module()}
    modules["FDRE"] = module({}, blackbox="00000001")
    return Netlist(modules, "top")


def test_paths_cross_module_boundaries() -> None:
    assert longest(hierarchy()) == Path(2, "first.held", "second.held/D", "leaf", "leaf")
    assert {module: path.levels for module, path in deepest_by_module(Levels(hierarchy().flatten())).items()} == {
        "leaf": 2
    }


def test_modules_are_counted_with_all_their_instances() -> None:
    counts = modules_of(hierarchy())
    assert (counts["leaf"]["instances"], counts["leaf"]["own"]["lut"], counts["leaf"]["own"]["ff"]) == (2, 2, 4)
    assert (counts["top"]["own"]["lut"], counts["top"]["own"]["ff"]) == (1, 1)
    assert (counts["top"]["total"]["lut"], counts["top"]["total"]["ff"]) == (3, 5)


def test_ports_that_a_module_joins_are_one_net() -> None:
    wire = module({}, {"in": ("input", [1]), "out": ("output", [1])})
    cells = {
        "wire": cell("wire", **{"in": [1], "out": [2]}),
        "a": register("0", 1),
        "l": lut(3, 2),
        "b": register(3, 4),
    }
    assert longest(Netlist({"top": module(cells, names={"end": [4]}), "wire": wire}, "top")).end == "end/D"


def test_a_combinational_loop_is_an_error() -> None:
    with pytest.raises(BertileError, match="loop"):
        Levels(between_registers(l0=lut(9, 3, 1), l1=lut(3, 9)).flatten())


def test_an_unknown_cell_is_an_error() -> None:
    with pytest.raises(BertileError, match="LATCH"):
        Levels(between_registers(latch=cell("LATCH", D=[1], Q=[9])).flatten())


def test_bits_and_copies_of_a_register_pair_are_one_path() -> None:
    cells, names = {}, {}
    for bit in range(4):
        start, middle, end = 10 * bit + 1, 10 * bit + 2, 10 * bit + 3
        cells |= {f"a{bit}": register("0", start), f"l{bit}": lut(middle, start), f"b{bit}": register(middle, end)}
        names |= {f"lane[{bit}].from[{bit}]": [start], f"lane[{bit}].to[{bit}]": [end]}
    levels = Levels(flat_netlist(cells, **names).flatten())
    assert len([path for path in levels.paths() if path.levels]) == 4
    assert len(distinct_paths(levels, None)) == 1
    assert distinct_paths(levels, None, above=1) == []
    assert distinct_paths(levels, 0) == []


def test_luts_count_logic_ram_and_shift_registers() -> None:
    kinds = {"LUT6": 3, "LUT1": 1, "INV": 2, "MUXF7": 9, "RAM32M16": 2, "RAM64M8": 1, "SRL16E": 4, "CARRY4": 5}
    kinds |= {"RAMB18E2": 3, "RAMB36E2": 1, "FDRE": 7, "FDSE": 1}
    assert resources(kinds) == {
        "lut": 6 + 24 + 4,
        "ff": 8,
        "dsp": 0,
        "uram": 0,
        "bram": 2.5,
        "carry": 5,
        "lut_ram": 24,
        "srl": 4,
    }
