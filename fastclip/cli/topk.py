"""``fastclip topk``: the best keys of each query, from files to a table or a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from fastclip.cli._common import SOURCE, load, progress, text_file, writable

if TYPE_CHECKING:
    from fastclip import TopK
    from fastclip.data import Features

# Products of two numbers in one call of the op: many enough to hide the cost of the call, few
# enough for the progress bar to move and for Ctrl-C, which waits for the call, to be heard.
_PRODUCTS_PER_CALL = 2**34


Format = Literal["table", "json", "csv", "parquet"]


def command(
    queries: Annotated[
        str,
        typer.Argument(
            metavar="QUERIES",
            help=SOURCE,
        ),
    ],
    keys: Annotated[str, typer.Argument(metavar="KEYS", help="As QUERIES.")],
    k: Annotated[int, typer.Option("-k", "--k", help="Keys per query.")] = 5,
    metric: Annotated[
        Literal["cosine", "dot"],
        typer.Option(help="cosine: rows are brought to unit length; dot: rows as they are."),
    ] = "cosine",
    format: Annotated[
        Format | None,
        typer.Option(help="Default: that of the ending of --output, else table."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write here, not to stdout."),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Queries that a table shows.")] = 20,
) -> None:
    """Find the K best keys of each query.

    'fastclip info' lists the samples, such as coco-images and coco-captions.
    """
    chosen = format or _format_of(output)
    if chosen == "parquet" and output is None:
        raise typer.BadParameter("parquet needs --output", param_hint="'--format'")
    target = None if output is None else writable(output)

    query_features, key_features = load(queries), load(keys)
    _check_same_model(query_features, key_features)
    if metric == "cosine":
        query_features = _normalized(queries, query_features)
        key_features = _normalized(keys, key_features)
    best = _search(query_features, key_features, k)

    from fastclip.cli import _write

    if chosen == "parquet":
        assert target is not None
        _write.parquet(target, query_features, key_features, best)
        return
    with text_file(target) as file:
        if chosen == "table":
            _write.table(file, query_features, key_features, best, rows)
        elif chosen == "json":
            _write.json(file, query_features, key_features, best)
        else:
            _write.csv(file, query_features, key_features, best)
    if chosen == "table" and len(query_features) > rows:
        more = len(query_features) - rows
        typer.echo(f"{more:,} more queries; --rows sets how many are shown", err=True)


def _format_of(output: Path | None) -> Format:
    suffix = "" if output is None else output.suffix.removeprefix(".")
    return cast(Format, suffix) if suffix in ("json", "csv", "parquet") else "table"


def _check_same_model(queries: Features, keys: Features) -> None:
    for field in ("model", "pretrained"):
        of_queries, of_keys = getattr(queries.metadata, field), getattr(keys.metadata, field)
        if None not in (of_queries, of_keys) and of_queries != of_keys:
            raise ValueError(
                f"features of different models cannot be compared ({of_queries} vs {of_keys})"
            )


def _normalized(source: str, features: Features) -> Features:
    try:
        return features.normalized()
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def _search(queries: Features, keys: Features, k: int) -> TopK:
    """``fastclip.topk`` in parts, under a progress bar where there are several."""
    import torch

    import fastclip
    from fastclip.engine.checks import check_finite, with_adjacent_elements

    rows = with_adjacent_elements(queries.features)
    check_finite("queries", rows)  # here, for the op would count rows from the start of its part
    packed = fastclip.pack(keys.features)
    step = min(max(_PRODUCTS_PER_CALL // max(keys.features.numel(), 1), 16), 65536)
    parts = []
    with progress("searching", "queries", shown=len(queries) > step) as report:
        report(0, len(queries))
        for start in range(0, max(len(queries), 1), step):  # once for no queries: k is checked
            part = rows[start : start + step]
            parts.append(fastclip.topk(part, packed, k))
            report(start + len(part), len(queries))
    return fastclip.TopK(*(torch.cat(column) for column in zip(*parts, strict=True)))
