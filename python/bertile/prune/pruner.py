"""The pruner of a training run: which groups are kept, what the others were worth, and the penalty on the way."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from bertile.errors import BertileError
from bertile.prune.groups import GroupSet, Matrices, element_masks, zeroed_share
from bertile.prune.pattern import Pattern
from bertile.prune.plan import CountCycles, Plan, keep_within
from bertile.prune.regularize import ReweightedGroupLasso
from bertile.prune.schedule import PruneSchedule
from bertile.prune.scores import ACTIVATION, GRADIENT_SCORES, NO_GRADIENTS, GradientScores, check_score, weight_scores
from bertile.prune.select import Arrays, Masks, check_reachable, empty_groups, select_masks


class Masking:
    """Keeps pruned weights at exactly zero: `apply` after every optimizer step."""

    def __init__(self, sets: list[GroupSet], masks: Masks):
        self.sets, self.masks = sets, masks
        self._factors: dict[str, torch.Tensor] = {}
        self.set(masks)

    def set(self, masks: Masks) -> None:
        """Use these masks from now on: bool of each set's shape."""
        self.masks = masks
        # A set that loses nothing costs nothing.
        self._factors = {name: torch.from_numpy(mask.ravel()).float() for name, mask in masks.items() if not mask.all()}

    @torch.no_grad()
    def apply(self, tensors: Matrices) -> None:
        """Zero what is masked, in place."""
        for s in self.sets:
            if s.name in self._factors:
                for member in s.members:
                    weight = tensors[member.matrix]
                    blocks, beside = s.spread(self._factors[s.name], member, weight)
                    blocks.mul_(beside)

    def sparsity(self, tensors: Matrices) -> float:
        """Share of all weights that the masks zero."""
        return zeroed_share(self.sets, self.masks, tensors)


class Pruner:
    """Follows a schedule: chooses masks, applies them, and lets groups come back while the schedule goes on.

    `rewind`: a group that is pruned leaves its weights behind; masks are chosen over those and the living ones, and a
    group that comes back has the weights it left with. Without it pruned groups count as zero, and regrow from zero.

    Groups that are zero from the start, in a model that was pruned before, stay zero and count for the sparsity.
    """

    def __init__(
        self,
        pattern: Pattern,
        sets: list[GroupSet],
        tensors: Matrices,
        schedule: PruneSchedule,
        score: str = "l2",
        scope: str = "uniform",
        rewind: bool = True,
        lasso: ReweightedGroupLasso | None = None,
        refresh: int = 100,
        seed: int = 0,
        plan: Plan | None = None,
        count_cycles: CountCycles | None = None,
    ):
        """plan: what goes in the end, in place of the schedule's target and the scope. count_cycles: which a
        plan with a limit needs.

        Raises BertileError for a target that the pattern cannot reach, or a score or scope that cannot be.
        """
        check_score(score)
        self.empty = empty_groups(sets, tensors)
        self.plan, self.count_cycles = plan, count_cycles
        if plan is None:
            check_reachable(pattern, sets, tensors, schedule.target, scope, self.empty)
        self.pattern, self.sets, self.schedule = pattern, sets, schedule
        self.score, self.scope, self.rewind, self.seed = score, scope, rewind, seed
        self.lasso, self.refresh = lasso, refresh
        self.gradients = GradientScores(score, sets) if score in GRADIENT_SCORES else None
        if (score == ACTIVATION) and schedule.method != "reconstruct":
            raise BertileError(
                f"score {score} is one of method reconstruct: training steps do not keep what layers read"
            )
        if self.gradients is not None and schedule.method == "reconstruct":
            raise BertileError(NO_GRADIENTS.format(score))
        if self.gradients is not None and schedule.updates(0) and schedule.sparsity(0) > schedule.initial:
            raise BertileError(NO_GRADIENTS.format(score))
        self.masking = Masking(sets, {s.name: ~self.empty[s.name].reshape(s.shape) for s in sets})
        self.left: dict[str, torch.Tensor] = {}  # weights of pruned groups as they were, [out, in] by matrix

    @property
    def masks(self) -> Masks:
        return self.masking.masks

    def regularize(self, step: int, tensors: Matrices, gradients: Matrices, scale: float) -> float:
        """Add the penalty's gradient for the step that follows `step` done ones; returns the penalty."""
        if self.lasso is None or not self.schedule.regularizes(step):
            return 0.0
        if (step - self.schedule.warmup) % self.refresh == 0 or not self.lasso.weights:
            self.lasso.refresh(tensors)
        return self.lasso.add_gradient(tensors, gradients, scale)

    def observe(self, step: int, tensors: Matrices, gradients: Matrices) -> None:
        """Let gradient scores see a step's gradients, before the optimizer uses them."""
        if self.gradients is not None and not self.schedule.finished(step):
            self.gradients.observe(tensors, gradients)

    def after_step(self, step: int, tensors: Matrices) -> None:
        """Once `step` optimizer steps are done: choose masks where the schedule says so, and apply them."""
        # Gradient scores know nothing before the first step, where a rising sparsity asks for nothing yet.
        if self.schedule.updates(step) and (self.gradients is None or self.gradients.steps or step):
            self.choose(step, tensors)
        self.masking.apply(tensors)

    @torch.no_grad()
    def choose(self, step: int, tensors: Matrices) -> None:
        """New masks for the sparsity of this step."""
        self.masking.apply(tensors)  # the optimizer has just moved what is pruned
        remembers = self.rewind and self.schedule.method != "oneshot"
        seen = self._remembered(tensors) if remembers else tensors
        if self.gradients is not None:
            scores = self.gradients.scores()
        else:
            scores = weight_scores(self.score, self.sets, seen, self.seed)
        sparsity, progress = self.schedule.sparsity(step), self.schedule.progress(step)
        masks = self.select(scores, tensors, sparsity, progress, self.empty)
        if remembers:
            self._give_back(masks, seen, tensors)
            self.left = seen
        self.masking.set(masks)
        if self.schedule.finished(step):
            self.left = {}
        elif self.gradients is not None:
            self.gradients.reset()

    def select(self, scores: Arrays, tensors: Matrices, sparsity: float, progress: float, empty: Masks) -> Masks:
        """Masks for a sparsity, `progress` of the way to the target."""

        def choose(shares: Mapping[str, float] | None) -> Masks:
            pattern = self.pattern.scaled(progress)
            return select_masks(pattern, self.sets, scores, tensors, sparsity, self.scope, empty, shares)

        if self.plan is None:
            return choose(None)
        if progress == 1.0:
            return keep_within(self.plan, choose, self.count_cycles)
        return choose({name: share * progress for name, share in self.plan.shares.items()})

    def _remembered(self, tensors: Matrices) -> dict[str, torch.Tensor]:
        """The weights, with those of pruned groups as they were left."""
        if not self.left:
            return {name: tensor.clone() for name, tensor in tensors.items()}
        kept = element_masks(self.sets, self.masks, tensors)
        return {name: torch.where(kept[name], w, self.left[name].to(w.device)) for name, w in tensors.items()}

    def _give_back(self, after: Masks, remembered: Matrices, tensors: Matrices) -> None:
        """Give the groups that return with the masks `after` the weights they left with."""
        for s in self.sets:
            returning = after[s.name] & ~self.masks[s.name]
            if returning.any():
                mask = torch.from_numpy(returning.ravel())
                for member in s.members:
                    blocks, source = (member.block.blocks(t[member.matrix]) for t in (tensors, remembered))
                    beside = mask.to(blocks.device).view(*blocks.shape[:2], 1, 1)
                    blocks.copy_(torch.where(beside, source, blocks))

    def state(self) -> dict[str, torch.Tensor]:
        """Everything that a resumed run needs, as tensors."""
        state = {f"mask.{name}": torch.from_numpy(mask.copy()) for name, mask in self.masks.items()}
        state |= {f"left.{name}": tensor for name, tensor in self.left.items()}
        if self.lasso is not None:
            state |= self.lasso.state()
        if self.gradients is not None:
            state |= self.gradients.state()
        return state

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        self.masking.set({s.name: state[f"mask.{s.name}"].numpy().astype(bool) for s in self.sets})
        self.left = {name[5:]: tensor for name, tensor in state.items() if name.startswith("left.")}
        if self.lasso is not None and any(name.startswith("lasso.") for name in state):
            self.lasso.load_state(state)
        if self.gradients is not None:
            self.gradients.load_state(state)
