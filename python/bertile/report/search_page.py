"""A search as one HTML page that needs nothing else: `bertile report`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bertile.config.target import target_clocks
from bertile.files import write_text
from bertile.models.encoder import MATRICES
from bertile.perf.estimate import units_text
from bertile.report import search_pictures as pictures
from bertile.report.html import command, facts, figure, folded, page, paragraph, row, table
from bertile.report.network_page import chosen_network
from bertile.report.picture import svg_picture
from bertile.report.search_folder import (
    CANDIDATE,
    SearchFolder,
    comparable,
    ratios,
    search_command,
    tau_of,
    training_command,
)
from bertile.report.search_network import MODEL_FOLDER, PACKED_FILE, Network, dense_cycles, read_network
from bertile.report.search_pictures import microseconds
from bertile.search.study import TrialRecord

TRIAL_HEAD = ("trial", "sparsity", "cycles", "projected us", "layers' error", "on held-out", "task score", "seconds")


def write_page(search: SearchFolder, file: Path) -> None:
    """Write the page. Raises BertileError where the folder's network is broken; nothing is written then."""
    network = read_network(search.folder, search.identity["tokens"], search.identity["units"])
    dense = dense_cycles(search.identity)
    sections = [
        ("What was searched and chosen", head(search, network, dense)),
        ("What each matrix loses", ratio_maps(search)),
        ("Trials over time", trials_over_time(search)),
        ("Cheap score against final score", cheap_against_final(search)),
        ("Accuracy against projected latency", accuracy_against_latency(search, dense)),
        ("The chosen network", chosen_network(search, network)),
        ("Do it again", commands(search, network)),
    ]
    title = f"Search: {Path(search.identity['model']).name} on {search.identity['task']}"
    write_text(file, page(title, sections))


def projected() -> str:
    return f"projected at {target_clocks()[0]} MHz from the cycle model, not measured on a board"


def name_of(trial: TrialRecord) -> str:
    return f"{trial.number} {trial.name}"


def trial_row(trial: TrialRecord) -> tuple[str, ...]:
    verdict = trial.verdict
    return (
        name_of(trial),
        f"{trial.sparsity:.2%}",
        f"{trial.cycles:,}",
        f"{microseconds(trial.cycles):,.1f}",
        f"{trial.cheap:.4f}",
        f"{verdict['unseen']:.4f}",
        f"{verdict['task']:.4f}",
        f"{trial.seconds:.1f}",
    )


def trial_table(caption: str, found: Sequence[TrialRecord], marked: Sequence[TrialRecord]) -> str:
    numbers = {trial.number for trial in marked}
    places = [place for place, trial in enumerate(found) if trial.number in numbers]
    return table(caption, TRIAL_HEAD, [trial_row(trial) for trial in found], places)


def head(search: SearchFolder, network: Network | None, dense: int | None) -> str:
    """What was asked, and what came out."""
    identity = search.identity
    what = "a front of accuracy against cycles" if search.pareto else identity["constraint"]
    asked = [
        ("model", identity["model"]), ("task", identity["task"]), ("pattern", identity["pattern"]),
        ("constraint", what), ("request", f"{identity['tokens']} tokens on {units_text(identity['units'])}"),
        ("sampler", "NSGA-II" if search.pareto else identity["sampler"]),
        ("recovery before judging", identity["judge"]["recovery"]), ("seed", identity["seed"]),
    ]  # fmt: skip
    asked_table = table("Asked for", ("what", "value"), [(name, str(value)) for name, value in asked], kind="words")
    chosen = search.chosen()
    words = outcome(search)
    if search.pareto:
        found = trial_table(f"The front, fastest first; latencies {projected()}.", chosen, ())
    else:
        found = facts(chosen_facts(search, chosen[0], dense) + trained_facts(network))
    return f"{paragraph(words)}{found}{asked_table}"


def outcome(search: SearchFolder) -> str:
    """The result in a sentence or two."""
    count = f"{len(search.trials)} trials were judged in {sum(trial.seconds for trial in search.trials):,.0f} s"
    if search.pareto:
        front = search.chosen()
        text = f"{count}; {len(front)} of them are beaten by none in both error and cycles"
        uniform = search.baselines()
        beaten = sum(trial not in front for trial in uniform)
        return f"{text}. Of the {len(uniform)} uniform plans {beaten} are beaten." if uniform else f"{text}."
    best = search.chosen()[0]
    rivals = [trial for trial in search.baselines() if trial.number != best.number]
    if best.name != CANDIDATE:
        return f"{count}. No candidate beat the baseline {best.name}, trial {best.number}: it is the chosen plan."
    text = f"{count}. Trial {best.number} is chosen: its layers' error is {best.cheap:.4f}"
    if not rivals:
        return f"{text}."
    rival = min(rivals, key=lambda trial: trial.cheap)
    return f"{text}, against {rival.cheap:.4f} of the best baseline, {rival.name}."


def chosen_facts(search: SearchFolder, best: TrialRecord, dense: int | None) -> list[tuple[str, str, str]]:
    speed = f", {dense / best.cycles:.2f} times as fast as the dense network's {dense:,} cycles" if dense else ""
    units = units_text(search.identity["units"])
    return [
        ("chosen plan", f"trial {best.number}", best.name),
        ("sparsity", f"{best.sparsity:.2%}", "of the weights of all matrices"),
        ("latency, projected", f"{microseconds(best.cycles):,.1f} us", projected()),
        ("cycles, estimated", f"{best.cycles:,}", f"of {search.identity['tokens']} tokens on {units}{speed}"),
        ("layers' error", f"{best.cheap:.4f}", "against the dense network, before any training; lower is better"),
        ("task score before training", f"{best.verdict['task']:.4f}", "on held-out training examples"),
    ]


def trained_facts(network: Network | None) -> list[tuple[str, str, str]]:
    """The dev scores of the network that was trained of it."""
    if network is None or network.log is None:
        return []
    log = network.log
    about = f"dev set, FP32, after {log['steps']:,} steps in {log['seconds']:,.0f} s"
    return [
        (f"{name} after training", f"{value:.4f}", about) for name, value in log["metrics"].items() if name != "loss"
    ]


def ratio_maps(search: SearchFolder) -> str:
    """Maps and numbers of the chosen plan, or of the front's ends; small maps of the baselines."""
    pattern, chosen = search.identity["pattern"], search.chosen()
    shown = {trial.number: trial for trial in (chosen[0], chosen[-1])}
    beside = [trial for trial in search.baselines() if trial.number not in shown and not search.pareto]
    words = "Share of zeros in every matrix, darker where more is kept."
    if search.pareto:
        words += " Of the front, its fastest and its most accurate plan."
    if beside:
        words += " Small maps: query, key, value, output, FFN in and FFN out by their letters Q, K, V, O, I, F."
    maps = [ratio_map(trial, pattern) for trial in shown.values()]
    maps += [small_ratio_map(trial, pattern) for trial in beside]
    return paragraph(words) + row(*maps) + "".join(ratio_table(trial, pattern) for trial in shown.values())


def ratio_map(trial: TrialRecord, pattern: str) -> str:
    svg = svg_picture(
        lambda: pictures.ratios_figure(ratios(trial, pattern)),
        f"ratios{trial.number}",
        f"Heat map of the shares of zeros of trial {name_of(trial)}, a row a layer; a table below has its numbers",
    )
    return figure(svg, f"Trial {name_of(trial)}: {trial.sparsity:.2%} of all weights are zero.")


def small_ratio_map(trial: TrialRecord, pattern: str) -> str:
    svg = svg_picture(
        lambda: pictures.small_ratios_figure(ratios(trial, pattern)),
        f"ratios{trial.number}",
        f"Heat map of the shares of zeros of the baseline {trial.name}",
    )
    return figure(svg, f"Baseline {trial.name}, {trial.sparsity:.2%}", "small")


def ratio_table(trial: TrialRecord, pattern: str) -> str:
    """The numbers of a map; coarse groups count in the matrices, and stand beside them by themselves."""
    found = ratios(trial, pattern)
    rows = []
    for layer, shares in enumerate(found.shares):
        coarse = (values[layer] for values in found.coarse.values())
        rows.append((f"layer {layer}", *(f"{share:.1%}" for share in (*shares, *coarse))))
    caption = f"Share of zeros, trial {name_of(trial)}"
    head = ("layer", *MATRICES, *(f"whole {name}" for name in found.coarse))
    return folded(caption, table(caption, head, rows))


def trials_over_time(search: SearchFolder) -> str:
    best = min(search.trials, key=lambda trial: trial.cheap)
    svg = svg_picture(
        lambda: pictures.trials_figure(search),
        "trials",
        f"Layers' error by trial number; the lowest, {best.cheap:.4f}, is that of trial {best.number}",
    )
    recovery = search.identity["judge"]["recovery"]
    recovered = "as it is after pruning" if recovery == "none" else f"after recovery by {recovery}"
    about = (
        "The cheap score is the relative squared error of a candidate's layers against the dense network's, between "
        f"that on the texts that it recovers with and that on held-out examples, {recovered}; lower is better."
    )
    if search.pareto:
        about += " Sparsities differ from trial to trial here, and the error with them."
    marked = search.chosen()
    return "".join(
        [
            paragraph(about),
            figure(svg, "Cheap score by trial, and the best one so far."),
            folded(
                f"All {len(search.trials)} trials",
                trial_table(f"All trials; latencies {projected()}.", search.trials, marked),
            ),
        ]
    )


def cheap_against_final(search: SearchFolder) -> str:
    """What training made of several plans, and whether the cheap score had told."""
    if len(search.finals) < 2:
        return paragraph(
            "No two plans of this search were trained (bertile prune --plan; bertile report --trained MODEL): the "
            "cheap score was not checked."
        )
    parts = [
        paragraph(
            "Kendall's tau compares the order of the plans by their cheap scores with that by their scores after "
            "training: 1 where they are the same, 0 where they have nothing to do with each other, -1 where one is "
            "the reverse of the other."
        )
    ]
    for number, ((metric, steps), finals) in enumerate(comparable(search.finals).items()):
        tau = tau_of(finals)
        said = "not defined here" if tau is None else f"{tau:.3f}"
        svg = svg_picture(
            lambda finals=finals: pictures.finals_figure(finals),
            f"finals{number}",
            f"{metric} after {steps} steps against the layers' error of {len(finals)} plans; Kendall's tau {said}",
        )
        ordered = sorted(finals, key=lambda final: final.cheap)
        rows = [(f.name, str(f.trial), f"{f.cheap:.4f}", f"{f.score:.4f}") for f in ordered]
        caption = f"{len(finals)} plans after {steps:,} steps. Kendall's tau: {said}."
        numbers = table(f"Best cheap score first, {steps:,} steps", ("plan", "trial", "layers' error", metric), rows)
        parts.append(row(figure(svg, caption), numbers))
    return "".join(parts)


def accuracy_against_latency(search: SearchFolder, dense: int | None) -> str:
    label = f"Layers' error of {len(search.trials)} trials against their projected latency"
    near = svg_picture(lambda: pictures.latency_figure(search), "latency", label)
    figures = [figure(near, f"All trials; latencies {projected()}.")]
    words = "The dense network is not here, so its latency is not shown."
    if dense is not None:
        words = (
            f"The dense network takes {dense:,} cycles, {microseconds(dense):,.1f} us {projected()}; its error "
            "is 0, since it is what errors are measured from."
        )
        far = svg_picture(lambda: pictures.latency_figure(search, dense), "dense", f"{label}, with the dense network")
        figures.append(figure(far, f"The same beside the dense network; latencies {projected()}."))
    rows = {trial.number: trial for trial in (*search.baselines(), *search.chosen())}.values()
    ordered = sorted(rows, key=lambda trial: (trial.cycles, trial.cheap))
    numbers = trial_table(f"Baselines and choice, fastest first; latencies {projected()}.", ordered, search.chosen())
    return paragraph(words) + row(*figures) + ("" if search.pareto else numbers)


def commands(search: SearchFolder, network: Network | None) -> str:
    """Commands that lead here, made from what the folder keeps."""
    parts = [
        paragraph(
            "Made from what the folder keeps. Where the task's data and unlabelled texts lie is not kept: add --data, "
            "--text, and for a task of your own --metric, as for the first time."
        ),
        command(search_command(search), "The search"),
    ]
    model, packed = search.folder / MODEL_FOLDER, search.folder / PACKED_FILE
    if network is not None and network.log is not None:
        parts.append(command(training_command(network.log, model), "The training"))
    if network is not None:
        units = ["--units", str(search.identity["units"])] if search.identity["units"] > 1 else []
        parts.append(command(["bertile", "pack", str(model), *units, "-o", str(packed)], "Packing"))
    parts.append(command(["bertile", "report", str(search.folder)], "This page"))
    return "".join(parts)
