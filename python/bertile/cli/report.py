"""`bertile report`: a search as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bertile.cli.console import output, working
from bertile.errors import BertileError

PAGE_FILE = "report.html"


def report(
    folder: Annotated[Path, typer.Argument(help="A folder that bertile search wrote.", show_default=False)],
    file: Annotated[
        Path | None, typer.Option("-o", "--output", help="HTML file to write; FOLDER/report.html if not given.")
    ] = None,
    trained: Annotated[
        list[Path] | None,
        typer.Option("--trained", help="A model elsewhere that followed a plan of this search; may be given often."),
    ] = None,
) -> None:
    """Write a page about a search: one HTML file, with everything in it."""
    file = (file or folder / PAGE_FILE).expanduser()
    if file.exists() and not file.is_file():
        raise BertileError(f"{file} is a folder or a device; -o names a file")
    with working("loading libraries"):
        from bertile.report.search_folder import read_search
        from bertile.report.search_page import write_page
    search = read_search(folder, tuple(trained or ()))
    if not file.absolute().parent.is_dir():
        raise BertileError(f"{file.parent}: no such folder")
    with working("packing and drawing"):
        write_page(search, file)
    output.print(f"{file}", highlight=False)
