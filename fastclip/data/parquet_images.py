"""Images inside parquet files, as Hugging Face's data sets have them: bytes, or bytes and paths."""

from __future__ import annotations

import bisect
import itertools
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .formats import arrow_errors, file_errors, open_parquet

_CAPTIONS = ("caption", "text")  # the first of these columns that all files have
_HELD = 2  # row groups: that being read, and the one before it or after it


class ImageTables:
    """Rows with an image in each; the bytes of a row group are read when one of them is wanted.

    Reading in order is fast; reading at random decodes a row group for each image.

    Parameters
    ----------
    paths : sequence of Path
        At least one.
    prefixes : sequence of str
        What the names of a file's images begin with.
    column : str, optional
        The column of the images; needed if a file has several.

    Raises
    ------
    FeatureFileError
        A file cannot be read or has no column of images; the message names it.
    """

    def __init__(
        self, paths: Sequence[Path], prefixes: Sequence[str], column: str | None = None
    ) -> None:
        self._files = [_File(path, column) for path in paths]
        self._borders = [0, *itertools.accumulate(file.rows for file in self._files)]
        self.names = [
            prefix + name
            for file, prefix in zip(self._files, prefixes, strict=True)
            for name in file.names()
        ]
        self.captions = _captions(self._files)
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[int, int], Any] = OrderedDict()

    def read(self, index: int) -> bytes:
        """Return the file of one image.

        Raises
        ------
        OSError
            The table has changed since it was opened.
        ValueError
            The row holds no image, or the table is damaged there.
        """
        number = bisect.bisect_right(self._borders, index) - 1
        file, row = self._files[number], index - self._borders[number]
        group = bisect.bisect_right(file.first_rows, row) - 1
        with self._lock:
            held = self._held.pop((number, group), None)
            if held is None:
                held = file.images(group)
            self._held[number, group] = held
            while len(self._held) > _HELD:
                self._held.popitem(last=False)
        data = held[row - file.first_rows[group]].as_py()
        return data if isinstance(data, bytes) else file.beside(row)

    def stamp(self, index: int) -> str:
        """Return what changes with the table of an image."""
        return str(self._files[bisect.bisect_right(self._borders, index) - 1].stamp)


class _File:
    def __init__(self, path: Path, column: str | None) -> None:
        self.path = path
        with file_errors(path), arrow_errors():
            self.stamp = self._stamp()
            file = open_parquet(path)
            self.schema, self._metadata = file.schema_arrow, file.metadata
            self._column = _image_column(self.schema, column)
            kind = self.schema.field(self._column).type
            has_paths = _is_struct(kind) and kind.get_field_index("path") >= 0
            self._leaf = f"{self._column}.bytes" if _is_struct(kind) else self._column
        groups = range(self._metadata.num_row_groups)
        counts = [self._metadata.row_group(group).num_rows for group in groups]
        self.rows = sum(counts)
        self.first_rows = [0, *itertools.accumulate(counts)][:-1]
        self._paths: list[str | None] = [None] * self.rows
        if has_paths:
            self._paths = self.texts(f"{self._column}.path", "path")

    def names(self) -> list[str]:
        """The path in each row, else its number."""
        return [path or f"{row:06d}" for row, path in enumerate(self._paths)]

    def texts(self, column: str, field: str | None = None) -> list[str | None]:
        with file_errors(self.path), arrow_errors():
            values = open_parquet(self.path).read([column]).column(0).combine_chunks()
            if field is not None:
                values = values.field(field)
            found: list[str | None] = values.to_pylist()
            return found

    def images(self, group: int) -> Any:
        if self._stamp() != self.stamp:
            raise OSError(f"{self.path}: has changed since it was listed")
        with file_errors(self.path), arrow_errors():
            file = open_parquet(self.path, metadata=self._metadata)
            values = file.read_row_group(group, columns=[self._leaf]).column(0).combine_chunks()
            return values.field("bytes") if _is_struct(values.type) else values

    def beside(self, row: int) -> bytes:
        """The file that a row without bytes names."""
        reason = f"row {row} of {self.path.name} holds no image"
        name = self._paths[row]
        if not name:
            raise ValueError(reason)
        path = self.path.parent / name
        if not path.is_file():
            raise ValueError(f"{reason}, nor is there a file {path}")
        return path.read_bytes()

    def _stamp(self) -> tuple[int, int]:
        found = self.path.stat()
        return found.st_size, found.st_mtime_ns


def holds_images(path: Path) -> bool:
    """Whether a parquet file has a column of images.

    Raises
    ------
    FeatureFileError
        It cannot be read.
    """
    with file_errors(path), arrow_errors():
        return bool(_image_columns(open_parquet(path).schema_arrow))


def _image_columns(schema: Any) -> list[str]:
    import pyarrow as pa

    def is_image(kind: Any) -> bool:
        if _is_struct(kind):
            place = kind.get_field_index("bytes")
            return place >= 0 and is_image(kind.field(place).type)
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    return [str(field.name) for field in schema if is_image(field.type)]


def _image_column(schema: Any, column: str | None) -> str:
    found = _image_columns(schema)
    if column in found:
        return str(column)
    if column is not None:
        raise ValueError(f"column is {column!r}, allowed: {', '.join(found) or 'none'}")
    if not found:
        raise ValueError(
            "no column of images, which are bytes or {bytes, path}; it holds "
            f"{', '.join(schema.names) or 'none'}"
        )
    if len(found) > 1:
        raise ValueError(f"has several columns of images: {', '.join(found)}: choose one by column")
    return str(found[0])


def _is_struct(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_struct(kind))


def _captions(files: Sequence[_File]) -> list[str | None] | None:
    import pyarrow as pa

    for name in _CAPTIONS:
        kinds = [file.schema.field(name).type for file in files if name in file.schema.names]
        if len(kinds) == len(files) and all(
            pa.types.is_string(kind) or pa.types.is_large_string(kind) for kind in kinds
        ):
            return [text for file in files for text in file.texts(name)]
    return None
