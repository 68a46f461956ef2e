"""The searches on CUDA devices: what they ask of the extension and of torch."""

from __future__ import annotations

import torch

from fastclip import _C
from fastclip.ops._arguments import matrix, screen_keys
from fastclip.ops._device import stream_of, workspace

_QUERIES = 1 << 14  # at a time, at most
_CANDIDATES = 1 << 13  # of one query, at most
_SCORES = 1 << 26  # held at a time where k is too large for the kernels


def topk(
    queries: torch.Tensor,
    keys: torch.Tensor,
    screen: list[torch.Tensor],
    values: torch.Tensor,
    indices: torch.Tensor,
    scored: torch.Tensor,
) -> None:
    """Fill ``values`` and ``indices`` [N, k], and ``scored`` with how many pairs were scored."""
    count, k = values.shape
    if k > _C.cuda.most_best:
        _topk_by_sorting(queries, keys, values, indices)
        scored.fill_(count * len(keys))
        return
    width = screen[0].shape[1] if screen else 0

    def plan(rows: int) -> _C.TopKPlan:
        return _C.cuda.TopKPlan(count, k, rows, _CANDIDATES)

    memory, rows = workspace(
        "topk", lambda rows: plan(rows).workspace(width), min(count, _QUERIES), queries
    )
    with stream_of(queries) as stream:
        _C.cuda.topk(
            matrix(queries),
            matrix(keys),
            screen_keys(screen, keys),
            plan(rows),
            values.data_ptr(),
            indices.data_ptr(),
            scored.data_ptr(),
            memory.data_ptr(),
            stream,
        )


def _topk_by_sorting(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, indices: torch.Tensor
) -> None:
    rows = max(1, _SCORES // len(keys))
    for begin in range(0, len(queries), rows):
        part = queries[begin : begin + rows]
        scores = values.new_empty((len(part), len(keys)))
        with stream_of(queries) as stream:
            _C.cuda.similarity(matrix(part), matrix(keys), matrix(scores), stream)
        # Adding 0 turns -0 into +0, which it must be equal to.
        order = (scores + 0).sort(dim=1, descending=True, stable=True).indices[:, : values.shape[1]]
        indices[begin : begin + rows] = order
        values[begin : begin + rows] = scores.gather(1, order)
