"""Generated views for the Vitis tools: link configurations, and a Verilog top for the RTL engine."""

from __future__ import annotations

from pathlib import Path

from bertile.config.kernels import ENCODER, ENGINE, Kernel, Link, load_link
from bertile.config.paths import HLS_DIR, RTL_DIR, TARGETS_DIR
from bertile.config.target import load_target

COMMENT = "Generated from spec/ by `make spec`; do not edit."


def targets() -> list[str]:
    """Every target there is a file for."""
    return sorted(path.stem for path in TARGETS_DIR.glob("*.toml"))


def config_path(target: str, kernel: str = ENCODER) -> Path:
    """The link configuration of a target's units, or what an optional kernel adds to it."""
    suffix = "" if kernel in (ENCODER, ENGINE) else "_" + kernel.removeprefix("bertile_")
    return HLS_DIR / "link" / f"{target}{suffix}.cfg"


def wrapper_path(kernel: str = ENGINE) -> Path:
    """The Verilog top of an RTL kernel; its module has the file's name."""
    return RTL_DIR / "syn" / f"{kernel}_kernel.v"


def instances(kernel: Kernel, names: list[str]) -> str:
    """UG1393 2022.1 joins the instance names of `nk` with points."""
    return f"nk={kernel.name}:{len(names)}:{'.'.join(names)}"


def memory_ports(kernel: Kernel, instance: str, bank: str) -> list[str]:
    """By port, not by argument: HLS renames arguments that are words of Verilog, like `input`."""
    return [f"sp={instance}.m_axi_{port}:{bank}" for port in kernel.memory_ports]


def link_config(link: Link) -> str:
    """The units: instances, regions, memory banks and streams."""
    encoder, engine = link.kernels[ENCODER], link.kernels[ENGINE]
    lines = [f"# {COMMENT}", "[connectivity]"]
    lines.append(instances(encoder, [unit.encoder for unit in link.units]))
    lines.append(instances(engine, [unit.engine for unit in link.units]))
    directions = {port.name: port.direction for port in encoder.streams}
    for number, unit in enumerate(link.units, 1):
        lines += ["", f"# Unit {number}"]
        lines += [f"slr={unit.encoder}:{unit.encoder_slr}", f"slr={unit.engine}:{unit.engine_slr}"]
        lines += memory_ports(encoder, unit.encoder, unit.bank)
        for stream in link.streams:
            ends = [f"{unit.encoder}.{stream.encoder_port}", f"{unit.engine}.{stream.engine_port}"]
            if directions[stream.encoder_port] == "in":
                ends.reverse()
            lines.append(f"stream_connect={':'.join(ends)}:{stream.depth}")
    lines += ["", "# Between the units"] if link.peers else []
    for peer in link.peers:
        source, target = f"{peer.source}.{peer.source_port}", f"{peer.target}.{peer.target_port}"
        lines.append(f"stream_connect={source}:{target}:{peer.depth}")
    return "\n".join([*lines, ""])


def optional_config(link: Link, kernel: Kernel) -> str:
    """One instance a unit, in the region of the unit's memory bank: it has memory ports only."""
    regions = {bank["name"]: bank["slr"] for bank in load_target(link.target)["bank"]}
    names = [f"{kernel.name.removeprefix('bertile_')}_{number}" for number, _ in enumerate(link.units, 1)]
    lines = [f"# {COMMENT}", "[connectivity]", instances(kernel, names)]
    for name, unit in zip(names, link.units, strict=True):
        lines += ["", f"slr={name}:{regions[unit.bank]}", *memory_ports(kernel, name, unit.bank)]
    return "\n".join([*lines, ""])


def kernel_wrapper(kernel: Kernel) -> str:
    """A Verilog module with the kernel's ports around the SystemVerilog one."""
    ports = ['    (* X_INTERFACE_INFO = "xilinx.com:signal:clock:1.0 ap_clk CLK" *)', "    input wire ap_clk,"]
    ports += ['    (* X_INTERFACE_INFO = "xilinx.com:signal:reset:1.0 ap_rst_n RST" *)']
    ports += ['    (* X_INTERFACE_PARAMETER = "POLARITY ACTIVE_LOW" *)', "    input wire ap_rst_n,"]
    names = ["ap_clk", "ap_rst_n"]
    for stream in kernel.streams:
        forward, backward = ("input", "output") if stream.direction == "in" else ("output", "input")
        ports += ["", f"    {forward} wire [{stream.bits - 1}:0] {stream.name}_tdata,"]
        ports += [f"    {forward} wire {stream.name}_tvalid,", f"    {backward} wire {stream.name}_tready,"]
        names += [f"{stream.name}_{signal}" for signal in ("tdata", "tvalid", "tready")]
    ports[-1] = ports[-1].removesuffix(",")
    connections = ",\n".join(f"      .{name}({name})" for name in names)
    return "\n".join(
        [
            f"// {COMMENT}",
            "// Vivado packages no SystemVerilog top (UG1118, Top-Level HDL Requirements).",
            f"module {wrapper_path(kernel.name).stem} (",
            *ports,
            ");",
            f"  {kernel.name} kernel (",
            connections,
            "  );",
            "endmodule",
            "",
        ]
    )


def views() -> dict[Path, str]:
    """Every generated file of this module and its text."""
    files = {}
    for target in targets():
        link = load_link(target)
        files[config_path(target)] = link_config(link)
        for kernel in link.optional.values():
            files[config_path(target, kernel.name)] = optional_config(link, kernel)
        files[wrapper_path()] = kernel_wrapper(link.kernels[ENGINE])
    return files
