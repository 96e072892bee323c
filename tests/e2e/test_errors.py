"""Bad input: one line that names the cause, exit code 2, nothing written."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from bertile.errors import BertileError
from bertile.pack.container import load_packed
from bertile.text import TextEncoder

from .conftest import bertile, refuse


@pytest.mark.parametrize(
    ("cause", "arguments"),
    [
        ("no such folder", ["no-such-model"]),
        ("sparsity 1.0 is not in [0, 1)", ["--config", "bert-tiny", "--sparsity", "1"]),
        ("sparsity -0.1 is not in [0, 1)", ["--config", "bert-tiny", "--sparsity=-0.1"]),
        ("sparsity: nan is not a finite number", ["--config", "bert-tiny", "--sparsity", "nan"]),
        ("neurons@0.39 cannot reach a sparsity of 0.5; the", ["--config", "bert-tiny", "--pattern", "neurons@0.39"]),
        ("pattern heads covers 33.3% of the weights", ["--config", "bert-tiny", "--pattern", "heads"]),
        ("does not divide", ["--config", "bert-tiny", "--pattern", "3x16"]),
        ("is not KxN", ["--config", "bert-tiny", "--pattern", "sixteen"]),
        ("unknown configuration", ["--config", "gpt-9"]),
        ("give either a model", []),
        ("give either a model", ["minilm", "--config", "bert-tiny"]),
        ("--layers goes with --config", ["minilm", "--layers", "2"]),
        ("unknown scope", ["--config", "bert-tiny", "--scope", "local"]),
    ],
)
def test_prune_refuses(cause, arguments, tmp_path):
    refuse(cause, "prune", *arguments, "-o", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_prune_spares_a_folder_of_others(tmp_path):
    (tmp_path / "precious").write_text("data")
    refuse("not empty", "prune", "--config", "bert-tiny", "-o", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_pack_refuses_bad_calibration_text(workspace, tmp_path):
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    target = tmp_path / "out.bertile"
    refuse("no text", "pack", "minilm", "-o", target, "--calibrate", tmp_path / "empty.txt")
    refuse("not UTF-8", "pack", "minilm", "-o", target, "--calibrate", tmp_path / "binary.txt")
    refuse("No such file", "pack", "minilm", "-o", target, "--calibrate", tmp_path / "missing.txt")
    (tmp_path / "good.txt").write_text("A sentence.")
    refuse("no tokenizer", "pack", workspace / "pruned", "-o", target, "--calibrate", tmp_path / "good.txt")
    assert not target.exists()


def test_pack_refuses_bad_targets(workspace, tmp_path):
    refuse("cannot write", "pack", workspace / "pruned", "-o", "/proc/self/x.bertile")
    refuse("is a folder", "pack", workspace / "pruned", "-o", tmp_path)
    refuse("no such folder", "pack", workspace / "pruned", "-o", tmp_path / "missing" / "x.bertile")


@pytest.mark.parametrize("command", [["inspect"], ["check"], ["run", "--text", "-"]])
def test_files_that_are_not_ours(command, workspace, tmp_path):
    """Missing, truncated, altered, of another spec, of another kind."""
    good = workspace / "tiny.bertile"
    data = good.read_bytes()
    bad = tmp_path / "bad.bertile"

    def refuse_file(cause: str) -> None:
        refuse(cause, command[0], bad, *command[1:], text="hello")

    refuse_file("no such file")
    bad.write_bytes(data[: len(data) // 2])
    refuse_file("not a complete .bertile file")
    bad.write_bytes(b"")
    refuse_file("not a complete .bertile file")
    altered = bytearray(data)
    altered[-1000] ^= 1
    bad.write_bytes(altered)
    refuse_file("altered since it was packed")
    with safe_open(good, "numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    save_file(tensors, bad, {**metadata, "spec_digest": "0" * 64})
    refuse_file("packed for spec 000000000000")
    save_file({"x": np.zeros(3)}, bad)
    refuse_file("not a .bertile file")


def test_lengths_and_devices_out_of_range(workspace):
    file = workspace / "tiny.bertile"
    refuse("this model takes 1 to 512", "check", file, "--tokens", 513)
    refuse("this model takes 1 to 512", "inspect", file, "--tokens", 0)
    refuse("unknown device 'fpga'", "check", file, "--device", "fpga")
    refuse("this model has layers 0 to 1", "inspect", file, "--picture", "x.png", "--layer", 2)


def test_a_folder_with_files_of_others_is_kept(workspace, tmp_path):
    """A folder that Bertile wrote is replaced, but not what the user put into it."""
    folder = tmp_path / "model"
    shutil.copytree(workspace / "pruned", folder)
    (folder / "precious").write_text("data")
    refuse("holds precious", "prune", "--config", "bert-tiny", "-o", folder)
    (folder / "precious").unlink()
    assert bertile("prune", "--config", "bert-tiny", "-o", folder).returncode == 0


def test_standard_input_that_is_not_text(minilm):
    refuse("standard input: not UTF-8 text", "run", minilm, "--text", "-", text="bad \udcff")


def test_a_tokenizer_of_another_model(minilm):
    packed = load_packed(minilm)
    config = dataclasses.replace(packed.config, vocabulary=500)
    with pytest.raises(BertileError, match="the model's vocabulary has 500"):
        TextEncoder(packed.tokenizer, config).encode(["An unusual word."])


def test_pictures_need_a_file_name(workspace, tmp_path):
    refuse("is a folder", "inspect", workspace / "tiny.bertile", "--picture", tmp_path)


def test_targets_that_are_not_files(workspace):
    refuse("a folder or a device", "pack", workspace / "pruned", "-o", "/dev/null")
    refuse("a folder, not a .bertile file", "inspect", workspace / "pruned")


@pytest.mark.parametrize(
    ("cause", "arguments"),
    [
        ("No such command 'frobnicate'", ["frobnicate"]),
        ("Missing argument 'file'", ["check"]),
        ("Missing option '-o'", ["prune", "minilm"]),
        ("Invalid value for '--tokens'", ["check", "x.bertile", "--tokens", "many"]),
        ("Invalid value for '--seed'", ["check", "x.bertile", "--seed=-1"]),
    ],
)
def test_a_wrong_command_line_is_one_line_too(cause, arguments):
    refuse(cause, *arguments)


def test_empty_text(minilm):
    refuse("no text", "run", minilm, "--text", "-", text=" \n\n")


def test_evaluate_refuses(minilm, tmp_path):
    """One of each kind of bad data; tests/unit/test_task_data.py has them all."""
    refuse("unknown task", "evaluate", minilm, "--task", "chess", "--data", tmp_path)
    refuse("no dev.tsv", "evaluate", minilm, "--task", "stsb", "--data", tmp_path)
    (tmp_path / "dev.tsv").write_text("sentence1\tsentence2\tlabel\na\tb\tmany\n")
    refuse("line 2: label 'many' is not a number", "evaluate", minilm, "--task", "stsb", "--data", tmp_path)
    header = "sentence1\tsentence2\tlabel\n"
    (tmp_path / "dev.tsv").write_text(header + "a\tb\tnan\n")
    refuse("line 2: label 'nan' is not a finite number", "evaluate", minilm, "--task", "stsb", "--data", tmp_path)
    (tmp_path / "dev.tsv").write_text("label\tsentence1\tsentence2\n1\ta\n")
    refuse("line 2: 2 fields for 3 columns", "evaluate", minilm, "--task", "stsb", "--data", tmp_path)
    (tmp_path / "dev.tsv").write_bytes(header.encode() + b"a\t\xff\t1\n")
    refuse("not UTF-8", "evaluate", minilm, "--task", "stsb", "--data", tmp_path)
    (tmp_path / "dev.tsv").write_text(header + "a" * 200_000 + "\tb\t1\n")
    refuse("field larger", "evaluate", minilm, "--task", "stsb", "--data", tmp_path)
    (tmp_path / "dev.tsv").write_text(header)
    refuse("a header and no rows", "evaluate", minilm, "--task", "stsb", "--data", tmp_path)
    (tmp_path / "dev.tsv").write_text(header + "a\tb\t1\nc\td\t1\n")
    refuse("all 2 labels are equal", "evaluate", minilm, "--task", "stsb", "--data", tmp_path)
    (tmp_path / "dev.tsv").write_text("a\tb\n1\t2\n")
    refuse("needs the columns", "evaluate", minilm, "--task", "stsb", "--data", tmp_path)


def test_evaluate_fp32_needs_the_unchanged_model(workspace, tmp_path):
    """The FP32 score must be of the very model that was packed."""
    folder, file = tmp_path / "model", tmp_path / "model.bertile"
    shutil.copytree(workspace / "pruned", folder)
    assert bertile("pack", folder, "-o", file).returncode == 0
    (tmp_path / "dev.tsv").write_text("sentence1\tsentence2\tlabel\na\tb\t1\nc\td\t2\n")
    arguments = ["evaluate", file, "--task", "stsb", "--data", tmp_path, "--device", "fp32"]
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    refuse("has changed since", *arguments)
    shutil.rmtree(folder)
    refuse("is gone", *arguments)
