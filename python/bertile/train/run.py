"""One training run from its inputs to a model folder: `bertile train` and `bertile prune`."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback

from bertile.config.paths import TRAINING_LOG
from bertile.errors import BertileError
from bertile.inference import Progress, no_progress
from bertile.models.classifier import load_trainable
from bertile.models.families import check_capacity, matrices
from bertile.models.folder import check_other_folder, check_replaceable, find_folder, first_line, new_folder
from bertile.models.load import quiet
from bertile.models.task_head import read_task_head
from bertile.prune.folder import Provenance, read_pruning, write_masks
from bertile.prune.order import gather_neurons
from bertile.prune.plan import read_plan
from bertile.prune.pruner import Pruner
from bertile.prune.reconstruct import Reconstructor, prune_reconstructing
from bertile.quantize.texts import CALIBRATION_FILE, spread_indices
from bertile.tasks.glue import Task
from bertile.tasks.metrics import compute_metrics
from bertile.train.data import TokenizedTexts, padded_batches, without_labels
from bertile.train.prepare import (
    Job,
    count_steps,
    load_teacher,
    make_masks,
    prepare_network,
    processes,
    read_examples,
    training_arguments,
    use_bfloat16,
)
from bertile.train.trainer import BertileTrainer, DivergedError
from bertile.train.work import held, last_checkpoint, open_work, work_folder

Say = Callable[[str], None]


def run_settings(job: Job, train: TokenizedTexts, dev: TokenizedTexts) -> dict:
    """What must be equal for a run to go on from a checkpoint."""
    prune = job.options.prune
    plan = read_plan(Path(prune.plan)) if prune is not None and prune.plan else None
    return {
        "source": job.source,
        "task": job.task.name if job.task else "",
        "metric": job.task.metrics[0] if job.task else "error",
        "teacher": job.teacher,
        "examples": [len(train), len(dev)],
        "examples_sha256": [train.digest(), dev.digest()],
        "precision": "bf16" if use_bfloat16(job.options.train.precision) else "fp32",
        "processes": processes().num_processes,
        "options": job.options.to_json(),
        "plan": plan.to_json() if plan else None,
    }


def load_inputs(job: Job, say: Say = lambda message: None) -> tuple:
    """Student, teacher (None without one) and examples of a job. Raises BertileError for what is wrong with them."""
    check_replaceable(job.output)
    check_other_folder(job.output, job.source, job.teacher)
    with quiet():
        student = load_trainable(job.source, job.task, job.options.train.seed)
        check_capacity(student.config)
        teacher = load_teacher(job, student)
    if not student.has_head and job.task is not None and read_task_head(job.source) is not None:
        say(f"note: the classifier of {job.source} is not one of {job.task.name}: a new one is trained")
    return student, teacher, *read_examples(job, student)


def run_job(job: Job, progress: Progress = no_progress, say: Say = lambda message: None) -> dict:
    """Train, prune or both; write the model folder; return the log that is written there as `training.json`.

    Of several processes that train together, the first one writes and has the log.

    Interrupted or killed, the same job goes on from its last checkpoint, to the same result. Raises BertileError for
    bad input, a run that diverged and a full disk; the checkpoints stay.
    """
    student, teacher, train, dev, calibration = load_inputs(job, say)
    steps, quantized_steps = count_steps(job.options.train, len(train))
    masks = make_masks(job, student, steps)
    prepare_network(student, job.options.train)
    settings, work = run_settings(job, train, dev), work_folder(job.output)
    first = processes().is_main_process
    with held(work) if first else nullcontext():
        with processes().main_process_first():
            if first:
                open_work(work, settings, job.restart)
        trainer = make_trainer(job, (student, teacher, masks), (train, dev), (steps, quantized_steps), progress, say)
        if job.options.prune is not None and job.options.prune.method == "reconstruct" and not last_checkpoint(work):
            reconstruct_student(job, trainer, progress, say if first else lambda message: None)
        resume_run(trainer, work, say)
        if not first:
            return {}
        log = make_log(job, trainer, settings)
        write_result(job, trainer, log, calibration)
        shutil.rmtree(work, ignore_errors=True)
    return log


def make_trainer(job: Job, models: tuple, examples: tuple, steps: tuple[int, int], progress: Progress, say: Say):
    """The trainer of student, teacher and masks on training and evaluation examples."""
    student, teacher, masks = models
    arguments = training_arguments(job.options.train, work_folder(job.output), steps[0], job.task)
    trainer = BertileTrainer(
        student,
        teacher,
        masks,
        job.options.distill,
        *examples,
        steps[1],
        args=arguments,
        compute_metrics=metrics_of(job.task) if job.task is not None else None,
        callbacks=[_ProgressCallback(progress, say)],
    )
    trainer.remove_callback(PrinterCallback)
    if job.options.train.early_stopping:
        trainer.add_callback(EarlyStoppingCallback(job.options.train.early_stopping))
    return trainer


def reconstruct_student(job: Job, trainer: BertileTrainer, progress: Progress, say: Say) -> None:
    """Prune the student before its first step, in closed form, towards the teacher or what it is itself by now.

    progress counts rounds.
    """
    options, student, train = job.options.prune, trainer.student, trainer.train_dataset
    network = student.network.base_model.eval()
    teacher = trainer.teacher
    same = teacher is not None and teacher.layers == student.config.layers
    dense = teacher.network.base_model if same else copy.deepcopy(network)
    chosen = spread_indices(len(train), options.reconstruct_texts)
    batches = padded_batches(train, chosen, student.tokenizer, job.options.train.batch_size)
    worker = Reconstructor(dense, network, student.config.family, map(without_labels, batches))
    if options.order:
        worker.order(student.config)
    prune_reconstructing(worker, trainer.pruner, options.rounds, options.ridge, progress)
    errors = ", ".join(f"{error:.3f}" for error in worker.errors)
    say(f"reconstructed from {len(chosen)} texts: relative squared error of the layers {errors}")


def metrics_of(task: Task) -> Callable:
    """The Trainer's view of the task's metrics."""

    def compute(prediction) -> dict[str, float]:
        outputs = prediction.predictions
        return compute_metrics(task, outputs[0] if isinstance(outputs, tuple) else outputs, prediction.label_ids)

    return compute


def resume_run(trainer: BertileTrainer, work: Path, say: Say) -> None:
    """Train from the last checkpoint on, and say in one line what became of a run that could not end."""
    checkpoint = last_checkpoint(work)
    if checkpoint:
        say(f"going on from step {checkpoint.name.rpartition('-')[2]}, in {work}")
    try:
        with quiet():
            trainer.resume(checkpoint)
            if trainer.args.load_best_model_at_end:
                trainer.evaluate()  # the best model is not the last one
    except DivergedError as error:
        raise BertileError(f"{error}; {_last(work)}") from None
    except (OSError, SafetensorError, RuntimeError) as error:
        # PyTorch reports a full disk as a RuntimeError of its file writer.
        if isinstance(error, RuntimeError) and not isinstance(error, OSError) and "file" not in str(error).lower():
            raise
        raise BertileError(f"cannot write a checkpoint: {first_line(error)}; {_last(work)}") from error


def _last(work: Path) -> str:
    checkpoint = last_checkpoint(work)
    return f"the last good checkpoint is {checkpoint}" if checkpoint else "there is no checkpoint yet"


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
        "metrics": evaluations[-1] if evaluations else {},
        "history": history,
    }


def write_result(job: Job, trainer: BertileTrainer, log: dict, calibration: list[str]) -> None:
    """The model folder: network, tokenizer, masks, provenance, log, lines to calibrate on."""
    student, masks = trainer.student, trainer.masks
    if isinstance(masks, Pruner) and not masks.schedule.finished(trainer.state.global_step):
        raise BertileError(f"the run ended at step {trainer.state.global_step}, before its masks were final")
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
        (folder / TRAINING_LOG).write_text(json.dumps(log, indent=1) + "\n")


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
