"""The best key of each group."""

from typing import Literal, NamedTuple, SupportsIndex, cast, overload

import torch

from fastclip.engine.answer import Keys, Queries, answer, elsewhere
from fastclip.engine.arguments import GroupColumn, Groups
from fastclip.engine.checks import Array, OneWait, check_finite, with_adjacent_elements
from fastclip.engine.devices import on_cuda
from fastclip.engine.filters import (
    FILTERS,
    Excluding,
    best_member,
    contains,
    excluded,
    members,
)
from fastclip.engine.floats import ordered
from fastclip.engine.groups import as_groups, check_groups
from fastclip.engine.kernels import run, workspace_bytes
from fastclip.engine.operation import LAST, Operation, Part, State, register
from fastclip.engine.packed import as_sides
from fastclip.engine.packing import empty_screen, encode, worth_packing
from fastclip.engine.transforms import call, define
from fastclip.ops._gather import PICKED, empty_best


class GroupMax(NamedTuple):
    """The best key of each group, for each query."""

    values: torch.Tensor
    """[N, G] float32: exact scores."""
    indices: torch.Tensor
    """[N, G] int64: rows of ``keys``."""


@overload
def group_max(
    queries: Queries,
    keys: Keys,
    groups: Array,
    *,
    num_groups: SupportsIndex | None = ...,
    allowed: Array | None = ...,
    exclude: Excluding | None = ...,
    return_survivors: Literal[False] = ...,
) -> GroupMax: ...
@overload
def group_max(
    queries: Queries,
    keys: Keys,
    groups: Array,
    *,
    num_groups: SupportsIndex | None = ...,
    allowed: Array | None = ...,
    exclude: Excluding | None = ...,
    return_survivors: Literal[True],
) -> tuple[GroupMax, torch.Tensor]: ...
def group_max(
    queries: Queries,
    keys: Keys,
    groups: Array,
    *,
    num_groups: SupportsIndex | None = None,
    allowed: Array | None = None,
    exclude: Excluding | None = None,
    return_survivors: bool = False,
) -> GroupMax | tuple[GroupMax, torch.Tensor]:
    """Return the largest score of each query within each group of keys, and its key.

    ``(queries @ keys.T)`` followed by a ``scatter_reduce("amax")`` over groups, without the [N, V]
    matrix: the class score of prompts that compete. Scores and ties are those of
    :func:`fastclip.topk`: exact, and the lower index first. The answer is the same to the bit for
    any number of threads, instruction set and device, packed or not. Differentiable in ``values``.

    Parameters
    ----------
    queries : tensor or array [N, d], float32, float16 or bfloat16; also Rows if ``keys`` are
        No queries (N = 0) give an empty result.
    keys : tensor or array [V, d], PackedKeys, fastclip.data.Rows, or ShardedKeys
        At least one. They are screened where the groups never decrease from key to key.
    groups : integer tensor or array [V]
        The group of each key, in any order; every group from 0 to the largest needs a key.
    num_groups : int, optional
        G; needed inside torch.compile, where shapes cannot depend on the content of ``groups``.
    allowed, exclude
        As of :func:`fastclip.topk`: keys that do not count. A group without a key that does has the
        value minus infinity and index -1.
    return_survivors : bool, default False
        Also return how many of the N V pairs were scored exactly, an int64 scalar.

    Returns
    -------
    GroupMax
        ``values`` [N, G] float32 and ``indices`` [N, G] int64. Beyond inputs and result, each
        thread uses about 16 bytes * 512 * d + 1 MiB of workspace; a call with many queries and
        unpacked keys also V (w + 12) bytes, w being d rounded up to a multiple of 64. On CUDA
        devices the w + 50 + 12 G bytes of each of up to 8,192 queries, but of G no more than about
        384 MiB, and 33 MiB (V (w + 12) bytes more for unpacked keys).

    Raises
    ------
    TypeError, ValueError
        As :func:`fastclip.topk` but for k, or there are no keys, or a group is out of range or has
        no key.

    Examples
    --------
    >>> import torch, fastclip
    >>> prompts = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    >>> fastclip.group_max(torch.tensor([[0.6, 0.8]]), prompts, torch.tensor([0, 0, 1]))
    GroupMax(values=tensor([[1.0000, 0.8000]]), indices=tensor([[1, 2]]))
    """
    if elsewhere(keys, allowed, exclude):
        options = {"num_groups": num_groups, "return_survivors": return_survivors}
        filters = {"allowed": allowed, "exclude": exclude}
        return cast(GroupMax, answer(_GroupMax, queries, keys, groups=groups, **filters, **options))
    query_rows, key_rows, screen = as_sides(queries, keys)
    ids, count = as_groups(groups, key_rows, num_groups)
    values, indices, survivors = call("group_max", query_rows, key_rows, screen, ids, count)
    best = GroupMax(values, indices)
    return (best, survivors) if return_survivors else best


def _group_max(
    queries: torch.Tensor,
    keys: torch.Tensor,
    screen: list[torch.Tensor],
    groups: torch.Tensor,
    num_groups: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    queries, keys = with_adjacent_elements(queries), with_adjacent_elements(keys)
    with OneWait(queries):
        check_finite("queries", queries)
        groups, _ = check_groups(groups, num_groups)
        if not screen:
            # On the CPU, the screen needs keys of a group to be next to each other.
            may_screen = on_cuda(keys) or bool((groups[1:] >= groups[:-1]).all())
            if may_screen and worth_packing(queries, keys):
                screen = encode(keys)
            else:
                check_finite("keys", keys)
        result = empty_best(queries, num_groups)
        run("group_max", queries, keys, screen, groups.contiguous(), *result)
    return result


def room(queries: torch.Tensor, keys: torch.Tensor, num_groups: int) -> int:
    """Return how many bytes the search of packed keys works in on a device, at most."""
    screen, groups = empty_screen(keys), keys.new_empty(len(keys), dtype=torch.int64)
    result = empty_best(queries, num_groups)
    return workspace_bytes("group_max", queries, keys, screen, groups, *result)


define(
    "group_max(Tensor queries, Tensor keys, Tensor[] screen, Tensor groups, int num_groups) ->"
    " (Tensor, Tensor, Tensor)",
    _group_max,
    lambda queries, *others: empty_best(queries, others[-1]),
    PICKED,
)


def _next_best(
    queries: Part, keys: Part, groups: torch.Tensor, best: State, without: torch.Tensor
) -> State:
    """Return the best keys of each group where those that are excluded do not count."""
    values, places = (part.clone() for part in best)
    rows, of_groups = contains(without, places).nonzero(as_tuple=True)
    for some, table in members(groups, of_groups):
        row, group = rows[some], of_groups[some]
        table = table.masked_fill(contains(without[row], table), -1)
        values[row, group], places[row, group] = best_member(
            queries.tensor[row], keys.tensor, table
        )
    return values, places


@register
class _GroupMax(Operation):
    """The state holds values and indices of the best so far, [N, G]."""

    name = "group_max"
    arguments = (Groups(), *FILTERS)
    fields = ("indices", "values")
    result = GroupMax
    groups: GroupColumn

    @property
    def row_bytes(self) -> int:
        return 64 * self.groups.num_groups

    def workspace(self, queries: torch.Tensor, keys: torch.Tensor) -> int:
        return room(queries, keys, self.groups.num_groups)

    def start(self, rows: int) -> State:
        shape = rows, self.groups.num_groups
        return torch.full(shape, -torch.inf, dtype=torch.float32), torch.full(shape, LAST)

    def add(self, state: State, block: Part, chunk: Part) -> State:
        chunk = chunk.allowed()
        if len(chunk) == 0:
            return state
        groups = chunk.columns["groups"]
        here, groups = groups.unique(return_inverse=True)  # not each group has a key here
        values, places = group_max(block.rows, chunk.rows, groups)
        if (without := excluded(block, chunk)) is not None:
            values, places = _next_best(block, chunk, groups, (values, places), without)
        last = places == LAST
        found = values, chunk.number(places.masked_fill(last, 0)).masked_fill(last, LAST)
        columns = self.merge(tuple(part[:, here] for part in state), found)
        for part, column in zip(state, columns, strict=True):
            part[:, here] = column
        return state

    def finish(self, state: State, rows: torch.Tensor) -> GroupMax:
        values, indices = state
        return GroupMax(values, indices.masked_fill(indices == LAST, -1))

    def merge(self, first: State, second: State) -> State:
        scores, others = ordered(first[0]), ordered(second[0])
        later = (others > scores) | ((others == scores) & (second[1] < first[1]))
        return (
            torch.where(later, second[0], first[0]),
            torch.where(later, second[1], first[1]),
        )
