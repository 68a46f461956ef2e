"""The forms in which ``fastclip topk`` hands out its result."""

from __future__ import annotations

import csv as csv_module
import json as json_module
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from fastclip.cli._common import UNBROKEN, printable

if TYPE_CHECKING:
    import pyarrow as pa

    from fastclip import TopK
    from fastclip.data import Features

# Queries of one row group: bounds the memory beyond the result itself.
_QUERIES_PER_GROUP = 65536


def table(file: TextIO, queries: Features, keys: Features, best: TopK, rows: int) -> None:
    """The first ``rows`` queries for people to read."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=file, width=None if file.isatty() else UNBROKEN)
    scores, indices = best.values[:rows].tolist(), best.indices[:rows].tolist()
    for i, (row_scores, row_indices) in enumerate(zip(scores, indices, strict=True)):
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(justify="right", style="dim")
        grid.add_column(justify="right", style="cyan")
        grid.add_column(overflow="fold")
        for rank, (score, index) in enumerate(zip(row_scores, row_indices, strict=True), 1):
            key = printable(_name(keys, index) or f"key {index}")
            grid.add_row(f"{rank:>4}", f"{score:.4f}", Text(key))
        with console.capture() as captured:
            console.print(Text(printable(_name(queries, i) or f"query {i}"), style="bold"))
            console.print(grid)
        for line in captured.get().splitlines():
            file.write(line.rstrip() + "\n")  # rich fills each line of a grid with blanks


def json(file: TextIO, queries: Features, keys: Features, best: TopK) -> None:
    """A list with one object per query."""
    file.write("[")
    for i, matches in enumerate(_matches(best)):
        entry = {
            "query_index": i,
            "query": _name(queries, i),
            "matches": [
                {"rank": rank, "key_index": index, "key": _name(keys, index), "score": float(score)}
                for rank, (index, score) in enumerate(matches, 1)
            ],
        }
        file.write(",\n" if i else "\n")
        # JSON has no infinity, which a float32 score can reach
        file.write(json_module.dumps(entry, ensure_ascii=False, allow_nan=False))
    file.write("\n]\n")


def csv(file: TextIO, queries: Features, keys: Features, best: TopK) -> None:
    """One line per query and rank."""
    writer = csv_module.writer(file, lineterminator="\n")
    writer.writerow(("query_index", "query", "rank", "key_index", "key", "score"))
    for i, matches in enumerate(_matches(best)):
        query = _name(queries, i)
        for rank, (index, score) in enumerate(matches, 1):
            writer.writerow((i, query, rank, index, _name(keys, index), score))


def parquet(path: Path, queries: Features, keys: Features, best: TopK) -> None:
    """The columns of `csv`, typed; a query or key without a name is null."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from fastclip.data.files import replacing

    schema = pa.schema(
        {
            "query_index": pa.int64(),
            "query": pa.large_string(),
            "rank": pa.int64(),
            "key_index": pa.int64(),
            "key": pa.large_string(),
            "score": pa.float32(),
        }
    )
    query_names, key_names = _name_column(queries), _name_column(keys)
    k = best.indices.shape[1]
    with replacing(path) as part, pq.ParquetWriter(part, schema) as writer:
        for start in range(0, len(queries), _QUERIES_PER_GROUP):
            indices = best.indices[start : start + _QUERIES_PER_GROUP].numpy().ravel()
            scores = best.values[start : start + _QUERIES_PER_GROUP].numpy().ravel()
            query_indices = np.repeat(np.arange(start, start + len(indices) // k), k)
            ranks = np.tile(np.arange(1, k + 1), len(indices) // k)
            columns = [
                query_indices,
                query_names.take(pa.array(query_indices)),
                ranks,
                indices,
                key_names.take(pa.array(indices)),
                scores,
            ]
            writer.write_table(pa.table(columns, schema=schema))


def _matches(best: TopK) -> Iterator[list[tuple[int, str]]]:
    """Each query's keys with their scores in the fewest digits that read back as this float32."""
    for indices, values in zip(best.indices, best.values, strict=True):
        scores: list[str] = values.numpy().astype(str).tolist()
        yield list(zip(indices.tolist(), scores, strict=True))


def _name(features: Features, row: int) -> str | None:
    return None if features.names is None else features.names[row]


def _name_column(features: Features) -> pa.Array:
    import pyarrow as pa

    if features.names is None:
        return pa.nulls(len(features), pa.large_string())
    return pa.array(features.names, pa.large_string())
