"""Readers of ranges of rows from one file, on a disk or behind any URL that fsspec knows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch

from .formats import (
    arrow_errors,
    check_npy_dtype,
    choose_array,
    choose_tensor,
    file_errors,
    is_own,
    open_parquet,
    read_npz,
    share,
)
from .headers import TENSOR_DTYPES, npy_header, safetensors_header
from .torch_files import SUFFIXES as TORCH_SUFFIXES
from .torch_files import read_torch

_PIECE = 8 << 20  # bytes that are decoded or fetched at a time


class Place(NamedTuple):
    """A file: a file system of fsspec, the path there, and the name that messages call it by."""

    system: Any
    path: str
    name: str

    @property
    def suffix(self) -> str:
        return Path(self.path).suffix

    @property
    def local(self) -> bool:
        """Whether it is a file of this machine."""
        return "file" in self.system.protocol

    @property
    def size(self) -> int:
        """Bytes of the file."""
        size = self.system.size(self.path)
        if not isinstance(size, int):
            raise ValueError("cannot be streamed: its size is not known")
        return size


class RowFile(Protocol):
    """Rows [rows, dim] of one file."""

    place: Place
    rows: int
    dim: int
    dtype: torch.dtype
    normalized: bool

    def read(self, begin: int, out: torch.Tensor) -> None:
        """Fill ``out`` with the rows from number ``begin`` on; the caller knows they are there."""


def open_row_file(place: Place, array: str | None) -> RowFile:
    """Read the header of an npy, safetensors or parquet file, or all of an npz or pt file."""
    with file_errors(place.name):
        kind = place.suffix
        if kind == ".parquet":
            return _ParquetRows(place, array)
        if kind == ".npy":
            return _npy(place)
        if kind == ".safetensors":
            return _safetensors(place, array)
        if kind in (".npz", *TORCH_SUFFIXES):
            return _LoadedRows(place, array)
        raise ValueError(
            "cannot be streamed, allowed: .npy, .safetensors, .parquet, .npz and .pt files"
        )


class _RawRows:
    """Rows that lie in a file as they do in memory."""

    def __init__(
        self, place: Place, offset: int, rows: int, dim: int, dtype: torch.dtype, normalized: bool
    ) -> None:
        self.place, self.rows, self.dim, self.dtype = place, rows, dim, dtype
        self.normalized = normalized
        self._offset = offset

    def read(self, begin: int, out: torch.Tensor) -> None:
        target = out.view(torch.uint8).reshape(-1).numpy().data
        offset = self._offset + begin * self.dim * self.dtype.itemsize
        if self.place.local:
            # Not a memory map: pages of the file would count as memory of this process.
            with open(self.place.path, "rb", buffering=0) as file:
                file.seek(offset)
                filled = 0
                while filled < len(target):
                    count = file.readinto(target[filled:])
                    if not count:
                        raise ValueError("ends early: it was changed")
                    filled += count
            return
        for first in range(0, len(target), _PIECE):
            piece = target[first : first + _PIECE]
            start = offset + first
            found = self.place.system.cat_file(self.place.path, start, start + len(piece))
            if len(found) != len(piece):
                raise ValueError("ends early: it was changed")
            piece[:] = found


class _LoadedRows:
    """Rows of a file that is loaded as a whole: an npz, or a pt, which torch maps."""

    normalized = False

    def __init__(self, place: Place, array: str | None) -> None:
        if not place.local:
            raise ValueError("can be read from a disk only: copy it there, or store it as .npy")
        read = read_npz if place.suffix == ".npz" else read_torch
        self.place, self._array = place, array
        self._rows = read(Path(place.path), array).features
        self.rows, self.dim = self._rows.shape
        self.dtype = self._rows.dtype

    def __reduce__(self) -> tuple[Any, ...]:
        return _LoadedRows, (self.place, self._array)

    def read(self, begin: int, out: torch.Tensor) -> None:
        out.copy_(self._rows[begin : begin + len(out)])


def _npy(place: Place) -> RowFile:
    with place.system.open(place.path, "rb") as file:
        dtype, shape, by_column, begin = npy_header(file, place.size)
    if shape and not shape[0]:  # of whatever shape and type NumPy gave to nothing
        return _RawRows(place, begin, 0, shape[1] if len(shape) == 2 else 0, torch.float32, False)
    check_npy_dtype("array", dtype)
    if len(shape) != 2 or shape[1] == 0:
        raise ValueError(f"array has shape {shape}, allowed: [V, d] with d >= 1")
    if by_column and shape[0] > 1:
        raise ValueError("array is stored column by column, allowed: row by row")
    tensor_dtype = torch.float32 if dtype == np.float32 else torch.float16
    return _RawRows(place, begin, *shape, tensor_dtype, normalized=False)


def _safetensors(place: Place, array: str | None) -> RowFile:
    with place.system.open(place.path, "rb") as file:
        metadata, tensors = safetensors_header(file, place.size)
    key = choose_tensor(Path(place.name), metadata, tensors, array)
    dtype, shape, begin, _ = tensors[key]
    if dtype not in ("F32", "F16", "BF16") or len(shape) != 2 or shape[1] == 0:
        raise ValueError(
            f"array {key!r} is {dtype} of shape {list(shape)}, allowed: F32, F16 or BF16 [V, d]"
        )
    normalized = is_own(metadata) and metadata.get("normalized") == "true"
    return _RawRows(place, begin, *shape, TENSOR_DTYPES[dtype], normalized)


class _ParquetRows:
    """A column of lists of equal length. Consecutive reads continue where the last one stopped."""

    normalized = False

    def __init__(self, place: Place, column: str | None) -> None:
        import pyarrow as pa

        self.place = place
        with arrow_errors():
            self._file = self._open()
            schema = self._file.schema_arrow
            if not self._file.metadata.num_rows:
                self._be_empty(schema, column)
                return
            lists = [field for field in schema if _is_list(field.type)]
            shapes: dict[str, tuple[bool, tuple[int, ...]]] = {
                field.name: (pa.types.is_floating(field.type.value_type), (0, 0)) for field in lists
            }
            self._column = choose_array(Path(place.name), shapes, column)
            kind = schema.field(self._column).type
            self.dtype = _torch_dtype(self._column, kind.value_type)
            metadata = self._file.metadata
            self.rows = metadata.num_rows
            of_groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
            if sum(of_groups) != self.rows or min(of_groups, default=0) < 0:
                raise ValueError(
                    f"{self.rows} rows, but {of_groups!r:.80} in groups: it is damaged"
                )
            self._first_rows = np.cumsum([0, *of_groups])
            self.dim = kind.list_size if _is_fixed_list(kind) else 0
            self._at, self._left = -1, np.empty((0, 0))
            self._batches: Iterator[npt.NDArray[Any]] = iter(())
            self._seek(0, 1)  # fails if the lists are not as long as the header says
            self.dim = self._left.shape[1]
            self._at = -1  # to read on in larger batches
        if not self.dim:
            raise ValueError(f"column {self._column!r} has empty lists, allowed: d >= 1 numbers")

    def _be_empty(self, schema: Any, column: str | None) -> None:
        """No rows: columns that nothing was written into may have no type."""
        sizes = [
            field.type.list_size
            for field in schema
            if field.name == column or column is None
            if _is_fixed_list(field.type)
        ]
        self._column = column or ""
        self.rows, self.dim, self.dtype = 0, sizes[0] if len(sizes) == 1 else 0, torch.float32

    def __reduce__(self) -> tuple[Any, ...]:
        return _ParquetRows, (self.place, self._column)

    def read(self, begin: int, out: torch.Tensor) -> None:
        with arrow_errors():
            self._seek(begin, max(1, _PIECE // (self.dim * self.dtype.itemsize)))
            filled = 0
            while filled < len(out):
                if not len(self._left):
                    self._left = self._next()
                rows = self._left[: len(out) - filled]
                out[filled : filled + len(rows)] = share(rows)
                self._left = self._left[len(rows) :]
                filled += len(rows)
            self._at = begin + filled

    def _open(self) -> Any:
        file = self.place.path if self.place.local else self.place.system.open(self.place.path)
        return open_parquet(file, buffer_size=1 << 20)  # not a whole column of a row group

    def _seek(self, begin: int, batch_size: int) -> None:
        """Make row ``begin`` the next one; rows of its row group before it are decoded, too."""
        group = int(np.searchsorted(self._first_rows, begin, side="right")) - 1
        if not self._first_rows[group] <= self._at <= begin:
            groups = range(group, len(self._first_rows) - 1)
            self._batches = self._decoded(list(groups), batch_size)
            self._at, self._left = int(self._first_rows[group]), np.empty((0, self.dim))
        while begin - self._at >= len(self._left):
            self._at += len(self._left)
            self._left = self._next()
        self._left = self._left[begin - self._at :]
        self._at = begin

    def _next(self) -> npt.NDArray[Any]:
        batch = next(self._batches, None)
        if batch is None:
            raise ValueError("ends early: it was changed")
        return batch

    def _decoded(self, groups: list[int], batch_size: int) -> Iterator[npt.NDArray[Any]]:
        import pyarrow.compute as pc

        batches = self._file.iter_batches(
            batch_size, row_groups=groups, columns=[self._column], use_threads=False
        )
        for batch in batches:
            lists = batch.column(0)
            values = lists.flatten()
            if lists.null_count or values.null_count:
                raise ValueError(f"column {self._column!r} has a null, allowed: numbers")
            dim = self.dim or len(values) // max(1, len(lists))
            if not _is_fixed_list(lists.type):
                lengths = pc.unique(pc.list_value_length(lists)).to_pylist()
                if lengths != [dim]:
                    raise ValueError(
                        f"column {self._column!r} has lists of {sorted({*lengths, dim})} numbers, "
                        "allowed: one length"
                    )
            yield values.to_numpy().reshape(len(lists), dim)


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return _is_fixed_list(kind) or bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _is_fixed_list(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_fixed_size_list(kind))


def _torch_dtype(column: str, kind: Any) -> torch.dtype:
    import pyarrow as pa

    if pa.types.is_float32(kind):
        return torch.float32
    if pa.types.is_float16(kind):
        return torch.float16
    raise ValueError(f"column {column!r} holds lists of {kind}, allowed: float, halffloat")
