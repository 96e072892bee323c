"""One training run from its inputs to a model folder: `bertile train` and `bertile prune`."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from accelerate import PartialState
from safetensors import SafetensorError
from torch import nn
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback, TrainingArguments

from bertile.errors import BertileError
from bertile.inference import Progress, no_progress
from bertile.models.classifier import TrainedModel, check_same_text, load_trainable
from bertile.models.families import check_capacity, matrices
from bertile.models.folder import check_replaceable, find_folder, first_line, new_folder
from bertile.models.load import quiet
from bertile.prune.folder import Provenance, read_groups, read_pruning, write_masks
from bertile.prune.groups import group_sets, zeroed_share
from bertile.prune.neurons import gather_neurons
from bertile.prune.pattern import parse_pattern
from bertile.prune.pruner import Masking, Pruner
from bertile.prune.regularize import ReweightedGroupLasso
from bertile.prune.schedule import PruneSchedule
from bertile.prune.select import empty_groups
from bertile.quantize.texts import CALIBRATION_FILE, calibration_lines
from bertile.tasks.data import Split, read_split, read_texts
from bertile.tasks.glue import Task
from bertile.tasks.metrics import compute_metrics
from bertile.train.data import TokenizedTexts, split_texts
from bertile.train.options import Options, TrainOptions
from bertile.train.trainer import BertileTrainer, DivergedError, Teacher
from bertile.train.work import complete_checkpoints, held, open_work

LOG_FILE = "training.json"
HELD_OUT_TEXTS = 256
EVALUATIONS = 10  # of a run without a task
Say = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """What is trained on what. Without a task: `texts` are files of unlabelled text. teacher: "" for the source."""

    source: str
    output: Path
    options: Options
    task: Task | None = None
    data: Path | None = None
    texts: tuple[Path, ...] = ()
    teacher: str = ""
    restart: bool = False


def use_bfloat16(precision: str) -> bool:
    """Whether to compute in bfloat16: as asked, or where the machine multiplies it faster than float32."""
    if precision == "auto":
        if torch.cuda.is_available():
            return torch.cuda.is_bf16_supported()
        capabilities = torch.backends.cpu.get_cpu_capability()
        return capabilities.startswith("AVX512") and torch.cpu._is_avx512_bf16_supported()
    return precision == "bf16"


def read_examples(job: Job, model: TrainedModel) -> tuple[TokenizedTexts, TokenizedTexts, list[str]]:
    """Training and evaluation examples: of the task, or unlabelled texts and some that are held out.

    And lines of the training texts to calibrate the trained model on.
    """
    limit = min(job.options.train.max_tokens, model.config.max_tokens)

    def tokenized(split: Split) -> TokenizedTexts:
        return TokenizedTexts(split.texts(), split.labels, model.tokenizer, limit)

    if job.task is not None:
        split = read_split(job.task, job.data, "train")
        dev = tokenized(read_split(job.task, job.data, "dev"))
        return tokenized(split), dev, calibration_lines(split.texts(), limit)
    texts = read_texts(list(job.texts))
    train, held_out = split_texts(texts, min(HELD_OUT_TEXTS, len(texts) // 4), job.options.train.seed)
    parts = [TokenizedTexts(part, None, model.tokenizer, limit) for part in (train, held_out)]
    return *parts, calibration_lines(train, limit)


def count_steps(options: TrainOptions, examples: int) -> tuple[int, int]:
    """Optimizer steps of the run, and how many of these, the last, are quantized."""
    batches = math.ceil(examples / (options.batch_size * PartialState().num_processes))
    epoch = math.ceil(batches / options.accumulate)
    steps = options.max_steps or math.ceil(options.epochs * epoch)
    return steps, min(steps, math.ceil(options.quantized_epochs * epoch))


def training_arguments(options: TrainOptions, work: Path, steps: int, task: Task | None) -> TrainingArguments:
    """Our settings as the Trainer's; `steps` in all."""
    cpu = not torch.cuda.is_available()
    early = options.early_stopping > 0
    evaluation = {"eval_strategy": "epoch"}
    if task is None:
        evaluation = {"eval_strategy": "steps", "eval_steps": max(1, steps // EVALUATIONS)}
    saving = {"save_strategy": "steps", "save_steps": options.save_steps}
    if early:  # the best model is among those that were both evaluated and saved
        saving = {name.replace("eval", "save"): value for name, value in evaluation.items()}
        saving |= {
            "load_best_model_at_end": True,
            "metric_for_best_model": "error" if task is None else task.metrics[0],
            "greater_is_better": task is not None and task.metrics[0] != "mse",
        }
    return TrainingArguments(
        output_dir=str(work),
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=options.batch_size,
        gradient_accumulation_steps=options.accumulate,
        num_train_epochs=options.epochs,
        max_steps=options.max_steps or -1,
        learning_rate=options.learning_rate,
        warmup_steps=math.ceil(options.warmup * steps),
        weight_decay=options.weight_decay,
        max_grad_norm=options.clip,
        optim="adamw_torch_fused",
        bf16=use_bfloat16(options.precision),
        use_cpu=cpu,
        seed=options.seed,
        data_seed=options.seed,
        logging_steps=options.log_steps,
        logging_nan_inf_filter=False,
        save_total_limit=2,  # the older one is there while the newer is written
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=["labels"] if task is not None else [],
        dataloader_pin_memory=not cpu,
        **evaluation,
        **saving,
    )


def make_pruner(job: Job, student: TrainedModel, steps: int) -> Pruner:
    """The pruner that the options ask for, for a run of `steps`."""
    options = job.options.prune
    tensors = student.weights()
    pattern = parse_pattern(options.pattern)
    sets = group_sets(pattern, student.config)
    living = {name: ~empty for name, empty in empty_groups(sets, tensors).items()}
    schedule = PruneSchedule(
        options.method,
        steps,
        options.sparsity,
        initial=min(
            zeroed_share(sets, living, tensors), options.sparsity
        ),  # a model that is pruned already goes on from there
        warmup=round(options.begin * steps),
        end=round(options.end * steps),
        interval=options.interval,
        cycles=options.cycles,
    )
    lasso = None
    if options.method == "group-lasso":
        lasso = ReweightedGroupLasso(sets, options.lasso_strength, options.lasso_epsilon)
    return Pruner(
        pattern,
        sets,
        tensors,
        schedule,
        options.score,
        options.scope,
        options.rewind,
        lasso,
        options.lasso_refresh,
        job.options.train.seed,
    )


def make_masks(job: Job, student: TrainedModel, steps: int) -> Pruner | Masking | None:
    """A pruner where the run prunes, else whatever masks the source has."""
    if job.options.prune is not None:
        return make_pruner(job, student, steps)
    found = read_groups(find_folder(job.source), student.config)
    return Masking(*found) if found else None


def load_teacher(job: Job, student: TrainedModel) -> Teacher | None:
    """The teacher that the distillation options need. Raises BertileError where it is not one for this run."""
    options = job.options.distill
    if not options.needs_teacher:
        return None
    model = load_trainable(job.teacher or job.source, job.task, job.options.train.seed)
    check_same_text(student, model)
    if options.logits > 0 and (job.task is None or not model.has_head):
        raise BertileError(
            f"teacher {model.name}: distilling logits needs a teacher fine-tuned for the task (bertile train)"
        )
    if options.hidden > 0 and model.config.hidden != student.config.hidden:
        raise BertileError(
            f"teacher {model.name} has hidden size {model.config.hidden}, the student {student.config.hidden}"
        )
    if options.attention > 0 and model.config.heads != student.config.heads:
        raise BertileError(f"teacher {model.name} has {model.config.heads} heads, the student {student.config.heads}")
    return Teacher(model, options)


def set_dropout(network: nn.Module, dropout: float) -> None:
    """Every dropout of the network; the configuration keeps what it says."""
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout


def run_settings(job: Job, train: int, dev: int) -> dict:
    """What must be equal for a run to go on from a checkpoint."""
    return {
        "source": job.source,
        "task": job.task.name if job.task else "",
        "teacher": job.teacher,
        "examples": [train, dev],
        "options": job.options.to_json(),
    }


def run_job(job: Job, progress: Progress = no_progress, say: Say = lambda message: None) -> dict:
    """Train, prune or both; write the model folder; return the log that is written there as `training.json`.

    Interrupted or killed, the same job goes on from its last checkpoint, to the same result. Raises BertileError for
    bad input, a run that diverged and a full disk; the checkpoints stay.
    """
    check_replaceable(job.output)
    with quiet():
        student = load_trainable(job.source, job.task, job.options.train.seed)
        check_capacity(student.config)
        teacher = load_teacher(job, student)
    train, dev, calibration = read_examples(job, student)
    steps, quantized_steps = count_steps(job.options.train, len(train))
    masks = make_masks(job, student, steps)
    prepare_network(student, job.options.train)
    settings = run_settings(job, len(train), len(dev))
    with PartialState().main_process_first():
        work, checkpoint = open_work(job.output, settings, job.restart and PartialState().is_main_process)
    if checkpoint:
        say(f"going on from step {checkpoint.name.rpartition('-')[2]}, in {work}")
    trainer = BertileTrainer(
        student,
        teacher,
        masks,
        job.options.distill,
        train,
        dev,
        quantized_steps,
        args=training_arguments(job.options.train, work, steps, job.task),
        compute_metrics=metrics_of(job.task) if job.task is not None else None,
        callbacks=[_ProgressCallback(progress, say)],
    )
    trainer.remove_callback(PrinterCallback)
    if job.options.train.early_stopping:
        trainer.add_callback(EarlyStoppingCallback(job.options.train.early_stopping))
    with held(work) if PartialState().is_main_process else nullcontext():
        resume_run(trainer, checkpoint, work)
        log = make_log(job, trainer, settings)
        if PartialState().is_main_process:
            write_result(job, trainer, log, calibration)
            shutil.rmtree(work, ignore_errors=True)
    return log


def prepare_network(student: TrainedModel, options: TrainOptions) -> None:
    if options.dropout >= 0:
        set_dropout(student.network, options.dropout)
    if options.freeze_embeddings:
        student.network.base_model.embeddings.requires_grad_(False)


def metrics_of(task: Task) -> Callable:
    """The Trainer's view of the task's metrics."""

    def compute(prediction) -> dict[str, float]:
        outputs = prediction.predictions
        return compute_metrics(task, outputs[0] if isinstance(outputs, tuple) else outputs, prediction.label_ids)

    return compute


def resume_run(trainer: BertileTrainer, checkpoint: Path | None, work: Path) -> None:
    """Train, and say in one line what became of a run that could not end."""
    try:
        with quiet():
            trainer.resume(checkpoint)
    except DivergedError as error:
        raise BertileError(f"{error}; {_last(work)}") from None
    except (OSError, SafetensorError, RuntimeError) as error:
        # PyTorch reports a full disk as a RuntimeError of its file writer.
        if isinstance(error, RuntimeError) and not isinstance(error, OSError) and "file" not in str(error).lower():
            raise
        raise BertileError(f"cannot write a checkpoint: {first_line(error)}; {_last(work)}") from error


def _last(work: Path) -> str:
    complete = complete_checkpoints(work)
    return f"the last good checkpoint is {complete[-1]}" if complete else "there is no checkpoint yet"


def make_log(job: Job, trainer: BertileTrainer, settings: dict) -> dict:
    """The run as data: settings, every logged line, the last evaluation, and the time it took."""
    history = []
    for entry in trainer.state.log_history:
        scores = {key[5:]: value for key, value in entry.items() if key.startswith("eval_")}
        scores = {key: value for key, value in scores.items() if not key.endswith("_second") and key != "runtime"}
        rest = {key: value for key, value in entry.items() if not key.startswith("eval_")}
        history.append(rest | ({"eval": scores} if scores else {}))
    evaluations = [entry["eval"] for entry in history if "eval" in entry]
    return {
        **settings,
        "model": trainer.student.name,
        "steps": trainer.state.global_step,
        "quantized_steps": trainer.quantized_steps,
        "seconds": trainer.seconds,
        "precision": "bf16" if trainer.args.bf16 else "fp32",
        "metrics": evaluations[-1] if evaluations else {},
        "history": history,
    }


def write_result(job: Job, trainer: BertileTrainer, log: dict, calibration: list[str]) -> None:
    """The model folder: network, tokenizer, masks, provenance, log, lines to calibrate on."""
    student, masks = trainer.student, trainer.masks
    network = student.network.to("cpu").float()
    provenance = read_pruning(find_folder(job.source)) if masks is not None else None
    final = None
    if masks is not None:
        masking = masks.masking if isinstance(masks, Pruner) else masks
        tensors = student.weights()
        masking.apply(tensors)  # the best checkpoint of an early stop was loaded from a file
        final = masking.masks
        if isinstance(masks, Pruner):
            final = gather_neurons(
                masks.pattern, matrices(network.base_model, student.config.family), masks.sets, final
            )
            options = job.options.prune
            provenance = asdict(
                Provenance(
                    options.pattern,
                    options.sparsity,
                    masking.sparsity(tensors),
                    options.scope,
                    options.score,
                    options.method,
                    student.name,
                )
            )
    with new_folder(job.output, student.name, student.synthetic, provenance) as folder, quiet():
        network.save_pretrained(folder)
        student.tokenizer.save_pretrained(folder)
        if final is not None:
            write_masks(final, folder)
        if calibration:
            (folder / CALIBRATION_FILE).write_text("\n".join(calibration) + "\n", encoding="utf-8")
        (folder / LOG_FILE).write_text(json.dumps(log, indent=1) + "\n")


class _ProgressCallback(TrainerCallback):
    """Steps to a progress bar, evaluations to lines."""

    def __init__(self, progress: Progress, say: Say):
        self.progress, self.say = progress, say

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.progress(state.global_step, state.max_steps)

    def on_evaluate(self, args, state, control, metrics=None, **kwargs) -> None:
        scores = {
            key[5:]: value
            for key, value in (metrics or {}).items()
            if key.startswith("eval_") and not key.endswith(("_second", "_runtime", "_loss"))
        }
        text = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
        sparsity = next((e["sparsity"] for e in reversed(state.log_history) if "sparsity" in e), None)
        beside = "" if sparsity is None else f", sparsity {sparsity:.1%}"
        if state.is_world_process_zero:
            self.say(f"step {state.global_step}/{state.max_steps}: {text}{beside}")
