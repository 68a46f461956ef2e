"""``fastclip scenes``: drawings and the scenes composed of them."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from fastclip.cli._common import commands, register

app = commands(no_args_is_help=True)

# Before there was --output, the folder was an argument, which still works.
_Folder = Annotated[Path | None, typer.Argument(metavar="DIR", hidden=True, help="As --output.")]


@app.callback()
def scenes() -> None:
    """Compose pictures with exact captions and masks from freely licensed drawings."""


def fetch(
    folder: _Folder = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Where to put the drawings."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that render.")] = 2,
) -> None:
    """Download and render nine sets of emoji, 8,565 drawings of 1,187 names (1 GB).

    Downloads 34 MB from npm's registry, by npm where it is installed. Needs the package resvg-py.
    """
    from fastclip.data.scenes.fetch import fetch as fetch_drawings

    fetch_drawings(_place(folder, output), workers)


def write(
    folder: _Folder = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Where to put the scenes."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random choices.")] = 0,
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
        Literal["train", "test", "all"], typer.Option(help="Which fetched drawings to use.")
    ] = "all",
) -> None:
    """Write scenes as PNG files with masks, captions, tags and layouts.

    If interrupted, rerun the same command to resume.
    """
    from fastclip.cli._common import progress
    from fastclip.data.scenes import load_drawings, split
    from fastclip.data.scenes.writing import write_scenes

    place = _place(folder, output)
    loaded = load_drawings(drawings)
    if part != "all":
        loaded = split(loaded, part)
    with progress("writing", "scenes") as report:
        write_scenes(loaded, place, count=count, seed=seed, kind=kind, side=side, progress=report)


register(app, "fetch", fetch)
register(app, "write", write)


def _place(folder: Path | None, output: Path | None) -> Path:
    if (folder is None) == (output is None):
        raise typer.BadParameter("is needed, once", param_hint="'--output' / '-o'")
    return folder or output or Path()
