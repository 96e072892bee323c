"""A tiny model pruned and packed through the command line, once for all end-to-end tests."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

from bertile.cli.main import app_main
from bertile.config.paths import ROOT

GLUE = Path(os.environ.get("BERTILE_GLUE", ROOT.parent / "shared" / "data" / "glue"))


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    returncode: int
    stdout: str
    stderr: str


def bertile(*arguments: object, text: str = "") -> Outcome:
    """Run the command line's entry point, in this process to save the import of PyTorch."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["bertile", *map(str, arguments)]),
        mock.patch.object(sys, "stdin", io.StringIO(text)),
        mock.patch.dict(os.environ, {"COLUMNS": "200", "HF_HUB_OFFLINE": "1"}),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            app_main()
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
    return Outcome(code, out.getvalue(), err.getvalue())


def succeed(*arguments: object, **options: object) -> str:
    """The standard output of a run that must succeed."""
    result = bertile(*arguments, **options)
    assert result.returncode == 0, result.stderr
    return result.stdout


def refuse(cause: str, *arguments: object, **options: object) -> None:
    """The command exits with 2 and one line on stderr that contains `cause`."""
    result = bertile(*arguments, **options)
    assert result.returncode == 2, (result.returncode, result.stdout, result.stderr)
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert cause in lines[0]


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with `pruned` (random bert-tiny at 50 %) and `tiny.bertile`."""
    folder = tmp_path_factory.mktemp("e2e")
    succeed("prune", "--config", "bert-tiny", "--sparsity", 0.5, "-o", folder / "pruned")
    succeed("pack", folder / "pruned", "-o", folder / "tiny.bertile")
    return folder


@pytest.fixture(scope="session")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpruned W8A8 MiniLM."""
    file = tmp_path_factory.mktemp("minilm") / "minilm.bertile"
    succeed("pack", "minilm", "-o", file)
    return file


@pytest.fixture(scope="session")
def glue() -> Path:
    """The GLUE folder; without it, the tests that need it are skipped and say so."""
    if not (GLUE / "STS-B" / "dev.tsv").is_file():
        pytest.skip(f"NO GLUE DATA in {GLUE}: accuracy was NOT tested (set BERTILE_GLUE to a folder with STS-B)")
    return GLUE
