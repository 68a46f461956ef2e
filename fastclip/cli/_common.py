"""What the commands share: errors as messages, inputs by path or sample name, output files."""

from __future__ import annotations

import errno
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import typer
from typer.core import TyperCommand, TyperGroup

from fastclip.data.progress import progress as progress  # what commands take it from

if TYPE_CHECKING:
    from rich.table import Table

    from fastclip.data import EmbeddingSummary, Features, Rows
    from fastclip.sweep import SweepSummary

ENDPOINT_KEY = "FASTCLIP_ENDPOINT_KEY"
"""The environment variable that holds the key of a chat model's endpoint."""

Strict = Annotated[
    bool, typer.Option("--strict", help="Exit with status 1 if an image was skipped.")
]


UNBROKEN = 1_000_000
"""Columns of a table that is for another program: no name is broken."""


class _PlainFlags:
    """Help in which no option that takes no value has the type of one."""

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if getattr(param, "is_flag", False):
                param.metavar = ""
        return params


class Command(_PlainFlags, TyperCommand):
    """What each command is of."""


class Commands(_PlainFlags, TyperGroup):
    """Commands whose expected errors end in one line on stderr and exit status 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # typer ends quietly
        except (OSError, ValueError) as error:
            typer.echo(f"error: {_one_line(error)}", err=True)
            raise typer.Exit(1) from error


def _one_line(error: Exception | str) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).splitlines())


SOURCE = (
    "A .safetensors, .npy, .npz, .pt or .parquet file (FILE:ARRAY or FILE:COLUMN names one of "
    "several), a folder of .npy or .parquet shards, a URL of these, or a sample."
)


def load(source: str) -> Features:
    """Read features into memory, or map them, from what `SOURCE` says."""
    import torch

    from fastclip.data import Features, load_sample, read_features, samples

    if "://" in source:
        rows = open_source(source)
        found = torch.empty(len(rows), rows.dim, dtype=rows.dtype)
        rows.read(0, found)
        return Features(found)
    if not os.path.exists(source) and source in samples():
        return load_sample(source)
    path, array = _split(source)
    return read_features(path, array=array)


def open_source(source: str, *, normalize: bool = False) -> Rows:
    """Open features to be read range by range, from what `SOURCE` says."""
    from fastclip.data import open_rows, samples
    from fastclip.data.samples import sample_file

    if not os.path.exists(source) and source in samples():
        with sample_file(source) as file:
            return open_rows(file, normalize=normalize)
    path, array = _split(source)
    return open_rows(path, array=array, normalize=normalize)


def _split(source: str) -> tuple[str, str | None]:
    """Path, and array or column if one is named."""
    from fastclip.data import samples
    from fastclip.data.checks import did_you_mean
    from fastclip.data.formats import WITH_ARRAYS

    if os.path.exists(source):
        return source, None
    path, _, array = source.rpartition(":")
    if path.rstrip("/").endswith(WITH_ARRAYS):
        return path, array
    if "://" in source:  # before the next line: a folder may be called "s3"
        return source, None
    if os.path.isdir(path):
        return path, array
    raise FileNotFoundError(
        f"{source}: no such file or folder, nor a sample ({', '.join(samples())})"
        + did_you_mean(source, samples())
    )


def commands(kind: type[Commands] = Commands, **options: Any) -> typer.Typer:
    """Return an application whose commands `register` adds, with what all of them have."""
    return typer.Typer(
        cls=kind,
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        **options,
    )


def register(app: typer.Typer, name: str, command: Callable[..., None], **options: Any) -> None:
    """Add a command under a name; its help is its docstring, whose lines may be of any width."""
    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    text = "\n\n".join(" ".join(part.split()) for part in paragraphs)
    app.command(name, cls=Command, **{"help": text, **options})(command)


def writable(path: Path) -> Path:
    """Return the file to write for ``path``; raise before the work if that cannot succeed.

    Missing parents are made: nothing else tells whether they can be.
    """
    path = path.resolve()  # a link stays a link to the new content
    _make_folder(path.parent)
    if path.exists() and not path.is_file():
        raise FileExistsError(errno.EEXIST, "is not a regular file", str(path))
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(errno.EACCES, "folder is not writable", str(path.parent))
    return path


def writable_folder(path: Path) -> Path:
    """Return the folder to write into; raise before the work if that cannot succeed.

    Missing parents are made; the folder itself is left to whoever fills it.
    """
    _make_folder(path.parent)
    existing = path if path.exists() else path.parent
    if not existing.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "is not a folder", str(existing))
    if not os.access(existing, os.W_OK):
        raise PermissionError(errno.EACCES, "folder is not writable", str(existing))
    return path


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, "is not a folder", str(path)) from error


def written(path: Path, name: Path | None = None) -> str:
    """Tell what was written, by the name that it was asked for by, and how large it is."""
    return f"{name or path}: {path.stat().st_size / 1e3:,.0f} kB"


def printable(name: str) -> str:
    """Names come from files: no line break or escape sequence of theirs reaches the terminal."""
    return "".join(c if c.isprintable() else " " for c in name)


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Show fastclip's warnings as one line each on stderr, when they are raised."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        typer.echo(f"warning: {_one_line(message)}", err=True)

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield


def list_reasons(heading: str, reasons: Iterable[tuple[str, str]], shown: int) -> None:
    """Print on stderr what was skipped and why, up to ``shown`` of it."""
    listed = list(reasons)
    typer.echo(f"{heading}:", err=True)
    for name, reason in listed[:shown]:
        typer.echo(f"  {printable(name)}: {printable(reason)}", err=True)
    if len(listed) > shown:
        typer.echo(f"  and {len(listed) - shown:,} more", err=True)


def print_job(
    folder: Path, rows: str, summary: EmbeddingSummary | SweepSummary, seconds: float
) -> None:
    """Print what a job made, and on stderr the shards that it had to make again."""
    for name in summary.damaged:
        typer.echo(f"{folder / name}: shard was damaged, computed again", err=True)
    kept = f", {summary.kept:,} of them from an earlier run" if summary.kept else ""
    shards = "shard" if summary.shards == 1 else "shards"
    typer.echo(f"{folder}: {rows} in {summary.shards:,} {shards}{kept}; {seconds:,.1f} s")


def table(first: str, *others: str, justify: Literal["left", "right"] = "right") -> Table:
    """An empty table with these columns."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD)
    made.add_column(first)
    for column in others:
        made.add_column(column, justify=justify)
    return made


@contextmanager
def text_file(path: Path | None) -> Iterator[TextIO]:
    """Yield stdout, or a file that appears at ``path`` whole or not at all."""
    if path is None:
        yield sys.stdout
        return
    from fastclip.data.files import replacing

    with replacing(path) as part, open(part, "w", encoding="utf-8", newline="") as file:
        yield file


def bar(bars: ExitStack, label: str, unit: str) -> Callable[[int, int], None]:
    """As `progress`, until the next one of the stack begins or it ends."""
    bars.close()  # one bar at a time
    return bars.enter_context(progress(label, unit))
