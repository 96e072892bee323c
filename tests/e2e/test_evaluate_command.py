"""A fine-tuned model on every rung, as a user runs it: its score on a task, and the labels of texts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.fine_tuned import change_config, hugging_face_logits, make_classifier

from bertile.pack.container import load_packed

from .conftest import bertile, refuse, succeed

TEXT = "a man plays guitar while the stock market fell and nobody in town heard music or lost money again"
LABELS = ("not_equivalent", "equivalent")
EXAMPLES = 24
WRONG = 6  # of them are labelled otherwise than the FP32 model says


def make_pairs() -> list[tuple[str, str]]:
    rng = np.random.default_rng(3)
    words, sizes = TEXT.split(), rng.integers(1, 20, (EXAMPLES, 2))
    return [(" ".join(rng.choice(words, first)), " ".join(rng.choice(words, second))) for first, second in sizes]


def write_split(folder: Path, rows: list[tuple], split: str = "dev") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["sentence1\tsentence2\tlabel", *("\t".join(map(str, row)) for row in rows)]
    (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def mrpc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with `model`, its file `model.bertile`, and GLUE/MRPC, whose labels the FP32 model knows but for WRONG."""
    folder = tmp_path_factory.mktemp("mrpc")
    pairs = make_pairs()
    make_classifier(folder / "model", labels=LABELS, task="mrpc", seed=1)
    logits = hugging_face_logits(folder / "model", pairs).numpy()
    answers = logits.argmax(axis=1)
    assert 4 <= answers.sum() <= EXAMPLES - 4  # neither class alone
    labels = np.where(np.arange(EXAMPLES) < WRONG, 1 - answers, answers)
    rows = [(*pair, label) for pair, label in zip(pairs, labels, strict=True)]
    write_split(folder / "glue" / "MRPC", rows)
    write_split(folder / "glue" / "MRPC", rows[:2], "train")
    succeed("pack", folder / "model", "-o", folder / "model.bertile")
    return folder


def score(folder: Path, device: str, *options: object, target: str = "model.bertile") -> dict:
    arguments = ("--data", folder / "glue", "--device", device, "--json")
    return json.loads(succeed("evaluate", folder / target, *arguments, *options))


def test_every_rung_scores_the_task(mrpc):
    """FP32 is right where the labels were made to be; C-simulation is the integer reference exactly."""
    fp32, integer, csim = (score(mrpc, device) for device in ("fp32", "integer", "csim"))
    assert {name: fp32[name] for name in ("task", "device", "metric", "split", "examples", "model")} == {
        "task": "mrpc",
        "device": "fp32",
        "metric": "accuracy",
        "split": "dev",
        "examples": EXAMPLES,
        "model": "model",
    }
    assert fp32["score"] == fp32["metrics"]["accuracy"] == 1 - WRONG / EXAMPLES
    assert list(fp32["metrics"]) == ["accuracy", "f1"]
    assert score(mrpc, "fp32", target="model") == fp32
    assert {**csim, "device": "integer"} == integer
    assert abs(integer["score"] - fp32["score"]) <= 3 / EXAMPLES


def test_metric_split_limit_and_length(mrpc):
    assert score(mrpc, "integer", "--split", "train")["examples"] == 2
    wrong = score(mrpc, "fp32", "--limit", WRONG)
    assert (wrong["score"], wrong["examples"]) == (0, WRONG)
    by_f1 = score(mrpc, "fp32", "--metric", "f1")
    assert (by_f1["metric"], by_f1["score"]) == ("f1", score(mrpc, "fp32")["metrics"]["f1"])
    result = bertile("evaluate", mrpc / "model", "--data", mrpc / "glue", "--device", "fp32", "--max-tokens", 16)
    assert result.returncode == 0
    assert "of 24 texts were cut to 16 tokens" in result.stderr
    assert result.stdout.startswith("mrpc dev, fp32: accuracy ")
    assert result.stdout.endswith("over 24 examples\n")


def test_the_regression_of_a_pair(tmp_path):
    """STS-B through a trained head: its metrics are those of Hugging Face's values."""
    folder = make_classifier(tmp_path / "model", labels=(), task="stsb")
    pairs = make_pairs()
    values = hugging_face_logits(folder, pairs).numpy()[:, 0]
    grades = np.interp(values, (values.min(), values.max()), (0, 5))
    write_split(tmp_path / "glue" / "STS-B", [(*pair, grade) for pair, grade in zip(pairs, grades, strict=True)])
    succeed("pack", folder, "-o", tmp_path / "model.bertile")
    fp32 = score(tmp_path, "fp32")
    assert (fp32["metric"], round(fp32["score"], 6), round(fp32["metrics"]["pearson"], 6)) == ("spearman", 1, 1)
    assert score(tmp_path, "integer")["score"] > 0.9
    text = "\n".join("\t".join(pair) for pair in pairs)
    rows = json.loads(succeed("run", tmp_path / "model.bertile", "--text", "-", "--json", text=text))["sentences"]
    assert np.corrcoef([row["value"] for row in rows], values)[0, 1] > 0.9
    shown = succeed("run", tmp_path / "model.bertile", "--text", "-", text=text)
    assert "value" in shown
    assert f"{rows[0]['value']:.3f}" in shown


@pytest.mark.parametrize("family", ["roberta", "distilbert"])
def test_other_families(family, tmp_path):
    folder = make_classifier(tmp_path / "model", family, task="sst2")
    texts = [first for first, _ in make_pairs()]
    answers = hugging_face_logits(folder, texts).argmax(dim=1).tolist()
    lines = ["sentence\tlabel", *(f"{text}\t{answer}" for text, answer in zip(texts, answers, strict=True))]
    (tmp_path / "glue").mkdir()
    (tmp_path / "glue" / "dev.tsv").write_text("\n".join(lines))
    succeed("pack", folder, "-o", tmp_path / "model.bertile")
    scores = [score(tmp_path, device)["score"] for device in ("fp32", "integer", "csim")]
    assert scores[0] == 1
    assert scores[1] == scores[2] > 0.7


def test_run_prints_labels(mrpc):
    """Pairs of the dev set: the label of the larger logit, on both devices the same."""
    pairs = make_pairs()
    text = "\n".join("\t".join(pair) for pair in pairs) + "\nA single sentence.\n"
    run = ("run", mrpc / "model.bertile", "--text", "-", "--json")
    report, again = (json.loads(succeed(*run, "--device", device, text=text)) for device in ("integer", "csim"))
    assert report["sentences"] == again["sentences"]
    assert (report["task"], report["labels"]) == ("mrpc", list(LABELS))
    rows = report["sentences"]
    assert [row["text"] for row in rows] == text.splitlines()
    expected = hugging_face_logits(mrpc / "model", pairs).numpy()
    logits = np.array([row["logits"] for row in rows[:EXAMPLES]])
    assert np.abs(logits - expected).max() < 0.5 * expected.std()
    for row in rows:
        assert row["label"] == LABELS[int(np.argmax(row["logits"]))]
        assert row["probability"] == pytest.approx(1 / (1 + np.exp(-abs(np.subtract(*row["logits"])))), abs=1e-6)
    shown = succeed("run", mrpc / "model.bertile", "--text", "-", text="[b]Brackets stay.\n")
    assert "[b]Brackets stay." in shown
    assert "equivalent" in shown


def test_a_head_of_ones_own_takes_precedence(minilm, mrpc):
    refuse("no such file", "run", mrpc / "model.bertile", "--text", "-", "--head", mrpc / "missing", text="a\n")


def test_without_a_classifier_only_similarity(minilm, mrpc, tmp_path):
    refuse("mrpc needs a classifier", "evaluate", minilm, "--task", "mrpc", "--data", mrpc / "glue")
    refuse("give --task", "evaluate", minilm, "--data", mrpc / "glue")
    refuse("have no mse", "evaluate", minilm, "--task", "stsb", "--metric", "mse", "--data", mrpc / "glue")
    pairs = [("A man plays the guitar.", "Someone performs music."), ("A man plays.", "Shares fell."), ("A", "A")]
    write_split(tmp_path / "glue", [(*pair, grade) for pair, grade in zip(pairs, (3, 0, 5), strict=True)])
    for device in ("fp32", "integer"):
        options = ("--task", "sts-b", "--data", tmp_path / "glue", "--device", device, "--json")
        result = json.loads(succeed("evaluate", minilm, *options))
        assert (result["task"], result["metric"], result["score"], result["examples"]) == ("stsb", "spearman", 1, 3)


def test_models_of_other_tasks_are_refused(mrpc, tmp_path):
    file, glue = mrpc / "model.bertile", ("--data", mrpc / "glue")
    refuse("trained for mrpc, not for rte", "evaluate", file, "--task", "rte", *glue)
    refuse("unknown split 'test'", "evaluate", file, "--split", "test", *glue)
    refuse("unknown device 'fpga'", "evaluate", file, "--device", "fpga", *glue)
    refuse("no such file", "evaluate", tmp_path / "missing.bertile", *glue)
    refuse("no dev.tsv of mrpc", "evaluate", file, "--data", tmp_path)
    refuse("metric mse does not fit mrpc", "evaluate", file, "--metric", "mse", *glue)
    model = make_classifier(tmp_path / "model", labels=("a", "b", "c"))
    evaluate = ("evaluate", model, "--device", "fp32", *glue)
    refuse("does not say what it was trained for", *evaluate)
    refuse("mrpc needs 2 classes, the model has 3 classes", *evaluate, "--task", "mrpc")
    refuse("stsb needs one value, the model has 3 classes", *evaluate, "--task", "stsb")
    change_config(model, id2label={"0": "neutral", "1": "entailment", "2": "contradiction"})
    refuse("mnli has its classes in another order", *evaluate, "--task", "mnli")


def test_lines_that_are_neither_sentence_nor_pair(mrpc):
    refuse("line 2: a TAB separates", "run", mrpc / "model.bertile", "--text", "-", text="a\tb\na\tb\tc\n")


def test_calibration_on_pairs(mrpc, tmp_path):
    (tmp_path / "pairs.txt").write_text("One sentence.\tAnother one.\nA single one.\n")
    file = tmp_path / "model.bertile"
    succeed("pack", mrpc / "model", "-o", file, "--calibrate", tmp_path / "pairs.txt")
    calibration = load_packed(file).provenance["calibration"]
    assert calibration == {"source": "pairs.txt", "sequences": 2, "tokens": 15}
    (tmp_path / "pairs.txt").write_text("One sentence.\t\n")
    refuse("line 1: a TAB separates", "pack", mrpc / "model", "-o", file, "--calibrate", tmp_path / "pairs.txt")
