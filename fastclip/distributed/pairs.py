"""All pairs above a threshold, from all ranks."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from fastclip import ops
from fastclip.engine.checks import Array
from fastclip.engine.scalars import as_threshold

from ._ranks import Tensors
from ._rounds import Block, blocks
from .keys import ShardedKeys


def pairs_above(queries: Array, keys: ShardedKeys, threshold: float) -> torch.Tensor:
    """Return all pairs of this rank's queries above a threshold, collective.

    `fastclip.pairs_above`, but that queries and keys are always two sets.

    Parameters
    ----------
    queries : tensor or array [N_r, d]
        This rank's own; any number, none as well.
    keys : ShardedKeys
    threshold : float
        The same on all ranks.

    Returns
    -------
    Tensor [N_r, V], float32, sparse CSR with int64 indices
        To the bit as of `fastclip.pairs_above` on all keys.

    Raises
    ------
    RankError
        Another rank has failed, has ended or does not answer.
    TypeError, ValueError
        As of `fastclip.pairs_above`, or ``threshold`` differs between the ranks.
    """

    def check(rows: torch.Tensor) -> tuple[dict[str, Any], Tensors]:
        return {"threshold": as_threshold("threshold", threshold)}, ()

    found = []
    for block in blocks("pairs_above", queries, keys, check):

        def find(block: Block = block) -> list[Tensors]:
            return _pairs(block, keys, threshold)

        found.append(_merged(keys.ranks.exchange(3, find)))
    counts, columns, values = (torch.cat(parts) for parts in zip(*found, strict=True))
    starts = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            starts, columns, values, (len(counts), len(keys)), check_invariants=False
        )


def _pairs(block: Block, keys: ShardedKeys, threshold: float) -> list[Tensors]:
    """For each rank: how many pairs each of its queries has with the keys here, which, scores."""
    pairs = ops.pairs_above(block.queries, keys.local, threshold)
    starts, columns = pairs.crow_indices(), pairs.col_indices() + keys.begin
    of_rank = starts[torch.tensor([0, *block.sizes]).cumsum(0)].diff().tolist()
    return list(
        zip(
            starts.diff().split(block.sizes),
            columns.split(of_rank),
            pairs.values().split(of_rank),
            strict=True,
        )
    )


def _merged(found: list[Tensors]) -> Tensors:
    """The same for all keys, which come in order of the ranks."""
    counts, columns, values = (torch.cat(parts) for parts in zip(*found, strict=True))
    by_rank = counts.view(len(found), -1)
    row = torch.arange(by_rank.shape[1], device=counts.device).repeat(len(found))
    order = row.repeat_interleave(counts).argsort(stable=True)
    return by_rank.sum(0), columns[order], values[order]
