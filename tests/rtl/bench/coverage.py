"""What the stimuli of a simulation have reached: bins of a few crosses, which all must be hit in the end."""

from __future__ import annotations

from itertools import product

import numpy as np
from tests.rtl.bench.shape import AWAITS, INPUTS, SPEC, WORDS, Shape
from tests.rtl.bench.streams import PAUSES

OPERATIONS = ("gemm", "scores", "context")
ATTENTION = ("scores", "context")
BOTH = (False, True)
CODES = {getattr(SPEC.engine_opcode, name): name for name in OPERATIONS}
STREAMS = ("commands", "tiles", *WORDS, "results")

BINS = {
    "operation x unsigned lanes": product(OPERATIONS, BOTH),
    "operation x many row blocks": product(OPERATIONS, BOTH),
    "operation x many tiles": product(OPERATIONS, BOTH),
    "operation x first row block not 0": product(OPERATIONS, BOTH),
    "operation x source below zero": product(OPERATIONS, BOTH),
    "operation x limit that was reached": product(OPERATIONS, ("none", "low", "high")),
    "operation x shift": product(OPERATIONS, ("0", "other", "largest")),
    "operation x awaits": product(OPERATIONS, ("what it reads", "all")),
    "operation x a stream it awaits": product(OPERATIONS, WORDS),
    "operation x streams it awaits": product(OPERATIONS, ("one", "two", "three")),
    "operation behind operation": product(OPERATIONS, OPERATIONS),
    "attention x reload": product(ATTENTION, BOTH),
    "attention x many row blocks of keys": product(ATTENTION, BOTH),
    "attention x keys fill their last tile": product(ATTENTION, BOTH),
    "attention x keys fill their last group": product(ATTENTION, BOTH),
    "attention x one key": product(ATTENTION, (True,)),
    "attention x head size": product(ATTENTION, ("least", "other", "largest")),
    "context x slot": product(range(SPEC.capacity.probability_slots)),
    "scores x multiplier": product(("0", "other", "largest")),
    "tile x vectors": product(("none", "one", "some", "all")),
    "tile x packets": product(("one", "full and a rest", "short", "empty in between")),
    "tile x last group is full": product(BOTH),
    "stream x pauses": product(STREAMS, PAUSES),
    "error": product(name for name in vars(SPEC.engine_error)),
}


class Coverage:
    """Counts of every bin. One a simulation: `COVERAGE`."""

    def __init__(self) -> None:
        self.counts = {name: dict.fromkeys(bins, 0) for name, bins in BINS.items()}

    def hit(self, name: str, *bin: object) -> None:
        if bin in self.counts[name]:
            self.counts[name][bin] += 1

    def missing(self) -> list[str]:
        return [f"{name}: {bin}" for name, bins in self.counts.items() for bin, count in bins.items() if not count]

    def report(self) -> str:
        return "\n".join(f"{name}: {bins}" for name, bins in self.counts.items())

    # Samples

    def sample_error(self, code: int) -> None:
        self.hit("error", *(name for name, value in vars(SPEC.engine_error).items() if value == code))

    def sample_traffic(self, traffic: object) -> None:
        for stream in STREAMS:
            self.hit("stream x pauses", stream, getattr(traffic, stream))

    def sample_command(
        self, fields: dict, lanes: list[np.ndarray], limits: tuple, previous: int | None, awaits_all: bool
    ) -> None:
        """A command whose results are known, as its record's fields."""
        name = CODES[fields["opcode"]]
        flags = fields["flags"]
        self.hit("operation x unsigned lanes", name, bool(flags >> SPEC.flag.unsigned_source & 1))
        self.hit("operation x many row blocks", name, fields["row_count"] > 1)
        self.hit("operation x many tiles", name, fields["tiles"] > 1)
        self.hit("operation x first row block not 0", name, fields["row_first"] > 0)
        offset = fields["row_first"] * fields["source_stride"]
        self.hit("operation x source below zero", name, fields["source"] + offset >= 1 << 16)
        self.hit("operation x awaits", name, "all" if awaits_all else "what it reads")
        awaited = [stream for stream, field in zip(WORDS, AWAITS, strict=True) if fields[field]]
        for stream in awaited:
            self.hit("operation x a stream it awaits", name, stream)
        self.hit("operation x streams it awaits", name, ("none", "one", "two", "three")[len(awaited)])
        values = np.concatenate([part.ravel() for part in lanes])
        low, high = ((values == limit).any() for limit in limits)
        for reached, which in ((low, "low"), (high, "high"), (not low and not high, "none")):
            if reached:
                self.hit("operation x limit that was reached", name, which)
        if previous in CODES:
            self.hit("operation behind operation", CODES[previous], name)
        if name in ATTENTION:
            self.hit("operation x shift", name, self.shift(fields["shift"]))

    @staticmethod
    def shift(value: int) -> str:
        return {0: "0", SPEC.law.shift_max: "largest"}.get(int(value), "other")

    def sample_head(self, name: str, head: object, shape: Shape) -> None:
        self.hit("attention x reload", name, head.reload)
        self.hit("attention x many row blocks of keys", name, head.keys > shape.tokens)
        self.hit("attention x keys fill their last tile", name, head.keys % shape.outputs == 0)
        self.hit("attention x keys fill their last group", name, head.keys % INPUTS == 0)
        self.hit("attention x one key", name, head.keys == 1)
        sizes = {shape.outputs: "least", max(SPEC.capacity.head_sizes): "largest"}
        self.hit("attention x head size", name, sizes.get(head.head_size, "other"))
        if name == "context":
            self.hit("context x slot", head.slot)
        else:
            self.hit("scores x multiplier", {0: "0", 65535: "largest"}.get(head.multiplier, "other"))

    def sample_tile(self, tile: object, inputs: int, shape: Shape) -> None:
        vectors = len(tile.index)
        self.hit("tile x vectors", {0: "none", 1: "one", inputs: "all"}.get(vectors, "some"))
        self.hit("tile x last group is full", vectors % INPUTS == 0)
        *before, _ = tile.packets
        if not before:
            self.hit("tile x packets", "one")
        elif all(count == shape.entries for count in before):
            self.hit("tile x packets", "full and a rest")
        else:
            self.hit("tile x packets", "empty in between" if 0 in before else "short")
        for shift in tile.shift:
            self.hit("operation x shift", "gemm", self.shift(shift))


COVERAGE = Coverage()
