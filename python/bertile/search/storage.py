"""Where a search keeps its trials: Optuna's storage, the study in it, and the folder that one search at a time has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.pruners import SuccessiveHalvingPruner
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from bertile.errors import BertileError
from bertile.models.folder import first_line
from bertile.train.work import held

STUDY = "bertile"
JOURNAL = "study.journal"
JOURNAL_LINE = b'{"op_code":'  # how every line of one begins
IDENTITY = "identity"  # attribute of a study: what it is a search of


def open_storage(text: str, folder: Path) -> BaseStorage:
    """Optuna's storage: a database for an address (sqlite:///FILE ...), else a journal file; the folder's without.

    Raises BertileError where it cannot be opened.
    """
    try:
        if "://" in text:
            return RDBStorage(text)
        path = text or str(folder / JOURNAL)
        lock = JournalFileSymlinkLock(path)
        _mend_journal(path, lock)
        return JournalStorage(JournalFileBackend(path, lock))
    except Exception as error:  # a database driver's own errors have no common base
        raise BertileError(f"cannot open storage {text or folder}: {first_line(error)}") from None


def _mend_journal(path: str, lock: JournalFileSymlinkLock) -> None:
    """Cut off a last line that a full disk left without its end: Optuna would append to it, as it would to any file.

    Raises ValueError for a file that is no journal.
    """
    if not os.path.isfile(path):
        return
    lock.acquire()
    try:
        with open(path, "r+b") as file:
            content = file.read()
            if not JOURNAL_LINE.startswith(content[: len(JOURNAL_LINE)]):
                raise ValueError("it is no journal of Optuna's")
            end = content.rfind(b"\n") + 1
            if end < len(content):
                file.truncate(end)
    finally:
        lock.release()


def open_study(storage: BaseStorage, identity: dict, pareto: bool) -> optuna.Study:
    """The study in the storage, made where there is none. Raises BertileError where it is one of something else."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = ["minimize", "minimize"] if pareto else ["minimize"]
    try:
        study = optuna.create_study(
            storage=storage,
            study_name=STUDY,
            directions=directions,
            load_if_exists=True,
            pruner=SuccessiveHalvingPruner(min_resource=1, reduction_factor=2),
        )
        kept = study.user_attrs.get(IDENTITY)
        if kept is None:
            study.set_user_attr(IDENTITY, identity)
    except Exception as error:
        raise BertileError(f"cannot open the study: {first_line(error)}") from None
    # Where the model lies is another matter on another machine.
    other = [key for key in identity if key != "model" and kept is not None and kept.get(key) != identity[key]]
    if other:
        name = other[0]
        found = f"the storage holds a search with another {name}: {kept.get(name)}, not {identity[name]}"
        raise BertileError(f"{found}; give another folder or --storage, or remove it")
    return study


@contextmanager
def search_folder(folder: Path, alone: bool) -> Iterator[None]:
    """Make the folder of a search; alone: and keep other processes out of it. Raises BertileError."""
    if alone:
        with held(folder):
            yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BertileError(f"cannot use {folder}: {first_line(error)}") from None
    yield
