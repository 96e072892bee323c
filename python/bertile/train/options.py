"""What a training run is told: recipes (TOML), and what the command line puts over them."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from bertile.errors import BertileError
from bertile.prune.pattern import parse_pattern
from bertile.prune.plan import read_plan
from bertile.prune.reconstruct import RIDGE
from bertile.prune.schedule import METHODS
from bertile.prune.scores import check_score
from bertile.prune.select import PLANNED, SCOPES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PRECISIONS = ("auto", "fp32", "bf16")
KINDS = {float: "a number", int: "a whole number", bool: "true or false", str: "text"}


@dataclass(frozen=True)
class TrainOptions:
    """Optimization. Learning rate decays linearly to zero behind `warmup`, a share of all steps."""

    epochs: float = 3.0
    max_steps: int = 0  # 0: as many as the epochs have
    batch_size: int = 32
    accumulate: int = 1  # batches a step
    learning_rate: float = 5e-5
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0  # norm of the gradients at most
    dropout: float = -1.0  # of the network; -1: as its configuration says
    max_tokens: int = 128
    freeze_embeddings: bool = False
    seed: int = 0
    precision: str = "auto"
    log_steps: int = 10
    save_steps: int = 200
    early_stopping: int = 0  # evaluations without progress; 0: never stop early, keep the last step's model
    quantized_epochs: float = 0.0  # at the end, with weights and activations rounded as the integer network does


@dataclass(frozen=True)
class PruneOptions:
    """Pruning. `begin` and `end` are shares of all steps; see `PruneSchedule` for what each method does with them."""

    method: str = "oneshot"
    pattern: str = "1x16"
    sparsity: float = 0.5
    score: str = "l2"
    scope: str = "uniform"
    plan: str = ""  # a file with a share for every group set, in place of sparsity and scope
    begin: float = 0.0
    end: float = 0.5
    interval: int = 10
    rewind: bool = True
    cycles: int = 4
    order: bool = True  # of method reconstruct, with the next three: features are sorted first
    rounds: int = 3
    ridge: float = RIDGE
    reconstruct_texts: int = 512
    lasso_strength: float = 1e-4
    lasso_epsilon: float = 1e-3
    lasso_refresh: int = 50


@dataclass(frozen=True)
class DistillOptions:
    """Weights of the parts of the loss: labels, and what the student shares with a teacher."""

    task: float = 1.0
    logits: float = 0.0
    hidden: float = 0.0
    attention: float = 0.0
    temperature: float = 2.0

    @property
    def needs_teacher(self) -> bool:
        return self.logits > 0 or self.hidden > 0 or self.attention > 0


@dataclass(frozen=True)
class Options:
    """All of it; `prune` is None where nothing is pruned."""

    train: TrainOptions = field(default_factory=TrainOptions)
    distill: DistillOptions = field(default_factory=DistillOptions)
    prune: PruneOptions | None = None

    def to_json(self) -> dict:
        return asdict(self)


SECTIONS = {"train": TrainOptions, "distill": DistillOptions, "prune": PruneOptions}


def recipe_names() -> list[str]:
    """Recipes that come with the package."""
    folder = resources.files("bertile") / "recipes"
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))


def read_recipe(recipe: str) -> dict[str, dict]:
    """Sections of a recipe, by name or file. Raises BertileError."""
    if recipe in recipe_names():
        text = (resources.files("bertile") / "recipes" / f"{recipe}.toml").read_text(encoding="utf-8")
    else:
        try:
            text = Path(recipe).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise BertileError(
                f"recipe {recipe!r}: no such file; Bertile's own are {', '.join(recipe_names())}"
            ) from None
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BertileError(f"recipe {recipe}: {error}") from None
    data.pop("about", None)
    for section, values in data.items():
        if section not in SECTIONS or not isinstance(values, dict):
            raise BertileError(f"recipe {recipe}: {section!r} is not one of the sections {', '.join(SECTIONS)}")
    return data


def parse_setting(text: str) -> tuple[str, str, Any]:
    """`section.key=value` of the command line; the value as TOML reads it, or as text."""
    name, equals, value = text.partition("=")
    section, dot, key = name.strip().partition(".")
    if not (equals and dot):
        raise BertileError(f"setting {text!r} is not SECTION.KEY=VALUE, such as train.dropout=0")
    try:
        return section, key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return section, key, value.strip()


def _section(kind: type, values: Mapping[str, Any]) -> Any:
    """A dataclass of `kind`, its values checked for their types."""
    known = {f.name: f for f in fields(kind)}
    name = next(section for section, value in SECTIONS.items() if value is kind)
    checked = {}
    for key, value in values.items():
        if key not in known:
            raise BertileError(f"unknown setting {name}.{key}; known are {', '.join(known)}")
        default = known[key].default
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not type(default):
            raise BertileError(f"setting {name}.{key}: {value!r} is not {KINDS[type(default)]}")
        if isinstance(value, float) and not math.isfinite(value):
            raise BertileError(f"setting {name}.{key}: {value} is not a finite number")
        checked[key] = value
    return kind(**checked)


def make_options(
    recipe: str | None, overrides: Mapping[str, Mapping[str, Any]], prunes: bool, labels: bool = True
) -> Options:
    """Recipe, then `overrides` by section. prunes: with the prune section. labels: whether there are any to train on.

    Without labels, the hidden states are what is kept where nothing else is asked for. Raises BertileError.
    """
    data = {name: dict(values) for name, values in (read_recipe(recipe) if recipe else {}).items()}
    for section, values in overrides.items():
        if section not in SECTIONS:
            raise BertileError(f"unknown section {section!r}; known are {', '.join(SECTIONS)}")
        data.setdefault(section, {}).update(values)
    if not labels:
        data["distill"] = {"task": 0.0, **(data.get("distill") or {"hidden": 1.0})}
    if not prunes and "prune" in data:
        raise BertileError("a recipe or setting with a prune section is for bertile prune")
    options = Options(
        _section(TrainOptions, data.get("train", {})),
        _section(DistillOptions, data.get("distill", {})),
        _section(PruneOptions, data.get("prune", {})) if prunes else None,
    )
    if options.prune is not None and options.prune.plan:
        options = replace(options, prune=planned(options.prune, overrides.get("prune", {})))
    check_options(options)
    if not labels and options.distill.task > 0:
        raise BertileError("setting distill.task: there are no labels without a task")
    return options


def planned(options: PruneOptions, given: Mapping[str, Any]) -> PruneOptions:
    """Options with what their plan says, over a recipe. Raises BertileError where it disagrees with what is given."""
    plan = read_plan(Path(options.plan))
    says = {"pattern": plan.pattern, "sparsity": plan.sparsity, "scope": PLANNED}
    for key, value in says.items():
        if key in given and given[key] != value:
            raise BertileError(f"{key} {given[key]}: plan {options.plan} says {value}; give one of the two")
    return replace(options, **says)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise BertileError(message)


def check_options(options: Options) -> None:
    """Raises BertileError, naming the setting, for a value that makes no sense."""
    train, distill, prune = options.train, options.distill, options.prune
    for key in ("epochs", "batch_size", "accumulate", "learning_rate", "max_tokens", "log_steps", "save_steps"):
        _require(getattr(train, key) > 0, f"setting train.{key}: {getattr(train, key)} is not above 0")
    for key in ("max_steps", "weight_decay", "clip", "seed", "early_stopping", "quantized_epochs"):
        _require(getattr(train, key) >= 0, f"setting train.{key}: {getattr(train, key)} is below 0")
    _require(train.dropout == -1 or 0 <= train.dropout < 1, f"setting train.dropout: {train.dropout} is not in [0, 1)")
    _require(train.seed < 2**32, f"setting train.seed: {train.seed} is over {2**32 - 1}")  # NumPy's
    _require(0 <= train.warmup < 1, f"setting train.warmup: {train.warmup} is not in [0, 1)")
    _require(
        train.precision in PRECISIONS,
        f"setting train.precision: {train.precision!r} is not one of {', '.join(PRECISIONS)}",
    )
    for key in ("task", "logits", "hidden", "attention"):
        _require(getattr(distill, key) >= 0, f"setting distill.{key}: {getattr(distill, key)} is below 0")
    weights = (distill.task, distill.logits, distill.hidden, distill.attention)
    _require(any(weights), "settings distill.task, logits, hidden, attention: all are 0, so there is no loss")
    _require(distill.temperature > 0, f"setting distill.temperature: {distill.temperature} is not above 0")
    if prune is None:
        return
    check_score(prune.score)
    parse_pattern(prune.pattern)
    _require(prune.method in METHODS, f"unknown method {prune.method!r}; known are {', '.join(METHODS)}")
    _require(
        prune.scope == PLANNED if prune.plan else prune.scope in SCOPES,
        f"unknown scope {prune.scope!r}; known are {', '.join(SCOPES)}",
    )
    _require(0 <= prune.sparsity < 1, f"sparsity {prune.sparsity} is not in [0, 1)")
    _require(
        0 <= prune.begin <= prune.end <= 1, f"setting prune.begin, end: not 0 <= {prune.begin} <= {prune.end} <= 1"
    )
    _require(prune.ridge >= 0, f"setting prune.ridge: {prune.ridge} is below 0")
    for key in (
        "interval",
        "cycles",
        "rounds",
        "reconstruct_texts",
        "lasso_strength",
        "lasso_epsilon",
        "lasso_refresh",
    ):
        _require(getattr(prune, key) > 0, f"setting prune.{key}: {getattr(prune, key)} is not above 0")


def parse_distill(text: str) -> dict[str, float]:
    """`logits,hidden:2` as {"logits": 1.0, "hidden": 2.0, "attention": 0.0}: the task's part stays unless it is named.

    Raises BertileError.
    """
    parts = {"logits": 0.0, "hidden": 0.0, "attention": 0.0}
    for part in text.split(","):
        name, colon, weight = part.strip().partition(":")
        if name not in ("task", "logits", "hidden", "attention"):
            raise BertileError(f"--distill {text}: {name!r} is not one of task, logits, hidden, attention")
        try:
            parts[name] = float(weight) if colon else 1.0
        except ValueError:
            raise BertileError(f"--distill {text}: {weight!r} is no number") from None
    return parts
