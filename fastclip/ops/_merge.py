"""Answers about all keys, put together from chunks of them: from disk, or on several machines.

A reducer asks one question about a block of queries. It takes chunks of keys, and holds what is
known so far in a tuple of tensors with no other reference to the chunks::

    state = reducer.start(len(queries))
    for chunk in chunks:
        state = reducer.add(state, queries, chunk)
    state = reducer.merge(state, state_of_other_chunks)
    answer = reducer.finish(state)

Indices are those of all keys. The answer has the bits of the function on all keys at once, for
chunks of any size in any order, with any merges on the way, where ``exact`` is True. Where it is
not, sums of float32 and float64 numbers depend on where and in which order they are made: the
answer has the same bits if chunks begin at multiples of ``alignment``, and come in the order of
their keys.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import torch

from fastclip.engine.checks import Array, check_range
from fastclip.engine.floats import ordered
from fastclip.engine.packed import PackedKeys, as_keys
from fastclip.ops import _count as _count  # registers the operators
from fastclip.ops.group_beats import beats
from fastclip.ops.group_max import GroupMax, group_max
from fastclip.ops.topk import TopK, merge_best, topk

State: TypeAlias = tuple[torch.Tensor, ...]

LAST = torch.iinfo(torch.int64).max  # stands for no key: after all others


@dataclass(frozen=True)
class Chunk:
    """Keys that follow each other."""

    keys: Array | PackedKeys
    begin: int
    """Number of the first one among all keys."""
    of_keys: torch.Tensor | None = None
    """What the question needs for each key: its group, or values."""


class Reducer(ABC):
    """One question about a block of queries; see the module."""

    exact: ClassVar[bool] = True
    """Whether chunks may be cut anywhere, come in any order and be merged in any way."""

    def alignment(self, width: int) -> int:
        """Return what the first key of each chunk must be a multiple of, for rows of ``width``."""
        return 1

    @abstractmethod
    def start(self, rows: int) -> State:
        """Return what is known about ``rows`` queries before the first chunk."""

    @abstractmethod
    def add(self, state: State, queries: torch.Tensor, chunk: Chunk) -> State:
        """Return what is known with these keys too; ``state`` may be reused."""

    @abstractmethod
    def merge(self, first: State, second: State) -> State:
        """Return what is known about the chunks of both, which have no key in common."""

    def finish(self, state: State) -> Any:
        """Return the answer: the state's only tensor, unless the question says otherwise."""
        (answer,) = state
        return answer


@dataclass(frozen=True)
class BestKeys(Reducer):
    """`fastclip.topk`. The state holds the best so far, [N, min(k, keys so far)]."""

    k: int

    def start(self, rows: int) -> State:
        return torch.empty(rows, 0, dtype=torch.float32), torch.empty(rows, 0, dtype=torch.int64)

    def add(self, state: State, queries: torch.Tensor, chunk: Chunk) -> State:
        if len(chunk.keys) == 0:
            return state
        values, indices = topk(queries, chunk.keys, min(self.k, len(chunk.keys)))
        return self.merge(state, (values, indices + chunk.begin))

    def merge(self, first: State, second: State) -> State:
        if 0 in (first[1].shape[1], second[1].shape[1]):
            return first if second[1].shape[1] == 0 else second
        if first[1].numel() and first[1].max() >= second[1].min():
            first, second = _by_index(first, second)
        return merge_best(first, second, self.k)

    def finish(self, state: State) -> TopK:
        return TopK(*state)


def _by_index(first: State, second: State) -> tuple[State, State]:
    """Return the keys of both in order of their indices, with nothing in the second."""
    indices, order = torch.cat([first[1], second[1]], 1).sort(dim=1)
    values = torch.cat([first[0], second[0]], 1).gather(1, order)
    return (values, indices), (values[:, :0], indices[:, :0])


@dataclass(frozen=True)
class TargetScores(Reducer):
    """Scores of each query's target, which the reducers `KeysAhead` and `GroupsAhead` need first.

    Minus infinity until the target's chunk has come.
    """

    targets: torch.Tensor
    """[N] int64."""

    def start(self, rows: int) -> State:
        return (torch.full((rows,), -torch.inf, dtype=torch.float32),)

    def add(self, state: State, queries: torch.Tensor, chunk: Chunk) -> State:
        rows, _ = as_keys(chunk.keys)
        places = self.targets - chunk.begin
        here = ((places >= 0) & (places < len(rows))).nonzero()[:, 0]
        scores = state[0].clone()
        scores[here] = torch.ops.fastclip.pair_scores(queries[here], rows, places[here])
        return (scores,)

    def merge(self, first: State, second: State) -> State:
        return (torch.where(first[0] == -torch.inf, second[0], first[0]),)


class _Counts(Reducer):
    """A number for each row of the block; those of chunks add up."""

    def start(self, rows: int) -> State:
        return (torch.zeros(rows, dtype=torch.int64),)

    def merge(self, first: State, second: State) -> State:
        return (first[0] + second[0],)


@dataclass(frozen=True)
class KeysAhead(_Counts):
    """How many keys are ahead: `fastclip.rank`, and `fastclip.count_above` per query.

    For the latter ``scores`` are the thresholds and ``targets`` zeros, so that no equal score
    counts.
    """

    scores: torch.Tensor
    """[N] float32, of the targets."""
    targets: torch.Tensor
    """[N] int64."""

    def add(self, state: State, queries: torch.Tensor, chunk: Chunk) -> State:
        counts, _ = torch.ops.fastclip.count_ahead(
            queries, *as_keys(chunk.keys), self.scores, self.targets - chunk.begin, False
        )
        return self.merge(state, (counts,))


class CountPerKey(_Counts):
    """`fastclip.count_above` per key: the block is one of keys, the chunks are of queries.

    ``of_keys`` holds the thresholds of the queries, float32.
    """

    def add(self, state: State, queries: torch.Tensor, chunk: Chunk) -> State:
        """Count for the keys ``queries``, as the block is called here, the queries of ``chunk``."""
        assert chunk.of_keys is not None
        rows, _ = as_keys(chunk.keys)
        ties = torch.zeros(len(rows), dtype=torch.int64)
        counts, _ = torch.ops.fastclip.count_ahead(rows, queries, [], chunk.of_keys, ties, True)
        return self.merge(state, (counts,))


@dataclass(frozen=True)
class BestOfGroups(Reducer):
    """`fastclip.group_max`; ``of_keys`` holds the groups of the keys."""

    num_groups: int

    def start(self, rows: int) -> State:
        shape = rows, self.num_groups
        return torch.full(shape, -torch.inf, dtype=torch.float32), torch.full(shape, LAST)

    def add(self, state: State, queries: torch.Tensor, chunk: Chunk) -> State:
        assert chunk.of_keys is not None
        if len(chunk.keys) == 0:
            return state
        check_range("groups", chunk.of_keys, self.num_groups, "groups")
        here, places = chunk.of_keys.unique(return_inverse=True)  # not each group has a key here
        values, indices = group_max(queries, chunk.keys, places)
        found = values, indices + chunk.begin
        columns = self.merge(tuple(part[:, here] for part in state), found)
        for part, column in zip(state, columns, strict=True):
            part[:, here] = column
        return state

    def merge(self, first: State, second: State) -> State:
        scores, others = ordered(first[0]), ordered(second[0])
        later = (others > scores) | ((others == scores) & (second[1] < first[1]))
        return (
            torch.where(later, second[0], first[0]),
            torch.where(later, second[1], first[1]),
        )

    def finish(self, state: State) -> GroupMax:
        return GroupMax(*state)


@dataclass(frozen=True)
class GroupsAhead(Reducer):
    """`fastclip.group_beats`; ``of_keys`` holds the groups of the keys."""

    scores: torch.Tensor
    """[N] float32, of the targets."""
    targets: torch.Tensor
    """[N] int64."""
    num_groups: int

    def start(self, rows: int) -> State:
        return (torch.zeros(rows, -(-self.num_groups // 64), dtype=torch.int64),)

    def add(self, state: State, queries: torch.Tensor, chunk: Chunk) -> State:
        assert chunk.of_keys is not None
        check_range("groups", chunk.of_keys, self.num_groups, "groups")
        targets = self.scores, self.targets - chunk.begin
        bits, _ = beats(queries, *as_keys(chunk.keys), *targets, chunk.of_keys, self.num_groups)
        return self.merge(state, (bits,))

    def merge(self, first: State, second: State) -> State:
        return (first[0] | second[0],)


@dataclass(frozen=True)
class PairsAbove(Reducer):
    """`fastclip.pairs_above`. The state is a list of pairs: rows, columns and scores."""

    threshold: float
    first_query: int | None = None
    """Where queries and keys are the same rows: the number of the block's first one. Only keys
    after the query count then."""

    def start(self, rows: int) -> State:
        return (
            torch.zeros(rows + 1, dtype=torch.int64),  # how many pairs each row has, from 1 on
            torch.empty(0, dtype=torch.int64),
            torch.empty(0, dtype=torch.int64),
            torch.empty(0, dtype=torch.float32),
        )

    def add(self, state: State, queries: torch.Tensor, chunk: Chunk) -> State:
        starts, columns, scores = torch.ops.fastclip.pairs_above(
            queries, *as_keys(chunk.keys), self.threshold, False
        )
        rows = torch.arange(len(queries), device=starts.device).repeat_interleave(starts.diff())
        columns += chunk.begin
        if self.first_query is not None:
            later = columns > rows + self.first_query
            rows, columns, scores = rows[later], columns[later], scores[later]
        counts = torch.bincount(rows + 1, minlength=len(queries) + 1)
        return self.merge(state, (counts, rows, columns, scores))

    def merge(self, first: State, second: State) -> State:
        lists = (torch.cat(pair) for pair in zip(first[1:], second[1:], strict=True))
        return (first[0] + second[0], *lists)

    def finish(self, state: State) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return row starts, columns and scores of a CSR matrix."""
        counts, rows, columns, scores = state
        order = columns.argsort()
        order = order[rows[order].argsort(stable=True)]
        return counts.cumsum(0), columns[order], scores[order]
