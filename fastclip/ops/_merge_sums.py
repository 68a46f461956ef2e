"""The reducers of `_merge.py` whose answers are sums in a fixed order; on the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from fastclip import _C
from fastclip.engine.checks import check_finite, check_range, with_adjacent_elements
from fastclip.engine.floats import rounded
from fastclip.engine.packed import as_keys
from fastclip.ops._merge import Chunk, Reducer, State
from fastclip.ops.group_mean import add_rows


def _checked(chunk: Chunk, alignment: int) -> torch.Tensor:
    """Return the rows of a chunk that may be added."""
    if chunk.begin % alignment:
        raise ValueError(f"begin: a multiple of {alignment} is needed, got {chunk.begin}")
    rows, screen = as_keys(chunk.keys)
    rows = with_adjacent_elements(rows)
    if not screen:
        check_finite("keys", rows)
    return rows


@dataclass(frozen=True)
class ScaledSums(Reducer):
    """`fastclip.logsumexp`.

    The state holds what each of up to 64 parts of the keys gave, [parts, N]. Chunks may come in any
    order and be merged in any way as long as none begins or ends inside of a part, ``part`` keys
    each: a part's own keys must be added in their order.
    """

    scale: float
    num_keys: int
    width: int

    exact: ClassVar[bool] = False

    def alignment(self, width: int) -> int:
        return _C.value_blocks(self.num_keys, width)[0]

    @property
    def part(self) -> int:
        """How many keys a part has."""
        return _C.value_blocks(self.num_keys, self.width)[1]

    def start(self, rows: int) -> State:
        shape = _C.value_blocks(self.num_keys, self.width)[2], rows
        return torch.full(shape, -torch.inf, dtype=torch.float32), torch.zeros(
            shape, dtype=torch.float64
        )

    def add(self, state: State, queries: torch.Tensor, chunk: Chunk) -> State:
        queries = with_adjacent_elements(queries)
        rows = _checked(chunk, self.alignment(queries.shape[1]))
        _C.logsumexp_add(
            queries,
            rows,
            self.scale,
            chunk.begin,
            self.num_keys,
            *state,
            torch.get_num_threads(),
        )
        return state

    def merge(self, first: State, second: State) -> State:
        _C.logsumexp_merge(*first, *second, self.scale, torch.get_num_threads())
        return first

    def finish(self, state: State) -> torch.Tensor:
        out = torch.empty(state[0].shape[1], dtype=torch.float32)
        _C.logsumexp_finish(*state, self.scale, out, torch.get_num_threads())
        return out


@dataclass(frozen=True)
class WeightedValues(Reducer):
    """`fastclip.cache_logits`; ``of_keys`` holds the values of the keys. The state is [N, C].

    Merged states of chunks apart give the sum of both, rounded otherwise than by keys in order.
    """

    beta: float
    columns: int
    num_keys: int

    exact: ClassVar[bool] = False

    def alignment(self, width: int) -> int:
        return _C.value_blocks(self.num_keys, width)[0]

    def start(self, rows: int) -> State:
        return (torch.zeros(rows, self.columns, dtype=torch.float64),)

    def add(self, state: State, queries: torch.Tensor, chunk: Chunk) -> State:
        assert chunk.of_keys is not None
        queries = with_adjacent_elements(queries)
        rows = _checked(chunk, self.alignment(queries.shape[1]))
        values = with_adjacent_elements(chunk.of_keys)
        check_finite("values", values)
        _C.cache_logits(queries, rows, values, self.beta, None, *state, torch.get_num_threads())
        return state

    def merge(self, first: State, second: State) -> State:
        return (first[0] + second[0],)

    def finish(self, state: State) -> torch.Tensor:
        return rounded(state[0])


@dataclass(frozen=True)
class GroupMeans(Reducer):
    """The means of `fastclip.group_mean`, whose answer is their similarity with the queries.

    They are the same for all queries: ``queries`` are not looked at, `start` is called for no rows.
    ``of_keys`` holds the groups of the keys.
    """

    num_groups: int
    width: int

    exact: ClassVar[bool] = False

    def start(self, rows: int) -> State:
        return (
            torch.zeros(self.num_groups, self.width, dtype=torch.float64),
            torch.zeros(self.num_groups, dtype=torch.int64),
        )

    def add(self, state: State, queries: torch.Tensor, chunk: Chunk) -> State:
        assert chunk.of_keys is not None
        rows = _checked(chunk, 1)
        check_range("groups", chunk.of_keys, self.num_groups, "groups")
        add_rows(state[0], chunk.of_keys, rows)
        return state[0], state[1] + torch.bincount(chunk.of_keys, minlength=self.num_groups)

    def merge(self, first: State, second: State) -> State:
        return first[0] + second[0], first[1] + second[1]

    def finish(self, state: State) -> torch.Tensor:
        """Return the means, [G, d] float32."""
        return rounded(*state)
