"""Who takes the steps of a run: one process, or the ranks of torch.distributed together."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist

from fastclip.distributed import gather
from fastclip.engine.ranks import Ranks

R = TypeVar("R")
S = TypeVar("S", bound=Sequence[Any])


class OneProcess:
    """What the loop asks of the ranks, for a process that is alone."""

    rank, size = 0, 1

    def own(self, items: S) -> S:
        """This rank's share of ``items``: as even as can be, in order of the ranks."""
        count = len(items)
        share = slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)
        return cast(S, items[share])

    def together(
        self, work: Callable[[], R], same: Callable[[R], dict[str, Any]] = lambda result: {}
    ) -> R:
        """Work on all ranks. Where it fails on one, or what is ``same`` differs, all raise."""
        return work()

    def on_first(self, work: Callable[[], R]) -> R:
        """Work on rank 0; all wait for it and return its result, which JSON can hold."""
        return work()

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """The rows of all ranks, differentiable; rows of any dimensions."""
        return rows

    def add_up(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace tensors, of one dtype, by their sums over the ranks."""


ALONE = OneProcess()


class ManyRanks(OneProcess):
    """The same for each rank of the process group of torch.distributed; all are collective."""

    def __init__(self) -> None:
        self._ranks = Ranks()
        self.rank, self.size = self._ranks.rank, self._ranks.size

    def together(
        self, work: Callable[[], R], same: Callable[[R], dict[str, Any]] = lambda result: {}
    ) -> R:
        results = []

        def describe() -> dict[str, Any]:
            results.append(work())
            return same(results[0])

        self._ranks.agree(describe, own="")
        return results[0]

    def on_first(self, work: Callable[[], R]) -> R:
        def describe() -> dict[str, Any]:
            return {"result": work() if self.rank == 0 else None}

        return cast(R, self._ranks.agree(describe, own="result")[0])

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        everyone = gather(rows.flatten(1))
        return everyone.view(len(everyone), *rows.shape[1:])

    def add_up(self, tensors: Sequence[torch.Tensor]) -> None:
        sums = torch.cat([tensor.flatten() for tensor in tensors])
        self._ranks.add_up(sums)
        for tensor, total in zip(tensors, sums.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))


def started_ranks() -> OneProcess:
    """Those of torch.distributed, where it has been started."""
    started = dist.is_available() and dist.is_initialized()
    return ManyRanks() if started else ALONE
