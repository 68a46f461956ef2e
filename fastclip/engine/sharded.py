"""Keys that are spread over the ranks of a process group."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist

from fastclip import _C
from fastclip.engine.checks import Array, as_rows, check_finite, with_adjacent_elements
from fastclip.engine.packed import PackedKeys
from fastclip.engine.packing import encode
from fastclip.engine.ranks import Ranks


class ShardedKeys:
    """Keys of which each rank holds a part; made by all ranks together.

    The keys are those of rank 0, then those of rank 1, and so on: indices count through all.

    Parameters
    ----------
    local : PackedKeys, or tensor or array [V_r, d]
        This rank's keys; any number, none as well. They are not copied.
    group : ProcessGroup, optional
        Default: all ranks.

    Attributes
    ----------
    rows : Tensor
        This rank's keys.
    local : PackedKeys
        The same, packed when a search first asks for them.
    begin : int
        Number of this rank's first key.
    counts : tuple of int
        How many keys each rank has.

    Raises
    ------
    RuntimeError
        torch.distributed has not been started.
    RankError
        Another rank has failed, has ended or does not answer.
    TypeError, ValueError
        As of `fastclip.pack`, or the ranks' keys differ in width.
    """

    def __init__(self, local: Array | PackedKeys, group: dist.ProcessGroup | None = None) -> None:
        self.ranks = Ranks(group)
        self._packed = local if isinstance(local, PackedKeys) else None

        def describe() -> dict[str, Any]:
            if isinstance(local, PackedKeys):
                self.rows = local.rows
            else:
                rows = as_rows("keys", local).detach()
                check_finite("keys", rows)
                self.rows = with_adjacent_elements(rows)
            count, width = self.rows.shape
            return {"width of keys": width, "count": count}

        self.counts = tuple(self.ranks.agree(describe, own="count"))
        self.begin = sum(self.counts[: self.ranks.rank])

    @classmethod
    def split(cls, keys: Array | PackedKeys, group: dist.ProcessGroup | None = None) -> ShardedKeys:
        """Take this rank's even share of keys that every rank can see: a file mapped by all.

        Parameters
        ----------
        keys : PackedKeys, or tensor or array [V, d]
            The same on all ranks. What is packed or memory-mapped is not copied.
        group : ProcessGroup, optional

        Raises
        ------
        RuntimeError, RankError, TypeError, ValueError
            As of the class, or ``keys`` has another number of rows elsewhere.
        """
        ranks = Ranks(group)

        def describe() -> dict[str, Any]:
            rows = keys.rows if isinstance(keys, PackedKeys) else as_rows("keys", keys)
            return {"number of keys": rows.shape[0]}

        ranks.agree(describe, own="")
        count = len(keys)
        panels = -(-count // _C.panel)  # codes are cut between panels
        begin, end = (
            min(count, panels * rank // ranks.size * _C.panel)
            for rank in (ranks.rank, ranks.rank + 1)
        )
        part = _part(keys, begin, end) if isinstance(keys, PackedKeys) else keys[begin:end]
        return cls(part, group)

    @property
    def local(self) -> PackedKeys:
        """This rank's keys, packed."""
        if self._packed is None:
            self._packed = PackedKeys(self.rows, *encode(self.rows))
        return self._packed

    @property
    def shape(self) -> tuple[int, int]:
        """(V, d)."""
        return sum(self.counts), self.rows.shape[1]

    def __len__(self) -> int:
        return sum(self.counts)

    def __repr__(self) -> str:
        rank, size = self.ranks.rank, self.ranks.size
        last = self.begin + len(self.rows) - 1
        has = f"{self.begin} to {last}" if len(self.rows) else "none"
        return f"ShardedKeys({len(self)} x {self.shape[1]}, rank {rank} of {size} has {has})"


def _part(keys: PackedKeys, begin: int, end: int) -> PackedKeys:
    panels = slice(begin // _C.panel, -(-end // _C.panel))
    bounds = keys.bounds[:, panels.start * _C.panel : panels.stop * _C.panel]
    rows, codes = keys.rows[begin:end], keys.codes[panels]
    return PackedKeys(rows, codes, bounds.contiguous(), keys.center)
