"""Writing files as other programs of this user expect them: whole, or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from bertile.errors import FormatError


def give_usual_mode(file: Path) -> None:
    """Readable as the umask says: safetensors makes its files readable by their owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    file.chmod(0o666 & ~mask)


def write_text(path: Path, text: str) -> None:
    """A text file, in a folder that is made if need be, under a temporary name until it is complete.

    Raises FormatError.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise FormatError(f"cannot write {path}: {error.strerror}") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_tensors(tensors: dict[str, np.ndarray], metadata: dict[str, str], path: Path) -> None:
    """A safetensors file, under a temporary name until it is complete. Raises FormatError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file(tensors, temporary, metadata)
        give_usual_mode(temporary)
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise FormatError(f"cannot write {path}: {error}") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
