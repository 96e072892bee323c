"""What the tools write about their results: the clock of an xclbin, and the reports of Vitis HLS."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

from bertile.config.kernels import Kernel
from bertile.config.spec import load_spec
from bertile.errors import BertileError

# `xclbinutil --info`, as XRT writes it (xclbinutil/FormattedOutput.cxx: reportClocks, reportXOCC). The clock of all
# kernels is number 0, DATA_CLK; in the platform's own list, System Clocks, it ends in kernel_00.
KERNEL_CLOCK = "kernel_00"
DATA_CLOCK = "DATA_CLK"
FIELD = re.compile(r"^ *([A-Z][A-Za-z ]*?): +(.*?) *$")
RESOURCES = ("LUT", "FF", "DSP", "BRAM_18K", "URAM")


@dataclass(frozen=True)
class LinkInfo:
    """Of an xclbin; clocks in MHz. `asked` is None where the file does not tell it."""

    tool: str
    asked: float | None
    reached: float


def clocks(text: str) -> Iterator[dict[str, str]]:
    """The fields of every clock: each begins with its name, and an empty line ends it."""
    clock: dict[str, str] = {}
    for line in [*text.splitlines(), ""]:
        field = FIELD.match(line)
        if field is None or field[1] == "Name":
            if clock:
                yield clock
            clock = {}
        if field is not None and (clock or field[1] == "Name"):
            clock[field[1]] = field[2]


def megahertz(value: str) -> float:
    """From `287.5 MHz`. Raises ValueError."""
    number, unit = value.split()
    if unit != "MHz" or not float(number) > 0:
        raise ValueError(value)
    return float(number)


def parse_link_info(text: str) -> LinkInfo:
    """The kernels' clock and the tool from the text of `xclbinutil --info`. Raises BertileError where it has none."""
    version = re.search(r"^ +Version: +(\d{4}\.\d\S*) - .*\(SW BUILD: (\w+)\)", text, re.MULTILINE)
    tool = f"v++ {version[1]} (SW build {version[2]})" if version else "v++, unknown version"
    try:
        for clock in clocks(text):
            if KERNEL_CLOCK in clock["Name"] and "Achieved Freq" in clock:
                return LinkInfo(tool, megahertz(clock["Requested Freq"]), megahertz(clock["Achieved Freq"]))
        for clock in clocks(text):
            if clock["Name"] == DATA_CLOCK and "Frequency" in clock:
                return LinkInfo(tool, None, megahertz(clock["Frequency"]))
    except (KeyError, ValueError) as error:
        raise BertileError(f"the clock in the xclbin's information cannot be read: {error}") from None
    raise BertileError("the xclbin's information names no clock of the kernels")


def number(text: str | None) -> int | float | None:
    """A report's number; None for `undef`, `?`, ranges and nothing."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return int(value) if value.is_integer() else value


def loops_below(element: ElementTree.Element | None, module: str) -> Iterator[dict]:
    """Every loop of a `SummaryOfLoopLatency`, inner ones too."""
    for loop in element if element is not None else ():
        if loop.find("PipelineII") is None and loop.find("TripCount") is None:
            continue
        name = loop.findtext("Name") or loop.tag
        yield {
            "module": module,
            "loop": name,
            "ii": number(loop.findtext("PipelineII")),
            "depth": number(loop.findtext("PipelineDepth")),
            "trip_count": number(loop.findtext("TripCount")),
        }
        yield from loops_below(loop, module)


def parse_csynth(text: str) -> dict:
    """The essence of Vitis HLS's csynth.xml: period in ns, latency in cycles, resources, loops, widths of the ports.

    Raises BertileError for a text that is no such report.
    """
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise BertileError(f"the report is not XML: {error}") from None
    name = root.findtext("UserAssignments/TopModelName")
    if name is None or root.find("AreaEstimates/Resources") is None:
        raise BertileError("the report is not one of csynth_design")
    latency = "PerformanceEstimates/SummaryOfOverallLatency"
    loops = list(loops_below(root.find("PerformanceEstimates/SummaryOfLoopLatency"), name))
    for module in root.iterfind("ModuleInformation/Module"):
        found = loops_below(module.find("PerformanceEstimates/SummaryOfLoopLatency"), module.findtext("Name", "?"))
        loops += [loop for loop in found if loop not in loops]
    return {
        "version": root.findtext("ReportVersion/Version"),
        "period_ns": number(root.findtext("UserAssignments/TargetClockPeriod")),
        "estimated_period_ns": number(
            root.findtext("PerformanceEstimates/SummaryOfTimingAnalysis/EstimatedClockPeriod")
        ),
        "latency": [number(root.findtext(f"{latency}/{case}")) for case in ("Best-caseLatency", "Worst-caseLatency")],
        "area": {key.lower(): number(root.findtext(f"AreaEstimates/Resources/{key}")) for key in RESOURCES},
        "loops": loops,
        "ports": {
            port.findtext("name", "?"): number(port.findtext("Bits"))
            for port in root.iterfind("InterfaceSummary/RtlPorts")
        },
    }


def port_differences(kernel: Kernel, ports: dict[str, int]) -> list[str]:
    """Streams and memory ports of the kernel that are missing in the report or of another width than their types."""
    spec = load_spec()
    type_bits = {"bertile::Beat": 8 * spec.packet.beat_bytes, "bertile::Word": 8 * spec.word.tokens}
    expected = {f"{stream.name}_TDATA": stream.bits for stream in kernel.streams}
    for argument in kernel.arguments:
        signal = "RDATA" if argument.direction == "read" else "WDATA"
        if argument.type in type_bits:
            expected[f"m_axi_{argument.port}_{signal}"] = type_bits[argument.type]
    return [
        f"{kernel.name}: {name} has {ports.get(name)} bits, not {bits}"
        for name, bits in expected.items()
        if ports.get(name) != bits
    ]
