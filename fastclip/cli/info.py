"""``fastclip info``: what this installation can do."""

import json
from typing import Annotated, Literal

import typer


def command(
    format: Annotated[
        Literal["table", "json"], typer.Option(help="Format of the printed results.")
    ] = "table",
    as_json: Annotated[bool, typer.Option("--json", hidden=True, help="--format json.")] = False,
) -> None:
    """Show versions, instruction sets, threads and the samples that come with the package."""
    from fastclip.config import config
    from fastclip.data import samples

    if as_json or format == "json":
        typer.echo(json.dumps({"config": config(), "samples": samples()}, indent=2))
        return

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for title, rows in (("Configuration", config()), ("Samples", samples())):
        console.print(Text(title, style="bold"))
        table = Table(box=box.SIMPLE_HEAD, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column()
        for name, value in rows.items():
            table.add_row(name, value)
        console.print(table)
