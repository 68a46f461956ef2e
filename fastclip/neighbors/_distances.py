"""Distances, and the scores that they follow from."""

from __future__ import annotations

import math

import torch

METRICS = ("cosine", "inner_product", "euclidean")

_TOLERANCE = 1e-3  # how far the length of a row may be from 1: float16 features are within 5e-4
_ROWS = 16384  # in float64 at a time
_NUMBERS = 2**22  # differences held at a time
_SLACK = 1e-6  # of scores of float32 rows of about unit length, for rounding
_NEAR = 2.0**-10  # up to which cosine distance numbers are more exact by another formula
_SHARE = 2.0**-5  # of the last column, see `with_lengths`: about as large as other columns


def unit_rows(rows: torch.Tensor) -> torch.Tensor:
    """Return rows of unit length, float32; rows of zeros stay zeros."""
    unit = torch.empty(rows.shape, dtype=torch.float32, device=rows.device)
    for start in range(0, len(rows), _ROWS):
        wide = rows[start : start + _ROWS].double()
        lengths = torch.linalg.vector_norm(wide, dim=1, keepdim=True)
        unit[start : start + _ROWS] = wide / torch.where(lengths > 0, lengths, 1.0)
    return unit


def with_lengths(rows: torch.Tensor, are_keys: bool) -> torch.Tensor:
    """Return rows of about unit length with one column more, float32.

    Then the inner product of q and k is ``(|q|^2 + 1 - |q - k|^2) / 2``, which orders keys by
    Euclidean distance even where lengths are not quite 1, as those of float16 are.

    Raises
    ------
    ValueError
        A row's length is not 1.
    """
    result = torch.empty((len(rows), rows.shape[1] + 1), dtype=torch.float32, device=rows.device)
    result[:, :-1] = rows
    result[:, -1] = _SHARE
    for start in range(0, len(rows), _ROWS):
        part = slice(start, start + _ROWS)
        lengths = torch.linalg.vector_norm(rows[part], dim=1, dtype=torch.float64)
        wrong = ((lengths - 1).abs() > _TOLERANCE).nonzero()
        if len(wrong):
            row = int(wrong[0, 0])
            raise ValueError(
                f"X: metric 'euclidean' is for rows of unit length, row {start + row} has length "
                f"{float(lengths[row]):.4g}; scale them with sklearn.preprocessing.normalize(X), "
                "or use metric 'cosine', which does so and finds the same neighbours"
            )
        if are_keys:
            result[part, -1] = ((1 - lengths**2) / (2 * _SHARE)).float()
    return result


def refined(
    metric: str,
    scores: torch.Tensor,
    queries: torch.Tensor,
    keys: torch.Tensor,
    rows: torch.Tensor,
    columns: torch.Tensor,
) -> torch.Tensor:
    """Return the float32 distance of each pair of a row of queries and one of keys.

    Scores near 1 say little of distances near 0, which follow from the differences themselves: rows
    that are equal have distance 0.
    """
    if metric == "inner_product":
        return 0 - scores
    if metric == "euclidean":
        return _apart(queries[:, :-1], keys[:, :-1], rows, columns).float()
    found = (1 - scores).clamp(0, 2)
    near = scores > 1 - _NEAR
    found[near] = (_apart(queries, keys, rows[near], columns[near]) ** 2 / 2).float()
    return found


def _apart(
    queries: torch.Tensor, keys: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor
) -> torch.Tensor:
    """Return the Euclidean distance of each pair, float64."""
    found = torch.empty(len(rows), dtype=torch.float64, device=rows.device)
    step = max(1, _NUMBERS // max(1, queries.shape[1]))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        difference = queries[rows[part]].double() - keys[columns[part]].double()
        found[part] = torch.linalg.vector_norm(difference, dim=1)
    return found


def score_below(metric: str, radius: float) -> float:
    """Return a score that all pairs are above whose distance is at most ``radius``."""
    if metric == "inner_product":
        return -radius - _SLACK * abs(radius) - 1e-30 if math.isfinite(radius) else -radius
    if metric == "cosine":
        return 1 - radius - _SLACK if radius < 2 else -math.inf  # however scores are rounded
    return ((1 - _TOLERANCE) ** 2 + 1 - radius**2) / 2 - _SLACK
