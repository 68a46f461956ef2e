"""Sums over keys: each rank's own, added up in float64."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any, SupportsFloat

import torch

from fastclip import ops
from fastclip.engine.checks import Array, as_number, as_rows, check_finite
from fastclip.engine.devices import check_same_device
from fastclip.engine.floats import rounded, to_double
from fastclip.ops._merge import Chunk, Reducer, State
from fastclip.ops._merge_sums import GroupMeans

from ._groups import as_groups
from ._ranks import Tensors
from ._rounds import answer, ask, blocks, checked
from .keys import ShardedKeys


def logsumexp(queries: Array, keys: ShardedKeys, scale: SupportsFloat) -> torch.Tensor:
    """Return the log-sum-exp of the scaled scores: `fastclip.logsumexp`, collective.

    Parameters
    ----------
    queries : tensor or array [N_r, d]
        This rank's own; any number, none as well.
    keys : ShardedKeys
        At least one on some rank.
    scale : float
        The same on all ranks.

    Returns
    -------
    Tensor [N_r] float32
        Within the error that `fastclip.logsumexp` states and one more rounding to float32: each
        rank's result is rounded so, and they are added in float64, in order of the ranks. The same
        bits every time for the same keys on each rank, whichever rank has the query; not those of
        keys spread otherwise. Not differentiable: see `gather`.

    Raises
    ------
    RankError
        Another rank has failed, has ended or does not answer.
    TypeError, ValueError
        As of `fastclip.logsumexp`, or ``scale`` differs between the ranks.
    """

    def check(rows: torch.Tensor) -> tuple[dict[str, Any], Tensors]:
        if len(keys) == 0:
            raise ValueError("keys: at least one is needed on some rank, got none")
        return {"scale": as_number("scale", scale)}, ()

    given = blocks("logsumexp", queries, keys, check)
    result: torch.Tensor = answer(keys, given, lambda block: _LogSums(float(scale)))
    return result


def cache_logits(
    queries: Array, keys: ShardedKeys, values: Array, beta: SupportsFloat
) -> torch.Tensor:
    """Return the values of all keys by nearness: `fastclip.cache_logits`, collective.

    Parameters
    ----------
    queries : tensor or array [N_r, d]
        This rank's own; any number, none as well.
    keys : ShardedKeys
    values : tensor or array [V_r, C], float32, float16 or bfloat16
        Of this rank's keys; C is the same on all ranks.
    beta : float
        The same on all ranks.

    Returns
    -------
    Tensor [N_r, C] float32
        Within the error that `fastclip.cache_logits` states, with 71 for 70; otherwise as of
        `logsumexp`.

    Raises
    ------
    RankError
        Another rank has failed, has ended or does not answer.
    TypeError, ValueError
        As of `fastclip.cache_logits`, or ``beta`` or C differ between the ranks.
    """
    of_keys: list[torch.Tensor] = []

    def check(rows: torch.Tensor) -> tuple[dict[str, Any], Tensors]:
        table = as_rows("values", values).detach()
        check_same_device("values", table, "queries", rows)
        if len(table) != len(keys.local):
            raise ValueError(
                f"values: one row per key of this rank is needed, got {len(table)} rows and "
                f"{len(keys.local)} keys"
            )
        check_finite("values", table)
        of_keys.append(table)
        return {"columns of values": table.shape[1], "beta": as_number("beta", beta)}, ()

    given = blocks("cache_logits", queries, keys, check)
    result: torch.Tensor = answer(
        keys, given, lambda block: _WeightedValues(float(beta), of_keys[0])
    )
    return result


def group_mean(queries: Array, keys: ShardedKeys, groups: Array) -> torch.Tensor:
    """Return the mean score with the keys of each group: `fastclip.group_mean`, collective.

    Parameters
    ----------
    queries : tensor or array [N_r, d]
        This rank's own; any number, none as well. They stay on their rank.
    keys : ShardedKeys
    groups : integer tensor or array [V_r]
        The group of each of this rank's keys; a group may have keys on several ranks. Every group
        from 0 to the largest needs a key.

    Returns
    -------
    Tensor [N_r, G] float32
        Within the error that `fastclip.group_mean` states. Each rank adds its keys in float64, the
        sums of the ranks are added in their order, and all that follows has the bits of
        `fastclip.group_mean`: means, rounded to float32, and scores. So have the sums, if one rank
        has all keys or if they are exact, as those of float16 numbers are while they stay below
        2**29; otherwise the last bits of a sum, and so rarely a mean, depend on how the keys are
        spread. The same bits every time for the same keys on each rank, whichever rank has the
        query (not on CUDA devices, where a rank's additions have no fixed order).
        Beyond inputs and result, the call uses some 32 bytes * G * d, and what ``similarity`` uses.
        Not differentiable.

    Raises
    ------
    RankError
        Another rank has failed, has ended or does not answer.
    TypeError, ValueError
        As of `fastclip.group_mean`.
    """
    ids, count = as_groups("group_mean", groups, keys)
    (rows,), _ = checked("group_mean", queries, keys)
    ranks, reducer = keys.ranks, GroupMeans(count, keys.shape[1])

    def sums() -> list[Tensors]:
        """This rank's, of the groups that each rank takes the means of."""
        found = ask(keys, reducer, rows[:0], ids)
        return list(zip(*(part.tensor_split(ranks.size) for part in found), strict=True))

    def means() -> list[Tensors]:
        return [(reducer.finish(reduce(reducer.merge, of_ranks)),)] * ranks.size

    of_ranks = ranks.exchange(2, sums)
    return ops.similarity(rows, torch.cat([part for (part,) in ranks.exchange(1, means)]))


@dataclass(frozen=True)
class _LogSums(Reducer):
    scale: float

    def start(self, rows: int) -> State:
        return (torch.full((rows,), -torch.inf, dtype=torch.float64),)

    def add(self, state: State, queries: torch.Tensor, chunk: Chunk) -> State:
        if len(chunk.keys) == 0:
            return state
        return self.merge(state, (ops.logsumexp(queries, chunk.keys, self.scale).double(),))

    def merge(self, first: State, second: State) -> State:
        return (torch.logaddexp(first[0], second[0]),)

    def finish(self, state: State) -> torch.Tensor:
        return state[0].float()


@dataclass(frozen=True)
class _WeightedValues(Reducer):
    beta: float
    values: torch.Tensor

    def start(self, rows: int) -> State:
        return (torch.zeros(rows, self.values.shape[1], dtype=torch.float64),)

    def add(self, state: State, queries: torch.Tensor, chunk: Chunk) -> State:
        found = ops.cache_logits(queries, chunk.keys, self.values, self.beta)
        return self.merge(state, (to_double(found),))

    def merge(self, first: State, second: State) -> State:
        return (first[0] + second[0],)

    def finish(self, state: State) -> torch.Tensor:
        return rounded(state[0])
