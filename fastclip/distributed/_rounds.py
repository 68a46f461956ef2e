"""What functions of keys do: queries of all ranks in blocks, answers back to whom they belong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import Any, NamedTuple

import torch

from fastclip.engine.checks import Array, as_rows, check_finite, check_same_width
from fastclip.ops._merge import Chunk, Reducer

from ._ranks import Tensors
from .keys import ShardedKeys

_QUERIES = 16384  # of all ranks together, at a time

Check = Callable[[torch.Tensor], tuple[dict[str, Any], Tensors]]
"""Checks the other arguments, given the queries: returns those that must be the same on all ranks,
and tensors with a row for each query."""


class Block(NamedTuple):
    """Queries of all ranks, in order of the ranks."""

    sizes: list[int]
    """How many are from each rank."""
    queries: torch.Tensor
    others: Tensors
    """Tensors with a row for each query."""

    def split(self, tensors: Sequence[torch.Tensor]) -> list[Tensors]:
        """Return the rows of ``tensors`` that are for each rank."""
        return list(zip(*(tensor.split(self.sizes) for tensor in tensors), strict=True))


def checked(
    function: str, queries: Array, keys: ShardedKeys, check: Check = lambda rows: ({}, ())
) -> tuple[list[torch.Tensor], int]:
    """Check the arguments on all ranks.

    Return this rank's queries and the other tensors, and how many queries a rank has at most.
    """
    own: list[torch.Tensor] = []

    def describe() -> dict[str, Any]:
        rows = as_rows("queries", queries).detach()
        check_same_width(rows, keys.local.rows)
        check_finite("queries", rows)
        same, others = check(rows)
        own.extend((rows, *others))
        return {"function": function, **same, "queries": len(rows)}

    most = max(keys.ranks.agree(describe, own="queries"))
    return own, most


def blocks(
    function: str, queries: Array, keys: ShardedKeys, check: Check = lambda rows: ({}, ())
) -> Iterator[Block]:
    """Check the arguments on all ranks, then yield the queries of all, at least one block."""
    own, most = checked(function, queries, keys, check)
    size = max(1, _QUERIES // keys.ranks.size)
    for begin in range(0, max(1, most), size):
        found = keys.ranks.share(*(tensor[begin : begin + size] for tensor in own))
        sizes = [len(tensors[0]) for tensors in found]
        rows, *others = (torch.cat(parts) for parts in zip(*found, strict=True))
        yield Block(sizes, rows, tuple(others))


def answer(
    keys: ShardedKeys,
    given: Iterator[Block],
    question: Callable[[Block], Reducer],
    of_keys: torch.Tensor | None = None,
) -> Any:
    """Ask all keys a question about each block; return the answer for this rank's queries.

    ``of_keys`` is what the question needs for each of this rank's keys.
    """
    states: list[Tensors] = []
    for block in given:
        reducer = question(block)

        def find(block: Block = block, reducer: Reducer = reducer) -> list[Tensors]:
            return block.split(ask(keys, reducer, block.queries, of_keys))

        found = keys.ranks.exchange(len(reducer.start(0)), find)
        states.append(reduce(reducer.merge, found))
    return reducer.finish(tuple(torch.cat(parts) for parts in zip(*states, strict=True)))


def ask(
    keys: ShardedKeys, reducer: Reducer, queries: torch.Tensor, of_keys: torch.Tensor | None
) -> Tensors:
    """Return the state of a question after this rank's keys."""
    with keys.local.rows.device:
        chunk = Chunk(keys.local, keys.begin, of_keys)
        return reducer.add(reducer.start(len(queries)), queries, chunk)
