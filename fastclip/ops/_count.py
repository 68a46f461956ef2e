"""What rank and count_above share: counting the keys ahead of a threshold."""

from __future__ import annotations

import torch

from fastclip.engine.checks import (
    OneWait,
    check_finite,
    check_no_nan,
    with_adjacent_elements,
)
from fastclip.engine.filters import as_bytes, excluded, excluded_scores, gathered
from fastclip.engine.kernels import run, workspace_bytes
from fastclip.engine.operation import Operation, Part, State
from fastclip.engine.packed import as_keys
from fastclip.engine.packing import empty_screen, encode, parts_to_pack, worth_packing
from fastclip.engine.transforms import CONSTANT, call, define


def _count_ahead(
    queries: torch.Tensor,
    keys: torch.Tensor,
    screen: list[torch.Tensor],
    allowed: torch.Tensor | None,
    scores: torch.Tensor,
    ties: torch.Tensor,
    per_key: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Count the pairs ahead of each query's score, per key or per query, and the survivors.

    A key is ahead where it scores higher than ``scores``, or the same with an index below
    ``ties``; both are [N].
    """
    queries, keys = with_adjacent_elements(queries), with_adjacent_elements(keys)
    with OneWait(queries):
        check_finite("queries", queries)
        packing = not screen and worth_packing(queries, keys)
        if not screen and not packing:
            check_finite("keys", keys)
        check_no_nan("thresholds", scores)
        scores = scores.contiguous()

        def count(
            part: torch.Tensor, codes: list[torch.Tensor], begin: int = 0
        ) -> tuple[torch.Tensor, torch.Tensor]:
            counts, survivors = _empty_counts(queries, part, per_key)
            both = (None, counts) if per_key else (counts, None)
            mask = as_bytes(None if allowed is None else allowed[begin : begin + len(part)])
            limits = scores, (ties - begin).contiguous()
            run("count_ahead", queries, part, codes, mask, *limits, *both, survivors)
            return counts, survivors

        if not packing:
            return count(keys, screen)
        counted = [count(part, encode(part, at), at) for at, part in parts_to_pack(keys)]
    counts, survivors = zip(*counted, strict=True)
    total = torch.cat(counts) if per_key else torch.stack(counts).sum(0)
    return total, torch.stack(survivors).sum()


def search_room(queries: torch.Tensor, keys: torch.Tensor) -> int:
    """Return how many bytes a search against thresholds works in on a device, at most.

    Of packed keys; it is the same for all questions that know what scores must pass.
    """
    screen, scores = empty_screen(keys), queries.new_empty(len(queries), dtype=torch.float32)
    counts, survivors = _empty_counts(queries, keys, False)
    return workspace_bytes(
        "count_ahead", queries, keys, screen, None, scores, counts, counts, None, survivors
    )


def _empty_counts(
    queries: torch.Tensor, keys: torch.Tensor, per_key: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (keys if per_key else queries).shape[:1]
    return queries.new_empty(shape, dtype=torch.int64), queries.new_empty((), dtype=torch.int64)


define(
    "count_ahead(Tensor queries, Tensor keys, Tensor[] screen, Tensor? allowed, Tensor scores,"
    " Tensor ties, bool per_key) -> (Tensor, Tensor)",
    _count_ahead,
    lambda queries, keys, *others: _empty_counts(queries, keys, others[-1]),
    CONSTANT,
)


def count_part(
    queries: Part, keys: Part, scores: torch.Tensor, targets: torch.Tensor, per_key: bool = False
) -> torch.Tensor:
    """Count the pairs of two parts that are ahead and count, per key or per query.

    ``targets`` are numbers of keys; an equal score is ahead with a lower one.
    """
    every = keys
    keys, mask, _ = gathered(queries, keys)
    ties = keys.place(targets)
    rows = queries.tensor, *as_keys(keys.rows)
    counts: torch.Tensor = call("count_ahead", *rows, mask, scores, ties, per_key)[0]
    places = excluded(queries, keys)
    if places is not None:
        row, column, found = excluded_scores(queries, keys, places)
        ahead = (found > scores[row]) | ((found == scores[row]) & (column < ties[row]))
        if mask is not None:
            ahead &= mask[column]
        counts = counts - torch.bincount((column if per_key else row)[ahead], minlength=len(counts))
    if per_key and len(keys) < len(every):
        places = every.place(keys.number(torch.arange(len(keys))))
        counts = counts.new_zeros(len(every)).index_copy(0, places, counts)
    return counts


class Counts(Operation):
    """The state holds a count for each row of the block, [N]; those of chunks add up."""

    def workspace(self, queries: torch.Tensor, keys: torch.Tensor) -> int:
        return search_room(queries, keys)

    def start(self, rows: int) -> State:
        return (torch.zeros(rows, dtype=torch.int64),)

    def merge(self, first: State, second: State) -> State:
        return (first[0] + second[0],)
