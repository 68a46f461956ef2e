"""Rows that are read range by range: of files, or of memory."""

from typing import Protocol

import torch

from fastclip.data.features import FeatureFileError
from fastclip.data.rows import Rows
from fastclip.engine.checks import Array, as_rows, check_finite, find_nonfinite


class RowSource(Protocol):
    """What `fastclip.data.Rows` are, and `MemoryRows`."""

    dim: int
    dtype: torch.dtype

    def __len__(self) -> int: ...

    @property
    def row_bytes(self) -> int:
        """Bytes of memory that a row takes."""

    def read(self, begin: int, out: torch.Tensor) -> None:
        """Fill ``out`` with the rows from number ``begin`` on."""

    def take(self, indices: torch.Tensor) -> torch.Tensor:
        """Return the rows of these numbers."""

    def where(self, row: int) -> str:
        """Return where a row comes from, for messages."""


class MemoryRows:
    """The rows of a tensor, all finite; they are not copied."""

    row_bytes = 0

    def __init__(self, name: str, rows: torch.Tensor) -> None:
        check_finite(name, rows)
        self.rows, self.dim, self.dtype = rows, rows.shape[1], rows.dtype
        self._name = name

    def __len__(self) -> int:
        return self.rows.shape[0]

    def read(self, begin: int, out: torch.Tensor) -> None:
        out.copy_(self.rows[begin : begin + len(out)])

    def take(self, indices: torch.Tensor) -> torch.Tensor:
        return self.rows[indices.to(self.rows.device)]

    def where(self, row: int) -> str:
        return f"{self._name}: row {row}"


def as_source(name: str, x: Array | Rows) -> RowSource:
    """Return the argument ``name`` as rows that can be read."""
    return x if isinstance(x, Rows) else MemoryRows(name, as_rows(name, x).detach())


def read_finite(rows: RowSource, begin: int, end: int) -> torch.Tensor:
    """Return rows ``begin`` to ``end`` - 1."""
    if isinstance(rows, MemoryRows):
        return rows.rows[begin:end]
    part = torch.empty(end - begin, rows.dim, dtype=rows.dtype)
    rows.read(begin, part)
    check_rows(rows, part, begin)
    return part


def check_rows(
    rows: RowSource, part: torch.Tensor, begin: int, error: Exception | None = None
) -> None:
    """Check a part of ``rows``, from row ``begin`` on; errors name the file and its row.

    Raises
    ------
    FeatureFileError
        A row holds a NaN or an infinity.
    """
    row = find_nonfinite(part)
    if row >= 0:
        raise FeatureFileError(
            f"{rows.where(begin + row)} holds NaN or infinity, all numbers must be finite"
        ) from error
