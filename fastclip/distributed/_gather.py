"""Rows of all ranks, with their gradient."""

from typing import Any

import torch
import torch.distributed as dist

from fastclip.engine.checks import short
from fastclip.engine.ranks import DTYPES, Ranks


def gather(rows: torch.Tensor, group: dist.ProcessGroup | None = None) -> torch.Tensor:
    """Return the rows of all ranks, one after the other; collective.

    Differentiable: a row's gradient is the sum of what all ranks' results say of it, added in order
    of the ranks. With a loss that all ranks compute and `DistributedDataParallel`, which averages
    over them, gradients are so those of one process.

    Parameters
    ----------
    rows : tensor [n_r], or [n_r, d]; uint8, int64, or of 16, 32 or 64-bit floats
        Any number of rows, none as well.
    group : ProcessGroup, optional
        Default: all ranks.

    Returns
    -------
    Tensor [n], or [n, d]
        n is the sum of all n_r.

    Raises
    ------
    RuntimeError
        torch.distributed has not been started.
    TypeError
        ``rows`` has other dimensions or another dtype.
    RankError
        Another rank has ended or does not answer.

    Examples
    --------
    >>> import torch
    >>> from torch import distributed
    >>> from fastclip.distributed import gather
    >>> distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    >>> gather(torch.ones(2))
    tensor([1., 1.])
    >>> distributed.destroy_process_group()
    """
    if rows.ndim not in (1, 2) or rows.dtype not in DTYPES:
        raise TypeError(
            f"rows: 1 or 2 dimensions of {', '.join(map(short, DTYPES))} are allowed, "
            f"got shape {tuple(rows.shape)} {short(rows.dtype)}"
        )
    gathered: torch.Tensor = _Gather.apply(rows, Ranks(group))
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, ranks: Ranks) -> torch.Tensor:
        parts = [part for (part,) in ranks.share(rows)]
        ctx.ranks, ctx.sizes = ranks, [len(part) for part in parts]
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        parts = ctx.ranks.exchange(1, lambda: [(part,) for part in grad.split(ctx.sizes)])
        return torch.stack([part for (part,) in parts]).sum(0), None
