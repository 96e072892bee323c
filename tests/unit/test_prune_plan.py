"""Plans: a share of zeros for every group set, in place of one sparsity."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from tests.tiny_training import final_weights, make_job
from tests.unit.test_pruner import CONFIG, SIZES

from bertile.errors import BertileError
from bertile.models.families import matrices
from bertile.models.load import load_model
from bertile.perf.masked import CycleModel, counter_of
from bertile.prune.folder import read_pruning
from bertile.prune.groups import element_masks, group_sets
from bertile.prune.magnitude import prune_magnitude
from bertile.prune.pattern import parse_pattern
from bertile.prune.plan import CycleLimit, Plan, check_plan, read_plan, write_plan
from bertile.prune.select import select_masks
from bertile.train.options import make_options
from bertile.train.run import run_job


def ones(sets):
    return {m.matrix: torch.ones(SIZES[m.matrix.rpartition(".")[2]]) for s in sets for m in s.members}


def test_every_set_loses_its_own_share():
    sets = group_sets(parse_pattern("1x4"), CONFIG)
    generator = np.random.default_rng(0)
    plan = {s.name: share for s, share in zip(sets, generator.random(len(sets)), strict=True)}
    scores = {s.name: generator.random(s.count) for s in sets}
    masks = select_masks(parse_pattern("1x4"), sets, scores, ones(sets), 0.0, plan=plan)
    for s in sets:
        removed = ~masks[s.name].ravel()
        assert removed.sum() == round(plan[s.name] * s.count)
        assert max(scores[s.name][removed], default=0) <= min(scores[s.name][~removed], default=1)


def test_what_heads_take_counts_for_the_vectors():
    pattern = parse_pattern("heads+1x4")
    sets = group_sets(pattern, CONFIG)
    scores = {s.name: np.arange(s.count, dtype=float) for s in sets}
    plan = {s.name: 1 / 3 if "heads" in s.name else 0.5 for s in sets}
    kept = element_masks(sets, select_masks(pattern, sets, scores, ones(sets), 0.0, plan=plan), ones(sets))
    assert {round(float(mask.float().mean()), 2) for mask in kept.values()} == {0.5}
    assert not kept["layers.0.query"][:4].any()  # the first of three heads


GOOD = (
    '{"format": "bertile-plan", "pattern": "1x16", "sparsity": 0.5, "shares": {}, '
    '"limit": {"cycles": 9, "tokens": 64, "units": 1}}'
)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "is no plan"),
        ("[]", "is no plan"),
        ('{"format": "other", "pattern": "1x16", "sparsity": 0.5, "shares": {}}', "is no plan: format 'other'"),
        ('{"format": "bertile-plan", "pattern": "1x16", "sparsity": 0.5}', "is no plan: 'shares'"),
        ('{"format": "bertile-plan", "pattern": "1x16", "sparsity": 0.5, "shares": {}, "limit": {}}', "is no plan"),
        (
            '{"format": "bertile-plan", "pattern": "1x16", "sparsity": 0.5, "shares": {"a": 1' + "0" * 400 + "}}",
            "is no plan",
        ),
        (GOOD.replace("64", "Infinity"), "is no plan"),
        (GOOD.replace("64", "0"), "is no plan: its limit is"),
        ("[" * 100_000, "is no plan"),
        (GOOD.replace('"1x16"', "null"), "pattern 'None' is not"),
        ('{"format": "bertile-plan", "pattern": "1y16", "sparsity": 0.5, "shares": {}}', "pattern '1y16' is not"),
    ],
)
def test_broken_plans(text, cause, tmp_path):
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(BertileError, match=cause):
        read_plan(tmp_path / "plan.json")
    with pytest.raises(BertileError, match="cannot read plan"):
        read_plan(tmp_path / "none.json")


def test_a_plan_for_another_encoder():
    sets = group_sets(parse_pattern("1x4"), CONFIG)
    shares = {s.name: 0.5 for s in sets}
    check_plan(Plan("1x4", 0.5, shares), sets)
    with pytest.raises(BertileError, match=r"another encoder: layers\.9\.query"):
        check_plan(Plan("1x4", 0.5, {**shares, "layers.9.query": 0.5}), sets)
    with pytest.raises(BertileError, match=r"share of layers\.0\.query is 1\.5"):
        check_plan(Plan("1x4", 0.5, {**shares, "layers.0.query": 1.5}), sets)


@pytest.fixture
def plan(source, tmp_path) -> tuple[Path, dict[str, float]]:
    config = load_model(source()).config
    shares = {s.name: 0.75 if "ffn" in s.name else 0.25 for s in group_sets(parse_pattern("1x16"), config)}
    write_plan(Plan("1x16", 0.59, shares), tmp_path / "plan.json")
    return tmp_path / "plan.json", shares


@pytest.mark.parametrize("method", ["reconstruct", "gradual", "group-lasso"])
def test_training_follows_a_plan(method, plan, source, data, tmp_path):
    path, shares = plan
    output = tmp_path / "out"
    run_job(make_job(source(), output, data, prune={"method": method, "plan": str(path), "end": 0.5}))
    weights = final_weights(output)
    for part, share in (("attention.self.key", 0.25), ("intermediate.dense", 0.75), ("output.dense", 0.75)):
        weight = weights[f"bert.encoder.layer.1.{part}.weight"]
        assert float((weight == 0).float().mean()) == pytest.approx(share, abs=0.01), part
    marker = read_pruning(output)
    assert (marker["pattern"], marker["scope"], marker["sparsity_asked"]) == ("1x16", "plan", 0.59)
    assert json.loads((output / "training.json").read_text())["plan"]["shares"] == shares


def cycles_of(folder: Path | str) -> int:
    """Estimated for 64 tokens, of the weights that are not zero."""
    model = load_model(str(folder))
    linears = matrices(model.network, model.config.family)
    return CycleModel(model, 64).cycles({name: linear.weight.data != 0 for name, linear in linears.items()})


@pytest.mark.parametrize("method", ["reconstruct", "gradual", "oneshot"])
def test_the_limit_of_a_plan_is_kept(method, plan, source, data, tmp_path):
    """A plan that takes more than its limit is followed as far as that leaves; every set loses a little more."""
    path, shares = plan
    job = make_job(source(), tmp_path / "free", data, prune={"method": method, "plan": str(path), "end": 0.5})
    run_job(job)
    free = cycles_of(tmp_path / "free")
    limit = round(free - 0.04 * (cycles_of(source()) - free))
    write_plan(Plan("1x16", 0.59, shares, CycleLimit(limit, 64, 1)), path)
    assert read_plan(path).limit == CycleLimit(limit, 64, 1)
    run_job(replace(job, output=tmp_path / "out"))
    assert 0.97 * limit <= cycles_of(tmp_path / "out") <= limit
    kept = {name: float(mask.mean()) for name, mask in load_file(tmp_path / "out" / "masks.safetensors").items()}
    factors = [kept[name] / (1 - share) for name, share in shares.items()]
    assert 0.8 <= min(factors) <= max(factors) < 1
    assert max(factors) - min(factors) < 0.06


def test_a_limit_without_training(plan, source):
    _, shares = plan
    pattern, model = parse_pattern("1x16"), load_model(source())
    sets = group_sets(pattern, model.config)
    free = Plan("1x16", 0.59, shares)
    assert counter_of(free, model, sets) is None
    count = counter_of(replace(free, limit=CycleLimit(1, 64, 1)), model, sets)

    def prune(plan: Plan):
        return prune_magnitude(model, pattern, 0.59, plan=plan, count_cycles=count)

    most = count(prune(free).masks)
    least = count(prune(Plan("1x16", 0.67, free.scaled(0.8))).masks)
    limited = replace(free, limit=CycleLimit((least + most) // 2, 64, 1))
    result = prune(limited)
    assert least <= count(result.masks) <= limited.limit.cycles < most
    assert result.sparsity > prune(free).sparsity
    with pytest.raises(BertileError, match=f"it takes {most:,} cycles, the limit is {least - 1:,}"):
        prune(replace(limited, limit=CycleLimit(least - 1, 64, 1)))


def test_a_plan_and_something_else(plan):
    path, _ = plan
    options = make_options(None, {"prune": {"plan": str(path), "sparsity": 0.59}}, prunes=True)
    assert (options.prune.pattern, options.prune.sparsity, options.prune.scope) == ("1x16", 0.59, "plan")
    for key, value in (("pattern", "2x16"), ("sparsity", 0.5), ("scope", "global")):
        with pytest.raises(BertileError, match=f"{key} {value}: plan .* says"):
            make_options(None, {"prune": {"plan": str(path), key: value}}, prunes=True)
    with pytest.raises(BertileError, match="unknown scope 'plan'"):
        make_options(None, {"prune": {"scope": "plan"}}, prunes=True)
