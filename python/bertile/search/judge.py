"""The efficient evaluation: what a plan would be worth after training, told from a short recovery without it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from statistics import fmean

import numpy as np
import torch

from bertile.errors import BertileError
from bertile.models.classifier import TrainedModel
from bertile.models.families import matrices
from bertile.prune.groups import GroupSet
from bertile.prune.pruner import Masking
from bertile.prune.reconstruct import BIAS_ONLY, RIDGE, Reconstructor
from bertile.prune.scores import activation_scores, weight_scores
from bertile.prune.select import Masks, global_masks
from bertile.quantize.texts import spread_indices
from bertile.tasks.data import Split
from bertile.tasks.glue import Task
from bertile.tasks.metrics import compute_metrics, decisive
from bertile.train.data import TokenizedTexts, padded_batches, without_labels
from bertile.train.distill import hidden_loss, logit_loss

RECOVERIES = ("none", "bias", "least-squares", "distill", "halving")
CLOSED_FORM = ("bias", "least-squares")  # of these
RUNGS = (0, 4, 2)  # where `halving` may give up: before any step, after a quarter of the steps, a half
BATCH = 32


@dataclass(frozen=True)
class JudgeOptions:
    """recovery: one of RECOVERIES. texts: training texts that it sees. held_out: others, which it is judged on.

    steps, learning_rate: of `distill` and `halving`, which go on from least squares. order: sort features first, as
    pruning does (`prune.order`).
    """

    recovery: str = "bias"
    texts: int = 128
    held_out: int = 256
    steps: int = 20
    learning_rate: float = 3e-4
    order: bool = True

    def __post_init__(self) -> None:
        if self.recovery not in RECOVERIES:
            raise BertileError(f"recovery {self.recovery!r} is not one of {', '.join(RECOVERIES)}")


@dataclass(frozen=True)
class Verdict:
    """Of a recovered candidate, against the dense network. Lower is better but for `task`.

    seen: relative squared error of the layers' outputs, mean over the layers, on the texts that it recovered with.
    On held-out training examples: unseen, the same error; logits, the divergence of outputs; task, the task's metric.
    """

    seen: float
    unseen: float
    logits: float
    task: float

    @property
    def error(self) -> float:
        """What a search minimizes. After `bias`, seen and unseen are nearly the same.

        Fitted to few texts, as by least squares, a network is too good on those (by about the ratio of its weights to
        their words) and too bad on others, by as much: the geometric mean cancels that, as the final prediction error
        of Akaike (1970) does.
        """
        return math.sqrt(self.seen * self.unseen)

    def to_json(self) -> dict[str, float]:
        return {"error": self.error, **asdict(self)}


class Judge:
    """Judges plans for one dense model, fine-tuned for the task. Never sees the dev set."""

    def __init__(
        self, model: TrainedModel, task: Task, train: Split, options: JudgeOptions, max_tokens: int, seed: int
    ):
        if not model.has_head:
            raise BertileError(
                f"{model.name} is not fine-tuned for {task.name}: bertile train makes a dense model of it"
            )
        self.model, self.task, self.options, self.seed = model, task, options, seed
        self.dense = model.network.eval().requires_grad_(False)
        examples = TokenizedTexts(train.texts(), train.labels, model.tokenizer, max_tokens)
        order = np.random.default_rng(seed).permutation(len(examples))
        chosen = [order[i] for i in spread_indices(len(order), options.texts + options.held_out)]
        share = len(chosen) * options.texts // (options.texts + options.held_out)
        parts = (chosen[:share], chosen[share:])
        if not all(parts):
            raise BertileError(f"{train.source} has {len(order)} examples: too few to judge candidates on")
        self.seen, self.unseen = (padded_batches(examples, part, model.tokenizer, BATCH) for part in parts)
        self.truth = [self._run(self.dense, batch) for batch in self.unseen]
        inputs = [without_labels(batch) for batch in self.seen]
        self.student = copy.deepcopy(self.dense)
        family = model.config.family
        self.worker = Reconstructor(self.dense.base_model, self.student.base_model, family, inputs)
        if options.order:
            self.worker.order(model.config)
        self.squares = self.worker.input_squares()
        self.tensors = {n: linear.weight.data for n, linear in matrices(self.dense.base_model, family).items()}

    @torch.no_grad()
    def _run(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits, and the outputs of the layers, [layers, words, hidden]."""
        outputs = network(**without_labels(batch), output_hidden_states=True)
        states = torch.stack([states[batch["attention_mask"].bool()] for states in outputs.hidden_states[1:]])
        return outputs.logits.float(), states.float()

    def scores(self, sets: list[GroupSet]) -> dict[str, np.ndarray]:
        """What the dense network's groups are worth."""
        return activation_scores(sets, self.tensors, self.squares)

    def global_shares(self, sets: list[GroupSet], sparsity: float) -> dict[str, float]:
        """What one threshold over all magnitudes takes of each set, which share no weight."""
        magnitudes = weight_scores("l2", sets, self.tensors)
        masks = global_masks(sets, magnitudes, sparsity, {s.name: np.full(s.count, s.weights) for s in sets})
        return {name: 1 - float(mask.mean()) for name, mask in masks.items()}

    def masked_divergence(self, kept: Mapping[str, torch.Tensor]) -> float:
        """Of the logits of the dense network with these weights left, on every fourth batch: many are asked for."""
        self._mask(kept)
        return self._held_out(every=4)[1]

    def _mask(self, kept: Mapping[str, torch.Tensor]) -> None:
        self.student.load_state_dict(self.dense.state_dict())
        for name, weight in self.worker.weights.items():
            weight.mul_(kept[name])

    def judge(
        self,
        masks: Masks,
        sets: list[GroupSet],
        kept: Mapping[str, torch.Tensor],
        give_up: Callable[[int, Verdict], bool] = lambda rung, verdict: False,
    ) -> Verdict | None:
        """Recover the network with these masks, and compare it with the dense one.

        give_up: under `halving` gets the verdicts on the way, from rung 1 on; where it says so there is none.
        """
        self._mask(kept)
        if self.options.recovery != "none":
            self.worker.reconstruct(kept, BIAS_ONLY if self.options.recovery == "bias" else RIDGE)
        if self.options.recovery in CLOSED_FORM:
            return self._verdict()
        if self.options.recovery == "distill":
            self._distill(Masking(sets, masks), lambda step: False)
        if self.options.recovery == "halving":
            rungs = [self.options.steps // part if part else 0 for part in RUNGS]
            if self._distill(
                Masking(sets, masks),
                lambda step: step in rungs and give_up(2 ** rungs.index(step), self.compare()),
            ):
                return None
        return self.compare()

    def compare(self) -> Verdict:
        """The student as it is."""
        self.worker.measure()
        return self._verdict()

    def _verdict(self) -> Verdict:
        """With the errors that the last reconstruction or measurement found."""
        return Verdict(fmean(self.worker.errors), *self._held_out())

    def _distill(self, masking: Masking, ends: Callable[[int], bool]) -> bool:
        """Some steps towards the dense network's logits and hidden states, on the texts that recovery sees.

        ends: whether to stop before the step that follows so many; returns whether it did.
        """
        self.student.train()  # no dropout is drawn below: it is set to 0
        for module in self.student.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        parameters = [p.requires_grad_(True) for p in self.student.base_model.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=self.options.learning_rate, weight_decay=0.0)
        order = np.random.default_rng(self.seed).permutation(np.resize(np.arange(len(self.seen)), self.options.steps))
        stopped = False
        for step, index in enumerate(order):
            stopped = ends(step)
            if stopped:
                break
            inputs = without_labels(self.seen[index])
            with torch.no_grad():
                theirs = self.dense(**inputs, output_hidden_states=True)
            ours = self.student(**inputs, output_hidden_states=True)
            loss = logit_loss(ours.logits, theirs.logits, 2.0)
            pairs = (list(outputs.hidden_states[1:]) for outputs in (ours, theirs))
            (loss + hidden_loss(*pairs, inputs["attention_mask"])).backward()
            for group in optimizer.param_groups:
                group["lr"] = self.options.learning_rate * (1 - step / len(order))
            optimizer.step()
            optimizer.zero_grad()
            masking.apply(self.worker.weights)
        for parameter in parameters:
            parameter.requires_grad_(False)
        self.student.eval()
        return stopped

    def _held_out(self, every: int = 1) -> tuple[float, float, float]:
        """Error of the layers, divergence of the logits and the task's metric, on what recovery has not seen."""
        logits, labels, divergence, error, energy, rows = [], [], 0.0, 0.0, 0.0, 0
        for batch, (their_logits, their_states) in zip(self.unseen[::every], self.truth[::every], strict=True):
            ours, states = self._run(self.student, batch)
            divergence += float(logit_loss(ours, their_logits, 1.0)) * len(ours)
            error += (states - their_states).square().sum((1, 2))
            energy += their_states.square().sum((1, 2))
            rows += len(ours)
            logits.append(ours.numpy())
            labels.append(batch["labels"].numpy())
        metrics = compute_metrics(self.task, np.concatenate(logits), np.concatenate(labels))
        return float((error / energy).mean()), divergence / rows, decisive(self.task, metrics)
