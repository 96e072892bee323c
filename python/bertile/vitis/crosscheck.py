"""Do all parties mean the same ports? Compares texts with spec/kernels.toml: HLS signatures and pragmas, RTL modules,
the packaging command, link configurations. Every function gives the differences as sentences; none is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bertile.config.kernels import Kernel, Link

CONTROL_OF_RETURN = {"s_axilite": "ap_ctrl_chain", "ap_ctrl_none": "ap_ctrl_none"}  # HLS, Vitis kernel flow (UG1399)
RTL_PORT = re.compile(r"\b(input|output)\s+(?:logic|wire)?\s*(?:\[([^\]]+):0\])?\s*(\w+)\s*(?=[,)])")


@dataclass(frozen=True)
class Parameter:
    """Of a C++ function: `type` without const, reference or pointer; `kind` is pointer, stream or value."""

    name: str
    type: str
    kind: str
    is_const: bool


def unspaced(text: str) -> str:
    return " ".join(text.split())


def without_comments(text: str) -> str:
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)


def split_arguments(text: str) -> list[str]:
    """At the commas outside of all brackets."""
    parts, depth, start = [], 0, 0
    for position, character in enumerate(text):
        depth += (character in "<({[") - (character in ">)}]")
        if character == "," and depth == 0:
            parts.append(text[start:position].strip())
            start = position + 1
    return [*parts, text[start:].strip()] if text.strip() else []


def parse_parameters(text: str) -> list[Parameter]:
    """What stands between the parentheses of a declaration. Raises ValueError."""
    parameters = []
    for declaration in split_arguments(unspaced(text)):
        match = re.fullmatch(r"(const )?([\w:<>, ]+?) ?([*&]?) ?(\w+)(?:\[\w*\])?", declaration)
        if match is None:
            raise ValueError(f"cannot read the parameter {declaration}")
        stream = re.fullmatch(r"(?:bertile::)?Stream<(.+?)(?:, \w+)?>", match[2])
        kind = "stream" if stream else {"*": "pointer"}.get(match[3], "value")
        parameters.append(Parameter(match[4], stream[1] if stream else match[2], kind, bool(match[1])))
    return parameters


def declaration_of(name: str, text: str) -> list[Parameter] | None:
    """The parameters of the first declaration or definition of a function."""
    match = re.search(rf"\b\w+ {name}\(([^;{{]*?)\)\s*[;{{]", without_comments(text), re.DOTALL)
    return parse_parameters(match[1]) if match else None


def body_of(name: str, text: str) -> str | None:
    """What stands between the braces of a function's definition."""
    text = without_comments(text)
    match = re.search(rf"\b(?:void|bool|int|\w+) {name}\([^;{{]*?\)\s*\{{", text, re.DOTALL)
    if match is None:
        return None
    depth = 1
    for position in range(match.end(), len(text)):
        depth += (text[position] == "{") - (text[position] == "}")
        if depth == 0:
            return text[match.end() : position]
    return None


def struct_members(text: str, struct: str) -> list[str]:
    match = re.search(rf"\bstruct {struct} \{{([^}}]*)\}}", without_comments(text))
    return re.findall(r"(\w+);", match[1]) if match else []


def stream_uses(function: str, stream: str, text: str, seen: frozenset = frozenset()) -> set[str]:
    """How a function's stream is used, `in` (read) or `out` (written), in it and in what it gives it to."""
    body = body_of(function, text)
    if body is None or (function, stream) in seen:
        return set()
    seen = seen | {(function, stream)}
    access = re.findall(rf"(?<!\.)\b{stream}\s*\.\s*(read|read_nb|write)\b", body)
    uses = {"out" if word == "write" else "in" for word in access}
    calls = [(match[1], match[2]) for match in re.finditer(r"\bBERTILE_STAGE\((\w+),([^;]*)\);", body)]
    calls += [(match[1], match[2]) for match in re.finditer(r"\b([A-Z]\w+)\(([^;]*)\);", body)]
    for callee, words in calls:
        arguments = split_arguments(unspaced(words))
        parameters = declaration_of(callee, text) if stream in arguments else None
        if parameters is not None and len(parameters) == len(arguments):
            uses |= stream_uses(callee, parameters[arguments.index(stream)].name, text, seen)
    # A struct of streams that a class keeps: its member is used somewhere in the class.
    for match in re.finditer(r"\b(\w+) \w+ = \{([^}]*)\};", body):
        arguments, members = split_arguments(unspaced(match[2])), struct_members(text, match[1])
        if stream in arguments and len(members) == len(arguments):
            member = members[arguments.index(stream)]
            access = re.findall(rf"\.{member}\.(read|read_nb|write)\(", text)
            uses |= {"out" if word == "write" else "in" for word in access}
    return uses


def interface_pragmas(body: str) -> dict[str, dict[str, str]]:
    """`#pragma HLS INTERFACE` by port: the mode, and every name = value. A port named twice has mode `twice`."""
    pragmas: dict[str, dict[str, str]] = {}
    for line in re.findall(r"#pragma HLS INTERFACE ([^\n]*)", body):
        settings = dict(re.findall(r"(\w+) ?= ?(\w+)", line))
        settings["mode"] = line.split()[0]
        port = settings.get("port", "?")
        pragmas[port] = {"mode": "twice"} if port in pragmas else settings
    return pragmas


def check_hls(kernel: Kernel, header: str, sources: str, type_bits: Mapping[str, int]) -> list[str]:
    """An HLS kernel. header: declares it; sources: all others, the definition first; type_bits: of stream types."""
    found, parameters = [], declaration_of(kernel.name, header)
    if parameters is None or parameters != declaration_of(kernel.name, sources):
        return [f"{kernel.name}: header and source declare different functions, or none"]
    expected = [argument.name for argument in kernel.arguments] + [stream.name for stream in kernel.streams]
    names = [parameter.name for parameter in parameters]
    if names != expected:
        return [f"{kernel.name}: parameters {', '.join(names)} instead of {', '.join(expected)}"]
    pragmas = interface_pragmas(body_of(kernel.name, sources) or "")
    for parameter, argument in zip(parameters, kernel.arguments, strict=False):
        direction = "read" if parameter.is_const else "write"
        told = (parameter.kind, parameter.type, direction)
        if told != ("pointer", argument.type, argument.direction):
            found.append(f"{kernel.name}: {argument.name} is {' '.join(told)}")
        pragma = pragmas.pop(argument.name, {})
        told = (pragma.get("mode"), pragma.get("bundle"), pragma.get("offset"))
        if told != ("m_axi", argument.port, "slave"):
            found.append(f"{kernel.name}: the pragma of {argument.name} says {told}")
    for parameter, stream in zip(parameters[len(kernel.arguments) :], kernel.streams, strict=True):
        bits = type_bits.get(parameter.type)
        if parameter.kind != "stream" or bits != stream.bits:
            found.append(f"{kernel.name}: {stream.name} is a {parameter.kind} of {bits} bits")
        uses = stream_uses(kernel.name, stream.name, sources)
        if uses != {stream.direction}:
            found.append(f"{kernel.name}: {stream.name} is used as {', '.join(sorted(uses)) or 'nothing'}")
        if pragmas.pop(stream.name, {}).get("mode") != "axis":
            found.append(f"{kernel.name}: no axis pragma for {stream.name}")
    control = CONTROL_OF_RETURN.get(pragmas.pop("return", {}).get("mode", ""))
    if control != kernel.control:
        found.append(f"{kernel.name}: its return port means {control}")
    found += [f"{kernel.name}: a pragma for {port}, which is no port" for port in pragmas]
    return found


def evaluate(expression: str, names: Mapping[str, int]) -> int | None:
    """A sum of products of numbers and names, as ports have it; None for anything else."""
    expression = re.sub(r"\w+::", "", expression)
    words = re.sub(r"[A-Za-z_]\w*", lambda word: str(names.get(word[0], "?")), expression)
    return eval(words) if re.fullmatch(r"[\d\s+*()-]+", words) else None  # digits and operators only


def rtl_ports(module: str, text: str, constants: Mapping[str, int]) -> dict[str, tuple[str, int | None]]:
    """Direction and width of every port with the default parameters. Raises ValueError where there is no module."""
    text = without_comments(re.sub(r"\(\*.*?\*\)", "", text))
    match = re.search(rf"\bmodule {module}\s*(?:#\((.*?)\)\s*)?\((.*?)\);", text, re.DOTALL)
    if match is None:
        raise ValueError(f"no module {module}")
    values = dict(constants)
    for name, expression in re.findall(r"\bparameter [\w ]*?(\w+)\s*=\s*([^,\n]+)", match[1] or ""):
        values[name] = evaluate(expression, values)
    ports = {}
    for direction, high, name in RTL_PORT.findall(match[2] + ")"):
        bits = evaluate(high, values) if high else 0
        ports[name] = (direction, None if bits is None else bits + 1)
    return ports


def check_rtl(kernel: Kernel, module: str, text: str, constants: Mapping[str, int]) -> list[str]:
    """An RTL module: clock, reset and the kernel's streams, nothing else."""
    expected: dict[str, tuple[str, int | None]] = {"ap_clk": ("input", 1), "ap_rst_n": ("input", 1)}
    for stream in kernel.streams:
        forward, backward = ("input", "output") if stream.direction == "in" else ("output", "input")
        expected[f"{stream.name}_tdata"] = (forward, stream.bits)
        expected[f"{stream.name}_tvalid"] = (forward, 1)
        expected[f"{stream.name}_tready"] = (backward, 1)
    ports = rtl_ports(module, text, constants)
    names = sorted(expected.keys() | ports.keys())
    return [
        f"{module}: {name} is {ports.get(name)} instead of {expected.get(name)}"
        for name in names
        if ports.get(name) != expected.get(name)
    ]


def check_packaging(kernel: Kernel, command: Iterable[str], script: str) -> list[str]:
    """The command that packages an RTL kernel, and its Tcl script."""
    found, modes = [], {"in": "slave", "out": "master"}
    words = list(command)
    streams = [word for word in words if re.fullmatch(r"\w+:(slave|master)", word)]
    expected = [f"{stream.name}:{modes[stream.direction]}" for stream in kernel.streams]
    if streams != expected:
        found.append(f"{kernel.name} is packaged with {' '.join(streams)} instead of {' '.join(expected)}")
    if kernel.name not in words:
        found.append(f"the packaging command does not name {kernel.name}")
    protocols = set(re.findall(r"ctrl_protocol (\w+)", script))
    if protocols != {kernel.control}:
        found.append(f"{kernel.name} is packaged as {', '.join(sorted(protocols))} instead of {kernel.control}")
    return found


def parse_config(text: str) -> list[tuple[str, str]]:
    """Keys and values of a v++ configuration's only section. Raises ValueError for anything else."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    if lines[:1] != ["[connectivity]"] or any("=" not in line for line in lines[1:]):
        raise ValueError("a configuration is [connectivity] and lines key=value")
    return [tuple(line.split("=", 1)) for line in lines[1:]]


def compare(what: str, told: Iterable[str], expected: Iterable[str]) -> list[str]:
    """Lines that are missing, too many, or there twice."""
    told, expected = list(told), list(expected)
    found = [f"{what}={line} is missing" for line in expected if line not in told]
    found += [f"{what}={line} is not in spec/" for line in dict.fromkeys(told) if line not in expected]
    return found + [f"{what}={line} is there twice" for line in dict.fromkeys(told) if told.count(line) > 1]


def check_link(link: Link, encoder: Kernel, engine: Kernel, text: str) -> list[str]:
    """A link configuration: every instance, region, memory port and stream, each once, between fitting ends."""
    lines = parse_config(text)
    told = {key: [value for name, value in lines if name == key] for key in ("nk", "slr", "sp", "stream_connect")}
    found = [f"{key}={value} is nothing a link has" for key, value in lines if key not in told]
    expected = {key: [] for key in told}
    for kernel, names in ((encoder, [u.encoder for u in link.units]), (engine, [u.engine for u in link.units])):
        expected["nk"].append(f"{kernel.name}:{len(names)}:{'.'.join(names)}")
    for unit in link.units:
        expected["slr"] += [f"{unit.encoder}:{unit.encoder_slr}", f"{unit.engine}:{unit.engine_slr}"]
        expected["sp"] += [f"{unit.encoder}.m_axi_{port}:{unit.bank}" for port in encoder.memory_ports]
        found += [f"{unit.encoder}: no bank {unit.bank}"] if unit.bank not in link.banks else []
    for key in ("nk", "slr", "sp"):
        found += compare(key, told[key], expected[key])
    return found + check_streams(link, encoder, engine, told["stream_connect"])


def check_streams(link: Link, encoder: Kernel, engine: Kernel, connections: list[str]) -> list[str]:
    """Each from an output to an input of the same width, with its depth; every port of every instance once."""
    ports = {}
    for unit in link.units:
        ports.update({f"{unit.encoder}.{stream.name}": stream for stream in encoder.streams})
        ports.update({f"{unit.engine}.{stream.name}": stream for stream in engine.streams})
    expected = {}
    for unit in link.units:
        for stream in link.streams:
            ends = {f"{unit.encoder}.{stream.encoder_port}", f"{unit.engine}.{stream.engine_port}"}
            expected[frozenset(ends)] = stream.depth
    for peer in link.peers:
        expected[frozenset({f"{peer.source}.{peer.source_port}", f"{peer.target}.{peer.target_port}"})] = peer.depth
    found, used = [], []
    for connection in connections:
        source, target, depth = (connection.split(":") + ["", ""])[:3]
        used += [source, target]
        if source not in ports or target not in ports:
            found.append(f"{connection}: a port that no kernel has")
            continue
        if (ports[source].direction, ports[target].direction) != ("out", "in"):
            found.append(f"{connection}: not from an output to an input")
        if ports[source].bits != ports[target].bits:
            found.append(f"{connection}: {ports[source].bits} bits to {ports[target].bits}")
        if expected.get(frozenset((source, target))) != (int(depth) if depth.isdigit() else None):
            found.append(f"{connection}: spec/ has no such stream with this depth")
    found += [f"{port} is not connected" for port in ports if port not in used]
    return found + [
        f"{port} is connected {used.count(port)} times" for port in dict.fromkeys(used) if used.count(port) > 1
    ]
