"""``fastclip demo``: what the package does, on the features that come with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastclip.cli._common import writable

if TYPE_CHECKING:
    from rich.table import Table

    from fastclip.report import Demo


def command(
    output: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the page.")] = Path(
        "fastclip-demo.html"
    ),
) -> None:
    """Match images, captions and class names, and write an HTML page on the result.

    Uses only the features that come with fastclip; nothing is downloaded.
    """
    target = writable(output)

    from rich.console import Console
    from rich.text import Text

    from fastclip.config import config
    from fastclip.report import run_demo, write_page
    from fastclip.report.demo import COUNTERPART

    demo = run_demo()
    console = Console()
    facts = config()
    searches = (
        f"6 searches, {demo.scores:,} scores of {demo.images.dim} products each: "
        f"{1000 * demo.seconds:.0f} ms ({facts['instruction set in use']}, "
        f"{facts['threads']} threads)"
    )
    for title, table in (
        (f"{len(demo.images)} images and their captions, ViT-B/16", _recall(demo)),
        (
            f"LVIS classes with a counterpart (cosine >= {COUNTERPART}), "
            f"of {len(demo.lvis):,}, ViT-B/32",
            _counterparts(demo),
        ),
        ("LVIS classes at evenly spaced quantiles of their best cosine", _selection(demo)),
    ):
        console.print(Text(title, style="bold"))
        console.print(table)
    typer.echo(searches)
    write_page(target, demo)
    typer.echo(f"{output}: {target.stat().st_size / 1e3:,.0f} kB")


def _recall(demo: Demo) -> Table:
    table = _table()
    table.add_column("recall at")
    for k in demo.recalls["image to text"]:
        table.add_column(str(k), justify="right")
    for direction, values in demo.recalls.items():
        table.add_row(direction, *(f"{value:.3f}" for value in values.values()))
    return table


def _counterparts(demo: Demo) -> Table:
    from fastclip.report.demo import VOCABULARIES

    table = _table()
    table.add_column("vocabulary")
    table.add_column("names", justify="right")
    table.add_column("classes", justify="right")
    for name, title in VOCABULARIES.items():
        table.add_row(title, str(len(demo.vocabularies[name])), str(demo.counterparts(name)))
    return table


def _selection(demo: Demo) -> Table:
    from fastclip.report.demo import VOCABULARIES

    assert demo.lvis.names is not None
    table = _table()
    table.add_column("LVIS")
    for title in VOCABULARIES.values():
        table.add_column(title)
    for row in demo.selection():
        matches = [demo.match(name, row) for name in VOCABULARIES]
        table.add_row(
            demo.lvis.names[row], *(f"{match['score']:.3f} {match['name']}" for match in matches)
        )
    return table


def _table() -> Table:
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD)
