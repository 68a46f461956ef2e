"""What rank and count_above share: counting the keys ahead of a threshold."""

from __future__ import annotations

import torch

from fastclip import _C
from fastclip.engine.checks import (
    check_finite,
    matrix,
    screen_keys,
    with_adjacent_elements,
)
from fastclip.engine.devices import capturing, on_cuda
from fastclip.engine.packing import encode, parts_to_pack, worth_packing
from fastclip.engine.transforms import CONSTANT, call, define
from fastclip.ops import _search_cuda


def count_ahead(
    queries: torch.Tensor,
    keys: torch.Tensor,
    screen: list[torch.Tensor],
    scores: torch.Tensor,
    ties: torch.Tensor,
    per_key: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Count the pairs ahead of each query's score, per key or per query, and the survivors.

    A key is ahead where it scores higher than ``scores``, or the same with an index below
    ``ties``; both are [N].
    """
    counted: tuple[torch.Tensor, torch.Tensor] = call(
        "count_ahead", queries, keys, screen, scores, ties, per_key
    )
    return counted


def _count_ahead(
    queries: torch.Tensor,
    keys: torch.Tensor,
    screen: list[torch.Tensor],
    scores: torch.Tensor,
    ties: torch.Tensor,
    per_key: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    queries, keys = with_adjacent_elements(queries), with_adjacent_elements(keys)
    check_finite("queries", queries)
    packing = not screen and worth_packing(queries, keys)
    if not screen and not packing:
        check_finite("keys", keys)
    if not capturing(scores) and torch.isnan(scores).any():
        raise ValueError(f"thresholds: NaN at {int(torch.isnan(scores).nonzero()[0])}")
    if not packing:
        return _count(queries, keys, screen, scores, ties, per_key)
    counted = [
        _count(queries, part, encode(part, begin), scores, ties - begin, per_key)
        for begin, part in parts_to_pack(keys)
    ]
    counts, survivors = zip(*counted, strict=True)
    total = torch.cat(counts) if per_key else torch.stack(counts).sum(0)
    return total, torch.stack(survivors).sum()


def _count(
    queries: torch.Tensor,
    keys: torch.Tensor,
    screen: list[torch.Tensor],
    scores: torch.Tensor,
    ties: torch.Tensor,
    per_key: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    counts, survivors = _count_ahead_fake(queries, keys, screen, scores, ties, per_key)
    if on_cuda(queries):
        _search_cuda.count_ahead(queries, keys, screen, scores, ties, per_key, counts, survivors)
        return counts, survivors
    address = counts.zero_().data_ptr()
    survivors.fill_(
        _C.count_ahead(
            matrix(queries),
            matrix(keys),
            screen_keys(screen, keys),
            scores.data_ptr(),
            ties.data_ptr(),
            0 if per_key else address,
            address if per_key else 0,
            torch.get_num_threads(),
        )
    )
    return counts, survivors


def _count_ahead_fake(
    queries: torch.Tensor,
    keys: torch.Tensor,
    screen: list[torch.Tensor],
    scores: torch.Tensor,
    ties: torch.Tensor,
    per_key: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    count = keys.shape[0] if per_key else queries.shape[0]
    return (
        queries.new_empty((count,), dtype=torch.int64),
        queries.new_empty((), dtype=torch.int64),
    )


define(
    "count_ahead(Tensor queries, Tensor keys, Tensor[] screen, Tensor scores, Tensor ties, bool"
    " per_key) -> (Tensor, Tensor)",
    _count_ahead,
    _count_ahead_fake,
    CONSTANT,
)
