"""Pieces of a web page that stands alone: tables, figures, and the page around them. All text is escaped here."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from html import escape
from string import Template

COMMAND_COLUMNS = 76
PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; --page: #fff; --ink: #1c2126; --soft: #59636e; --line: #d5dae0; --raised: #f4f6f8;
  --link: #1f6fb2; }
@media (prefers-color-scheme: dark) {
  :root { --page: #14171b; --ink: #e4e8ec; --soft: #a0aab5; --line: #39414a; --raised: #1e2328; --link: #7db7ea; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 70rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; padding-top: .8rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.5rem 0 .25rem; }
p { max-width: 48rem; margin: .5rem 0; }
a { color: var(--link); }
nav ol { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: 0; margin: .75rem 0; list-style: none; }
.note { border-left: 3px solid #c98a1b; padding-left: .75rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: .6rem; margin: 1rem 0; }
.facts div { background: var(--raised); border-radius: .4rem; padding: .5rem .75rem; }
.facts dt { color: var(--soft); font-size: .8rem; }
.facts dd { margin: 0; font-size: 1.05rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.facts small { display: block; font-weight: 400; font-size: .75rem; color: var(--soft); }
.row { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: flex-start; }
figure { margin: 1rem 0; max-width: 100%; min-width: 0; }
figcaption { color: var(--soft); font-size: .875rem; max-width: 42rem; }
.row figure { flex: 0 1 auto; }
.row figcaption { max-width: 30rem; }
.row .small figcaption { max-width: 10.5rem; }
.scroll { overflow-x: auto; max-width: 100%; }
.scroll:focus-visible, summary:focus-visible, pre:focus-visible { outline: 2px solid var(--link); }
svg { display: block; max-width: 100%; height: auto; }
svg text { fill: currentColor; }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
.wide svg { min-width: 48rem; }
table { border-collapse: collapse; font-size: .875rem; margin: .5rem 0; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding: .25rem 0; white-space: normal; }
caption span { display: block; max-width: min(42rem, 100vw - 2rem); }
th, td { padding: .2rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.words th, .words td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.words tbody th { white-space: nowrap; }
thead th { color: var(--soft); font-weight: 600; white-space: normal; vertical-align: bottom; }
tbody th { font-weight: 400; }
tr.chosen > * { font-weight: 700; }
details { margin: .5rem 0; }
summary { cursor: pointer; color: var(--link); }
pre { background: var(--raised); border-radius: .4rem; padding: .75rem; overflow-x: auto; font-size: .85rem;
  margin: .5rem 0; }
@media print { .scroll { overflow: visible; } .wide svg { min-width: 0; } }
</style>
</head>
<body>
<main>
<h1>$title</h1>
$contents
$body
</main>
</body>
</html>
""")


def page(title: str, sections: Sequence[tuple[str, str]]) -> str:
    """A document. sections: heading, and content as HTML."""
    links = "".join(f'<li><a href="#s{n}">{escape(heading)}</a></li>' for n, (heading, _) in enumerate(sections, 1))
    body = "\n".join(
        f'<section id="s{n}">\n<h2>{escape(heading)}</h2>\n{content}\n</section>'
        for n, (heading, content) in enumerate(sections, 1)
    )
    contents = f'<nav aria-label="Contents"><ol>{links}</ol></nav>'
    return PAGE.substitute(title=escape(title), contents=contents, body=body)


def paragraph(text: str, kind: str = "") -> str:
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def command(words: Sequence[str], about: str) -> str:
    """A command line for a shell, on several lines where it is long; a word is never broken."""
    units: list[str] = []  # an option and its value stay together
    for word, before in zip(words, ["", *words], strict=False):
        if before.startswith("-") and not word.startswith("-"):
            units[-1] += f" {shlex.quote(word)}"
        else:
            units.append(shlex.quote(word))
    lines = [""]
    for unit in units:
        if lines[-1] and len(lines[-1]) + len(unit) >= COMMAND_COLUMNS:
            lines.append("   ")
        lines[-1] += f" {unit}" if lines[-1] else unit
    text = " \\\n".join(lines)
    return f'<pre role="region" tabindex="0" aria-label="{escape(about)}"><code>{escape(text)}</code></pre>'


def facts(rows: Sequence[tuple[str, str, str]]) -> str:
    """Figures with what they are of; the third is said below in small, or empty."""
    cells = (
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}{f'<small>{escape(more)}</small>' if more else ''}</dd></div>"
        for name, value, more in rows
    )
    return f'<dl class="facts">{"".join(cells)}</dl>'


def table(
    caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], marked: Sequence[int] = (), kind: str = ""
) -> str:
    """A table that scrolls where it is too wide; the first cell of a row names it. marked: rows that are set off."""
    columns = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = []
    for number, (name, *values) in enumerate(rows):
        cells = "".join(f"<td>{escape(value)}</td>" for value in values)
        mark = ' class="chosen"' if number in marked else ""
        lines.append(f'<tr{mark}><th scope="row">{escape(name)}</th>{cells}</tr>')
    attribute = f' class="{kind}"' if kind else ""
    return scroll(
        f"<table{attribute}><caption><span>{escape(caption)}</span></caption><thead><tr>{columns}</tr></thead>\n"
        f"<tbody>{''.join(lines)}</tbody></table>",
        caption,
    )


def scroll(content: str, label: str) -> str:
    """Content that scrolls by itself, by keyboard, too."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}">{content}</div>'


def folded(summary: str, content: str) -> str:
    """Content that a click opens."""
    return f"<details><summary>{escape(summary)}</summary>\n{content}</details>"


def figure(svg: str, caption: str, kind: str = "") -> str:
    """A picture with its caption; kind: `wide` for one that scrolls on a phone, `small` for one of many in a row."""
    picture = scroll(svg, caption) if kind == "wide" else svg
    attribute = f' class="{kind}"' if kind else ""
    return f"<figure{attribute}>{picture}<figcaption>{escape(caption)}</figcaption></figure>"


def row(*figures: str) -> str:
    """Figures side by side, where there is room."""
    return f'<div class="row">{"".join(figures)}</div>'
