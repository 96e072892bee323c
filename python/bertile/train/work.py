"""The folder beside the output where an unfinished run keeps its checkpoints."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bertile.errors import BertileError
from bertile.models.folder import first_line
from bertile.train.trainer import COMPLETE

RUN_FILE, LOCK_FILE = "run.json", "lock"


def work_folder(output: Path) -> Path:
    """`OUTPUT.training`."""
    target = output.expanduser().resolve()
    return target.with_name(f"{target.name}.training")


def complete_checkpoints(work: Path) -> list[Path]:
    """Checkpoints that a run can go on from, oldest first."""
    found = [path.parent for path in work.glob(f"checkpoint-*/{COMPLETE}")]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def last_checkpoint(work: Path) -> Path | None:
    """The checkpoint that a run goes on from, None for a start from the beginning."""
    return next(reversed(complete_checkpoints(work)), None)


def open_work(work: Path, settings: dict, restart: bool) -> None:
    """Prepare a folder that is held: what a killed run left half-written is removed.

    Raises BertileError where the folder holds a run with other settings, unless `restart` discards it.
    """
    try:
        for path in work.iterdir() if restart else ():
            if path.name != LOCK_FILE:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if (work / RUN_FILE).is_file():
            _check_same(work, json.loads((work / RUN_FILE).read_text()), settings)
            complete = complete_checkpoints(work)
            for path in work.glob("checkpoint-*"):
                if path not in complete:
                    shutil.rmtree(path)
            return
        if any(path.name != LOCK_FILE for path in work.iterdir()):
            raise BertileError(f"{work} is in the way: it is not the folder of a training run")
        (work / RUN_FILE).write_text(json.dumps(settings, indent=2) + "\n")
    except (OSError, ValueError) as error:
        raise BertileError(f"cannot use {work}: {first_line(error)}") from error


@contextmanager
def held(work: Path) -> Iterator[None]:
    """Make the work folder and keep other processes out of it. Raises BertileError where one is in it."""
    try:
        work.mkdir(parents=True, exist_ok=True)
        file = (work / LOCK_FILE).open("a")
    except OSError as error:
        raise BertileError(f"cannot use {work}: {first_line(error)}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BertileError(f"{work} is in use: this run is going on in another process") from None
        yield


def _check_same(work: Path, before: dict, now: dict) -> None:
    now = json.loads(json.dumps(now))
    different = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if different:
        raise BertileError(
            f"{work} holds an unfinished run with different {', '.join(different)}; "
            "finish it with its own command, or give --restart to discard it"
        )
