"""How many scores pass a threshold."""

from __future__ import annotations

from typing import Literal, SupportsFloat, overload

import torch

from fastclip.engine.checks import (
    Array,
    as_rows,
    as_tensor,
    as_threshold,
    check_same_width,
    conversion,
    short,
)
from fastclip.engine.devices import check_movable
from fastclip.engine.floats import full
from fastclip.engine.packed import PackedKeys, as_keys
from fastclip.engine.transforms import call
from fastclip.ops import _count as _count  # registers the operators


@overload
def count_above(
    queries: Array,
    keys: Array | PackedKeys,
    thresholds: Array | SupportsFloat,
    *,
    per: Literal["key", "query"] = ...,
    return_survivors: Literal[False] = ...,
) -> torch.Tensor: ...
@overload
def count_above(
    queries: Array,
    keys: Array | PackedKeys,
    thresholds: Array | SupportsFloat,
    *,
    per: Literal["key", "query"] = ...,
    return_survivors: Literal[True],
) -> tuple[torch.Tensor, torch.Tensor]: ...
def count_above(
    queries: Array,
    keys: Array | PackedKeys,
    thresholds: Array | SupportsFloat,
    *,
    per: Literal["key", "query"] = "key",
    return_survivors: bool = False,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Return how many exact scores lie above a threshold, for each key or for each query.

    ``((queries @ keys.T) > thresholds[:, None]).sum(0 if per == "key" else 1)`` without the [N, V]
    matrix. Scores are those of :func:`fastclip.topk`; strictly above, so an equal score does not
    count. With the score of its true class as each image's threshold, the counts per key say how
    many images each candidate word takes. The answer is the same to the bit for any number of
    threads, instruction set and device, packed or not.

    Parameters
    ----------
    queries : tensor or array [N, d], float32, float16 or bfloat16
    keys : tensor or array [V, d], or PackedKeys
        Packed keys are screened: only scores close to a threshold are computed exactly.
    thresholds : float32 tensor or array [N], or a number
        One per query, or the same for all. A number of any kind is rounded to float32, beyond its
        range to infinity: all finite scores are above -1e300, none above 1e300. No NaN.
    per : "key" or "query"
        Count the queries above for each key, or the keys above for each query.
    return_survivors : bool, default False
        Also return how many of the N V pairs were scored exactly, an int64 scalar.

    Returns
    -------
    Tensor [V] or [N] int64
        Beyond inputs and result, each thread uses about 24 bytes * 512 * d of workspace and
        2 MiB. On CUDA devices the w + 50 bytes of each of up to 8,192 queries, w
        being d rounded up to a multiple of 64, and 33 MiB, or less if there is no room.

    Raises
    ------
    TypeError
        An argument is no array or has another dtype.
    ValueError
        An argument has a wrong shape or is on another device, features hold NaN or infinity or
        thresholds NaN, ``per`` is neither word.

    Examples
    --------
    >>> import fastclip, torch
    >>> queries, keys = torch.eye(2), torch.tensor([[0.5, 0.1], [0.9, 0.2], [0.0, 0.5]])
    >>> fastclip.count_above(queries, keys, 0.3)
    tensor([1, 1, 1])
    >>> fastclip.count_above(queries, keys, torch.tensor([0.3, 0.5]), per="query")
    tensor([2, 0])
    """
    if per not in ("key", "query"):
        raise ValueError(f"per: must be 'key' or 'query', got {per!r}")
    query_rows = as_rows("queries", queries).detach()  # whole numbers have no gradient
    key_rows, screen = as_keys(keys)
    key_rows = key_rows.detach()
    check_same_width(query_rows, key_rows)
    scores = _as_thresholds(thresholds, len(query_rows), query_rows.device)
    counts, survivors = call(
        "count_ahead",
        query_rows,
        key_rows,
        screen,
        scores,
        torch.zeros_like(scores, dtype=torch.int64),
        per == "key",
    )
    return (counts, survivors) if return_survivors else counts


def _as_thresholds(
    thresholds: Array | SupportsFloat, queries: int, device: torch.device
) -> torch.Tensor:
    if isinstance(thresholds, torch.Tensor):
        thresholds = thresholds.detach()
        is_number = thresholds.ndim == 0 and thresholds.dtype != torch.float32
    else:
        is_number = type(thresholds) in (float, int) or (
            isinstance(thresholds, SupportsFloat) and not getattr(thresholds, "shape", ())
        )
    if is_number:
        number = as_threshold("thresholds", thresholds)
        return full(queries, number, device)
    scores = as_tensor("thresholds", thresholds).detach()
    if scores.dtype != torch.float32:
        raise TypeError(
            f"thresholds: float32 is needed, got {short(scores.dtype)}"
            + conversion("thresholds", thresholds, scores)
        )
    if scores.shape not in ((), (queries,)):
        raise ValueError(
            f"thresholds: shape ({queries},) or a number is needed, got {tuple(scores.shape)}"
        )
    check_movable("thresholds", scores, device)
    return scores.to(device).expand(queries).contiguous()
