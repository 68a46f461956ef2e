"""Results of a shard as a table of parquet, one row per query or key, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fastclip.data.files import replacing
from fastclip.data.formats import arrow_errors, file_errors, open_parquet, share
from fastclip.engine.operation import Fields
from fastclip.engine.stream import Plan, Question, Reader, states
from fastclip.ops import OPERATIONS

if TYPE_CHECKING:
    import pyarrow as pa

RESULTS = "results"

_GROUP_BYTES = 8 << 20  # of one row group: bounds what the writer keeps


def result_file(folder: Path, number: int) -> Path:
    """Return the file of a shard in the folder of a sweep."""
    return folder / RESULTS / f"results_{number:05d}.parquet"


def answers(
    question: Question,
    plan: Plan,
    blocks: Sequence[tuple[int, range]],
    reader: Reader | None = None,
) -> Iterator[tuple[int, Fields]]:
    """Yield the number and the result of each shard, on the CPU."""
    operation = question.operation
    for number, state, rows in states(question, plan, blocks, reader):
        fields = operation.to_fields(operation.finish(state, rows))
        yield number, {name: column.cpu() for name, column in fields.items()}


def write_table(path: Path, row: str, begin: int, fields: Fields) -> None:
    """Write a shard, all of it or nothing; equal results give equal bytes.

    Its first column, ``row``, numbers the queries or keys from ``begin`` on.
    """
    import pyarrow.parquet as pq

    table = to_table(row, begin, fields)
    group = max(1, _GROUP_BYTES * max(1, len(table)) // max(1, table.nbytes))
    with replacing(path) as part:
        pq.write_table(table, part, row_group_size=group, use_dictionary=False)


def to_table(row: str, begin: int, fields: Fields) -> pa.Table:
    """Return the result as a table of pyarrow, without copies."""
    import pyarrow as pa

    fields = dict(fields)
    starts = fields.pop("starts", None)
    count = len(starts) - 1 if starts is not None else len(next(iter(fields.values())))
    columns = {row: pa.array(np.arange(begin, begin + count))}
    for name, numbers in fields.items():
        flat = pa.array(numbers.contiguous().numpy().reshape(-1))
        if starts is not None:
            columns[name] = pa.LargeListArray.from_arrays(pa.array(starts.numpy()), flat)
        elif numbers.ndim == 2:
            columns[name] = pa.FixedSizeListArray.from_arrays(flat, numbers.shape[1])
        else:
            columns[name] = flat
    return pa.table(columns)


def read_tables(paths: Mapping[Path, range], op: str, shape: tuple[int, int]) -> Any:
    """Return what the function ``op`` returns, from the tables of all shards and their rows."""
    import pyarrow as pa

    tables = []
    for path, rows in paths.items():
        with file_errors(path), arrow_errors():
            table = open_parquet(path).read()
            if not table[0].equals(pa.chunked_array([np.arange(rows.start, rows.stop)])):
                raise ValueError(f"does not have the rows {rows.start} to {rows.stop - 1}")
            _check_columns(table, op)
            tables.append(table)
    table = pa.concat_tables(tables).combine_chunks()
    columns = {name: table[name].combine_chunks() for name in table.column_names[1:]}
    kind = OPERATIONS[op]
    if not kind.sparse:
        return kind.from_fields({name: _tensor(x) for name, x in columns.items()}, shape)
    lengths = np.diff(next(iter(columns.values())).offsets.to_numpy())
    starts = torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]))
    flat = {name: share(column.flatten().to_numpy()) for name, column in columns.items()}
    return kind.from_fields({"starts": starts, **flat}, shape)


def _check_columns(table: Any, op: str) -> None:
    """Check that a shard is of the function that the folder is said to be of."""
    import pyarrow as pa

    kind = OPERATIONS[op]
    names, fields = table.column_names[1:], list(kind.fields)
    types = [column.type for column in table.columns[1:]]
    ragged = [pa.types.is_list(t) or pa.types.is_large_list(t) for t in types]
    if names != fields or ragged != [kind.sparse] * len(fields):
        raise ValueError(f"holds {', '.join(names)}, which are not what {op} answers")


def _tensor(column: Any) -> torch.Tensor:
    import pyarrow as pa

    if pa.types.is_fixed_size_list(column.type):
        flat = share(column.flatten().to_numpy())
        return flat.view(len(column), column.type.list_size)
    return share(column.to_numpy())
