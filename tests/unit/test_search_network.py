"""The part of a search's page about the network that was trained of it, and the command of this training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from safetensors.torch import load_file, save_file
from tests.fine_tuned import make_classifier
from tests.search_pages import read_page, report, search_data, shares_of, write_search

from bertile.golden.integer import IntegerEncoder
from bertile.inference import embed_tokens
from bertile.models.encoder import token_types
from bertile.models.load import load_model, separator_of
from bertile.pack.container import save_packed
from bertile.pack.packer import unpack_encoder
from bertile.perf.estimate import estimate_cycles
from bertile.report import cycles
from bertile.report import search_pictures as pictures
from bertile.report.network_page import about_network
from bertile.report.search_folder import read_search, training_command
from bertile.report.search_network import Network, dense_cycles, layer_errors, read_network
from bertile.text import random_sequences
from bertile.train.options import make_options, parse_setting
from bertile.workflow import pack_model, weights_digest


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search with the network that was trained of it, whose second FFN matrix of layer 1 lost half its vectors."""
    base = tmp_path_factory.mktemp("trained")
    dense = make_classifier(base / "dense", task="films")
    data = search_data(model=str(dense), weights=weights_digest(dense))
    folder = write_search(base / "found", data)
    make_classifier(folder / "model", task="films")
    weights = load_file(folder / "model" / "model.safetensors")
    weights["bert.encoder.layer.1.output.dense.weight"][:, ::2] = 0
    save_file(weights, folder / "model" / "model.safetensors", {"format": "pt"})
    (folder / "model" / "training.json").write_text(json.dumps(training_log(data)))
    return folder


@pytest.fixture(scope="module")
def network(trained: Path) -> Network:
    return read_network(trained, 48)


OPTIONS = make_options("reconstruct", {"prune": {"rounds": 2}, "train": {"max_steps": 7}}, prunes=True)


def training_log(data: dict) -> dict:
    return {"source": "a dense/one", "task": "films", "metric": "f1", "teacher": "", "options": OPTIONS.to_json(),
            "steps": 7, "seconds": 12.4, "metrics": {"loss": 0.4, "f1": 0.8125}, "history": [],
            "plan": data["trials"][4]["plan"]}  # fmt: skip


def test_a_search_with_its_network(trained, network):
    assert report(trained) == 0
    page = read_page(trained)
    assert (
        page.pictures == 1 + 3 + 1 + 2 + 4
    )  # as without; latencies beside the dense one; tiles, cycles, roofline, errors
    assert "f1 after training 0.8125 dev set, FP32, after 7 steps" in page.text
    assert "may not be that of the chosen trial" not in page.text
    assert "packed for this page from model" in page.text
    total = network.estimate.total
    assert f"{total:,} cycles for 48 tokens" in page.text
    parts = [row for row in page.cells if row[0] == "all"]
    assert parts[0][1] == f"{total:,}"
    layers = [row for row in page.cells if len(row) == 7 and row[0] in ("layer 0", "layer 1") and "%" not in row[1]]
    tiles, cycles = layers[:2], layers[2:]
    assert tiles[1][1:] == ["256 of 256"] * 4 + ["448 of 448", "224 of 448"]
    for row, layer in zip(cycles, network.estimate.layers(), strict=True):
        numbers = [int(value.replace(",", "")) for value in row[1:]]
        assert numbers[0] == layer["cycles"] == sum(numbers[1:])
    for layer, error in enumerate(network.errors):
        assert [f"layer {layer}", f"{error:.3%}"] in page.cells
    assert len([row for row in page.cells if row[-1] in ("DSP", "drain", "DDR")]) == 2 * 6
    assert dense_cycles(read_search(trained).identity) > total


def test_cycles_of_the_dense_network_are_those_of_its_tiles(trained):
    identity = read_search(trained).identity
    dense = identity["model"]
    assert dense_cycles(identity) == estimate_cycles(pack_model(load_model(dense), dense), [48]).total
    assert dense_cycles({**identity, "weights": "0" * 64}) is None
    assert dense_cycles({**identity, "model": "nowhere"}) is None


def test_errors_are_those_of_every_layer(trained):
    """Against Hugging Face's own layers, each sequence alone."""
    model = load_model(str(trained / "model"))
    packed = pack_model(model, str(trained / "model"))
    sequences = random_sequences(model.config, [5, 33, 70], seed=1)
    integer = IntegerEncoder(unpack_encoder(packed))
    errors, squares = np.zeros(2), np.zeros(2)
    for ids in sequences:
        types = torch.from_numpy(token_types(ids, separator_of(model)))[None]
        with torch.inference_mode():
            states = model.network(
                input_ids=torch.from_numpy(ids)[None], token_type_ids=types, output_hidden_states=True
            ).hidden_states
        outputs = integer.run([embed_tokens(packed, ids)])
        for layer in range(2):
            theirs = states[layer + 1][0].double().numpy()
            ours = outputs[layer, : len(ids)] * packed.output_scale[layer].astype(np.float64)
            errors[layer] += ((ours - theirs) ** 2).sum()
            squares[layer] += (theirs**2).sum()
    assert (errors / squares > 1e-5).all()
    assert layer_errors(model, packed, sequences) == pytest.approx((errors / squares).tolist(), rel=1e-3)


def test_a_network_on_three_units(trained, network):
    """The file is one for one unit alone: it is packed anew."""
    source = str(trained / "model")
    save_packed(pack_model(load_model(source), source), trained / "model.bertile")
    try:
        together = read_network(trained, 48, 3)
    finally:
        (trained / "model.bertile").unlink()
    assert not together.from_file
    assert together.estimate.total < 0.8 * network.estimate.total
    identity = {**read_search(trained).identity, "units": 3}
    assert together.estimate.total < dense_cycles(identity) < dense_cycles({**identity, "units": 1})


def test_a_packed_file_is_used_only_for_its_own_weights(trained, tmp_path):
    source = str(trained / "model")
    save_packed(pack_model(load_model(source), source), trained / "model.bertile")
    try:
        assert read_network(trained, 48).from_file
        dense = read_search(trained).identity["model"]
        save_packed(pack_model(load_model(dense), dense), trained / "model.bertile")
        network = read_network(trained, 48)
        assert not network.from_file
        assert network.packed.provenance["weights_sha256"] == weights_digest(trained / "model")
    finally:
        (trained / "model.bertile").unlink()


def test_the_waterfall_adds_up(network):
    estimate = network.estimate
    bars = pictures.waterfall_figure(estimate).axes[0].patches
    drawn = [bar for bar in bars if bar.get_width()]
    assert sum(bar.get_width() for bar in drawn) == estimate.total
    assert max(bar.get_x() + bar.get_width() for bar in drawn) == estimate.total
    multiplying = [bar for bar in drawn if to_hex(bar.get_facecolor()) == pictures.COLOURS["compute"]]
    assert sum(bar.get_width() for bar in multiplying) == estimate.parts()["compute"]


def test_the_roofline_bounds_its_points(network):
    estimate = network.estimate
    points = cycles.roofline_points({"layers": estimate.layers()})
    assert len(points) == 12
    for _, intensity, rate in points:
        assert 0 < rate <= min(cycles.PEAK, intensity * cycles.bandwidth(300)) * 1.001
    ddr, dsp = pictures.roofline_figure(estimate).axes[0].lines
    assert np.allclose(ddr.get_ydata() / ddr.get_xdata(), cycles.bandwidth(300))
    assert cycles.bandwidth(300) == pytest.approx(19.2e9 * 0.85 / 300e6)
    assert dsp.get_ydata().tolist() == [2048, 2048]


def test_a_network_of_another_plan_is_told(trained, network):
    search = read_search(trained)
    for plan, said in (
        ({"shares": shares_of(4)}, ""),
        ({"shares": shares_of(3)}, "was trained after another plan"),
        (None, "does not say which plan"),
    ):
        text = about_network(search, replace(network, log={**network.log, "plan": plan}))
        assert said in text
        assert ("may not be that of the chosen trial" in text) == bool(said)
    assert "does not say which plan" in about_network(search, replace(network, log=None))


@pytest.mark.parametrize("plan", [False, True])
def test_the_command_of_a_training_makes_the_same_options(plan, tmp_path):
    (tmp_path / "plan.json").write_text(json.dumps(search_data()["trials"][0]["plan"]))
    extra = {"prune": {"rounds": 2, **({"plan": str(tmp_path / "plan.json")} if plan else {})}}
    options = make_options("reconstruct", extra, prunes=True)
    log = {**training_log(search_data()), "options": options.to_json()}
    words = training_command(log, Path("out/model"))
    head = ["bertile", "prune", "a dense/one", "-o", "out/model", "--task", "films", "--metric", "f1"]
    assert words[: len(head)] == head
    sections: dict[str, dict] = {}
    rest = words[len(head) :]
    for option, value in zip(rest[::2], rest[1::2], strict=True):
        section, key, parsed = parse_setting(value) if option == "--set" else ("prune", option.strip("-"), value)
        sections.setdefault(section, {})[key] = parsed
    assert ("plan" in sections["prune"], "sparsity" in sections["prune"]) == (plan, not plan)
    assert make_options(None, sections, prunes=True) == options
