"""Text in, label out: a head trained, converted by hls4ml, and run behind the encoder, as a user does it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bertile.head import evaluate
from bertile.head.folder import HeadFolder, open_head_folder
from bertile.head.model import load_head

from .conftest import GLUE, bertile, succeed

# None of them, nor their words of praise and blame together, is in the bundled training sentences.
HELD_OUT = {
    "I adore this movie.": "positive",
    "An enjoyable, heartwarming tale.": "positive",
    "Fantastic value, highly recommended.": "positive",
    "My friends and I had a lovely time.": "positive",
    "This is a horrible waste of time.": "negative",
    "The worst purchase I ever made.": "negative",
    "An annoying and pointless sequel.": "negative",
    "The meal was disgusting.": "negative",
}


@pytest.fixture(scope="module")
def head(minilm: Path) -> Path:
    """A head for MiniLM, trained on the bundled sentences."""
    file = minilm.parent / "head.safetensors"
    said = succeed("head", "train", minilm, "-o", file)
    assert "384 to 64 to 2 features" in said
    return file


def refuse(cause: str, *arguments: object) -> None:
    """The command exits with 2 and one line on stderr that contains `cause`."""
    result = bertile(*arguments, text="A sentence.\n")
    assert result.returncode == 2, (result.stdout, result.stderr)
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert cause in lines[0]


def classify(minilm: Path, head: Path, text: str, device: str = "integer") -> list[dict]:
    """The sentences of `run --head --json`."""
    arguments = ("run", minilm, "--text", "-", "--head", head, "--device", device, "--json")
    report = json.loads(succeed(*arguments, text=text))
    assert (report["device"], report["head_device"]) == (device, "csim")
    return report["sentences"]


def test_sentences_get_their_labels(minilm, head):
    sentences = classify(minilm, head, "\n".join(HELD_OUT))
    assert [sentence["text"] for sentence in sentences] == list(HELD_OUT)
    assert {sentence["text"]: sentence["label"] for sentence in sentences} == HELD_OUT
    for sentence in sentences:
        assert sum(sentence["probabilities"].values()) == pytest.approx(1)
        assert max(sentence["logits"], key=sentence["logits"].get) == sentence["label"]
        assert sentence["probabilities"][sentence["label"]] == max(sentence["probabilities"].values()) > 0.5


def test_every_device_gives_the_same_logits(minilm, head):
    text = "I adore this movie.\nThe meal was disgusting, and we waited for an hour.\n"
    assert classify(minilm, head, text, "csim") == classify(minilm, head, text, "integer")


def test_labels_are_shown(minilm, head):
    said = succeed("run", minilm, "--text", "-", "--head", head, text="[b]I adore this movie.\nHorrible.\n")
    rows = [line for line in said.splitlines() if "movie" in line or "Horrible" in line]
    assert "[b]I adore" in rows[0]
    assert "positive" in rows[0]
    assert "negative" in rows[1]


def test_the_head_is_checked_against_pytorch(minilm, head, monkeypatch):
    result = json.loads(succeed("head", "check", minilm, head, "--json"))
    assert (result["sentences"], result["labels_agree"], result["differing_bits"]) == (40, 40, 0)
    assert result["passed"] is True
    assert 0 < result["max_error"] <= result["tolerance"]
    assert result["accuracy_pytorch"] == result["accuracy_kernel"] > 0.95
    assert "0 differ from hls4ml" in succeed("head", "check", minilm, head, "--sentences", 3)
    monkeypatch.setattr(evaluate, "TOLERANCE", 1e-9)
    assert bertile("head", "check", minilm, head, "--sentences", 3).returncode == 1


def test_what_was_built_is_named(minilm, head):
    """The sources and include folders that a link needs, and what they hold."""
    built = json.loads(succeed("head", "build", minilm, head, "--json"))
    assert [Path(path).name for path in built["sources"]] == ["bertile_head.cpp", "bertile_head_network.cpp"]
    assert all(Path(path).exists() for path in [*built["sources"], *built["includes"]])
    assert (built["hidden"], built["features"], built["labels"]) == (384, 64, ["negative", "positive"])
    assert built["multipliers"] == 66
    config = (Path(built["folder"]) / "bertile_head_config.hpp").read_text()
    assert built["head_digest"].upper() in config
    assert open_head_folder(Path(built["folder"])) == HeadFolder(Path(built["folder"]), built["head_digest"])
    said = succeed("head", "build", minilm, head)
    assert "head_digest" in said
    assert f"make hw HEAD={built['folder']}" in said.splitlines()[-1]


def test_a_head_remembers_where_it_comes_from(minilm, head, tmp_path):
    file = tmp_path / "again.safetensors"
    succeed("head", "train", minilm, "-o", file)
    again, first = load_head(file), load_head(head)
    for name, tensor in first.tensors().items():
        np.testing.assert_array_equal(again.tensors()[name], tensor)
    provenance = again.provenance
    assert provenance["model"] == "minilm"
    assert provenance["data"] == "bundled sentiment.tsv"
    assert (provenance["sentences"], provenance["device"]) == (40, "fp32")
    assert len(provenance["weights_sha256"]) == 64


def test_a_head_of_another_model_is_noted(minilm, head, tmp_path):
    """The same width, other weights: it runs, and says so."""
    succeed("prune", "minilm", "--sparsity", 0.1, "-o", tmp_path / "pruned")
    succeed("pack", tmp_path / "pruned", "-o", tmp_path / "pruned.bertile")
    result = bertile("run", tmp_path / "pruned.bertile", "--text", "-", "--head", head, text="Lovely.\n")
    assert result.returncode == 0, result.stderr
    assert "trained on another model" in result.stderr
    assert "another model" not in bertile("head", "build", minilm, head).stderr


def test_training_on_a_device_and_the_first_token(minilm, tmp_path):
    """Hidden states of the integer reference, three labels under names of one's own."""
    data, file = tmp_path / "data.tsv", tmp_path / "head.safetensors"
    data.write_text("sentence1\tlabel\n" + "A dog barks.\t2\nIt rains.\t0\nShe sings.\t1\n" * 3)
    arguments = ("--device", "integer", "--pooling", "first", "--features", 5, "--labels", "weather,music,animal")
    report = json.loads(succeed("head", "train", minilm, "--data", data, "-o", file, *arguments, "--json"))
    assert report["training_accuracy"] == 1
    assert load_head(file).pooling == "first"
    labels = [row["label"] for row in classify(minilm, file, "A dog barks.\nIt rains.\nShe sings.")]
    assert labels == ["animal", "weather", "music"]


def test_train_refuses(minilm, workspace, tmp_path):
    file = tmp_path / "out" / "head.safetensors"
    refuse("no such folder", "head", "train", minilm, "-o", file)
    file.parent.mkdir()
    train = ("head", "train", minilm, "-o", file)
    refuse("is a folder", "head", "train", minilm, "-o", tmp_path)
    refuse("unknown pooling 'max'", *train, "--pooling", "max")
    refuse("1025 pooler features", *train, "--features", 1025)
    refuse("not a file, and no train.tsv", *train, "--data", tmp_path)
    refuse("--labels 'one'", *train, "--labels", "one")
    refuse("unknown device 'fpga'", *train, "--device", "fpga")
    refuse("no such file", "head", "train", tmp_path / "missing.bertile", "-o", file)
    refuse("no tokenizer", "head", "train", workspace / "tiny.bertile", "-o", file)
    (tmp_path / "one.tsv").write_text("sentence1\tlabel\na\tx\nb\tx\n")
    refuse("all sentences have the label x", *train, "--data", tmp_path / "one.tsv")
    many = "".join(f"sentence {n}\tlabel {n}\n" for n in range(17))
    (tmp_path / "many.tsv").write_text("sentence1\tlabel\n" + many)
    refuse("17 labels", *train, "--data", tmp_path / "many.tsv")
    assert list(file.parent.iterdir()) == []


def test_wrong_heads_are_refused(minilm, head, workspace, tmp_path):
    run = ("run", minilm, "--text", "-", "--head")
    refuse("no such file", *run, tmp_path / "missing")
    refuse("not a head that", *run, minilm)
    (tmp_path / "cut").write_bytes(head.read_bytes()[:1000])
    refuse("not a complete head file", *run, tmp_path / "cut")
    refuse("not a .bertile file", "head", "build", head, head)
    refuse("label 'up' is none of negative, positive", "head", "check", minilm, head, "--data", up(tmp_path))


def up(folder: Path) -> Path:
    """Data with labels that no head has."""
    file = folder / "up.tsv"
    file.write_text("sentence1\tlabel\na\tup\n")
    return file


def test_a_head_of_another_width_is_refused(head, workspace):
    result = bertile("head", "build", workspace / "tiny.bertile", head)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == "error: the head reads 384 hidden features, the model has 128"


@pytest.mark.glue
def test_sst2_end_to_end(minilm, tmp_path):
    """Trained on real data: the C-simulated head is as good as PyTorch's, and better than guessing by far."""
    if not (GLUE / "SST-2" / "dev.tsv").is_file():
        pytest.skip(f"NO SST-2 in {GLUE}: the head's accuracy was NOT tested (set BERTILE_GLUE to a folder with SST-2)")
    file = tmp_path / "sst2.safetensors"
    succeed("head", "train", minilm, "--data", GLUE, "-o", file, "--sentences", 4000)
    result = json.loads(succeed("head", "check", minilm, file, "--data", GLUE, "--json"))
    assert result["sentences"] == 872
    assert result["labels_agree"] >= 870
    assert result["differing_bits"] == 0
    assert result["accuracy_kernel"] > 0.75
    assert abs(result["accuracy_kernel"] - result["accuracy_pytorch"]) <= 0.003
