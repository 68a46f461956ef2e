"""Removal of near-duplicates."""

from __future__ import annotations

from typing import NamedTuple, SupportsFloat

import numpy as np
import torch

from fastclip.data.features import normalize_rows
from fastclip.engine.checks import Array, as_number, as_rows
from fastclip.ops import pairs_above

_ROWS = 16384  # scaled to unit length at a time, in float64


class Deduplicated(NamedTuple):
    """Result of `deduplicate`, of N rows."""

    kept: torch.Tensor
    """[M] int64: the rows that are kept, in order."""
    stands_for: torch.Tensor
    """[N] int64: the row that is kept in place of each row; of a row that is kept, itself."""

    @property
    def groups(self) -> list[torch.Tensor]:
        """The rows of each group of more than one, in order: the one that is kept is first."""
        order = self.stands_for.argsort(stable=True)
        counts = torch.bincount(self.stands_for, minlength=1)
        groups = order.split(counts[counts > 0].tolist())
        return [group for group in groups if len(group) > 1]


def deduplicate(features: Array, threshold: SupportsFloat = 0.95) -> Deduplicated:
    """Keep the earliest of the rows that are near-duplicates of each other.

    Rows are visited in order. A row is kept unless its cosine with an earlier kept row is above
    ``threshold``; then the earliest such row stands for it. So no two kept rows are near-duplicates
    of each other, and every other row is a near-duplicate of the row that stands for it. Rows that
    are not kept stand for nothing: in a chain a, b, c where a is like b and b is like c but a is
    not like c, both a and c are kept. (Connected components would put all three into one group.)

    Parameters
    ----------
    features : tensor or array [N, d], float32, float16 or bfloat16
        Of any length but 0: cosines are compared.
    threshold : float
        From -1 to below 1; strictly above counts.

    Returns
    -------
    Deduplicated
        ``features[found.kept]`` has no near-duplicates. Beyond the input, float32 rows of
        unit length and what `fastclip.pairs_above` needs: 24 bytes for each pair above the
        threshold.

    Raises
    ------
    TypeError
        ``features`` is no array or has another dtype.
    ValueError
        A row is zero or holds NaN or infinity, or ``threshold`` is out of range.

    Examples
    --------
    >>> import fastclip
    >>> lvis = fastclip.data.load_sample("lvis")
    >>> found = fastclip.data.deduplicate(lvis.features, 0.95)
    >>> len(lvis), len(found.kept)
    (1203, 1188)
    >>> [lvis.names[row] for row in found.groups[0]]
    ['alcohol', 'liquor']
    """
    rows = as_rows("features", features).detach()
    limit = as_number("threshold", threshold)
    if not -1 <= limit < 1:
        raise ValueError(f"threshold: from -1 to below 1 is allowed, got {limit}")
    unit = torch.empty(rows.shape, dtype=torch.float32, device=rows.device)
    for start in range(0, len(rows), _ROWS):
        part = slice(start, start + _ROWS)
        normalize_rows(rows[part], unit[part], start)
    pairs = pairs_above(unit, unit, limit)
    starts, later = pairs.crow_indices().cpu().numpy(), pairs.col_indices().cpu().numpy()
    stands_for = np.arange(len(rows))
    for row in np.diff(starts).nonzero()[0]:
        if stands_for[row] == row:
            alike = later[starts[row] : starts[row + 1]]
            stands_for[alike[stands_for[alike] == alike]] = row
    kept = (stands_for == np.arange(len(rows))).nonzero()[0]
    return Deduplicated(*(torch.from_numpy(x).to(rows.device) for x in (kept, stands_for)))
