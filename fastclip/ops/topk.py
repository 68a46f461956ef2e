"""The best keys of each query."""

from __future__ import annotations

import operator
from typing import Any, NamedTuple, SupportsIndex

import torch

from fastclip import _C
from fastclip.ops._arguments import (
    Array,
    as_rows,
    check_finite,
    check_same_width,
    keys_as_rows,
    matrix,
    with_adjacent_elements,
)
from fastclip.ops._library import library
from fastclip.ops.pack import PackedKeys


class TopK(NamedTuple):
    """The k best keys of each query, best first."""

    values: torch.Tensor
    """[N, k] float32: exact scores."""
    indices: torch.Tensor
    """[N, k] int64: rows of ``keys``."""


def topk(queries: Array, keys: Array | PackedKeys, k: SupportsIndex) -> TopK:
    """Return the k keys with the largest inner product with each query, and these scores.

    The same as ``(queries @ keys.T).topk(k)`` without the [N, V] matrix, and exact: a score is the
    inner product accumulated in float64 in 16 interleaved lanes, rounded once to float32; keys are
    ordered by that score, equal scores by the lower index. The answer is the same to the bit for
    any number of threads and instruction set.

    Differentiable in ``values``, with respect to ``queries`` and unpacked ``keys``.

    Parameters
    ----------
    queries : tensor or array [N, d], float32, float16 or bfloat16
        No queries (N = 0) give an empty result.
    keys : tensor or array [V, d], or PackedKeys
        Their rows may have any stride.
    k : int, 1 <= k <= V

    Returns
    -------
    TopK
        ``values`` [N, k] float32 and ``indices`` [N, k] int64, best first. Beyond inputs and
        result, each thread uses about 16 bytes * 256 * d of workspace plus at most about 16 MiB
        of candidates (48 bytes * k where that is more); a call with few queries also 12 bytes
        * N * k for each part that the keys are split into.

    Raises
    ------
    TypeError
        An argument is no array or has another dtype.
    ValueError
        An argument has a wrong shape, is not on the CPU, holds NaN or infinity, or k is out of
        range.

    Examples
    --------
    >>> import fastclip
    >>> images = fastclip.data.load_sample("coco-images")
    >>> captions = fastclip.data.load_sample("coco-captions")
    >>> best = fastclip.topk(images.features, captions.features, k=3)
    >>> best.indices.shape
    torch.Size([500, 3])
    >>> captions.names[best.indices[2, 0]]
    'a toilet with an unusual green seat and back'
    """
    query_rows = as_rows("queries", queries)
    key_rows, checked = keys_as_rows(keys)
    check_same_width(query_rows, key_rows)
    k = operator.index(k)
    if not 1 <= k <= key_rows.shape[0]:
        raise ValueError(f"k: must be from 1 to the number of keys {key_rows.shape[0]}, got {k}")
    return TopK(*torch.ops.fastclip.topk(query_rows, key_rows, k, not checked))


def _topk(
    queries: torch.Tensor, keys: torch.Tensor, k: int, check_keys: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    queries, keys = with_adjacent_elements(queries), with_adjacent_elements(keys)
    check_finite("queries", queries)
    if check_keys:
        check_finite("keys", keys)
    values, indices = _topk_fake(queries, keys, k, check_keys)
    _C.topk(
        matrix(queries),
        matrix(keys),
        k,
        values.data_ptr(),
        indices.data_ptr(),
        torch.get_num_threads(),
    )
    return values, indices


def _topk_fake(
    queries: torch.Tensor, keys: torch.Tensor, k: int, check_keys: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (queries.shape[0], k)
    return queries.new_empty(shape, dtype=torch.float32), queries.new_empty(
        shape, dtype=torch.int64
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
    queries, keys, _, _ = inputs
    _, indices = output
    ctx.mark_non_differentiable(indices)
    ctx.save_for_backward(queries, keys, indices)


def _backward(
    ctx: Any, grad_values: torch.Tensor, grad_indices: torch.Tensor | None
) -> tuple[torch.Tensor | None, ...]:
    queries, keys, indices = ctx.saved_tensors
    grad = grad_values.float().reshape(-1)
    key = indices.reshape(-1)
    query = torch.arange(indices.shape[0], device=key.device).repeat_interleave(indices.shape[1])
    scatter_rows = torch.ops.fastclip.scatter_rows
    grad_queries = grad_keys = None
    if ctx.needs_input_grad[0]:
        grad_queries = scatter_rows(query, key, grad, keys, queries.shape[0]).to(queries.dtype)
    if ctx.needs_input_grad[1]:
        grad_keys = scatter_rows(key, query, grad, queries, keys.shape[0]).to(keys.dtype)
    return grad_queries, grad_keys, None, None


def _scatter_rows(
    row: torch.Tensor,
    source: torch.Tensor,
    weight: torch.Tensor,
    features: torch.Tensor,
    rows: int,
) -> torch.Tensor:
    """Return a [rows, d] float32 sum: ``result[row[p]] += weight[p] * features[source[p]]``.

    An operator of its own because torch.compile cannot trace sparse tensors.
    """
    pairs = torch.sparse_coo_tensor(
        torch.stack([row, source]), weight, (rows, features.shape[0]), check_invariants=False
    )
    total: torch.Tensor = torch.sparse.mm(pairs, features.float())
    return total


def _scatter_rows_fake(
    row: torch.Tensor,
    source: torch.Tensor,
    weight: torch.Tensor,
    features: torch.Tensor,
    rows: int,
) -> torch.Tensor:
    return features.new_empty((rows, features.shape[1]), dtype=torch.float32)


library.impl("topk", _topk, "CPU")
library.impl("scatter_rows", _scatter_rows, "CPU")
torch.library.register_fake("fastclip::topk", _topk_fake, lib=library)
torch.library.register_fake("fastclip::scatter_rows", _scatter_rows_fake, lib=library)
torch.library.register_autograd(
    "fastclip::topk", _backward, setup_context=_setup_context, lib=library
)
