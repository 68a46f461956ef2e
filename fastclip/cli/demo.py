"""``fastclip demo``: what the package does, on what comes with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastclip.cli._common import writable

if TYPE_CHECKING:
    from rich.table import Table

    from fastclip.demo import Demo, Pictures


def command(
    output: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the page.")] = Path(
        "fastclip-demo.html"
    ),
    captions: Annotated[
        int, typer.Option(min=200, help="How many captions are searched for those of the scenes.")
    ] = 100_000,
) -> None:
    """Name drawings, find captions of scenes and of photos, and write an HTML page on the result.

    Uses only the model, drawings and features that come with fastclip; nothing is downloaded.
    """
    target = writable(output)

    from rich.console import Console
    from rich.text import Text

    from fastclip.config import config
    from fastclip.demo import COUNTERPART, run_demo, run_pictures
    from fastclip.report import write_page

    pictures = run_pictures(captions, progress=True)
    demo = run_demo()
    console = Console()
    facts = config()
    searches = (
        f"6 searches, {demo.scores:,} scores of {demo.images.dim} products each: "
        f"{1000 * demo.seconds:.0f} ms ({facts['instruction set in use']}, "
        f"{facts['threads']} threads)"
    )
    for title, table in (
        (
            f"{len(pictures.drawings)} drawings and {len(pictures.scenes)} scenes of two, "
            "the small model",
            _pictures(pictures),
        ),
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
    write_page(target, demo, pictures)
    typer.echo(f"{output}: {target.stat().st_size / 1e3:,.0f} kB")


def _pictures(pictures: Pictures) -> Table:
    from fastclip.demo import share_within

    table = _table()
    table.add_column("what is found")
    for title in ("among", "first", "of first 5", "median rank"):
        table.add_column(title, justify="right")
    for what, count, ranks in (
        ("name of a drawing", len(pictures.names), pictures.name_ranks),
        ("caption of a scene", len(pictures.captions), pictures.caption_ranks),
    ):
        shares = (f"{share_within(ranks, k):.3f}" for k in (1, 5))
        table.add_row(what, f"{count:,}", *shares, f"{int(ranks.median()) + 1:,}")
    table.caption = (
        f"{len(pictures.captions):,} captions packed, searched and ranked in "
        f"{1000 * pictures.seconds:.0f} ms"
    )
    return table


def _recall(demo: Demo) -> Table:
    table = _table()
    table.add_column("recall at")
    for k in demo.recalls["image to text"]:
        table.add_column(str(k), justify="right")
    for direction, values in demo.recalls.items():
        table.add_row(direction, *(f"{value:.3f}" for value in values.values()))
    return table


def _counterparts(demo: Demo) -> Table:
    from fastclip.demo import VOCABULARIES

    table = _table()
    table.add_column("vocabulary")
    table.add_column("names", justify="right")
    table.add_column("classes", justify="right")
    for name, title in VOCABULARIES.items():
        table.add_row(title, str(len(demo.vocabularies[name])), str(demo.counterparts(name)))
    return table


def _selection(demo: Demo) -> Table:
    from fastclip.demo import VOCABULARIES

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
