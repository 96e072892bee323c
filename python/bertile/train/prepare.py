"""What a run needs, made from what it is told: examples, steps, masks, teacher, the Trainer's arguments."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import PartialState
from torch import nn
from transformers import TrainingArguments

from bertile.errors import BertileError
from bertile.models.classifier import TrainedModel, check_same_text, load_trainable
from bertile.models.folder import find_folder
from bertile.perf.masked import counter_of
from bertile.prune.folder import check_same_pattern, read_groups
from bertile.prune.groups import group_sets, zeroed_share
from bertile.prune.pattern import parse_pattern
from bertile.prune.plan import check_plan, read_plan
from bertile.prune.pruner import Masking, Pruner
from bertile.prune.regularize import ReweightedGroupLasso
from bertile.prune.schedule import PruneSchedule
from bertile.prune.select import empty_groups
from bertile.quantize.texts import calibration_lines
from bertile.tasks.data import Split, read_split, read_texts
from bertile.tasks.glue import Task
from bertile.train.data import TokenizedTexts, split_texts
from bertile.train.options import Options, TrainOptions
from bertile.train.trainer import Teacher

HELD_OUT_TEXTS = 256
EVALUATIONS = 10  # of a run without a task


@dataclass(frozen=True)
class Job:
    """What is trained on what. texts: files of unlabelled text, alone or, to learn from the teacher, beside a task's.

    teacher: "" for the source.
    """

    source: str
    output: Path
    options: Options
    task: Task | None = None
    data: Path | None = None
    texts: tuple[Path, ...] = ()
    teacher: str = ""
    restart: bool = False


def processes() -> PartialState:
    """The processes that train together: one, or what accelerate or torchrun started."""
    return PartialState(cpu=not torch.cuda.is_available())


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
        lines = calibration_lines(split.texts(), limit)
        if not job.texts:
            return tokenized(split), dev, lines
        if job.options.distill.task > 0:
            raise BertileError("unlabelled text beside a task is for distillation alone: it needs --distill task:0,...")
        texts = list(dict.fromkeys([*split.texts(), *read_texts(list(job.texts))]))
        return TokenizedTexts(texts, None, model.tokenizer, limit), dev, lines
    texts = read_texts(list(job.texts))
    train, held_out = split_texts(texts, min(HELD_OUT_TEXTS, len(texts) // 4), job.options.train.seed)
    parts = [TokenizedTexts(part, None, model.tokenizer, limit) for part in (train, held_out)]
    return *parts, calibration_lines(train, limit)


def count_steps(options: TrainOptions, examples: int) -> tuple[int, int]:
    """Optimizer steps of the run, and how many of these, the last, are quantized."""
    batches = math.ceil(examples / (options.batch_size * processes().num_processes))
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
            "restore_callback_states_from_checkpoint": True,  # evaluations without progress
            "greater_is_better": task is not None and task.metrics[0] != "mse",
        }
    arguments = TrainingArguments(
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
    arguments._n_gpu = min(1, arguments.n_gpu)  # several GPUs: one process each, never DataParallel
    return arguments


def make_pruner(job: Job, student: TrainedModel, steps: int) -> Pruner:
    """The pruner that the options ask for, for a run of `steps`."""
    options = job.options.prune
    tensors = student.weights()
    pattern = parse_pattern(options.pattern)
    check_same_pattern(find_folder(job.source), pattern)
    sets = group_sets(pattern, student.config)
    plan = read_plan(Path(options.plan)) if options.plan else None
    if plan is not None:
        check_plan(plan, sets)
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
        plan,
        counter_of(plan, student, sets),
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
    if model.config.family != student.config.family:
        raise BertileError(f"teacher {model.name} is a {model.config.family}, the student a {student.config.family}")
    if model.has_head and not student.has_head:
        adopt_head(student, model)
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


def adopt_head(student: TrainedModel, teacher: TrainedModel) -> None:
    """A student without a task head starts with its teacher's, which reads the hidden states it is to learn."""
    encoder = {f"{student.network.base_model_prefix}.{name}" for name in student.network.base_model.state_dict()}
    theirs = teacher.network.state_dict()
    own = student.network.state_dict()
    for name, tensor in own.items():
        if (name not in encoder or ".pooler." in name) and theirs[name].shape == tensor.shape:
            tensor.copy_(theirs[name])


def set_dropout(network: nn.Module, dropout: float) -> None:
    """Every dropout of the network; the configuration keeps what it says."""
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout


def prepare_network(student: TrainedModel, options: TrainOptions) -> None:
    if options.dropout >= 0:
        set_dropout(student.network, options.dropout)
    if options.freeze_embeddings:
        student.network.base_model.embeddings.requires_grad_(False)
