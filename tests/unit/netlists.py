"""Small netlists in the form of Yosys, written by hand."""

from __future__ import annotations

from bertile.synthesis.netlist import Netlist

OUTPUTS = {"O", "Q", "CO", "DOA", "DOB", "P", "PCOUT", "DOUT_A", "DOUT_B"}


def cell(kind: str, **pins: list) -> dict:
    """A cell; its outputs are known by their names."""
    directions = {pin: "output" if pin in OUTPUTS else "input" for pin in pins}
    return {"type": kind, "connections": pins, "port_directions": directions, "parameters": {}}


def module(cells: dict[str, dict], ports: dict | None = None, names: dict | None = None, **attributes: str) -> dict:
    """A module; `ports` are (direction, bits) by name, `names` bits by net name."""
    return {
        "attributes": attributes,
        "ports": {name: {"direction": way, "bits": bits} for name, (way, bits) in (ports or {}).items()},
        "cells": cells,
        "netnames": {name: {"bits": bits, "hide_name": 0} for name, bits in (names or {}).items()},
    }


def register(data: int | str, output: int) -> dict:
    """A flip-flop that always takes its input."""
    return cell("FDRE", D=[data], Q=[output], C=["x"], CE=["1"], R=["0"])


def lut(output: int, *inputs: int | str) -> dict:
    """A LUT of any inputs."""
    return cell(f"LUT{len(inputs)}", O=[output], **{f"I{index}": [net] for index, net in enumerate(inputs)})


def flat_netlist(cells: dict[str, dict], **names: list) -> Netlist:
    """One module."""
    return Netlist({"top": module(cells, names=names)}, "top")
