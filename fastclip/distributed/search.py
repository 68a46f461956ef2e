"""The exact functions: what each rank finds among its own keys, merged."""

from __future__ import annotations

from functools import reduce
from typing import Any, Literal, SupportsIndex

import torch

from fastclip import ops
from fastclip.engine.checks import Array, as_indices, as_integer, check_range
from fastclip.ops._merge import (
    BestKeys,
    BestOfGroups,
    GroupsAhead,
    KeysAhead,
    Reducer,
    TargetScores,
)
from fastclip.ops.count_above import _as_thresholds
from fastclip.ops.group_max import GroupMax
from fastclip.ops.topk import TopK

from ._groups import as_groups
from ._ranks import Tensors
from ._rounds import Block, answer, ask, blocks
from .keys import ShardedKeys


def topk(queries: Array, keys: ShardedKeys, k: SupportsIndex) -> TopK:
    """Return the best keys of each of this rank's queries: `fastclip.topk`, collective.

    Parameters
    ----------
    queries : tensor or array [N_r, d]
        This rank's own; any number, none as well.
    keys : ShardedKeys
    k : int, 1 <= k <= V
        The same on all ranks.

    Returns
    -------
    TopK
        ``values`` and ``indices`` [N_r, k], to the bit as of `fastclip.topk` on all keys. Beyond
        inputs and result, each rank uses as much memory as a `fastclip.topk` of 16,384 queries,
        and some 60 bytes * k for each of these.

    Raises
    ------
    RankError
        Another rank has failed, has ended or does not answer.
    TypeError, ValueError
        As of `fastclip.topk`, or ``k`` differs between the ranks.
    """

    def check(rows: torch.Tensor) -> tuple[dict[str, Any], Tensors]:
        number = as_integer("k", k)
        if not 1 <= number <= len(keys):
            raise ValueError(f"k: must be from 1 to the number of keys {len(keys)}, got {number}")
        return {"k": number}, ()

    given = blocks("topk", queries, keys, check)
    best: TopK = answer(keys, given, lambda block: BestKeys(as_integer("k", k)))
    return best


def rank(queries: Array, keys: ShardedKeys, targets: Array) -> torch.Tensor:
    """Return how many keys are ahead of each query's target: `fastclip.rank`, collective.

    Parameters
    ----------
    queries : tensor or array [N_r, d]
        This rank's own; any number, none as well.
    keys : ShardedKeys
    targets : integer tensor or array [N_r]
        Numbers of keys, whichever rank has them.

    Returns
    -------
    Tensor [N_r] int64
        To the bit as of `fastclip.rank` on all keys.

    Raises
    ------
    RankError
        Another rank has failed, has ended or does not answer.
    TypeError, ValueError
        As of `fastclip.rank`.
    """

    def check(rows: torch.Tensor) -> tuple[dict[str, Any], Tensors]:
        return {}, (_as_targets(targets, rows, keys),)

    def question(block: Block) -> Reducer:
        (indices,) = block.others
        return KeysAhead(_target_scores(block, keys), indices)

    ranks: torch.Tensor = answer(keys, blocks("rank", queries, keys, check), question)
    return ranks


def count_above(
    queries: Array,
    keys: ShardedKeys,
    thresholds: Array | float,
    *,
    per: Literal["key", "query"] = "key",
) -> torch.Tensor:
    """Return how many scores lie above a threshold: `fastclip.count_above`, collective.

    Parameters
    ----------
    queries : tensor or array [N_r, d]
        This rank's own; any number, none as well.
    keys : ShardedKeys
    thresholds : float32 tensor or array [N_r], or a number
    per : "key" or "query"
        The same on all ranks.

    Returns
    -------
    Tensor [V_r] or [N_r] int64
        For each of this rank's keys how many queries of all ranks, or for each of its queries how
        many keys of all ranks.

    Raises
    ------
    RankError
        Another rank has failed, has ended or does not answer.
    TypeError, ValueError
        As of `fastclip.count_above`, or ``per`` differs between the ranks.
    """

    def check(rows: torch.Tensor) -> tuple[dict[str, Any], Tensors]:
        if per not in ("key", "query"):
            raise ValueError(f"per: must be 'key' or 'query', got {per!r}")
        scores = _as_thresholds(thresholds, len(rows), rows.device)
        if scores.isnan().any():
            raise ValueError(f"thresholds: NaN at {int(scores.isnan().nonzero()[0])}")
        return {"per": per}, (scores,)

    def question(block: Block) -> Reducer:
        (scores,) = block.others
        return KeysAhead(scores, torch.zeros_like(scores, dtype=torch.int64))

    given = blocks("count_above", queries, keys, check)
    if per == "query":
        of_queries: torch.Tensor = answer(keys, given, question)
        return of_queries
    counts = torch.zeros(len(keys.local), dtype=torch.int64, device=keys.local.rows.device)
    for block in given:
        counts += ops.count_above(block.queries, keys.local, block.others[0])
    return counts


def group_max(queries: Array, keys: ShardedKeys, groups: Array) -> GroupMax:
    """Return the best key of each group: `fastclip.group_max`, collective.

    Parameters
    ----------
    queries : tensor or array [N_r, d]
        This rank's own; any number, none as well.
    keys : ShardedKeys
    groups : integer tensor or array [V_r]
        The group of each of this rank's keys; a group may have keys on several ranks. Every group
        from 0 to the largest needs a key.

    Returns
    -------
    GroupMax
        ``values`` and ``indices`` [N_r, G], to the bit as of `fastclip.group_max` on all keys.

    Raises
    ------
    RankError
        Another rank has failed, has ended or does not answer.
    TypeError, ValueError
        As of `fastclip.group_max`.
    """
    ids, count = as_groups("group_max", groups, keys)
    given = blocks("group_max", queries, keys)
    best: GroupMax = answer(keys, given, lambda block: BestOfGroups(count), ids)
    return best


def group_beats(queries: Array, keys: ShardedKeys, groups: Array, targets: Array) -> torch.Tensor:
    """Return which groups hold a key ahead of the target: `fastclip.group_beats`, collective.

    Parameters
    ----------
    queries : tensor or array [N_r, d]
        This rank's own; any number, none as well.
    keys : ShardedKeys
    groups : integer tensor or array [V_r]
        As of `group_max`.
    targets : integer tensor or array [N_r]
        Numbers of keys, whichever rank has them.

    Returns
    -------
    Tensor [N_r, ceil(G / 64)] int64
        To the bit as of `fastclip.group_beats` on all keys.

    Raises
    ------
    RankError
        Another rank has failed, has ended or does not answer.
    TypeError, ValueError
        As of `fastclip.group_beats`.
    """
    ids, count = as_groups("group_beats", groups, keys)

    def check(rows: torch.Tensor) -> tuple[dict[str, Any], Tensors]:
        return {}, (_as_targets(targets, rows, keys),)

    def question(block: Block) -> Reducer:
        (indices,) = block.others
        return GroupsAhead(_target_scores(block, keys), indices, count)

    bits: torch.Tensor = answer(keys, blocks("group_beats", queries, keys, check), question, ids)
    return bits


def _as_targets(targets: Array, queries: torch.Tensor, keys: ShardedKeys) -> torch.Tensor:
    indices = as_indices("targets", targets, len(queries), queries.device)
    check_range("targets", indices, len(keys), "keys")
    return indices


def _target_scores(block: Block, keys: ShardedKeys) -> torch.Tensor:
    """Scores of the queries of all ranks with their targets, on all ranks."""
    reducer = TargetScores(block.others[0])

    def find() -> list[Tensors]:
        return [ask(keys, reducer, block.queries, None)] * keys.ranks.size

    scores: torch.Tensor = reducer.finish(reduce(reducer.merge, keys.ranks.exchange(1, find)))
    return scores
