"""Means over items with bootstrap intervals: of all items, of each category, and of categories."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

_RESAMPLES = 64  # at a time


@dataclass(frozen=True)
class Means:
    """A mean for each measure, with the ends of its interval; all [M]."""

    value: Floats
    low: Floats
    high: Floats


def bootstrap_means(
    values: Floats,
    cluster: Indices,
    category: Indices,
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> tuple[Means, list[Means], Means]:
    """Means of all items, of each category, and the unweighted mean of the categories' means.

    Whole clusters are drawn with replacement, since the items of one image are not independent.
    ``values`` is [N, M], ``cluster`` and ``category`` [N] from 0 on, each number in use.
    """
    categories = int(category.max()) + 1
    clusters = int(cluster.max()) + 1
    sums = [_cluster_sums(values, cluster, category == k) for k in range(categories)]
    totals = np.stack([rows.sum(0) for _, rows in sums])  # [K, M + 1], the count last
    drawn = np.empty((resamples, *totals.shape))
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, _RESAMPLES):
        stop = min(start + _RESAMPLES, resamples)
        weights = np.stack(
            [
                np.bincount(rng.integers(clusters, size=clusters), minlength=clusters)
                for _ in range(start, stop)
            ]
        ).astype(np.float64)
        for k, (present, rows) in enumerate(sums):
            drawn[start:stop, k] = weights[:, present] @ rows
    edges = [50 * (1 - confidence), 50 * (1 + confidence)]

    def summarise(total: Floats, draws: Floats) -> Means:
        if not len(draws):
            nothing = np.full_like(total, np.nan)
            return Means(total, nothing, nothing)
        low, high = _percentiles(draws, edges)
        return Means(total, low, high)

    of_category, drawn_of_category = _ratio(totals), _ratio(drawn)
    return (
        summarise(_ratio(totals.sum(0)), _ratio(drawn.sum(1))),
        [summarise(of_category[k], drawn_of_category[:, k]) for k in range(categories)],
        summarise(of_category.mean(0), _mean_of_present(drawn_of_category)),
    )


def _cluster_sums(
    values: Floats, cluster: Indices, chosen: npt.NDArray[np.bool_]
) -> tuple[Indices, Floats]:
    """Clusters that have chosen items, and the sums over these with their number, [C, M + 1]."""
    present, place = np.unique(cluster[chosen], return_inverse=True)
    rows = np.column_stack([values[chosen], np.ones(int(chosen.sum()))])
    columns = [np.bincount(place, column, len(present)) for column in rows.T]
    return present, np.column_stack(columns)


def _ratio(sums: Floats) -> Floats:
    """Sums over the count in the last column; NaN for a category that was not drawn."""
    with np.errstate(invalid="ignore"):
        result: Floats = sums[..., :-1] / sums[..., -1:]
    return result


def _mean_of_present(drawn: Floats) -> Floats:
    """Mean over the categories that a resample holds; each holds one at least."""
    present = ~np.isnan(drawn[..., :1])
    result: Floats = np.where(present, drawn, 0.0).sum(1) / present.sum(1)
    return result


def _percentiles(draws: Floats, edges: list[float]) -> Any:
    """Percentiles over the resamples with the category, where the first measure is no NaN."""
    return np.percentile(draws[~np.isnan(draws[:, 0])], edges, axis=0)
