"""Blocks of scores for the backward of operations that never hold them all."""

from collections.abc import Iterator
from typing import Any

import torch

_ROWS, _COLUMNS = 1024, 4096  # 16 MiB of float32

# Exponents of at most this much are computed in float32: it puts them off by some 1e-5.
_LARGEST_EXPONENT = 256.0


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


def longest(rows: torch.Tensor) -> float:
    """Return the length of the longest row, 0 if there is none."""
    lengths = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
    return lengths.max().item() if len(lengths) else 0.0


def dtype_for_exponents(largest: float) -> torch.dtype:
    """Return the dtype in which to compute scores that become exponents, at most so large.

    An error of the exponent is a relative error of the weight. Products in float32 are wrong by
    some 2^-24 of the exponents' size, unless the user lets them be lowered to TF32 or bfloat16.
    """
    plain = largest <= _LARGEST_EXPONENT and not _products_are_lowered()
    return torch.float32 if plain else torch.float64


def _products_are_lowered() -> bool:
    backends: Any = torch.backends
    if not hasattr(backends, "fp32_precision"):  # before torch 2.9
        return torch.get_float32_matmul_precision() != "highest"
    places = (backends.cuda.matmul, backends.mkldnn.matmul, backends)
    return any(place.fp32_precision not in ("ieee", "none") for place in places)


def log_sums(
    rows: torch.Tensor, columns: torch.Tensor, scale: float, width: int = _COLUMNS
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the log-sum-exp of the scaled scores of each row, and of each column.

    Of the very scores that ``rows[i] @ columns[j].T`` gives for these blocks, so that weights made
    of them sum to one: exponents may be so large that their last bits matter.
    """
    of_rows = rows.new_full((len(rows),), -torch.inf)
    of_columns = columns.new_full((len(columns),), -torch.inf)
    for i, j in blocks(rows, columns, width):
        scores = (rows[i] @ columns[j].T) * scale
        of_rows[i] = torch.logaddexp(of_rows[i], scores.logsumexp(1))
        of_columns[j] = torch.logaddexp(of_columns[j], scores.logsumexp(0))
    return of_rows, of_columns
