"""Writing a picture, for all that draw one."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from bertile.errors import BertileError


def save_picture(figure: plt.Figure, path: Path) -> None:
    """Write the PNG. Raises BertileError when the file cannot be written."""
    try:
        figure.savefig(path, dpi=110, format="png")
    except OSError as error:
        raise BertileError(f"cannot write {path}: {error.strerror}") from None
    finally:
        plt.close(figure)
