"""One self-contained HTML page: style, script and data are in it, and nothing is fetched when it is opened.

Text comes from files that are not trusted. It enters the page escaped here, as HTML or as JSON, and a
content policy that names the page's own script by its hash keeps any other from running.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from ..circuits.design import Design
from .report_charts import Chart

FOLDER = Path(__file__).parent / "page"
SCRIPTS = ("elements.js", "charts.js", "bars.js", "arrays.js")


@dataclass(frozen=True)
class Section:
    """A heading and what stands beneath it, as HTML; the functions below make it, and escape all text."""

    title: str
    body: str


def page(title: str, about: str, sections: Sequence[Section]) -> str:
    """The whole page; ``about`` is a line beneath the title."""
    script = "\n".join((FOLDER / name).read_text("utf-8") for name in SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    places = [f"s{k}" for k in range(len(sections))]
    links = [f'<a href="#{place}">{escape(s.title)}</a>' for place, s in zip(places, sections, strict=True)]
    bodies = [
        f'<section id="{place}" aria-labelledby="{place}h">\n<h2 id="{place}h">{escape(s.title)}</h2>\n'
        f"{s.body}\n</section>"
        for place, s in zip(places, sections, strict=True)
    ]
    parts = {
        "title": escape(title), "about": escape(about), "links": "\n".join(links),
        "sections": "\n".join(bodies), "style": (FOLDER / "style.css").read_text("utf-8"),
        "script": script, "digest": digest,
    }  # fmt: skip
    pieces = (FOLDER / "page.html").read_text("utf-8").split("@@")  # so that no part is searched for others
    return "".join(parts[piece] if k % 2 else piece for k, piece in enumerate(pieces))


def paragraph(text: str) -> str:
    """Text on its own."""
    return f"<p>{escape(text)}</p>"


def preformatted(text: str) -> str:
    """Text whose lines and columns stay as they are."""
    return f'<pre tabindex="0">{escape(text)}</pre>'


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]], words: bool = False) -> str:
    """A table, whose first column names its rows; the others hold numbers, or ``words``."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in heads)
    lines = (
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="wide" tabindex="0" role="group" aria-label="{escape(caption)}">'
        f"<table{' class=words' * words}>"
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>\n"
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def folded(summary: str, body: str) -> str:
    """HTML that is shown when it is asked for."""
    return f"<details><summary>{escape(summary)}</summary>\n{body}\n</details>"


def figures(amounts: Mapping[str, str]) -> str:
    """The few numbers that matter most, each with what it is."""
    cells = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in amounts.items())
    return f'<dl class="figures">{cells}</dl>'


def drawing(kind: str, data: Mapping[str, Any]) -> str:
    """Data that the page's script draws as ``kind``: ``chart``, ``bars`` or ``arrays``."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    inert = text.replace("<", "\\u003c")  # nothing in it can end the element
    return f'<figure class="{kind}"><script type="application/json">{inert}</script></figure>'


def chart(what: Chart) -> str:
    """A chart, or a line which says that there is nothing to draw."""
    return drawing("chart", what.plain()) if what.panels else paragraph(f"Nothing to draw: {what.about}.")


def toml(design: Design) -> str:
    """A design as TOML; the lines that differ from the default are marked, and tell it."""
    default = Design().to_toml().split("\n\n")
    blocks = zip(design.to_toml().split("\n\n"), default, strict=True)
    text = '<span class="same">\n</span>'.join(_block(mine, usual) for mine, usual in blocks)
    data = f"data:text/plain;base64,{base64.b64encode(design.to_toml().encode()).decode()}"
    return (
        '<p><label><input type="checkbox" class="fold" checked> only what differs from the default</label> · '
        f'<a download="design.toml" href="{data}">save it all as design.toml</a></p>\n'
        f'<pre class="toml" tabindex="0" aria-label="the design, as TOML">{text}</pre>'
    )


def _block(mine: str, usual: str) -> str:
    """A section of a design beside the default's."""
    lines = []
    for line, default in zip(mine.splitlines(), usual.splitlines(), strict=True):
        if line != default:
            was = escape(default.partition(" = ")[2])
            lines.append(f'<mark>{escape(line)}</mark> <span class="default"># default: {was}\n</span>')
        else:
            kind = "section" if line.startswith("[") and mine != usual else "same"
            lines.append(f'<span class="{kind}">{escape(line)}\n</span>')
    return "".join(lines)
