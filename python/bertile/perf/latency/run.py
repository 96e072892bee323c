"""One run of the bench: measure, project, write."""

from __future__ import annotations

from bertile import __version__
from bertile.config.spec import load_spec
from bertile.config.target import load_target, target_clocks
from bertile.perf.bench import processor
from bertile.perf.latency.card import card_rows
from bertile.perf.latency.cpu import Advance, cpu_rows, embedding_row
from bertile.perf.latency.machine import describe_machine, load_average
from bertile.perf.latency.plan import Plan
from bertile.perf.latency.published import published_rows
from bertile.perf.latency.timing import QUIET, Patience

LEFT_OUT = "tokenizer, embeddings and pooler"


def run_bench(plan: Plan, threads: int, command: str, advance: Advance) -> dict:
    """All rows, and what is needed to judge them. The card comes first: it leaves the machine warm and needs no quiet.

    advance: as in `cpu_rows`. Raises BertileError for an unknown shape or a missing package.
    """
    machine = describe_machine(threads)
    card = card_rows(plan, advance)
    patience = Patience(plan.patience)
    measured, rejected = cpu_rows(plan, threads, processor(), patience, advance)
    measured.append(embedding_row(plan, threads, processor(), patience))
    machine["load_after"] = load_average()
    return {
        "bertile": __version__,
        "command": command,
        "shape": plan.shape,
        "spec_digest": load_spec().digest,
        "clocks_megahertz": target_clocks(),
        "pcie": load_target()["pcie"],
        "left_out": LEFT_OUT,
        "quiet_share": QUIET,
        "machine": machine,
        "rows": [row.as_dict() for row in (*measured, *card, *published_rows())],
        "rejected": rejected,
    }
