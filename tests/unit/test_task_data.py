"""Reading a task's examples: the real files, the hub's form of them, and every kind of bad input by its line."""

from __future__ import annotations

import os
import re
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertile.errors import BertileError
from bertile.tasks.data import read_split, read_texts
from bertile.tasks.glue import TASKS, Task, find_task

ROOT = Path(__file__).parents[2]
GLUE = Path(os.environ.get("BERTILE_GLUE", ROOT.parent / "shared" / "data" / "glue"))
# What no field may hold, and what stripping would take away or csv refuse.
FIELD = st.text(st.characters(exclude_characters="\t\n\r\0", codec="utf-8"), min_size=1).map(str.strip).filter(bool)


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.glue
@pytest.mark.parametrize(
    ("name", "train", "dev", "first"),
    [
        ("mrpc", 3668, 408, 'Amrozi accused his brother, whom he called "the witness", of deliberately'),
        ("stsb", 5749, 1500, "A plane is taking off."),
        ("sst2", 67349, 872, "when are bears bears and"),
    ],
)
def test_the_real_splits(name, train, dev, first):
    task = find_task(name)
    if not (GLUE / task.folder / "dev.tsv").is_file():
        pytest.skip(f"NO {task.folder} in {GLUE}: reading it was NOT tested (set BERTILE_GLUE to a GLUE folder)")
    splits = [read_split(task, GLUE, "train"), read_split(task, GLUE / task.folder, "dev")]
    assert [len(split) for split in splits] == [train, dev]
    assert splits[0].first[0].startswith(first)
    for split in splits:
        assert len(split.texts()) == len(split.labels) == len(split)
        assert (split.second is None) == (not task.pair)
        assert split.labels.dtype == (np.float32 if task.regression else np.int64)
        values = set(split.labels.tolist())
        assert min(values) == 0 and max(values) == (5 if task.regression else 1)  # noqa: PT018
    if name == "mrpc":
        assert splits[1].labels.sum() == 279


def test_pairs(tmp_path):
    """Column order is the header's, quotes are literal, names are classes too, empty lines do not count as rows."""
    path = write(
        tmp_path / "MRPC" / "dev.tsv",
        '\ufefflabel\tid\tsentence2\tsentence1\r\n1\t7\t"an open quote\t b "c"\r\n\r\nnot_equivalent\t8\td""\t"e"\r\n',
    )
    split = read_split(TASKS["mrpc"], tmp_path, "dev")
    assert split.texts() == [('b "c"', '"an open quote'), ('"e"', 'd""')]
    assert split.labels.tolist() == [1, 0]
    assert split.source == str(path)
    assert len(split) == 2


def test_single_sentences(tmp_path):
    for column in ("sentence", "sentence1"):
        write(tmp_path / "train.tsv", f"{column}\tlabel\nüber\t1\n")
        split = read_split(TASKS["sst2"], tmp_path, "train")
        assert (split.texts(), split.second, split.labels.tolist()) == (["über"], None, [1])


def test_sentences_of_a_pair_task_are_not_read_as_single_ones(tmp_path):
    path = write(tmp_path / "dev.tsv", "sentence1\tsentence2\tlabel\na\tb\t1\n")
    with pytest.raises(BertileError, match=f"^{re.escape(str(path))}: has sentence2, but sst2 is a task of single"):
        read_split(TASKS["sst2"], tmp_path, "dev")


def test_the_folder_of_the_task_comes_first(tmp_path):
    write(tmp_path / "dev.tsv", "sentence1\tlabel\nwrong\t0\n")
    write(tmp_path / "SST-2" / "dev.tsv", "sentence1\tlabel\nright\t0\n")
    assert read_split(TASKS["sst2"], tmp_path, "dev").first == ["right"]


def test_the_names_that_glue_itself_uses(tmp_path):
    """QNLI's `sentence` is the second one; MNLI's dev split and label column have names of their own."""
    write(tmp_path / "dev.tsv", "index\tquestion\tsentence\tlabel\n0\tq\ts\tnot_entailment\n")
    assert read_split(TASKS["qnli"], tmp_path, "dev").texts() == [("q", "s")]
    write(tmp_path / "MNLI" / "dev_matched.tsv", "sentence1\tsentence2\tgold_label\na\tb\tcontradiction\nc\td\t1\n")
    split = read_split(TASKS["mnli"], tmp_path, "dev")
    assert (split.texts(), split.labels.tolist()) == ([("a", "b"), ("c", "d")], [2, 1])


def test_integer_classes_are_names_not_indices(tmp_path):
    write(tmp_path / "train.tsv", "sentence1\tlabel\na\t2\nb\t1\n")
    stars = find_task("stars", "accuracy", tmp_path)
    assert read_split(stars, tmp_path, "train").labels.tolist() == [1, 0]
    write(tmp_path / "dev.tsv", "sentence1\tlabel\na\t0\n")
    with pytest.raises(BertileError, match="line 2: label '0' is none of 1, 2"):
        read_split(stars, tmp_path, "dev")


PAIRS = "sentence1\tsentence2\tlabel\n"


@pytest.mark.parametrize(
    ("name", "text", "cause"),
    [
        ("mrpc", "", "empty"),
        ("mrpc", "\n\n", "empty"),
        ("mrpc", PAIRS, "a header and no rows"),
        (
            "mrpc",
            "sentence1\tlabel\na\t1\n",
            "needs the columns sentence1, sentence2 and label, the header has sentence1",
        ),
        ("sst2", "text\tlabel\na\t1\n", r"needs the columns sentence1 \(or sentence\) and label, the header has text"),
        ("mrpc", "sentence1\tsentence2\na\tb\n", "needs one column label, the header has sentence1, sentence2$"),
        ("mrpc", "sentence1\tsentence2\tlabel\tlabel\na\tb\t1\t1\n", "needs one column label"),
        ("mrpc", PAIRS + "a\tb\t1\n\na\t \t1\n", "line 4: sentence2 is missing"),
        ("mrpc", PAIRS + "\tb\t1\n", "line 2: sentence1 is missing"),
        ("mrpc", PAIRS + "a\tb\t\n", "line 2: the label is missing"),
        ("stsb", PAIRS + "a\tb\t\n", "line 2: the label is missing"),
        ("mrpc", PAIRS + "a\tb\t1\na\tb\t2\n", "line 3: label '2' is none of not_equivalent, equivalent"),
        ("mrpc", PAIRS + "a\tb\t1.0\n", "line 2: label '1.0' is none of"),
        ("stsb", PAIRS + "a\tb\t5\na\tb\thigh\n", "line 3: label 'high' is not a number"),
        ("stsb", PAIRS + "a\tb\tnan\n", "line 2: label 'nan' is not a finite number"),
        ("stsb", PAIRS + "a\tb\t1e39\n", "line 2: label '1e39' is not a finite number"),
        ("stsb", PAIRS + "a\tb\t0\na\tb\t5.001\n", "line 3: label 5.001 is outside 0 to 5"),
        ("stsb", PAIRS + "a\tb\t-0.1\n", "line 2: label -0.1 is outside 0 to 5"),
        ("mrpc", PAIRS + 'a\t"b\t1\na\tb"\n', "line 3: 2 fields for 3 columns"),
        ("mrpc", PAIRS + "a\tb\tc\t1\n", "line 2: 4 fields for 3 columns"),
        ("mrpc", (PAIRS + "a\tb\t1\na\tü\t1\n").encode("latin-1"), "line 3: not UTF-8 text"),
        ("mrpc", b"\xff\xfes\0e\0n\0", "line 1: a NUL byte; is this a text file"),
        ("mrpc", PAIRS + "a\tb\t1\na\0\tb\t1\n", "line 3: a NUL byte"),
        ("mrpc", PAIRS + "a\tb\t1\na\rb\tc\t1\n", "line 3: new-line character seen in unquoted field"),
        ("mrpc", PAIRS + "a\tb\t1\n" + "x" * 140_000 + "\tb\t1\n", "line 3: field larger than field limit"),
    ],
)
def test_bad_files(name, text, cause, tmp_path):
    """One line, beginning with the file and, where a line is to blame, its number."""
    path = write(tmp_path / "dev.tsv", text)
    with pytest.raises(BertileError, match=f"^{re.escape(str(path))}: {cause}") as error:
        read_split(TASKS[name], tmp_path, "dev")
    assert "\n" not in str(error.value)


def test_values_without_a_span_may_be_any_number(tmp_path):
    write(tmp_path / "dev.tsv", "sentence1\tlabel\na\t-1e6\n")
    assert read_split(Task("t", "t", False, (), ("mse",)), tmp_path, "dev").labels.tolist() == [-1e6]


def test_files_that_are_not_there(tmp_path):
    write(tmp_path / "dev_matched.tsv", "sentence1\tlabel\na\t1\n")
    with pytest.raises(BertileError, match=r": no dev.tsv of mrpc, neither there nor in MRPC$"):
        read_split(TASKS["mrpc"], tmp_path, "dev")
    with pytest.raises(BertileError, match=r": no dev.tsv or dev_matched.tsv of mnli"):
        read_split(TASKS["mnli"], tmp_path / "nowhere", "dev")
    with pytest.raises(BertileError, match=r": no train.tsv of mnli"):
        read_split(TASKS["mnli"], tmp_path / "dev_matched.tsv", "train")
    with pytest.raises(BertileError, match="File name too long"):
        read_split(Task("t", "x" * 300, False, (), ("mse",)), tmp_path, "dev")
    with pytest.raises(ValueError, match="split 'test'"):
        read_split(TASKS["mrpc"], tmp_path, "test")


@given(rows=st.lists(st.tuples(FIELD, FIELD, st.sampled_from(["0", "1"])), min_size=1, max_size=8))
def test_what_is_written_is_read(tmp_path_factory, rows):
    """Quotes, backslashes, odd spaces and line separators of Unicode: all are text."""
    folder = tmp_path_factory.mktemp("rows")
    write(folder / "train.tsv", PAIRS + "".join("\t".join(row) + "\n" for row in rows))
    split = read_split(TASKS["rte"], folder, "train")
    assert split.texts() == [row[:2] for row in rows]
    assert split.labels.tolist() == [int(row[2]) for row in rows]


@pytest.mark.parametrize(
    ("name", "columns", "dev"),
    [
        ("cola", ["sentence"], "validation"),
        ("sst2", ["sentence"], "validation"),
        ("mrpc", ["sentence1", "sentence2"], "validation"),
        ("stsb", ["sentence1", "sentence2"], "validation"),
        ("qqp", ["question1", "question2"], "validation"),
        ("mnli", ["premise", "hypothesis"], "validation_matched"),
        ("qnli", ["question", "sentence"], "validation"),
        ("rte", ["sentence1", "sentence2"], "validation"),
        ("wnli", ["sentence1", "sentence2"], "validation"),
    ],
)
def test_the_hub(name, columns, dev, monkeypatch):
    """Its configuration, its names of columns and splits; an empty question is kept."""
    asked = []

    def load_dataset(path: str, config: str, split: str) -> datasets.Dataset:
        asked.append((path, config, split))
        texts = {column: [f"{column} one ", ""] for column in columns}
        return datasets.Dataset.from_dict({**texts, "label": [4.25, 0.5] if name == "stsb" else [1, 0], "idx": [0, 1]})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    split = read_split(TASKS[name], None, "dev")
    read_split(TASKS[name], None, "train")
    assert asked == [("nyu-mll/glue", name, dev), ("nyu-mll/glue", name, "train")]
    first = tuple(f"{column} one" for column in columns)
    assert split.texts() == ([first, ("", "")] if len(columns) == 2 else [first[0], ""])
    assert split.labels.tolist() == ([4.25, 0.5] if name == "stsb" else [1, 0])
    assert split.labels.dtype == (np.float32 if name == "stsb" else np.int64)
    assert split.source == f"nyu-mll/glue {name} {dev}"


@pytest.mark.parametrize("error", [ConnectionError("no route\nto the hub"), ValueError("no route"), RuntimeError()])
def test_no_way_to_the_hub(error, monkeypatch):
    def load_dataset(*arguments, **options):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    cause = "no route" if str(error) else "RuntimeError"
    with pytest.raises(BertileError, match=rf"^cannot download nyu-mll/glue mrpc train \({cause}\); give --data DIR"):
        read_split(TASKS["mrpc"], None, "train")


def test_hub_labels_that_are_hidden(monkeypatch):
    """As in the test splits: -1."""
    table = datasets.Dataset.from_dict({"sentence": ["a"], "label": [-1]})
    monkeypatch.setattr(datasets, "load_dataset", lambda *arguments, **options: table)
    with pytest.raises(BertileError, match="nyu-mll/glue cola train: label '-1' is none of unacceptable, acceptable"):
        read_split(TASKS["cola"], None, "train")


def test_ones_own_task_is_not_on_the_hub():
    with pytest.raises(BertileError, match="mine is no task of GLUE: give --data DIR"):
        read_split(Task("mine", "mine", False, (), ("mse",)), None, "dev")


def test_texts_without_labels(tmp_path):
    """Lines of a text file; rows of a TSV, pairs where they are; labels may be anything."""
    plain = write(tmp_path / "plain", "\ufeffone\r\n\n  two\ttabs \nthree")
    pairs = write(tmp_path / "pairs.tsv", PAIRS + 'a\t"b\t?\nc\t\t\n')
    questions = write(tmp_path / "qnli.tsv", "question\tsentence\nq\ts\n")
    single = write(tmp_path / "single.TSV", "label\tsentence\n1\td\n")
    assert read_texts([plain, pairs]) == ["one", "two\ttabs", "three", ("a", '"b'), "c"]
    assert read_texts([questions, single]) == [("q", "s"), "d"]


def test_a_folder_of_texts_leaves_the_scored_splits_out(tmp_path):
    held_out = ("dev", "test", "dev_matched", "dev_mismatched", "test_matched", "test_mismatched", "DEV")
    for name in (*held_out, "train", "b/train"):
        write(tmp_path / f"{name}.tsv", f"sentence\tlabel\n{name}\t1\n")
    write(tmp_path / "a.txt", "plain\n")
    write(tmp_path / "README.md", "not this\n")
    assert read_texts([tmp_path]) == ["plain", "train"]
    assert read_texts([tmp_path / "dev.tsv"]) == ["dev"]
    (tmp_path / "a.txt").unlink()
    (tmp_path / "train.tsv").unlink()
    with pytest.raises(BertileError, match=r": no \*.tsv or \*.txt, apart from dev and test splits$"):
        read_texts([tmp_path])


@pytest.mark.parametrize(
    ("name", "text", "cause"),
    [
        ("x.txt", "", "no text"),
        ("x.txt", " \n", "no text"),
        ("x.txt", b"a\n\xff\n", "line 2: not UTF-8 text"),
        ("x.txt", b"a\nb\nc\0\n", "line 3: a NUL byte"),
        ("x.tsv", "", "empty"),
        ("x.tsv", "text\na\n", r"needs the column sentence1 \(or sentence\), the header has text"),
        ("x.tsv", PAIRS + "\tb\t1\n", "line 2: sentence1 is missing"),
        ("x.tsv", PAIRS + "a\tb\t1\na\n", "line 3: 1 fields for 3 columns"),
        ("x.tsv", None, "No such file"),
    ],
)
def test_bad_texts(name, text, cause, tmp_path):
    path = tmp_path / name if text is None else write(tmp_path / name, text)
    with pytest.raises(BertileError, match=f"^{re.escape(str(path))}: {cause}"):
        read_texts([path])
