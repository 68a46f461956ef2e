"""Exact scores of given pairs."""

from __future__ import annotations

import torch

from fastclip import _C
from fastclip.engine.checks import check_finite, check_range, matrix, with_adjacent_elements
from fastclip.engine.devices import on_cuda, stream_of
from fastclip.engine.transforms import CONSTANT, call, define


def pair_scores(queries: torch.Tensor, keys: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Return the exact score of each query with its keys ``indices``, [N] or [N, m]."""
    scores: torch.Tensor = call("pair_scores", queries, keys, indices)
    return scores


def _pair_scores(queries: torch.Tensor, keys: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    queries, keys = with_adjacent_elements(queries), with_adjacent_elements(keys)
    check_finite("queries", queries)
    check_range("targets", indices.flatten(), keys.shape[0], "keys")
    indices = indices.contiguous()
    scores = _pair_scores_fake(queries, keys, indices)
    per_query = indices[0].numel() if len(indices) else 0
    arguments = matrix(queries), matrix(keys), indices.data_ptr(), per_query, scores.data_ptr()
    if on_cuda(queries):
        with stream_of(queries) as stream:
            _C.cuda.pair_scores(*arguments, stream)
    else:
        _C.pair_scores(*arguments, torch.get_num_threads())
    return scores


def _pair_scores_fake(
    queries: torch.Tensor, keys: torch.Tensor, indices: torch.Tensor
) -> torch.Tensor:
    return queries.new_empty(indices.shape, dtype=torch.float32)


define(
    "pair_scores(Tensor queries, Tensor keys, Tensor indices) -> Tensor",
    _pair_scores,
    _pair_scores_fake,
    CONSTANT,
)
