"""Arguments with a number per query or key, of rows that memory need not hold.

They may be as long as queries or keys are, and mapped from files: so they are checked and converted
block by block, by the checks that functions of keys in memory apply at once.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import torch

from fastclip.data.formats import file_errors, map_npy
from fastclip.engine.checks import Array, as_indices, as_tensor, as_thresholds, check_range
from fastclip.engine.floats import to_float
from fastclip.engine.tuning import TUNING


class Column(Protocol):
    """Numbers, or rows of them, that belong to queries or keys."""

    row_bytes: int
    """Memory that those of a query or key take while they are used."""

    def __getitem__(self, rows: slice) -> torch.Tensor:
        """Return those of some rows."""

    def described(self) -> dict[str, object]:
        """Return what the description of a job says of them, as JSON values."""


class Integers:
    """``count`` integers of any dtype that the functions in memory take; slices are int64.

    Raises
    ------
    FeatureFileError
        The source is a file that cannot be read.
    TypeError, ValueError
        As of the functions in memory.
    """

    row_bytes = 24

    def __init__(
        self,
        name: str,
        source: Array | str | os.PathLike[str],
        count: int,
        device: torch.device,
    ) -> None:
        self.name = name
        self._numbers = as_numbers(name, source, "np.int64")
        self._count, self._device = count, device
        if tuple(self._numbers.shape) != (count,) or not count:
            as_indices(name, self._numbers, count, device)  # raises, or there are none
        for _ in self.blocks():
            pass

    def __getitem__(self, rows: slice) -> torch.Tensor:
        begin, end, _ = rows.indices(self._count)
        return self._checked(begin, end)

    def blocks(self) -> Iterator[torch.Tensor]:
        for begin in range(0, self._count, TUNING.column_numbers):
            yield self[begin : begin + TUNING.column_numbers]

    def check_range(self, limit: int, of: str) -> None:
        """Check that all are from 0 to ``limit`` - 1."""

        def check(part: torch.Tensor) -> None:
            check_range(self.name, part, limit, of)

        for begin in range(0, self._count, TUNING.column_numbers):
            self._checked(begin, min(begin + TUNING.column_numbers, self._count), check)

    def described(self) -> dict[str, object]:
        """Return a hash of the numbers, whatever their dtype."""
        digest = hashlib.sha256(f"torch.int64 ({self._count},)".encode())
        for part in self.blocks():
            digest.update(part.numpy().data)
        return {f"{self.name}_sha256": digest.hexdigest()}

    def _checked(
        self, begin: int, end: int, check: Callable[[torch.Tensor], None] = lambda part: None
    ) -> torch.Tensor:
        """Convert and check a part; where that fails, all up to there: for the number in errors."""
        try:
            part = as_indices(self.name, self._numbers[begin:end], end - begin, self._device)
            check(part)
        except (TypeError, ValueError):
            check(as_indices(self.name, self._numbers[:end], end, self._device))
            raise
        return part


class Thresholds:
    """A float32 threshold for each of ``count`` rows, or one number for all."""

    row_bytes = 4

    def __init__(
        self,
        source: Array | str | os.PathLike[str] | float,
        count: int,
        device: torch.device,
    ) -> None:
        thresholds = source
        if isinstance(source, (str, os.PathLike)) or not np.isscalar(source):
            thresholds = as_numbers("thresholds", source, "np.float32")
        self._one = not getattr(thresholds, "shape", ())
        found = as_thresholds(thresholds, 1 if self._one else count, device)
        for begin in range(0, len(found), TUNING.column_numbers):
            nan = torch.isnan(found[begin : begin + TUNING.column_numbers]).nonzero()
            if len(nan):
                raise ValueError(f"thresholds: NaN at {begin + int(nan[0])}")
        self._numbers = found.expand(count)

    def __getitem__(self, rows: slice) -> torch.Tensor:
        return self._numbers[rows].contiguous()

    def described(self) -> dict[str, object]:
        if self._one:
            number = to_float(self._numbers[0]) if len(self._numbers) else 0.0
            return {"thresholds": described_number(number)}
        digest = hashlib.sha256(f"torch.float32 ({len(self._numbers)},)".encode())
        for part in self._numbers.split(TUNING.column_numbers):
            digest.update(part.contiguous().numpy().data)
        return {"thresholds_sha256": digest.hexdigest()}


def described_number(number: float) -> float | str:
    """Return a number as a JSON value, which no infinity is."""
    return number if math.isfinite(number) else str(number)


def as_numbers(name: str, source: Array | str | os.PathLike[str], dtype: str) -> Any:
    """Return an argument as an array or tensor: as it is, or memory-mapped from npy."""
    if isinstance(source, (str, os.PathLike)):
        with file_errors(os.fspath(source)):
            return map_npy(source)[0]
    return source if isinstance(source, np.ndarray) else as_tensor(name, source, dtype)
