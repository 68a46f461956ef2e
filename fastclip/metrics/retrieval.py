"""How well the best keys of a query hold the right one."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import SupportsIndex

import numpy as np
import torch

from fastclip.ops._arguments import Array, as_tensor

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def recall(indices: Array, targets: Array, ks: Iterable[SupportsIndex]) -> dict[int, float]:
    """Return, for each k, the fraction of queries whose target is among their first k keys.

    Parameters
    ----------
    indices : integer tensor or array [N, K]
        The keys of each query, best first, as in ``fastclip.topk(...).indices``; N >= 1.
    targets : integer tensor or array [N]
        The right key of each query.
    ks : iterable of int, each 1 <= k <= K

    Returns
    -------
    dict of int to float
        Recall at k, in the order of ``ks``.

    Raises
    ------
    TypeError
        ``indices`` or ``targets`` is no array or does not hold integers.
    ValueError
        A wrong shape, no queries, or a k out of range.

    Examples
    --------
    >>> import torch
    >>> from fastclip.metrics import recall
    >>> recall(torch.tensor([[0, 2], [2, 1], [0, 1], [3, 0]]), torch.arange(4), ks=(1, 2))
    {1: 0.5, 2: 0.75}
    """
    found = _integers("indices", indices)
    right = _integers("targets", targets)
    if found.ndim != 2 or found.shape[0] == 0:
        raise ValueError(f"indices: shape [N, K] with N >= 1 is needed, got {tuple(found.shape)}")
    if right.shape != found.shape[:1]:
        raise ValueError(
            f"targets: shape ({found.shape[0]},) is needed, one per row of indices, "
            f"got {tuple(right.shape)}"
        )
    hits = found == right.unsqueeze(1)
    result = {}
    for k in map(operator.index, ks):
        if not 1 <= k <= hits.shape[1]:
            raise ValueError(
                f"ks: each must be from 1 to the columns of indices {hits.shape[1]}, got {k}"
            )
        result[k] = int(hits[:, :k].any(dim=1).sum()) / hits.shape[0]
    return result


def _integers(name: str, x: Array) -> torch.Tensor:
    if isinstance(x, np.ndarray) and x.dtype.kind in "iu":
        return torch.from_numpy(x.astype(np.int64))
    tensor = as_tensor(name, x)
    if tensor.dtype not in _INTEGERS:
        raise TypeError(f"{name}: integers are needed, got {tensor.dtype}")
    return tensor
