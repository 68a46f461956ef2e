"""``fastclip scenes``: drawings and the scenes composed of them."""

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")


@app.callback()
def scenes() -> None:
    """Compose pictures with exact captions and masks from freely licensed drawings."""


@app.command()
def fetch(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to put the drawings.")],
    workers: Annotated[int, typer.Option(min=1, help="Processes that render.")] = 2,
) -> None:
    """Download and render nine sets of emoji, 8,565 drawings of 1,187 names (1 GB).

    Downloads 34 MB from npm's registry, by npm where it is installed. Needs the package resvg-py.
    """
    from fastclip.data.scenes.fetch import fetch as fetch_drawings

    fetch_drawings(folder, workers)


@app.command()
def write(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to put the scenes.")],
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 1000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    kind: Annotated[
        Literal["single", "pair", "several"],
        typer.Option(help="One object, two, or three to four."),
    ] = "pair",
    side: Annotated[int, typer.Option(min=8, max=1024, help="Pixels of a side.")] = 128,
    drawings: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="What `fetch` wrote; default: the shipped drawings."),
    ] = None,
    part: Annotated[
        str, typer.Option(help="Which fetched drawings to use: train, test or all.")
    ] = "all",
) -> None:
    """Write scenes as PNG files with masks, captions, tags and layouts.

    If interrupted, rerun the same command to resume.
    """
    from fastclip.cli._common import progress
    from fastclip.data.scenes import load_drawings, split
    from fastclip.data.scenes.writing import write_scenes

    loaded = load_drawings(drawings)
    if part != "all":
        loaded = split(loaded, cast(Literal["train", "test"], part))
    with progress("writing", "scenes") as report:
        write_scenes(loaded, folder, count=count, seed=seed, kind=kind, side=side, progress=report)
