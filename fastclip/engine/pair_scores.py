"""Exact scores of given pairs."""

import torch

from fastclip.engine.checks import OneWait, as_in_range, check_finite, with_adjacent_elements
from fastclip.engine.kernels import run
from fastclip.engine.transforms import CONSTANT, call, define


def pair_scores(queries: torch.Tensor, keys: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Return the exact score of each query with its keys ``indices``, [N] or [N, m]."""
    scores: torch.Tensor = call("pair_scores", queries, keys, indices)
    return scores


def _pair_scores(queries: torch.Tensor, keys: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    queries, keys = with_adjacent_elements(queries), with_adjacent_elements(keys)
    with OneWait(queries):
        check_finite("queries", queries)
        in_range = as_in_range("targets", indices.flatten(), keys.shape[0], "keys")
        scores = _empty(queries, keys, indices)
        table, out = (x[:, None] if x.ndim == 1 else x for x in (in_range.view_as(indices), scores))
        run("pair_scores", queries, keys, table.contiguous(), out)
    return scores


def _empty(queries: torch.Tensor, keys: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    return queries.new_empty(indices.shape, dtype=torch.float32)


define(
    "pair_scores(Tensor queries, Tensor keys, Tensor indices) -> Tensor",
    _pair_scores,
    _empty,
    CONSTANT,
)
