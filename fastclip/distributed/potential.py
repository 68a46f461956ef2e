"""All pairs of rows that are spread over ranks: parts of the rows go round a ring of ranks."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, SupportsFloat, TypeAlias

import torch
import torch.distributed as dist

from fastclip.engine.checks import Array, check_finite
from fastclip.ops.gaussian_potential import as_arguments

from ._ranks import Ranks, Tensors

Pair: TypeAlias = tuple[torch.Tensor, torch.Tensor | None]


def gaussian_potential(
    x: Array,
    y: Array | None = None,
    t: SupportsFloat = 2.0,
    group: dist.ProcessGroup | None = None,
) -> torch.Tensor:
    """Return the log of the mean Gaussian potential: `fastclip.gaussian_potential`, collective.

    All rows are cut into parts of one size, one for each rank. Those of ``x`` stay, while those of
    ``y`` go round all ranks; without ``y`` those of ``x`` go half the way round, so that each pair
    of rows is met once. All ranks have equal work, wherever the rows were.

    Parameters
    ----------
    x : tensor or array [N_r, d], float32, float16 or bfloat16
        This rank's rows; any number, none as well, but on all ranks together as many as
        `fastclip.gaussian_potential` needs.
    y : tensor or array [M_r, d], optional
        As ``x``; on all ranks or on none.
    t : float > 0
        The same on all ranks.
    group : ProcessGroup, optional
        Default: all ranks.

    Returns
    -------
    Tensor, one float32 number
        The same on all ranks. The error is that which `fastclip.gaussian_potential` states, where
        rows are large or not beside the mean of each part, not of all. The same bits every time for
        the same rows in the same order and as many ranks, however the rows are spread; not those
        of another number of ranks, nor of one process. Beyond inputs, each rank uses some 5 times
        the memory of its part, and what `fastclip.gaussian_potential` uses for two parts. Not
        differentiable.

    Raises
    ------
    RuntimeError
        torch.distributed has not been started.
    RankError
        Another rank has failed, has ended or does not answer.
    TypeError, ValueError
        As of `fastclip.gaussian_potential`, or ``t`` or the width of rows differ between the ranks.

    Examples
    --------
    >>> import fastclip
    >>> from torch import distributed
    >>> distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    >>> images = fastclip.data.load_sample("coco-images").normalized().features
    >>> round(fastclip.distributed.gaussian_potential(images).item(), 2)
    -1.79
    >>> distributed.destroy_process_group()
    """
    ranks = Ranks(group)
    own: list[torch.Tensor] = []

    def describe() -> dict[str, Any]:
        x_rows, y_rows, number = as_arguments(x, y, t)
        for name, rows in (("x", x_rows), ("y", y_rows)):
            if rows is not None:
                own.append(rows.detach())
                check_finite(name, own[-1])
        return {
            "function": "gaussian_potential",
            "number of arguments x and y": len(own),
            "width of rows": x_rows.shape[1],
            "t": number,
            "counts": [len(rows) for rows in own],
        }

    counts = list(zip(*ranks.agree(describe, own="counts"), strict=True))
    totals = [sum(of_ranks) for of_ranks in counts]
    if y is None and totals[0] == 1:
        raise ValueError("x: at least two rows are needed on all ranks together, got 1")
    for name, total in zip("xy", totals, strict=False):
        if total == 0:
            raise ValueError(f"{name}: at least one row is needed on some rank, got none")
    parts = [_part(ranks, rows, of_ranks) for rows, of_ranks in zip(own, counts, strict=True)]
    sums = _ring(ranks, parts[0], None if y is None else parts[1], float(t))
    return (sums.logsumexp(0) - math.log(_pairs(*totals))).float()


def _part(ranks: Ranks, rows: torch.Tensor, counts: tuple[int, ...]) -> torch.Tensor:
    """Return this rank's part of all rows, which are cut evenly and in order of the ranks."""
    begin, total = sum(counts[: ranks.rank]), sum(counts)
    cuts = [min(max(total * r // ranks.size - begin, 0), len(rows)) for r in range(ranks.size + 1)]
    found = ranks.exchange(1, lambda: [(rows[a:b],) for a, b in pairwise(cuts)])
    return torch.cat([part for (part,) in found])


def _ring(ranks: Ranks, x: torch.Tensor, y: torch.Tensor | None, t: float) -> torch.Tensor:
    """Return log-sums over all pairs, each pair in one of them; the same on all ranks."""
    travelling = x if y is None else y
    here: Pair = x, y
    sums: list[torch.Tensor] = []
    for distance in range(1, ranks.size // 2 + 1 if y is None else ranks.size):
        target, source = ((ranks.rank + way) % ranks.size for way in (-distance, distance))

        def send(here: Pair = here, target: int = target) -> list[Tensors]:
            sums.append(_log_sum(*here, t))
            to_all: list[Tensors] = [(travelling[:0],)] * ranks.size
            to_all[target] = (travelling,)
            return to_all

        (others,) = ranks.exchange(1, send)[source]
        here = x, others
        if y is None and 2 * distance == ranks.size:  # opposite ranks have each other's parts
            first = ranks.rank < distance
            here = (x[: len(x) // 2], others) if first else (x, others[len(others) // 2 :])

    def last() -> list[Tensors]:
        return [(torch.stack([*sums, _log_sum(*here, t)]),)] * ranks.size

    return torch.cat([found for (found,) in ranks.exchange(1, last)])


def _log_sum(x: torch.Tensor, y: torch.Tensor | None, t: float) -> torch.Tensor:
    """Return the logarithm of the sum over pairs, float64."""
    pairs = _pairs(len(x)) if y is None else _pairs(len(x), len(y))
    if pairs == 0:
        return x.new_full((), -torch.inf, dtype=torch.float64)
    mean: torch.Tensor = torch.ops.fastclip.gaussian_potential(x, y, t)
    return mean + math.log(pairs)


def _pairs(x: int, y: int | None = None) -> int:
    return x * (x - 1) // 2 if y is None else x * y
