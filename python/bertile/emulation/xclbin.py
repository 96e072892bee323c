"""The xclbin of the emulated card, made from `load_link()`; and what any xclbin says about itself."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID
from xml.etree import ElementTree

from bertile.config.kernels import ENCODER, ENGINE, Kernel, Link
from bertile.config.target import load_target
from bertile.emulation.axlf import Section, decode_container, encode_container, text_of
from bertile.errors import FormatError

# Where Vitis puts the registers of the first compute unit, and what each takes. Nothing depends on the values.
FIRST_UNIT, UNIT_BYTES = 0x1800000, 0x10000
NO_REGISTERS = (1 << 64) - 1  # base address of a kernel that nobody controls
REGISTER_BYTES = 0x1000
POINTER_BYTES = 8
DATA_BITS = 512  # of every memory port
GLOBAL_MEMORY = "1"  # address qualifier of a pointer

MEM_DDR4, IP_KERNEL = 1, 1
CONTROLS = {"ap_ctrl_hs": 0, "ap_ctrl_chain": 1, "ap_ctrl_none": 2}
COUNT = struct.Struct("<i")
MEMORY = struct.Struct("<BB6xQQ16s")  # type, used, kibibytes, base address, name
CONNECTION = struct.Struct("<iii")  # argument, IP, memory
IP = struct.Struct("<IIQ64s")  # type, properties, base address, name
# Arrays behind a 32-bit count start where their type is aligned.
MEMORY_START, CONNECTION_START, IP_START = 8, 4, 8


@dataclass(frozen=True)
class XclbinArgument:
    """offset: of its register, in bytes; size in bytes."""

    name: str
    index: int
    port: str
    offset: int
    size: int


@dataclass(frozen=True)
class XclbinKernel:
    """instances: names, in the order of the metadata."""

    name: str
    arguments: tuple[XclbinArgument, ...]
    instances: tuple[str, ...]


@dataclass(frozen=True)
class XclbinHeader:
    """What an xclbin says about itself.

    platform: its VBNV, as the host must have it; mode: hw, hw_emu or sw_emu. banks: names of the memories that compute
    units use. connections: (instance, argument index) to the name of the memory.
    """

    path: Path
    platform: str
    mode: str
    uuid: UUID
    sections: tuple[str, ...]
    kernels: dict[str, XclbinKernel]
    banks: tuple[str, ...]
    connections: dict[tuple[str, int], str]

    @property
    def emulated(self) -> bool:
        return self.mode != "hw"


def unit_base(index: int) -> int:
    """Card address of the registers of the link's unit `index`, from 0."""
    return FIRST_UNIT + UNIT_BYTES * index


def encode_array(records: list[bytes], start: int) -> bytes:
    return COUNT.pack(len(records)).ljust(start, b"\0") + b"".join(records)


def decode_array(data: bytes, record: struct.Struct, start: int, name: str) -> list[tuple]:
    """Raises FormatError when there are fewer records than the count says."""
    count = COUNT.unpack_from(data)[0] if len(data) >= COUNT.size else -1
    if count < 0 or len(data) < start + count * record.size:
        raise FormatError(f"{name} of the xclbin is too short")
    return [record.unpack_from(data, start + index * record.size) for index in range(count)]


def kernel_instances(link: Link) -> list[tuple[Kernel, str, int]]:
    """Every instance: its kernel, its name, and where its registers are; in the order of the IP layout."""
    encoders = [(link.kernels[ENCODER], unit.encoder, unit_base(index)) for index, unit in enumerate(link.units)]
    return [*encoders, *((link.kernels[ENGINE], unit.engine, NO_REGISTERS) for unit in link.units)]


def memory_topology(link: Link) -> bytes:
    used, base, records = {unit.bank for unit in link.units}, 0, []
    for name, size in link.banks.items():
        records.append(MEMORY.pack(MEM_DDR4, name in used, size >> 10, base, name.encode()))
        base += size
    return encode_array(records, MEMORY_START)


def ip_layout(link: Link) -> bytes:
    records = [
        IP.pack(IP_KERNEL, CONTROLS[kernel.control] << 8, base, f"{kernel.name}:{name}".encode())
        for kernel, name, base in kernel_instances(link)
    ]
    return encode_array(records, IP_START)


def connectivity(link: Link) -> bytes:
    banks = list(link.banks)
    records = [
        CONNECTION.pack(argument.index, index, banks.index(unit.bank))
        for index, unit in enumerate(link.units)
        for argument in link.kernels[ENCODER].arguments
    ]
    return encode_array(records, CONNECTION_START)


def memory_port(bundle: str) -> str:
    return f"M_AXI_{bundle.upper()}"


def add_kernel(core: ElementTree.Element, kernel: Kernel, instances: list[tuple[str, int]]) -> None:
    """The element of a kernel with its ports, arguments and instances."""
    element = ElementTree.SubElement(
        core, "kernel", name=kernel.name, language="c", vlnv=f"bertile:hls:{kernel.name}:1.0", attributes="",
        preferredWorkGroupSizeMultiple="0", workGroupSize="1", interrupt="false", hwControlProtocol=kernel.control,
    )  # fmt: skip

    def add_port(name: str, mode: str, size: int, bits: int) -> None:
        kind = {"portType": "addressable", "range": hex(size), "base": "0x0"} if size else {"portType": "stream"}
        ElementTree.SubElement(element, "port", name=name, mode=mode, dataWidth=str(bits), **kind)

    for bundle in kernel.memory_ports:
        add_port(memory_port(bundle), "master", (1 << 64) - 1, DATA_BITS)
    if kernel.control != "ap_ctrl_none":
        add_port("S_AXI_CONTROL", "slave", REGISTER_BYTES, 32)
    for stream in kernel.streams:
        add_port(stream.name, {"in": "read_only", "out": "write_only"}[stream.direction], 0, stream.bits)
    for argument in kernel.arguments:
        ElementTree.SubElement(
            element, "arg", name=argument.name, addressQualifier=GLOBAL_MEMORY, id=str(argument.index),
            port=memory_port(argument.port), size=hex(POINTER_BYTES), offset=hex(argument.offset), hostOffset="0x0",
            hostSize=hex(POINTER_BYTES), type=f"{argument.type}*", memSize="0x0",
        )  # fmt: skip
    for name, base in instances:
        instance = ElementTree.SubElement(element, "instance", name=name)
        if base != NO_REGISTERS:
            remap = {"base": hex(base), "range": hex(UNIT_BYTES), "port": "S_AXI_CONTROL"}
            ElementTree.SubElement(instance, "addrRemap", remap)


def embedded_metadata(link: Link) -> bytes:
    """The XML with the kernels of the link."""
    target = load_target(link.target)
    project = ElementTree.Element("project", name=f"bertile_{link.target}")
    platform = ElementTree.SubElement(project, "platform", vendor="xilinx", boardid=link.target, name=link.platform)
    part = target["target"]["part"]
    device = ElementTree.SubElement(platform, "device", name="fpga0", fpgaDevice=part, addrWidth="0")
    core = ElementTree.SubElement(device, "core", name="OCL_REGION_0", target="csim", type="clc_region")
    clocks = ElementTree.SubElement(core, "kernelClocks")
    frequency = f"{target['clock']['megahertz'][0]}.000000MHz"
    ElementTree.SubElement(clocks, "clock", port="DATA_CLK", frequency=frequency)
    placed = kernel_instances(link)
    for kernel in link.kernels.values():
        add_kernel(core, kernel, [(name, base) for owner, name, base in placed if owner is kernel])
    ElementTree.indent(project)
    return ElementTree.tostring(project, encoding="UTF-8", xml_declaration=True)


def build_metadata(link: Link, engine: str) -> bytes:
    description = {"generated_by": {"name": "bertile.emulation", "engine": engine}, "platform": link.platform}
    return json.dumps({"build_metadata": {"xclbin": description}}).encode()


def encode_xclbin(link: Link, library: bytes, engine: str) -> bytes:
    """The xclbin of an emulated card: `library` is the shared library with its kernels, `engine` csim or rtl."""
    topology, connections = memory_topology(link), connectivity(link)
    sections = {
        Section.BITSTREAM: library,
        Section.MEM_TOPOLOGY: topology,
        Section.IP_LAYOUT: ip_layout(link),
        Section.CONNECTIVITY: connections,
        Section.GROUP_TOPOLOGY: topology,
        Section.GROUP_CONNECTIVITY: connections,
        Section.EMBEDDED_METADATA: embedded_metadata(link),
        Section.BUILD_METADATA: build_metadata(link, engine),
    }
    return encode_container(link.platform, {int(kind): data for kind, data in sections.items()})


def decode_kernels(metadata: bytes, name: str) -> dict[str, XclbinKernel]:
    """The kernels of an EMBEDDED_METADATA section, by name. Raises FormatError."""
    try:
        project = ElementTree.fromstring(metadata.rstrip(b"\0"))
        return {
            kernel.attrib["name"]: XclbinKernel(
                kernel.attrib["name"],
                tuple(
                    XclbinArgument(
                        argument.attrib["name"],
                        int(argument.attrib["id"]),
                        argument.attrib["port"],
                        int(argument.attrib["offset"], 0),
                        int(argument.attrib["size"], 0),
                    )
                    for argument in kernel.findall("arg")
                    if argument.attrib["id"]
                ),
                tuple(instance.attrib["name"] for instance in kernel.findall("instance")),
            )
            for kernel in project.iter("kernel")
        }
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        raise FormatError(f"{name}: EMBEDDED_METADATA of the xclbin cannot be read: {error}") from error


def read_xclbin_header(path: Path) -> XclbinHeader:
    """What an xclbin says about itself, of a card or emulated. Raises FormatError, with the path, for another file."""
    try:
        container = decode_container(Path(path).read_bytes(), str(path))
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror}") from error
    sections = container.sections
    metadata = sections.get(Section.EMBEDDED_METADATA)

    def array(kind: Section, record: struct.Struct, start: int) -> list[tuple]:
        return decode_array(sections[kind], record, start, f"{path}: {kind.name}") if kind in sections else []

    memories = array(Section.MEM_TOPOLOGY, MEMORY, MEMORY_START)
    names = [text_of(memory[-1]) for memory in memories]
    instances = [text_of(ip[-1]).rpartition(":")[2] for ip in array(Section.IP_LAYOUT, IP, IP_START)]
    connections = array(Section.CONNECTIVITY, CONNECTION, CONNECTION_START)
    if any(not (0 <= ip < len(instances) and 0 <= memory < len(names)) for _, ip, memory in connections):
        raise FormatError(f"{path}: CONNECTIVITY of the xclbin names what is not there")
    return XclbinHeader(
        Path(path),
        container.platform,
        container.mode,
        container.uuid,
        container.section_names,
        {} if metadata is None else decode_kernels(metadata, str(path)),
        tuple(name for name, memory in zip(names, memories, strict=True) if memory[1]),
        {(instances[ip], argument): names[memory] for argument, ip, memory in connections},
    )
