"""Reader of features in parquet: a column of lists of equal length, and names beside it."""

from pathlib import Path

import torch

from .features import Features
from .formats import arrow_errors, file_errors, open_parquet
from .rows import open_rows
from .shards import NAME_COLUMNS, strings


def read_parquet(path: Path, array: str | None) -> Features:
    """A file or a folder of parquet as one array of ``V d`` elements.

    Rows are named by the first column of `NAME_COLUMNS` that all files have.
    """
    rows = open_rows(path, array=array)
    features = torch.empty(len(rows), rows.dim, dtype=rows.dtype)
    rows.read(0, features)
    files = [Path(file.place.path) for file in rows.files]
    columns = []
    for file in files:
        with file_errors(file), arrow_errors():
            columns.append(set(open_parquet(file).schema_arrow.names))
    named = [name for name in NAME_COLUMNS if all(name in found for found in columns)]
    if not named:
        return Features(features)
    names: list[str] = []
    for file in files:
        with file_errors(file), arrow_errors():
            names += strings(open_parquet(file).read([named[0]]).column(0), named[0])
    return Features(features, names)
