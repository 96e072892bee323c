"""Writing a picture, for all that draw one: to a file, or as SVG inside a page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from html import escape
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from bertile.errors import BertileError

# Of pictures inside a page. Names are themselves, whatever dollars they hold; a salt makes equal pages of equal data.
PAGE_STYLE = {
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "bertile",
    "text.parse_math": False,
}
IMAGE_DPI = 150  # of maps inside an SVG
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def save_picture(figure: plt.Figure, path: Path) -> None:
    """Write the PNG. Raises BertileError when the file cannot be written."""
    try:
        figure.savefig(path, dpi=110, format="png")
    except OSError as error:
        raise BertileError(f"cannot write {path}: {error.strerror}") from None
    finally:
        plt.close(figure)


def svg_picture(draw: Callable[[], plt.Figure], name: str, label: str) -> str:
    """What `draw` draws, as an SVG element for an HTML page.

    name: of the picture in the page, before every id. label: what it shows, in words. Black becomes the page's text
    colour and the background stays the page's, so that it can be read on light and on dark.
    """
    with matplotlib.rc_context(PAGE_STYLE):
        figure = draw()
        file = io.StringIO()
        figure.savefig(file, format="svg", dpi=IMAGE_DPI, transparent=True, metadata=NO_METADATA)
        plt.close(figure)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    opening, _, rest = text.partition(">")
    opening = re.sub(r'\s(xmlns(:\w+)?|version)="[^"]*"', "", opening)
    rest = _own_ids(rest, name).replace("#000000", "currentColor")
    words = escape(label)
    return f'{opening} role="img" aria-label="{words}">\n<title>{words}</title>{rest.strip()}'


def _own_ids(text: str, name: str) -> str:
    """Ids that are referred to get the picture's name: a page has several pictures. The others go."""
    used = {a or b for a, b in re.findall(r'url\(#([^)"]+)\)|href="#([^"]+)"', text)}
    text = re.sub(r' id="([^"]*)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", text)
    return re.sub(r'(url\(#|href="#)', rf"\1{name}-", text)
