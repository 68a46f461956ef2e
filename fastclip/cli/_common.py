"""What the commands share: errors as messages, inputs by path or sample name, output files."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from fastclip.data import Features


class Commands(TyperGroup):
    """Commands whose expected errors end in one line on stderr and exit status 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # typer ends quietly
        except (OSError, ValueError) as error:
            typer.echo(f"error: {_one_line(error)}", err=True)
            raise typer.Exit(1) from error


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).splitlines())


def load(source: str) -> Features:
    """Read ``source``: a file or folder, ``FILE:ARRAY``, or a sample if no such path exists."""
    from fastclip.data import load_sample, read_features, samples

    if os.path.exists(source):
        return read_features(source)
    if source in samples():
        return load_sample(source)
    path, _, array = source.rpartition(":")
    if path.endswith((".npz", ".safetensors")):
        return read_features(path, array=array)
    raise FileNotFoundError(
        f"{source}: no such file or folder, nor a sample ({', '.join(samples())})"
    )


def writable(path: Path) -> Path:
    """Return the file to write for ``path``; raise before the work if that cannot succeed."""
    path = path.resolve()  # a link stays a link to the new content
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder", str(path.parent))
    if path.exists() and not path.is_file():
        raise FileExistsError(errno.EEXIST, "is not a regular file", str(path))
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(errno.EACCES, "folder is not writable", str(path.parent))
    return path


@contextmanager
def text_file(path: Path | None) -> Iterator[TextIO]:
    """Yield stdout, or a file that appears at ``path`` whole or not at all."""
    if path is None:
        yield sys.stdout
        return
    from fastclip.data.files import replacing

    with replacing(path) as part, open(part, "w", encoding="utf-8", newline="") as file:
        yield file


@contextmanager
def progress(
    total: int, *, shown: bool, doing: str = "searching", what: str = "queries"
) -> Iterator[Callable[[int], None]]:
    """Yield a function that takes the number of ``what`` just done, of ``total``.

    The bar, with rate and time left, is on stderr and only where that is a terminal.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text("" if task.speed is None else f"{task.speed:,.0f} {what}/s")

    console = Console(stderr=True)
    columns = (
        TextColumn(doing),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
    )
    disable = not (shown and console.is_terminal)
    with Progress(*columns, console=console, transient=True, disable=disable) as bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.advance(task, done)
