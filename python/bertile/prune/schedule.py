"""How sparse the network is at each training step, for each method."""

from __future__ import annotations

from dataclasses import dataclass

from bertile.errors import BertileError

METHODS = ("oneshot", "reconstruct", "gradual", "group-lasso", "once-for-all", "cyclic")


@dataclass(frozen=True)
class PruneSchedule:
    """Sparsity by step, of `steps` optimizer steps in all.

    oneshot: the target from step `warmup` on. reconstruct: pruned before the first step. gradual and once-for-all:
    from `initial` to the target between `warmup` and the step `end` (cubic: Zhu and Gupta 2017), masks chosen anew
    every `interval` steps. group-lasso: nothing is pruned until `end`, where the target is; the regularizer acts
    before. cyclic: `cycles` rounds until `end`, each sparse first and then with all groups free to grow back; sparse
    from the last one on.
    """

    method: str
    steps: int
    target: float
    initial: float = 0.0
    warmup: int = 0
    end: int = 0
    interval: int = 10
    cycles: int = 4

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise BertileError(f"unknown method {self.method!r}; known are {', '.join(METHODS)}")
        if self.interval < 1 or self.cycles < 1:
            raise BertileError("the schedule's interval and cycles are at least 1")
        if not 0 <= self.warmup <= self.end <= max(self.steps, 0):
            raise BertileError(f"a schedule from step {self.warmup} to {self.end} does not fit {self.steps} steps")

    def sparsity(self, step: int) -> float:
        """Sparsity wanted once `step` optimizer steps are done."""
        if self.method == "reconstruct":
            return self.target
        if step >= self.end or self.method == "oneshot":
            return self.target if step >= self.warmup else self.initial
        if step < self.warmup or self.method == "group-lasso":
            return self.initial
        if self.method == "cyclic":
            return self.target if self._phase(step) % 2 == 0 else self.initial
        left = 1 - (step - self.warmup) / (self.end - self.warmup)
        return self.target + (self.initial - self.target) * left**3

    def progress(self, step: int) -> float:
        """How far the sparsity has come from `initial` (0) to the target (1)."""
        way = self.target - self.initial
        return (self.sparsity(step) - self.initial) / way if way else 1.0

    def updates(self, step: int) -> bool:
        """Whether masks are chosen anew when `step` optimizer steps are done."""
        if self.method == "reconstruct":
            return False
        if step == self.warmup and self.method in ("oneshot", "cyclic"):
            return True
        if self.method == "oneshot" or step > self.end or step < self.warmup:
            return False
        if step == self.end:
            return True
        if self.method == "group-lasso":
            return False
        if self.method == "cyclic":
            return self._phase(step) != self._phase(step - 1)
        return (step - self.warmup) % self.interval == 0

    def regularizes(self, step: int) -> bool:
        """Whether the group penalty acts in the step that follows `step` done ones."""
        return self.method == "group-lasso" and self.warmup <= step < self.end

    def finished(self, step: int) -> bool:
        """Whether masks are final once `step` steps are done."""
        last = {"oneshot": self.warmup, "reconstruct": 0}
        return step >= last.get(self.method, self.end)

    def _phase(self, step: int) -> int:
        """0 sparse, 1 free, 2 sparse ...: two of equal length a cycle."""
        length = self.end - self.warmup
        return min(2 * self.cycles - 1, (step - self.warmup) * 2 * self.cycles // length) if step >= self.warmup else -1
