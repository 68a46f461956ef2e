"""Which groups of keys beat a target."""

from typing import Literal, SupportsIndex, cast, overload

import torch

from fastclip.engine.answer import Keys, Queries, answer, elsewhere
from fastclip.engine.arguments import GroupColumn, Groups, Targets
from fastclip.engine.checks import (
    Array,
    OneWait,
    as_indices,
    check_finite,
    with_adjacent_elements,
)
from fastclip.engine.devices import on_cuda
from fastclip.engine.filters import (
    FILTERS,
    Excluding,
    contains,
    excluded,
    excluded_scores,
    members,
)
from fastclip.engine.groups import as_groups, check_groups
from fastclip.engine.kernels import run
from fastclip.engine.operation import Operation, Part, State, register
from fastclip.engine.packed import as_keys, as_sides
from fastclip.engine.packing import encode, worth_packing
from fastclip.engine.pair_scores import pair_scores
from fastclip.engine.transforms import CONSTANT, call, define
from fastclip.ops._count import search_room


@overload
def group_beats(
    queries: Queries,
    keys: Keys,
    groups: Array,
    targets: Array,
    *,
    num_groups: SupportsIndex | None = ...,
    allowed: Array | None = ...,
    exclude: Excluding | None = ...,
    return_survivors: Literal[False] = ...,
) -> torch.Tensor: ...
@overload
def group_beats(
    queries: Queries,
    keys: Keys,
    groups: Array,
    targets: Array,
    *,
    num_groups: SupportsIndex | None = ...,
    allowed: Array | None = ...,
    exclude: Excluding | None = ...,
    return_survivors: Literal[True],
) -> tuple[torch.Tensor, torch.Tensor]: ...
def group_beats(
    queries: Queries,
    keys: Keys,
    groups: Array,
    targets: Array,
    *,
    num_groups: SupportsIndex | None = None,
    allowed: Array | None = None,
    exclude: Excluding | None = None,
    return_survivors: bool = False,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Return, for each query, the set of groups that hold a key ahead of the target key.

    Bit ``g % 64`` of ``result[i, g // 64]`` is set if and only if group g has a key that
    :func:`fastclip.rank` counts: one with a larger exact score, or an equal one and a lower index.
    The groups that an image's true class would lose to, were they in the vocabulary. The answer is
    the same to the bit for any number of threads, instruction set and device, packed
    or not.

    Parameters
    ----------
    queries : tensor or array [N, d], float32, float16 or bfloat16; also Rows if ``keys`` are
        No queries (N = 0) give an empty result.
    keys : tensor or array [V, d], PackedKeys, fastclip.data.Rows, or ShardedKeys
        At least one. Packed keys are screened: only scores close to the target's are computed
        exactly.
    groups : integer tensor or array [V]
        The group of each key, in any order; every group from 0 to the largest needs a key.
    targets : integer tensor or array [N]
        A row of ``keys`` for each query.
    num_groups : int, optional
        G; needed inside torch.compile, where shapes cannot depend on the content of ``groups``.
    allowed, exclude
        As of :func:`fastclip.topk`: keys that do not count. A target itself may be one of them.
    return_survivors : bool, default False
        Also return how many of the N V pairs were scored exactly, an int64 scalar.

    Returns
    -------
    Tensor [N, ceil(G / 64)] int64
        Beyond inputs and result, it uses what :func:`fastclip.rank` does, and on CUDA devices
        V (w + 12) bytes more for unpacked keys, w being d rounded up to a multiple of 64.

    Raises
    ------
    TypeError, ValueError
        As :func:`fastclip.group_max`, or a target is not a row of ``keys``.

    Examples
    --------
    >>> import torch, fastclip
    >>> keys = torch.tensor([[0.5], [0.7], [0.1], [0.9]])
    >>> beats = fastclip.group_beats(
    ...     torch.ones(1, 1), keys, groups=torch.tensor([0, 1, 1, 2]), targets=torch.tensor([0])
    ... )
    >>> f"{beats.item():b}"  # groups 1 and 2
    '110'
    """
    if elsewhere(keys, allowed, exclude):
        options = {"num_groups": num_groups, "return_survivors": return_survivors}
        filters = {"allowed": allowed, "exclude": exclude}
        bits = answer(
            _GroupBeats, queries, keys, groups=groups, targets=targets, **filters, **options
        )
        return cast(torch.Tensor, bits)
    query_rows, key_rows, screen = as_sides(queries, keys)
    query_rows, key_rows = query_rows.detach(), key_rows.detach()  # bits have no gradient
    ids, count = as_groups(groups, key_rows, num_groups)
    indices = as_indices("targets", targets, len(query_rows), query_rows.device)
    with OneWait(query_rows):
        scores = pair_scores(query_rows, key_rows, indices)
        rows = query_rows, key_rows, screen
        bits, survivors = call("group_beats", *rows, scores, indices, ids, count)
    return (bits, survivors) if return_survivors else bits


def _group_beats(
    queries: torch.Tensor,
    keys: torch.Tensor,
    screen: list[torch.Tensor],
    scores: torch.Tensor,
    ties: torch.Tensor,
    groups: torch.Tensor,
    num_groups: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    with OneWait(groups):
        groups, _ = check_groups(groups, num_groups)
        return _beats(queries, keys, screen, scores, ties, groups, num_groups)


def _beats(
    queries: torch.Tensor,
    keys: torch.Tensor,
    screen: list[torch.Tensor],
    scores: torch.Tensor,
    ties: torch.Tensor,
    groups: torch.Tensor,
    num_groups: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the bits of the groups that hold a key ahead, and how many pairs survived.

    A key is ahead where it scores higher than ``scores``, or the same with an index below
    ``ties``; both are [N]. Groups may be without a key.
    """
    queries, keys = with_adjacent_elements(queries), with_adjacent_elements(keys)
    with OneWait(queries):
        if not screen and on_cuda(keys) and worth_packing(queries, keys):
            screen = encode(keys)
        elif not screen:
            check_finite("keys", keys)
        result = _empty(queries, num_groups)
        of_rows = (x.contiguous() for x in (scores, ties, groups))
        run("group_beats", queries, keys, screen, *of_rows, *result)
    return result


def _empty(queries: torch.Tensor, num_groups: int) -> tuple[torch.Tensor, torch.Tensor]:
    return (
        queries.new_empty((queries.shape[0], -(-num_groups // 64)), dtype=torch.int64),
        queries.new_empty((), dtype=torch.int64),
    )


define(
    "group_beats(Tensor queries, Tensor keys, Tensor[] screen, Tensor scores, Tensor ties, Tensor"
    " groups, int num_groups) -> (Tensor, Tensor)",
    _group_beats,
    lambda queries, *others: _empty(queries, others[-1]),
    CONSTANT,
)


def _clear(
    bits: torch.Tensor, queries: Part, keys: Part, targets: State, without: torch.Tensor
) -> None:
    """Clear the bits of groups of which only keys that are excluded are ahead."""
    groups, (limits, ties) = keys.columns["groups"], targets
    row, place, score = excluded_scores(queries, keys, without)
    ahead = (score > limits[row]) | ((score == limits[row]) & (place < ties[row]))
    rows, of_groups = torch.stack([row[ahead], groups[place[ahead]]]).unique(dim=1)
    for some, table in members(groups, of_groups):
        row, group = rows[some], of_groups[some]
        left = (table >= 0) & ~contains(without[row], table)
        scores = pair_scores(queries.tensor[row], keys.tensor, table.clamp(min=0))
        limit, tie = limits[row, None], ties[row, None]
        beaten = (left & ((scores > limit) | ((scores == limit) & (table < tie)))).any(1)
        row, group = row[~beaten], group[~beaten]
        # Each bit comes once, and is set.
        words = row * bits.shape[1] + group // 64
        bits.view(-1).index_add_(0, words, -(torch.ones_like(group) << group % 64))


@register
class _GroupBeats(Operation):
    """The state holds the bits of the groups that are ahead so far, [N, ceil(G / 64)]."""

    name = "group_beats"
    arguments = (Groups(), Targets(), *FILTERS)
    fields = ("bits",)
    groups: GroupColumn

    @property
    def row_bytes(self) -> int:
        return self.groups.num_groups // 2 + 128

    def workspace(self, queries: torch.Tensor, keys: torch.Tensor) -> int:
        return search_room(queries, keys)

    def start(self, rows: int) -> State:
        return (torch.zeros(rows, -(-self.groups.num_groups // 64), dtype=torch.int64),)

    def add(self, state: State, block: Part, chunk: Part) -> State:
        chunk = chunk.allowed()
        targets = block.columns["target_scores"], chunk.place(block.columns["targets"])
        groups = chunk.columns["groups"]
        rows = block.tensor, *as_keys(chunk.rows)
        bits, _ = _beats(*rows, *targets, groups, self.groups.num_groups)
        if (without := excluded(block, chunk)) is not None:
            _clear(bits, block, chunk, targets, without)
        return self.merge(state, (bits,))

    def merge(self, first: State, second: State) -> State:
        return (first[0] | second[0],)
