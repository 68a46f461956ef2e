"""``fastclip demo``: what the package does, on what comes with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastclip.cli._common import table, writable, written

if TYPE_CHECKING:
    from rich.table import Table

    from fastclip.demo import Demo, Pictures


def command(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write the page.")
    ] = Path("fastclip-demo.html"),
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
    for title, shown in (
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
        console.print(shown)
    typer.echo(searches)
    write_page(target, demo, pictures)
    typer.echo(written(target, output))


def _pictures(pictures: Pictures) -> Table:
    from fastclip.demo import share_within

    shown = table("what is found", "among", "first", "of first 5", "median rank")
    for what, count, ranks in (
        ("name of a drawing", len(pictures.names), pictures.name_ranks),
        ("caption of a scene", len(pictures.captions), pictures.caption_ranks),
    ):
        shares = (f"{share_within(ranks, k):.3f}" for k in (1, 5))
        shown.add_row(what, f"{count:,}", *shares, f"{int(ranks.median()) + 1:,}")
    shown.caption = (
        f"{len(pictures.captions):,} captions packed, searched and ranked in "
        f"{1000 * pictures.seconds:.0f} ms"
    )
    return shown


def _recall(demo: Demo) -> Table:
    shown = table("recall at", *map(str, demo.recalls["image to text"]))
    for direction, values in demo.recalls.items():
        shown.add_row(direction, *(f"{value:.3f}" for value in values.values()))
    return shown


def _counterparts(demo: Demo) -> Table:
    from fastclip.demo import VOCABULARIES

    shown = table("vocabulary", "names", "classes")
    for name, title in VOCABULARIES.items():
        shown.add_row(title, str(len(demo.vocabularies[name])), str(demo.counterparts(name)))
    return shown


def _selection(demo: Demo) -> Table:
    from fastclip.demo import VOCABULARIES

    assert demo.lvis.names is not None
    shown = table("LVIS", *VOCABULARIES.values(), justify="left")
    for row in demo.selection():
        matches = [demo.match(name, row) for name in VOCABULARIES]
        shown.add_row(
            demo.lvis.names[row], *(f"{match['score']:.3f} {match['name']}" for match in matches)
        )
    return shown
