"""Tasks by name, and their metrics against cases worked out by hand."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertile.errors import BertileError
from bertile.tasks.data import Split
from bertile.tasks.glue import TASKS, Task, find_task, plain_name
from bertile.tasks.metrics import compute_metrics, constant_score, decisive, retention


def task_of(metrics: str, classes: int = 1) -> Task:
    """A custom task with these metrics, a regression by default."""
    labels = tuple(f"class {index}" for index in range(classes)) if classes > 1 else ()
    return Task("custom", "custom", False, labels, tuple(metrics.split()))


def logits_of(predicted: list[int], classes: int) -> np.ndarray:
    """[examples, classes] whose largest column is the prediction."""
    return 3.0 * np.eye(classes)[predicted] - 1.0


def split_of(labels: list[float], dtype: type = np.int64) -> Split:
    return Split([f"text {index}" for index in range(len(labels))], None, np.array(labels, dtype), "a test")


def write_splits(folder: Path, train: str, dev: str = "sentence1\tlabel\nx\t1\n") -> Path:
    (folder / "train.tsv").write_text(train, encoding="utf-8")
    (folder / "dev.tsv").write_text(dev, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("name", "folder", "pair", "classes", "metrics"),
    [
        ("cola", "CoLA", False, 2, ("matthews",)),
        ("sst2", "SST-2", False, 2, ("accuracy",)),
        ("mrpc", "MRPC", True, 2, ("accuracy", "f1")),
        ("stsb", "STS-B", True, 1, ("spearman", "pearson")),
        ("qqp", "QQP", True, 2, ("accuracy", "f1")),
        ("mnli", "MNLI", True, 3, ("accuracy",)),
        ("qnli", "QNLI", True, 2, ("accuracy",)),
        ("rte", "RTE", True, 2, ("accuracy",)),
        ("wnli", "WNLI", True, 2, ("accuracy",)),
    ],
)
def test_the_tasks_of_glue(name, folder, pair, classes, metrics):
    task = TASKS[name]
    assert (task.name, task.folder, task.pair, task.classes, task.metrics) == (name, folder, pair, classes, metrics)
    assert task.regression == (name == "stsb")
    assert task.span == ((0.0, 5.0) if name == "stsb" else None)
    assert len(TASKS) == 9


def test_class_names_are_in_the_hubs_order():
    """Class 1 is what F1 counts; RTE and WNLI have the same names the other way round."""
    assert TASKS["mrpc"].labels == ("not_equivalent", "equivalent")
    assert TASKS["mnli"].labels == ("entailment", "neutral", "contradiction")
    assert TASKS["rte"].labels == ("entailment", "not_entailment")
    assert TASKS["wnli"].labels == ("not_entailment", "entailment")


@pytest.mark.parametrize("name", ["STS-B", "sts-b", "stsb", "StsB", "STS_B", "sts b"])
def test_a_name_is_found_however_it_is_written(name):
    assert find_task(name) is TASKS["stsb"]


@given(st.sampled_from(sorted(TASKS)), st.data())
def test_case_and_dashes_do_not_matter(name, data):
    written = "".join(
        data.draw(st.sampled_from([letter, letter.upper(), f"-{letter}", f"{letter}_"])) for letter in name
    )
    assert find_task(written) is TASKS[name]
    assert plain_name(written) == name


def test_a_metric_decides():
    assert find_task("mrpc", "F1").metrics == ("f1", "accuracy")
    assert find_task("stsb", "pearson").metrics == ("pearson", "spearman")
    assert find_task("stsb", "mse").metrics == ("mse", "spearman", "pearson")
    assert find_task("rte", "accuracy") == TASKS["rte"]
    assert TASKS["mrpc"].metrics == ("accuracy", "f1")
    with pytest.raises(BertileError, match=r"metric f1 does not fit stsb; choose one of spearman, pearson, mse$"):
        find_task("stsb", "f1")
    with pytest.raises(BertileError, match=r"metric mse does not fit mrpc; choose one of accuracy, f1, matthews$"):
        find_task("mrpc", "mse")
    with pytest.raises(BertileError, match="unknown metric 'bleu'; choose one of spearman, "):
        find_task("mrpc", "bleu")


def test_unknown_names(tmp_path):
    """One line with the tasks there are, and the way to any other."""
    for arguments in (("mnlx",), ("mnlx", "f1"), ("mnlx", None, tmp_path)):
        with pytest.raises(
            BertileError, match=r"unknown task 'mnlx'; choose one of cola, .*, wnli, .*--metric"
        ) as error:
            find_task(*arguments)
        assert "\n" not in str(error.value)
    with pytest.raises(BertileError, match=r"no train.tsv or dev.tsv of 'mnlx', .*cola, .*--metric"):
        find_task("mnlx", "f1", tmp_path)


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["10", "9", "-1", "9"], ("-1", "9", "10")),
        (["10", "9", "b", "9"], ("10", "9", "b")),
        (["spam", "ham"], ("ham", "spam")),
        (["1.5", "1"], ("1", "1.5")),
    ],
)
def test_classes_of_ones_own_task(values, classes, tmp_path):
    """Sorted by number only where all are integers."""
    data = write_splits(tmp_path, "sentence1\tlabel\n" + "".join(f"text\t{value}\n" for value in values))
    task = find_task("Mails", "accuracy", data)
    assert task == Task("Mails", "Mails", False, classes, ("accuracy",))


def test_ones_own_pairs_and_regressions(tmp_path):
    header = "sentence2\tlabel\tsentence1\n"
    data = write_splits(tmp_path, header + "a\t7\tb\n", header + "a\t-2.5\tb\n")
    assert find_task("mine", "MSE", data) == Task("mine", "mine", True, (), ("mse",))
    with pytest.raises(BertileError, match=r"train.tsv: only one class, 7$"):
        find_task("mine", "f1", data)
    (data / "train.tsv").unlink()
    assert find_task("mine", "pearson", data).pair
    with pytest.raises(BertileError, match=r"no train.tsv of mine; metric f1 needs its classes"):
        find_task("mine", "f1", data)


def test_ones_own_task_in_a_folder_of_its_name(tmp_path):
    (tmp_path / "mine").mkdir()
    write_splits(tmp_path / "mine", "sentence\tlabel\na\tx\nb\ty\n")
    assert find_task("mine", "f1", tmp_path).labels == ("x", "y")


def test_ones_own_classes_need_labels(tmp_path):
    data = write_splits(tmp_path, "sentence1\tlabel\na\tx\n\nb\t\n")
    with pytest.raises(BertileError, match=r"train.tsv: line 4: the label is missing$"):
        find_task("mine", "f1", data)
    write_splits(tmp_path, "sentence1\tscore\na\tx\n")
    with pytest.raises(BertileError, match=r"train.tsv: needs one column label, the header has sentence1, score$"):
        find_task("mine", "f1", data)


def test_metrics_of_two_classes():
    """3 true positives, 1 false positive, 2 false negatives, 5 true negatives."""
    labels = np.array([1, 1, 1, 0, 1, 1, 0, 0, 0, 0, 0])
    outputs = logits_of([1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0], 2)
    metrics = compute_metrics(task_of("accuracy f1 matthews", 2), outputs, labels)
    assert list(metrics) == ["accuracy", "f1", "matthews"]
    assert metrics["accuracy"] == pytest.approx(8 / 11)
    assert metrics["f1"] == pytest.approx(2 * 3 / (2 * 3 + 1 + 2))
    assert metrics["matthews"] == pytest.approx((3 * 5 - 1 * 2) / np.sqrt(4 * 5 * 6 * 7))
    assert all(type(value) is float for value in metrics.values())


def test_f1_of_three_classes_is_their_mean():
    """Class 0: 1 of 1 and 1 of 2; class 1: 1 of 2 and 1 of 1; class 2 never right nor wrong."""
    metrics = compute_metrics(task_of("f1", 3), logits_of([0, 1, 1], 3), np.array([0, 0, 1]))
    assert metrics["f1"] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)


def test_metrics_of_a_regression():
    """Ranks 1 2 4 3 against 1 2 3 4: 1 - 6 * 2 / (4 * 15); errors 0, 1, 4, -1."""
    labels = np.array([0, 1, 2, 4], np.float32)
    outputs = np.array([[0.0], [2.0], [6.0], [3.0]], np.float32)
    metrics = compute_metrics(task_of("spearman pearson mse"), outputs, labels)
    assert metrics["spearman"] == pytest.approx(0.8)
    # Deviations from 2.75 and 1.75: -2.75 -.75 3.25 .25 and -1.75 -.75 .25 2.25.
    assert metrics["pearson"] == pytest.approx(6.75 / np.sqrt(18.75 * 8.75))
    assert metrics["mse"] == pytest.approx((0 + 1 + 16 + 1) / 4)


@pytest.mark.parametrize("metric", ["spearman", "pearson", "matthews", "f1"])
def test_a_constant_prediction_scores_zero_without_a_warning(metric):
    classes = 2 if metric in ("matthews", "f1") else 1
    outputs = np.tile(np.array([[0.1, -0.7][:classes]], np.float32), (5, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compute_metrics(task_of(metric, classes), outputs, np.array([0, 1, 1, 0, 1]))[metric] == 0.0
        if classes == 2:  # also where the one class is right for all
            assert compute_metrics(task_of(metric, 2), outputs, np.zeros(5, np.int64))[metric] == 0.0


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=20))
def test_accuracy_is_the_fraction_that_agrees(pairs):
    predicted, labels = map(list, zip(*pairs, strict=True))
    metrics = compute_metrics(task_of("accuracy f1 matthews", 3), logits_of(predicted, 3), np.array(labels))
    assert metrics["accuracy"] == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))
    assert 0 <= metrics["f1"] <= 1
    assert -1 <= metrics["matthews"] <= 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_outputs_that_are_no_numbers(bad):
    outputs = np.zeros((3, 2))
    outputs[1, 0] = bad
    with pytest.raises(BertileError, match="outputs of 1 of 3 examples are not finite"):
        compute_metrics(TASKS["mrpc"], outputs, np.array([0, 1, 1]))


def test_wrong_shapes():
    for outputs in (np.zeros((3, 1)), np.zeros((2, 2)), np.zeros(3)):
        with pytest.raises(ValueError, match="outputs"):
            compute_metrics(TASKS["mrpc"], outputs, np.array([0, 1, 1]))
    with pytest.raises(ValueError, match="outputs"):
        compute_metrics(TASKS["mrpc"], np.zeros((0, 2)), np.zeros(0, np.int64))


def test_equal_labels_correlate_with_nothing():
    with pytest.raises(BertileError, match="all 3 labels are equal"):
        compute_metrics(TASKS["stsb"], np.array([[1.0], [2.0], [3.0]]), np.full(3, 4.0, np.float32))


def test_more_is_better_for_the_deciding_metric():
    assert decisive(TASKS["mrpc"], {"f1": 0.9, "accuracy": 0.7}) == 0.7
    assert decisive(find_task("mrpc", "f1"), {"f1": 0.9, "accuracy": 0.7}) == 0.9
    assert decisive(task_of("mse"), {"mse": 2.5}) == -2.5


def test_a_constant_answer_is_the_majority_of_train():
    """Not of dev: train says 1, dev has it 1 time in 4."""
    metrics = constant_score(TASKS["mrpc"], split_of([0, 1, 1]), split_of([0, 0, 1, 0]))
    assert metrics == {"accuracy": 0.25, "f1": pytest.approx(2 / (2 + 3))}
    assert constant_score(TASKS["cola"], split_of([0, 1, 1]), split_of([0, 0, 1, 0])) == {"matthews": 0.0}
    # A class that train never has still has its column.
    assert constant_score(TASKS["mnli"], split_of([0, 0]), split_of([0, 2])) == {"accuracy": 0.5}


def test_a_constant_answer_is_the_mean_of_train():
    metrics = constant_score(task_of("mse pearson"), split_of([1, 2], np.float32), split_of([1, 4], np.float32))
    assert metrics == {"mse": pytest.approx((0.5**2 + 2.5**2) / 2), "pearson": 0.0}


def test_retention():
    assert retention(0.80, 0.60, 0.85) == pytest.approx(0.8)
    assert retention(0.50, 0.60, 0.85) == pytest.approx(-0.4)
    assert retention(-2.0, -3.0, -1.0) == pytest.approx(0.5)
    for constant, dense in ((0.6, 0.6), (0.6, 0.5), (0.6, np.nan)):
        with pytest.raises(ValueError, match="the dense model scores"):
            retention(0.5, constant, dense)
