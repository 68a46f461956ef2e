"""Log-sum-exp of a score matrix along its rows and along its columns, without the matrix."""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from fastclip.engine.transforms import transformed
from fastclip.ops._blocks import blocks, dtype_for_exponents, log_sums, longest
from fastclip.ops.logsumexp import logsumexp

_WIDTH = 2048  # of a block: three of 8 MiB are held at a time


def two_way_logsumexp(
    rows: torch.Tensor, columns: torch.Tensor, scale: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both denominators of CLIP's loss: of ``scale * rows @ columns.T`` along 1 and along 0.

    Each is `fastclip.logsumexp`. The backward computes every block of scores once for both, where
    two calls of that would compute it twice.

    Parameters
    ----------
    rows : tensor [N, d], float32
    columns : tensor [V, d], float32
    scale : tensor with one element

    Returns
    -------
    tensors [N] and [V], float32
    """
    if transformed():
        raise NotImplementedError(
            "the losses of fastclip.training cannot be used within transforms of torch.func or "
            "forward-mode differentiation; call backward()"
        )
    along_rows, along_columns = _TwoWay.apply(rows, columns, scale)
    return along_rows, along_columns


class _TwoWay(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: torch.Tensor, columns: torch.Tensor, scale: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        results = logsumexp(rows, columns, scale), logsumexp(columns, rows, scale)
        ctx.save_for_backward(rows, columns, scale, *results)
        return results

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_rows: torch.Tensor, grad_columns: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        with torch._C._DisableAutocast():
            return _gradients(ctx.saved_tensors, grad_rows, grad_columns)


def _gradients(
    saved: tuple[torch.Tensor, ...], grad_rows: torch.Tensor, grad_columns: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rows, columns, scale, along_rows, along_columns = saved
    number = scale.item()
    dtype = dtype_for_exponents(abs(number) * longest(rows) * longest(columns))
    rows, columns, grad_rows, grad_columns = (
        x.to(dtype) for x in (rows, columns, grad_rows, grad_columns)
    )
    if dtype != torch.float32:  # as in the backward of fastclip.logsumexp
        along_rows, along_columns = log_sums(rows, columns, number, _WIDTH)
    d_rows, d_columns = torch.zeros_like(rows), torch.zeros_like(columns)
    d_scale = torch.zeros((), dtype=torch.float64, device=rows.device)
    for i, j in blocks(rows, columns, _WIDTH):
        scores = rows[i] @ columns[j].T
        weights = (scores * number).sub_(along_rows[i, None]).exp_()
        weights.mul_(grad_rows[i, None])
        other = (scores * number).sub_(along_columns[None, j]).exp_()
        weights.addcmul_(other, grad_columns[None, j])
        d_rows[i].addmm_(weights, columns[j], alpha=number)
        d_columns[j].addmm_(weights.T, rows[i], alpha=number)
        d_scale += scores.mul_(weights).sum(dtype=torch.float64)
    return d_rows.float(), d_columns.float(), d_scale.to(scale).reshape(scale.shape)
