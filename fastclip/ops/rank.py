"""The place of a given key among all."""

from __future__ import annotations

from typing import Literal, overload

import torch

from fastclip.engine.checks import Array, as_indices, as_rows, check_same_width
from fastclip.engine.packed import PackedKeys, as_keys
from fastclip.engine.transforms import call
from fastclip.ops import _count as _count  # registers the operators


@overload
def rank(
    queries: Array,
    keys: Array | PackedKeys,
    targets: Array,
    *,
    return_survivors: Literal[False] = ...,
) -> torch.Tensor: ...
@overload
def rank(
    queries: Array,
    keys: Array | PackedKeys,
    targets: Array,
    *,
    return_survivors: Literal[True],
) -> tuple[torch.Tensor, torch.Tensor]: ...
def rank(
    queries: Array,
    keys: Array | PackedKeys,
    targets: Array,
    *,
    return_survivors: bool = False,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Return how many keys are ahead of each query's target key: 0 for the best one.

    The place of ``targets[i]`` in ``(queries @ keys.T)[i].argsort(descending=True)``, without
    sorting or holding the [N, V] scores: keys with a larger exact score (see
    :func:`fastclip.topk`) are ahead, and among equal scores those with a lower index. So a target
    is among ``topk(queries, keys, k).indices`` if and only if its rank is below k. The answer is
    the same to the bit for any number of threads, instruction set and device, packed
    or not.

    Parameters
    ----------
    queries : tensor or array [N, d], float32, float16 or bfloat16
    keys : tensor or array [V, d], or PackedKeys
        Packed keys are screened: only scores close to the target's are computed exactly.
    targets : integer tensor or array [N]
        A row of ``keys`` for each query.
    return_survivors : bool, default False
        Also return how many of the N V pairs were scored exactly, an int64 scalar.

    Returns
    -------
    Tensor [N] int64
        Beyond inputs and result, each thread uses about 24 bytes * 512 * d of workspace and
        2 MiB. On CUDA devices the w + 50 bytes of each of up to 8,192 queries, w
        being d rounded up to a multiple of 64, and 33 MiB, or less if there is no room.

    Raises
    ------
    TypeError
        An argument is no array or has another dtype.
    ValueError
        An argument has a wrong shape, is on another device, holds NaN or infinity, or a target is
        not a row of ``keys``.

    Examples
    --------
    >>> import fastclip, torch
    >>> images = fastclip.data.load_sample("coco-images").normalized().features
    >>> captions = fastclip.data.load_sample("coco-captions").normalized().features
    >>> ranks = fastclip.rank(images, captions, torch.arange(500))
    >>> (ranks < 5).double().mean()  # recall at 5
    tensor(0.8080, dtype=torch.float64)
    """
    query_rows = as_rows("queries", queries).detach()  # whole numbers have no gradient
    key_rows, screen = as_keys(keys)
    key_rows = key_rows.detach()
    check_same_width(query_rows, key_rows)
    indices = as_indices("targets", targets, len(query_rows), query_rows.device)
    scores = call("pair_scores", query_rows, key_rows, indices)
    ranks, survivors = call("count_ahead", query_rows, key_rows, screen, scores, indices, False)
    return (ranks, survivors) if return_survivors else ranks
