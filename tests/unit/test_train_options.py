"""Recipes, settings over them, and what is refused in one line."""

from __future__ import annotations

import pytest

from bertile.errors import BertileError
from bertile.train.options import (
    DistillOptions,
    Options,
    PruneOptions,
    TrainOptions,
    check_options,
    make_options,
    parse_distill,
    parse_setting,
    read_recipe,
    recipe_names,
)


def refused(function, *arguments) -> str:
    with pytest.raises(BertileError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_defaults_are_fine():
    check_options(Options(prune=PruneOptions()))
    assert make_options(None, {}, prunes=False) == Options()
    assert make_options(None, {}, prunes=True) == Options(prune=PruneOptions())


def test_every_recipe_parses():
    names = recipe_names()
    assert {"finetune", "prune-ofa"} <= set(names)
    for name in names:
        sections = read_recipe(name)
        options = make_options(name, {}, prunes="prune" in sections)
        for section, values in sections.items():
            for key, value in values.items():
                assert getattr(getattr(options, section), key) == value


def test_a_recipe_says_what_it_says():
    options = make_options("prune-ofa", {}, prunes=True)
    assert (options.prune.method, options.prune.pattern, options.prune.sparsity) == ("once-for-all", "1x16", 0.75)
    assert options.distill == DistillOptions(task=0.0, hidden=1.0)
    assert options.to_json()["train"]["batch_size"] == 64


def test_settings_go_over_the_recipe(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('about = "mine"\n[train]\nepochs = 2\nseed = 4\n[prune]\nsparsity = 0.6\n')
    options = make_options(str(file), {"train": {"seed": 5}, "distill": {"logits": 1}}, prunes=True)
    assert options.train == TrainOptions(epochs=2.0, seed=5)
    assert type(options.train.epochs) is type(options.distill.logits) is float
    assert options.prune == PruneOptions(sparsity=0.6)
    assert options.distill.needs_teacher
    assert not DistillOptions().needs_teacher


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("train.epochs=3", ("train", "epochs", 3)),
        ("train.learning_rate=2e-5", ("train", "learning_rate", 2e-5)),
        ("train.freeze_embeddings=true", ("train", "freeze_embeddings", True)),
        ("prune.pattern=1x16", ("prune", "pattern", "1x16")),
        ("prune.pattern=heads@0.25+1x16", ("prune", "pattern", "heads@0.25+1x16")),
        ("prune.score='l1'", ("prune", "score", "l1")),
        (" train.precision = bf16 ", ("train", "precision", "bf16")),
        ("prune.scope=", ("prune", "scope", "")),
    ],
)
def test_parse_setting(text, setting):
    assert parse_setting(text) == setting


@pytest.mark.parametrize("text", ["epochs=3", "train.epochs", "", "=", "train=3"])
def test_bad_setting(text):
    assert refused(parse_setting, text) == f"setting {text!r} is not SECTION.KEY=VALUE, such as train.dropout=0"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("logits", {"logits": 1.0, "hidden": 0.0, "attention": 0.0}),
        ("logits,hidden:2, task:0.5", {"logits": 1.0, "hidden": 2.0, "attention": 0.0, "task": 0.5}),
        ("attention:0", {"logits": 0.0, "hidden": 0.0, "attention": 0.0}),
    ],
)
def test_parse_distill(text, parts):
    assert parse_distill(text) == parts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("logit", "--distill logit: 'logit' is not one of task, logits, hidden, attention"),
        ("logits,", "--distill logits,: '' is not one of task, logits, hidden, attention"),
        ("logits:much", "--distill logits:much: 'much' is no number"),
        ("logits:", "--distill logits:: '' is no number"),
    ],
)
def test_bad_distill(text, message):
    assert refused(parse_distill, text) == message


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("train", "epochs", "three", "setting train.epochs: 'three' is not a number"),
        ("train", "epochs", True, "setting train.epochs: True is not a number"),
        ("train", "batch_size", 8.0, "setting train.batch_size: 8.0 is not a whole number"),
        ("train", "seed", False, "setting train.seed: False is not a whole number"),
        ("train", "freeze_embeddings", 1, "setting train.freeze_embeddings: 1 is not true or false"),
        ("prune", "pattern", 16, "setting prune.pattern: 16 is not text"),
        ("train", "epochs", 0, "setting train.epochs: 0.0 is not above 0"),
        ("train", "epochs", float("nan"), "setting train.epochs: nan is not a finite number"),
        ("train", "learning_rate", float("inf"), "setting train.learning_rate: inf is not a finite number"),
        ("train", "batch_size", 0, "setting train.batch_size: 0 is not above 0"),
        ("train", "accumulate", -1, "setting train.accumulate: -1 is not above 0"),
        ("train", "save_steps", 0, "setting train.save_steps: 0 is not above 0"),
        ("train", "max_steps", -5, "setting train.max_steps: -5 is below 0"),
        ("train", "weight_decay", -0.1, "setting train.weight_decay: -0.1 is below 0"),
        ("train", "seed", -1, "setting train.seed: -1 is below 0"),
        ("train", "dropout", 1, "setting train.dropout: 1.0 is not in [0, 1)"),
        ("train", "dropout", -0.5, "setting train.dropout: -0.5 is not in [0, 1)"),
        ("train", "warmup", 1, "setting train.warmup: 1.0 is not in [0, 1)"),
        ("train", "precision", "fp16", "setting train.precision: 'fp16' is not one of auto, fp32, bf16"),
        ("distill", "hidden", -1, "setting distill.hidden: -1.0 is below 0"),
        ("distill", "temperature", 0, "setting distill.temperature: 0.0 is not above 0"),
        ("distill", "task", 0, "settings distill.task, logits, hidden, attention: all are 0, so there is no loss"),
        ("prune", "sparsity", 1, "sparsity 1.0 is not in [0, 1)"),
        ("prune", "begin", 0.6, "setting prune.begin, end: not 0 <= 0.6 <= 0.5 <= 1"),
        ("prune", "end", 1.1, "setting prune.begin, end: not 0 <= 0.0 <= 1.1 <= 1"),
        ("prune", "interval", 0, "setting prune.interval: 0 is not above 0"),
        ("prune", "lasso_epsilon", 0, "setting prune.lasso_epsilon: 0.0 is not above 0"),
        (
            "prune",
            "method",
            "magic",
            "unknown method 'magic'; known are oneshot, reconstruct, gradual, group-lasso, once-for-all, cyclic",
        ),
        ("prune", "score", "l3", "unknown score 'l3'; known are l2, l1, random, activation, movement, taylor, fisher"),
        ("prune", "scope", "local", "unknown scope 'local'; known are uniform, global"),
        (
            "prune",
            "patern",
            "1x16",
            "unknown setting prune.patern; known are method, pattern, sparsity, score, scope, ",
        ),
        ("prune", "pattern", "16", "pattern '16' is not KxN"),
        ("trian", "epochs", 3, "unknown section 'trian'; known are train, distill, prune"),
    ],
)
def test_bad_values(section, key, value, message):
    text = refused(make_options, None, {section: {key: value}}, True)
    assert text.startswith(message) if message.endswith((", ", "KxN")) else text == message


def test_a_prune_section_needs_prune():
    message = "a recipe or setting with a prune section is for bertile prune"
    assert refused(make_options, "prune-ofa", {}, False) == message
    assert refused(make_options, None, {"prune": {"sparsity": 0.5}}, False) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[training]\nepochs = 1\n", "'training' is not one of the sections train, distill, prune"),
        ("epochs = 1\n", "'epochs' is not one of the sections train, distill, prune"),
        ("train = 1\n", "'train' is not one of the sections train, distill, prune"),
        ("[[train]]\nepochs = 1\n", "'train' is not one of the sections train, distill, prune"),
    ],
)
def test_bad_recipe(tmp_path, text, message):
    file = tmp_path / "r.toml"
    file.write_text(text)
    assert refused(read_recipe, str(file)) == f"recipe {file}: {message}"


def test_unreadable_recipes(tmp_path):
    names = ", ".join(recipe_names())
    for name in ("nowhere", str(tmp_path)):
        assert refused(read_recipe, name) == f"recipe {name!r}: no such file; Bertile's own are {names}"
    (tmp_path / "r.toml").write_text("[train\nepochs = 1")
    assert refused(read_recipe, str(tmp_path / "r.toml")).startswith(f"recipe {tmp_path / 'r.toml'}: ")


def test_without_labels_the_hidden_states_are_kept():
    """Where nothing else is asked for: neither a recipe's nor the command line's wish is replaced."""
    assert make_options(None, {}, prunes=True, labels=False).distill == DistillOptions(task=0.0, hidden=1.0)
    asked = make_options(None, {"distill": {"attention": 2.0}}, prunes=True, labels=False).distill
    assert asked == DistillOptions(task=0.0, attention=2.0)
    assert make_options("prune-ofa", {"distill": {"hidden": 3.0}}, prunes=True, labels=False).distill.hidden == 3.0
    cause = refused(make_options, None, {"distill": {"task": 1.0, "hidden": 1.0}}, True, False)
    assert cause == "setting distill.task: there are no labels without a task"
    assert "train.seed" in refused(make_options, None, {"train": {"seed": 2**32}}, False)
