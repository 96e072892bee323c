"""Every command on a tiny model, as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bertile.config.spec import load_spec
from bertile.pack.container import load_packed
from bertile.pack.packer import unpack_encoder
from bertile.prune.folder import read_masks

from .conftest import bertile, succeed

SPEC = load_spec()
# 2 layers, hidden 128: values of the default check, lengths 1, 32, 45 and 128.
CHECKED_VALUES = 2 * 128 * 32 * (1 + 1 + 2 + 4)


def test_the_installed_program_answers():
    """`bertile` itself, in a process of its own: version, help, an error's exit code."""
    program = Path(sys.executable).with_name("bertile")
    assert "bertile 0." in subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    assert "evaluate" in subprocess.run([program, "--help"], capture_output=True, text=True, check=True).stdout
    result = subprocess.run([program, "inspect", "missing.bertile"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (2, "error: missing.bertile: no such file\n")


def test_packed_weights_have_the_pruned_folders_zeros(workspace):
    """A vector is in the file exactly where the mask keeps it."""
    model = unpack_encoder(load_packed(workspace / "tiny.bertile"))
    masks = read_masks(workspace / "pruned")
    compared = 0
    for number, layer in enumerate(model.layers):
        for matrix in ("query", "key", "value", "attention_output", "ffn_in", "ffn_out"):
            weight = getattr(layer, matrix).weight
            kept = weight.reshape(len(weight) // 16, 16, -1).any(axis=1)
            np.testing.assert_array_equal(kept, masks[f"layers.{number}.{matrix}"])
            compared += kept.size
    assert compared == 2 * (4 * 8 * 128 + 32 * 128 + 8 * 512)


def test_inspect_reports_the_packed_sparsity(workspace):
    summary = json.loads(succeed("inspect", workspace / "tiny.bertile", "--json"))
    assert summary["sparsity"] == 0.5
    assert summary["spec_digest"] == SPEC.digest
    assert summary["synthetic"] is True
    assert summary["provenance"]["pruning"]["pattern"] == "1x16"
    assert summary["provenance"]["calibration"]["source"] == "random token ids"
    assert "projected, not measured" in succeed("inspect", workspace / "tiny.bertile")


def test_inspect_draws_the_tiles(workspace, tmp_path):
    succeed("inspect", workspace / "tiny.bertile", "--picture", tmp_path / "tiles.png", "--layer", 1)
    assert (tmp_path / "tiles.png").read_bytes().startswith(b"\x89PNG")
    succeed("inspect", workspace / "tiny.bertile", "--picture", tmp_path / "network.png")
    assert (tmp_path / "network.png").read_bytes().startswith(b"\x89PNG")


def test_check_compares_every_value(workspace):
    result = json.loads(succeed("check", workspace / "tiny.bertile", "--device", "csim", "--json"))
    assert result["mismatches"] == 0
    assert result["compared"] == CHECKED_VALUES
    assert result["tokens"] == [1, 32, 45, 128]


def test_check_takes_a_length(workspace):
    result = json.loads(succeed("check", workspace / "tiny.bertile", "--tokens", 511, "--json"))
    assert (result["compared"], result["mismatches"]) == (2 * 128 * 512, 0)


def test_check_finds_a_wrong_device(workspace, monkeypatch):
    """A device that is wrong in one value is caught, located, and gives exit code 1."""
    from bertile.cli import commands
    from bertile.golden.integer import IntegerEncoder

    class Broken(IntegerEncoder):
        name = "broken"

        def run(self, sequences):
            output = super().run(sequences)
            output[1, 3, 5] ^= 1
            return output

    def open_device(name, packed, options=None):
        return (Broken if name == "csim" else IntegerEncoder)(unpack_encoder(packed))

    monkeypatch.setattr(commands, "open_device", open_device)
    result = bertile("check", workspace / "tiny.bertile", "--tokens", 7, "--json")
    assert result.returncode == 1
    report = json.loads(result.stdout)
    assert report["mismatches"] == 1
    assert "layer 1, row block 0, lane 3, feature 5" in report["first_mismatch"]


def test_run_without_a_tokenizer_says_so(workspace):
    result = bertile("run", workspace / "tiny.bertile", "--text", "-", text="hello\n")
    assert result.returncode == 2
    assert "no tokenizer" in result.stderr


@pytest.mark.parametrize("device", ["integer", "csim"])
def test_run_finds_the_nearest_sentence(minilm, device):
    """Real sentences through tokenizer, embeddings, encoder and pooling: paraphrases find each other."""
    text = (
        "A man plays the guitar.\nThe stock market fell.\nSomeone performs music with a guitar.\nShares lost value.\n"
    )
    result = json.loads(succeed("run", minilm, "--text", "-", "--device", device, "--json", text=text))
    embeddings = np.array([sentence["embedding"] for sentence in result["sentences"]])
    similarity = embeddings @ embeddings.T - 2 * np.eye(4)
    assert similarity.argmax(axis=1).tolist() == [2, 3, 0, 1]


def test_brackets_in_texts_and_names_stay(minilm, tmp_path):
    """Nothing the user writes is taken for markup."""
    text = "[/b] a closing tag\n[red]red[/red] [1] words\nfoo\n"
    shown = succeed("run", minilm, "--text", "-", text=text)
    assert "[/b] a closing tag" in shown
    assert "[red]red[/red] [1] words" in shown
    target = tmp_path / "[x]" / "[b]y"
    assert str(target) in succeed("prune", "--config", "bert-tiny", "-o", target)
    assert "no such folder" in bertile("pack", "[/x]", "-o", tmp_path / "z.bertile").stderr


def test_packed_files_are_readable_by_others_as_the_umask_says(workspace):
    umask = os.umask(0)
    os.umask(umask)
    for file in (workspace / "tiny.bertile", workspace / "pruned" / "masks.safetensors"):
        assert file.stat().st_mode & 0o777 == 0o666 & ~umask


def test_devices_give_the_same_embeddings(minilm):
    text = "Both devices\nmust give the same bits."
    runs = [
        json.loads(succeed("run", minilm, "--text", "-", "--device", device, "--json", text=text))["sentences"]
        for device in ("integer", "csim")
    ]
    assert runs[0] == runs[1]


def test_long_text_is_cut_and_said_so(minilm):
    result = bertile("run", minilm, "--text", "-", "--json", text="word " * 700)
    assert result.returncode == 0
    assert "702 tokens, cut to its first 512" in result.stderr
    assert len(json.loads(result.stdout)["sentences"]) == 1


@pytest.mark.glue
def test_w8a8_keeps_the_score(minilm, glue):
    """At most half a point of Spearman under FP32 on the STS-B dev set."""
    scores = {
        device: json.loads(succeed("evaluate", minilm, "--task", "stsb", "--data", glue, "--device", device, "--json"))
        for device in ("integer", "fp32")
    }
    assert scores["integer"]["examples"] == scores["fp32"]["examples"] == 1500
    assert scores["fp32"]["score"] > 0.86
    assert scores["integer"]["score"] >= scores["fp32"]["score"] - 0.005
