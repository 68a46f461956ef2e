"""Small tables and pictures in HTML: how notebooks show results, and pictures within pages."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from .image_decoding import to_rgb

if TYPE_CHECKING:
    from PIL.Image import Image

SHOWN = 10
"""Rows of a table in a notebook."""


class Markup(str):
    """HTML that is not escaped."""


def table(
    caption: str, columns: Sequence[object], rows: Iterable[Sequence[object]], total: int = 0
) -> Markup:
    """Return a table; all that is not `Markup` is escaped.

    ``rows`` are those that are shown, the first of ``total``; a last line says how many others
    there are.
    """
    shown = [list(row) for row in rows]
    parts = ["<table>", f"<caption>{escape(caption)}</caption>"]
    parts.append(f"<thead>{_row('th', columns)}</thead>")
    parts += ["<tbody>", *(_row("td", row) for row in shown)]
    if total > len(shown):
        more = f"... {total - len(shown):,} more"
        parts.append(f'<tr><td colspan="{max(1, len(columns))}">{more}</td></tr>')
    return Markup("".join([*parts, "</tbody></table>"]))


def together(*parts: str | None) -> Markup:
    """Return these below each other; None is left out."""
    return Markup("".join(f"<div>{part}</div>" for part in parts if part is not None))


def escape(x: object) -> str:
    """Return text as HTML."""
    return x if isinstance(x, Markup) else html.escape(str(x))


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _row(cell: str, row: Sequence[object]) -> str:
    return "<tr>" + "".join(f"<{cell}>{escape(x)}</{cell}>" for x in row) + "</tr>"


def picture(image: Image, side: int, name: str) -> Markup:
    """Return a thumbnail as an element."""
    uri = thumbnail(image, side, format="JPEG", quality=85)
    return Markup(f'<img src="{uri}" alt="{escape(name)}" title="{escape(name)}">')


def thumbnail(image: Image, side: int, **options: Any) -> str:
    """As `data_uri`, shrunk to ``side`` pixels, with the colours that a model gets: over white."""
    small = to_rgb(image).copy()
    small.thumbnail((side, side))
    return data_uri(small, **options)


def data_uri(image: Image, **options: Any) -> str:
    """Return an image as the source of an ``<img>``; ``options`` are those of ``Image.save``."""
    file = io.BytesIO()
    image.save(file, **options)
    kind = options["format"].lower()
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
