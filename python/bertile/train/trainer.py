"""The training loop: Hugging Face's Trainer with a pruner, a teacher and checkpoints that are complete or absent."""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import Trainer, TrainerCallback

from bertile.errors import BertileError
from bertile.models.classifier import TrainedModel
from bertile.models.load import Model
from bertile.prune.pruner import Masking, Pruner
from bertile.quantize.aware import FakeQuantizer, calibrate
from bertile.quantize.texts import spread_indices
from bertile.train.data import LengthSampler, PadBatch, TokenizedTexts
from bertile.train.distill import attention_loss, hidden_loss, logit_loss, matched_layers
from bertile.train.options import DistillOptions

PRUNER_FILE = "pruner.safetensors"
QUANTIZER_FILE = "quantizer.safetensors"
COMPLETE = "complete.json"  # written last: a checkpoint without it is what a killed run left


class DivergedError(BertileError):
    """The loss or a weight is no number any more."""


class Teacher:
    """A frozen network and what of it the student is compared with."""

    def __init__(self, model: TrainedModel, options: DistillOptions):
        self.network = model.network.eval().requires_grad_(False)
        self.layers = model.config.layers
        if options.attention > 0:
            self.network.set_attn_implementation("eager")

    @torch.no_grad()
    def __call__(self, inputs: dict, **wanted) -> object:
        return self.network(**inputs, **wanted)


class BertileTrainer(Trainer):
    """Trainer whose loss is task + distillation, whose pruned weights stay zero, and which stops on NaN.

    masks: a Pruner that follows a schedule, a Masking that only holds, or None. quantized_steps: how many of the last
    steps, and the evaluations behind them, run with weights and activations rounded as the integer network will do it.
    """

    def __init__(
        self,
        student: TrainedModel,
        teacher: Teacher | None,
        masks: Pruner | Masking | None,
        distill: DistillOptions,
        train: TokenizedTexts,
        dev: TokenizedTexts,
        quantized_steps: int = 0,
        **arguments,
    ):
        self.student, self.teacher, self.masks, self.distill = student, teacher, masks, distill
        self.tensors = student.weights()
        self.quantized_steps, self.quantizer = quantized_steps, None
        self.parts: dict[str, list[float]] = defaultdict(list)  # of the loss, since the last log line
        self.batches = 0  # of the step that is going on
        self.seconds, self.began = 0.0, time.monotonic()
        if distill.attention > 0:
            student.network.set_attn_implementation("eager")
        self.matched = matched_layers(student.config.layers, teacher.layers) if teacher else []
        super().__init__(
            model=student.network,
            train_dataset=train,
            eval_dataset=dev,
            data_collator=PadBatch(student.tokenizer),
            **arguments,
        )
        if teacher is not None:
            teacher.network.to(self.args.device)
        # The loss is the mean of a batch, which the Trainer divides by the batches a step.
        self.model_accepts_loss_kwargs = False
        self.add_callback(_MaskCallback(self))
        self.add_callback(_QuantizeCallback(self))

    @property
    def pruner(self) -> Pruner | None:
        return self.masks if isinstance(self.masks, Pruner) else None

    def _get_train_sampler(self, train_dataset=None) -> LengthSampler:
        dataset = train_dataset or self.train_dataset
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return LengthSampler(dataset.lengths, batch, self.args.seed)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Weighted sum of the parts; each is logged."""
        inputs = dict(inputs)
        labels = inputs.pop("labels", None)
        wanted = {}
        if self.distill.hidden > 0:
            wanted["output_hidden_states"] = True
        if self.distill.attention > 0:
            wanted["output_attentions"] = True
        outputs = model(**inputs, **wanted)
        parts = {}
        if labels is not None and (self.distill.task > 0 or not model.training):
            parts["task"] = task_loss(outputs.logits, labels)
        if self.teacher is not None and (model.training or labels is None):
            parts |= self._distill(outputs, inputs, wanted)
        loss = sum(getattr(self.distill, name) * part for name, part in parts.items())
        if not model.training and "task" in parts:
            loss = parts["task"]
        elif model.training:
            for name, part in parts.items():
                self.parts[f"{name}_loss"].append(float(part.detach()))
        return (loss, {"logits": getattr(outputs, "logits", None)}) if return_outputs else loss

    def _distill(self, outputs, inputs: dict, wanted: dict) -> dict[str, torch.Tensor]:
        theirs = self.teacher(inputs, **wanted)
        mask, parts = inputs["attention_mask"], {}
        if self.distill.logits > 0:
            parts["logits"] = logit_loss(outputs.logits, theirs.logits, self.distill.temperature)
        if self.distill.hidden > 0:
            chosen = [theirs.hidden_states[layer + 1] for layer in self.matched]  # 0 are the embeddings
            parts["hidden"] = hidden_loss(list(outputs.hidden_states[1:]), chosen, mask)
        if self.distill.attention > 0:
            chosen = [theirs.attentions[layer] for layer in self.matched]
            parts["attention"] = attention_loss(list(outputs.attentions), chosen, mask)
        return parts

    def training_step(self, model, inputs, num_items_in_batch=None) -> torch.Tensor:
        # Dropout depends on the batch's number alone: neither evaluations nor a resumption change what follows.
        place = (self.args.seed, self.state.global_step, self.batches, self.args.process_index)
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0] >> 1))
        self.batches += 1
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not math.isfinite(float(loss)):
            raise DivergedError(f"training diverged: the loss of step {self.state.global_step + 1} is {float(loss)}")
        if self.pruner is not None and self.pruner.lasso is not None:
            gradients = {name: tensor.grad for name, tensor in self.tensors.items()}
            scale = 1 / self.current_gradient_accumulation_steps
            penalty = self.pruner.regularize(self.state.global_step, self.tensors, gradients, scale)
            self.parts["regularizer"].append(penalty)
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        for name, values in self.parts.items():
            logs[name] = sum(values) / len(values)
        self.parts.clear()
        if self.masks is not None:
            masking = self.masks.masking if self.pruner else self.masks
            logs["sparsity"] = masking.sparsity(self.tensors)
        super().log(logs, start_time)

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):
        """The task's metrics; without a task, the error against the teacher on held-out text."""
        if self.compute_metrics is not None:
            return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        self.model.eval()
        losses = []
        with torch.no_grad():
            for inputs in self.get_eval_dataloader(eval_dataset):
                with self.compute_loss_context_manager():
                    losses.append(float(self.compute_loss(self.model, self._prepare_inputs(inputs))))
        metrics = {f"{metric_key_prefix}_error": sum(losses) / len(losses)}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def start_quantizing(self, state: dict[str, torch.Tensor] | None = None) -> None:
        """Round from now on: with the scales of a checkpoint, or those that fit the weights of now."""
        student = self.student
        network, family = student.network.base_model, student.config.family
        if state is not None:
            self.quantizer = FakeQuantizer.from_state(network, family, state)
        else:
            model = Model(student.name, network, student.config, student.tokenizer, student.synthetic)
            chosen = spread_indices(len(self.train_dataset))
            sequences = [np.array(self.train_dataset[index]["input_ids"]) for index in chosen]
            self.quantizer = FakeQuantizer(network, family, calibrate(model, sequences))
        self.quantizer.enable()

    def _determine_best_metric(self, metrics, trial) -> bool:
        """Only a network that is as sparse, and rounded, as it will be can be the best."""
        if self.pruner is not None and not self.pruner.schedule.finished(self.state.global_step):
            return False
        if self.quantized_steps and self.quantizer is None:
            return False
        return super()._determine_best_metric(metrics, trial)

    def _save_checkpoint(self, model, trial) -> None:
        """As the Trainer does, then the pruner, then the mark that makes the checkpoint count."""
        for name, parameter in self.model.named_parameters():
            if not torch.isfinite(parameter).all():
                raise DivergedError(f"training diverged: {name} holds NaN at step {self.state.global_step}")
        super()._save_checkpoint(model, trial)
        if not self.args.should_save:
            return
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        if self.pruner is not None:
            save_file({name: t.contiguous() for name, t in self.pruner.state().items()}, folder / PRUNER_FILE)
        if self.quantizer is not None:
            save_file(self.quantizer.state(), folder / QUANTIZER_FILE)
        seconds = self.seconds + time.monotonic() - self.began
        (folder / COMPLETE).write_text(json.dumps({"step": self.state.global_step, "seconds": seconds}) + "\n")

    def resume(self, checkpoint: Path | None) -> None:
        """Train to the end, from a complete checkpoint or from the start."""
        if checkpoint is not None:
            self.seconds = json.loads((checkpoint / COMPLETE).read_text())["seconds"]
            if self.pruner is not None:
                self.pruner.load_state(load_file(checkpoint / PRUNER_FILE))
            if (checkpoint / QUANTIZER_FILE).is_file():
                self.start_quantizing(load_file(checkpoint / QUANTIZER_FILE))
        self.began = time.monotonic()
        self.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        self.seconds += time.monotonic() - self.began
        if self.quantizer is not None:
            self.quantizer.disable()


def task_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross entropy of classes [batch, classes] with int64 labels, mean squared error of values [batch, 1]."""
    if labels.dtype == torch.long:
        return functional.cross_entropy(logits.float(), labels)
    return functional.mse_loss(logits.float().squeeze(-1), labels)


class _MaskCallback(TrainerCallback):
    """Calls the pruner where the Trainer has a place for it."""

    def __init__(self, trainer: BertileTrainer):
        self.trainer = trainer
        self.waiting = False  # a checkpoint that is due

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self._after(state.global_step, chosen=state.global_step > 0)

    def on_pre_optimizer_step(self, args, state, control, **kwargs) -> None:
        trainer = self.trainer
        if trainer.pruner is not None and trainer.pruner.gradients is not None:
            gradients = {name: tensor.grad for name, tensor in trainer.tensors.items()}
            trainer.pruner.observe(state.global_step, trainer.tensors, gradients)

    def on_optimizer_step(self, args, state, control, **kwargs) -> None:
        self._after(state.global_step + 1, chosen=False)

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        self.trainer.batches = 0

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if state.global_step >= state.max_steps and not args.load_best_model_at_end:
            control.should_save = False  # the Trainer cannot go on from an end in mid-epoch: it takes a step more
        # A checkpoint behind an epoch's last step waits for the evaluation, which a resumed run would leave out.
        if control.should_save and args.eval_strategy == "epoch" and float(state.epoch).is_integer():
            control.should_save, self.waiting = False, True

    def on_epoch_end(self, args, state, control, **kwargs) -> None:
        if self.waiting:
            control.should_save, self.waiting = True, False

    def _after(self, step: int, chosen: bool) -> None:
        masks, tensors = self.trainer.masks, self.trainer.tensors
        if isinstance(masks, Pruner) and not chosen:
            masks.after_step(step, tensors)
        elif isinstance(masks, Pruner):
            masks.masking.apply(tensors)
        elif masks is not None:
            masks.apply(tensors)


class _QuantizeCallback(TrainerCallback):
    """Starts the quantized steps of a run."""

    def __init__(self, trainer: BertileTrainer):
        self.trainer = trainer

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        trainer = self.trainer
        if not trainer.quantized_steps:
            return
        if trainer.quantizer is None and state.global_step >= state.max_steps - trainer.quantized_steps:
            trainer.start_quantizing()
