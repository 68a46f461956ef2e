"""The command ``fastclip``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from fastclip._installation import incomplete
from fastclip._version import __version__
from fastclip.cli import (
    bench,
    classify,
    coder,
    demo,
    distill,
    embed,
    hard_captions,
    hard_positives,
    info,
    openness,
    scenes,
    segment,
    sweep,
    tag,
    topk,
    train,
)
from fastclip.cli._common import commands, register

app = commands(name="fastclip")
register(app, "classify", classify.command)
register(app, "topk", topk.command)
register(app, "embed-images", embed.images)
register(app, "embed-texts", embed.texts)
register(app, "hard-positives", hard_positives.command)
register(app, "hard-captions", hard_captions.command)
register(app, "train", train.command)
register(app, "distill", distill.command)
register(app, "openness", openness.command)
register(app, "tag", tag.command)
register(app, "segment", segment.command)
register(app, "info", info.command)
register(app, "demo", demo.command)
register(app, "bench", bench.command)
app.add_typer(coder.app, name="coder")
app.add_typer(scenes.app, name="scenes")
app.add_typer(sweep.app, name="sweep")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fastclip {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Open-vocabulary CLIP at any vocabulary size, with exact answers."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Run the command line; the entry point of ``fastclip``."""
    if problem := incomplete(Path(__file__).parent.parent):
        sys.exit(f"error: {problem}")
    app(prog_name="fastclip")
