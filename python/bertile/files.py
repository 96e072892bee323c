"""Files as other programs of this user expect them."""

from __future__ import annotations

import os
from pathlib import Path


def give_usual_mode(file: Path) -> None:
    """Readable as the umask says: safetensors makes its files readable by their owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    file.chmod(0o666 & ~mask)
