"""What the emulated card's kernel libraries take from `spec/`, as C++ (host/emulation/card/card_tables.hpp)."""

from __future__ import annotations

from bertile.config.kernels import ENCODER, Link
from bertile.config.target import load_target
from bertile.devices.rtl import timing_of
from bertile.emulation.xclbin import unit_base


def array(kind: str, name: str, rows: list[str]) -> str:
    return f"const {kind} {name}[] = {{\n" + "".join(f"    {{{row}}},\n" for row in rows) + "};\n"


def card_tables(link: Link) -> str:
    """Units with their registers and banks, argument registers, and the timing of the target."""
    banks = list(link.banks)
    units = [
        f'"{unit.encoder}", {unit_base(index):#x}, {banks.index(unit.bank)}' for index, unit in enumerate(link.units)
    ]
    arguments = [f'"{argument.name}", {argument.offset:#x}' for argument in link.kernels[ENCODER].arguments]
    target = load_target(link.target)
    timing, stages = timing_of(target), target["latency"]
    values = [timing.crossing, timing.peer_crossing, timing.period_picoseconds, timing.memory_latency]
    values.append(repr(timing.memory_bytes_per_cycle))
    return (
        "// Written by bertile.emulation.tables.\n"
        '#include "card_tables.hpp"\n\nnamespace bertile {\n\nnamespace {\n\n'
        + array("BertileCardUnit", "kUnits", units)
        + array("BertileCardArgument", "kArguments", arguments)
        + array("StageLatency", "kStageLatencies", [f'"{name}", {cycles}' for name, cycles in stages.items()])
        + f"const uint64_t kBankBytes[] = {{{', '.join(map(hex, link.banks.values()))}}};\n"
        "\n}  // namespace\n\n"
        "const BertileCard kCard = {kBertileCardVersion, "
        f"{len(units)}, kUnits, {len(arguments)}, kArguments, kBankBytes}};\n"
        f"const TargetTiming kTargetTiming = {{{', '.join(map(str, values))}, {len(stages)}, kStageLatencies}};\n"
        "\n}  // namespace bertile\n"
    )
