"""The card behind the interface of every device: what `--device xrt` opens."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path

import numpy as np

from bertile.pack.packer import PackedModel
from bertile.runtime.card import Card
from bertile.runtime.jobs import can_share
from bertile.runtime.lifetime import interrupts_deferred
from bertile.runtime.pipeline import Pipeline


class XrtEncoder:
    """A packed encoder on a card: `run` gives every layer of one launch, `stream` the last layer, on all units.

    units: launches until each unit has had one.
    """

    name = "xrt"

    def __init__(
        self,
        packed: PackedModel,
        xclbin: Path | None = None,
        card: int = 0,
        timeout_s: float | None = None,
        together: bool | None = None,
    ):
        """As `bertile.runtime.Encoder`."""
        self.packed, self.together = packed, together
        self.card = Card(xclbin, card, timeout_s)
        self.pipelines: dict[bool, Pipeline] = {}
        try:
            shared = can_share(packed, len(self.card.units), together)
            self.units = 1 if shared else len(self.card.units)
            self.card.load(packed)
        except BaseException:
            self.close()
            raise

    def _pipeline(self, trace: bool) -> Pipeline:
        if trace not in self.pipelines:
            self.pipelines[trace] = Pipeline(self.card, self.packed, trace, together=self.together)
        return self.pipelines[trace]

    def _submit(self, sequences: list[np.ndarray], trace: bool) -> Future:
        return self._pipeline(trace).submit(lambda: sequences, lambda rows, launch: rows.copy())

    def run(self, sequences: list[np.ndarray]) -> np.ndarray:
        """[layers, rows, hidden] int8 of one launch, on the next unit or on all. Raises DeviceError, CapacityError."""
        return self._submit(sequences, trace=True).result().value

    def stream(self, launches: Iterable[list[np.ndarray]]) -> Iterator[np.ndarray]:
        """[rows, hidden] int8 of the last layer, launch by launch in order, while later ones run."""
        flying: deque[Future] = deque()
        for sequences in launches:
            flying.append(self._submit(sequences, trace=False))
            if len(flying) > 2 * len(self.card.units):
                yield flying.popleft().result().value[-1]
        while flying:
            yield flying.popleft().result().value[-1]

    def close(self) -> None:
        """Give the card back."""
        with interrupts_deferred():
            for pipeline in self.pipelines.values():
                pipeline.close()
            self.card.close()
