"""The kernels and how a card links them: `spec/kernels.toml` with the placement of `spec/targets/NAME.toml`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import lru_cache

from bertile.config.paths import KERNELS_FILE
from bertile.config.spec import load_spec
from bertile.config.target import load_target

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# Registers of a kernel that Vitis HLS makes: control at 0, then 64-bit arguments with a reserved word behind each.
FIRST_ARGUMENT, ARGUMENT_STRIDE = 0x10, 12
ENCODER, ENGINE, HEAD = "bertile_encoder", "bertile_engine", "bertile_head"


@dataclass(frozen=True)
class Argument:
    """A pointer to global memory: `port` is the bundle of its AXI port, `offset` that of its address register."""

    name: str
    type: str
    port: str
    direction: str  # read or write
    index: int

    @property
    def offset(self) -> int:
        return FIRST_ARGUMENT + ARGUMENT_STRIDE * self.index


@dataclass(frozen=True)
class StreamPort:
    """An AXI4-Stream port, `bits` wide; `direction` is in or out."""

    name: str
    direction: str
    bits: int


@dataclass(frozen=True)
class Kernel:
    """A kernel as hosts and linkers see it; `source` relative to the checkout; `optional`: linked only on request."""

    name: str
    language: str  # hls, or either: hls or rtl
    source: str
    control: str
    arguments: tuple[Argument, ...]
    streams: tuple[StreamPort, ...]
    optional: bool = False

    @property
    def memory_ports(self) -> list[str]:
        """Bundles, each once, in the order of first use."""
        return list(dict.fromkeys(argument.port for argument in self.arguments))


@dataclass(frozen=True)
class Unit:
    """A compute unit: instance names of its kernels, their regions, and the memory bank of all its buffers."""

    encoder: str
    engine: str
    encoder_slr: str
    engine_slr: str
    bank: str


@dataclass(frozen=True)
class StreamLink:
    """A connection inside every unit; `depth` entries of FIFO."""

    encoder_port: str
    engine_port: str
    depth: int


@dataclass(frozen=True)
class PeerLink:
    """A connection from the encoder of a unit to a kernel of another: instances, ports, entries of FIFO."""

    source: str
    source_port: str
    target: str
    target_port: str
    depth: int


@dataclass(frozen=True)
class Link:
    """What is on the card, and the `optional` kernels that could be, too.

    banks: names in the order of the platform's memories, with their bytes.
    """

    target: str
    platform: str
    kernels: dict[str, Kernel]
    optional: dict[str, Kernel]
    units: tuple[Unit, ...]
    streams: tuple[StreamLink, ...]
    peers: tuple[PeerLink, ...]
    banks: dict[str, int]


def peer_links(units: tuple[Unit, ...], depths) -> tuple[PeerLink, ...]:
    """Every unit's streams to the others; none where the target has another number of units than can cooperate."""
    if len(units) != load_spec().cooperation.units:
        return ()
    links = []
    for stream in read_kernels()["link"]["peers"]:
        for number, unit in enumerate(units):
            for peer in range(len(units) - 1):
                other = units[(number + 1 + peer) % len(units)]
                target = other.engine if stream["kernel"] == ENGINE else other.encoder
                port = f"{stream['target']}_{len(units) - 2 - peer}"
                depth = getattr(depths, stream["target"])
                links.append(PeerLink(unit.encoder, f"{stream['source']}_{peer}", target, port, depth))
    return tuple(links)


def read_kernels() -> dict:
    return tomllib.loads(KERNELS_FILE.read_text())


@lru_cache(maxsize=1)
def load_kernels() -> dict[str, Kernel]:
    """Every kernel by name, optional ones included."""
    return {
        name: Kernel(
            name,
            kernel["language"],
            kernel["source"],
            kernel["control"],
            tuple(Argument(*argument, index) for index, argument in enumerate(kernel["arguments"])),
            tuple(StreamPort(*stream) for stream in kernel["streams"]),
            kernel.get("optional", False),
        )
        for name, kernel in read_kernels().items()
        if name != "link"
    }


@lru_cache(maxsize=4)
def load_link(target: str = "u200") -> Link:
    """The link of a target's compute units: unit i (from 1) has the instances encoder_i and engine_i."""
    card, depths = load_target(target), load_spec().stream
    units = tuple(
        Unit(f"encoder_{number}", f"engine_{number}", unit["encoder"], unit["engine"], unit["bank"])
        for number, unit in enumerate(card["unit"], 1)
    )
    streams = tuple(
        StreamLink(encoder, engine, getattr(depths, engine)) for encoder, engine in read_kernels()["link"]["streams"]
    )
    banks = {bank["name"]: bank["gibibytes"] << 30 for bank in card["bank"]}
    wanted, optional = (
        {name: kernel for name, kernel in load_kernels().items() if kernel.optional == asked} for asked in (False, True)
    )
    return Link(target, card["target"]["platform"], wanted, optional, units, streams, peer_links(units, depths), banks)
