"""The gradient of scores that were picked out of all: each flows to its query and its key."""

from typing import Any

import torch

from fastclip.engine.transforms import Gradient, call, define
from fastclip.ops._sparse import making_sparse

_PAIRS = 4096  # whose rows are multiplied at a time


def empty_best(
    queries: torch.Tensor, columns: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Room for values and indices [N, columns], and for how many pairs survived."""
    shape = (queries.shape[0], columns)
    return (
        queries.new_empty(shape, dtype=torch.float32),
        queries.new_empty(shape, dtype=torch.int64),
        queries.new_empty((), dtype=torch.int64),
    )


def _save_picked(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
    queries, keys, screen, *others = inputs
    _, indices, survivors = output
    ctx.mark_non_differentiable(indices, survivors)
    ctx.save_for_backward(queries, keys, indices)
    ctx.save_for_forward(queries, keys, indices)
    ctx.constants = [None] * len(screen), *(None for _ in others)


def _picked_backward(
    ctx: Any, grad_values: torch.Tensor, *_: torch.Tensor | None
) -> tuple[Any, ...]:
    queries, keys, indices = ctx.saved_tensors
    grad = grad_values.float().reshape(-1)
    key = indices.reshape(-1)
    query = torch.arange(indices.shape[0], device=key.device).repeat_interleave(indices.shape[1])
    grad_queries = grad_keys = None
    if ctx.needs_input_grad[0]:
        rows = call("scatter_rows", query, key, grad, keys, queries.shape[0])
        grad_queries = rows.to(queries.dtype)
    if ctx.needs_input_grad[1]:
        rows = call("scatter_rows", key, query, grad, queries, keys.shape[0])
        grad_keys = rows.to(keys.dtype)
    return grad_queries, grad_keys, *ctx.constants


def _picked_jvp(
    ctx: Any, queries: torch.Tensor | None, keys: torch.Tensor | None, *_: Any
) -> tuple[torch.Tensor | None, ...]:
    """Return the tangents of values, indices and survivors, given those of queries and keys."""
    query_rows, key_rows, indices = ctx.saved_tensors
    tangent = torch.zeros(indices.shape, dtype=torch.float32, device=indices.device)
    if queries is not None:
        tangent = tangent + _products(queries, key_rows, indices)
    if keys is not None:
        tangent = tangent + _products(query_rows, keys, indices)
    return tangent, None, None


PICKED = Gradient(_picked_backward, _save_picked, _picked_jvp)
"""Of an operator on queries, keys, the keys' screen and constants that gives values, the keys'
``indices`` [N, k], and how many survived."""


def _products(queries: torch.Tensor, keys: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Return float32 products of each query with its keys, [N, k]."""
    places = indices.T  # one key of each query at a time: a copy of the queries, not k of them
    products = [(queries.float() * keys[place].float()).sum(1) for place in places]
    return torch.stack(products, 1) if products else queries.new_empty(indices.shape).float()


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
    with making_sparse():
        pairs = torch.sparse_coo_tensor(
            torch.stack([row, source]), weight, (rows, features.shape[0]), check_invariants=False
        )
    total: torch.Tensor = torch.sparse.mm(pairs, features.float())
    return total


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    row, source, weight, features, ctx.rows = inputs
    ctx.save_for_backward(row, source, weight, features)
    ctx.save_for_forward(row, source, weight, features)


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    """The sum is linear in the weights and in the features, so these are sums of the same kind."""
    row, source, weight, features = ctx.saved_tensors
    grad_weight = grad_features = None
    if ctx.needs_input_grad[2]:
        parts = zip(row.split(_PAIRS), source.split(_PAIRS), strict=True)
        grad_weight = torch.cat([(grad[r] * features[s].float()).sum(1) for r, s in parts])
    if ctx.needs_input_grad[3]:
        rows = call("scatter_rows", source, row, weight, grad, features.shape[0])
        grad_features = rows.to(features.dtype)
    return None, None, grad_weight, grad_features, None


def _jvp(ctx: Any, *tangents: torch.Tensor | None) -> torch.Tensor:
    _, _, weight, features, _ = tangents
    rows, sources, weights, all_features = ctx.saved_tensors
    shape = (ctx.rows, all_features.shape[1])
    tangent = torch.zeros(shape, dtype=torch.float32, device=weights.device)
    if weight is not None:
        tangent = tangent + call("scatter_rows", rows, sources, weight, all_features, ctx.rows)
    if features is not None:
        tangent = tangent + call("scatter_rows", rows, sources, weights, features, ctx.rows)
    return tangent


define(
    "scatter_rows(Tensor row, Tensor source, Tensor weight, Tensor features, int rows) -> Tensor",
    _scatter_rows,
    lambda row, source, weight, features, rows: features.new_empty(
        (rows, features.shape[1]), dtype=torch.float32
    ),
    Gradient(_backward, _setup_context, _jvp),
)
