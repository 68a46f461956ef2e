"""The gradient of scores that were picked out of all: each flows to its query and its key."""

from __future__ import annotations

from typing import Any

import torch

from fastclip.ops._library import implement, library


def save_picked(ctx: Any, queries: torch.Tensor, keys: torch.Tensor, indices: torch.Tensor) -> None:
    """Remember in a backward context that ``indices`` [N, k] of the keys were picked."""
    ctx.mark_non_differentiable(indices)
    ctx.save_for_backward(queries, keys, indices)


def picked_backward(
    ctx: Any, grad_values: torch.Tensor
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Return the gradients of queries and keys, given that of the picked scores [N, k]."""
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
    return grad_queries, grad_keys


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


implement("scatter_rows", _scatter_rows)
torch.library.register_fake("fastclip::scatter_rows", _scatter_rows_fake, lib=library)
