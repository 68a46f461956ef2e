"""Blocks of scores for the backward of operations that never hold them all."""

from __future__ import annotations

from collections.abc import Iterator

import torch

_ROWS, _COLUMNS = 1024, 4096  # 16 MiB of float32


def blocks(
    rows: torch.Tensor, columns: torch.Tensor, width: int = _COLUMNS
) -> Iterator[tuple[slice, slice]]:
    """Yield every pair of a range of ``rows`` and a range of ``columns``, rows outermost."""
    for i in range(0, len(rows), _ROWS):
        for j in range(0, len(columns), width):
            yield slice(i, i + _ROWS), slice(j, j + width)


def empty_like(x: torch.Tensor) -> torch.Tensor:
    """Return what a fake kernel gives for a gradient of ``x``: contiguous, unlike ``x`` perhaps."""
    return x.new_empty(x.shape)
