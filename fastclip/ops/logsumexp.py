"""The logarithm of a softmax's denominator, without the scores."""

from __future__ import annotations

from typing import Any, SupportsFloat

import torch

from fastclip import _C
from fastclip.engine.checks import (
    Array,
    as_number,
    as_rows,
    as_tensor,
    check_finite,
    check_row,
    check_same_width,
    check_some_rows,
    try_plain,
    with_adjacent_elements,
)
from fastclip.engine.devices import check_device, on_cuda
from fastclip.engine.kernels import run
from fastclip.engine.library import implement, library
from fastclip.engine.packed import PackedKeys, as_keys
from fastclip.engine.transforms import call, differentiable, differentiable_once
from fastclip.ops._blocks import blocks, dtype_for_exponents, empty_like, log_sums, longest


def logsumexp(
    queries: Array, keys: Array | PackedKeys, scale: SupportsFloat | torch.Tensor
) -> torch.Tensor:
    r"""Return the log-sum-exp of the scaled scores of each query.

    .. math:: \mathrm{out}_i = \log \sum_j \exp(\mathrm{scale} \cdot q_i \cdot k_j)

    The same as ``(scale * (queries @ keys.T)).logsumexp(1)`` without the [N, V] matrix: the
    denominator of a softmax, as in CLIP's loss and in class probabilities. Differentiable in
    ``queries``, unpacked ``keys``, and ``scale`` if that is a tensor.

    Scores are computed in float32 in chunks of 64 products. The error is at most
    ``(64 + d / 64) * 2**-24 * abs(scale) * max_j sum_i abs(q_i * k_j_i)``, plus 1e-6, plus the
    rounding to float32; on features it is some hundred times smaller than that. Where products are
    denormal, ``d * 2**-149 * abs(scale)`` is added to it. The result is the
    same to the bit for any number of threads, but not for any instruction set. On CUDA devices
    scores are summed in chunks of 16, and d / 64 becomes d / 16.

    The gradient is that of the scores computed again: in float32 while
    ``x = abs(scale) * max_i |q_i| * max_j |k_j|`` is at most 256, in float64 beyond that and where
    torch may lower float32 products to TF32 or bfloat16. The softmax weights in it have a relative
    error of at most ``u * (20 + (70 + 1.1 * d) * x)``, where u is 2**-24, in float64 2**-53; it
    comes on top of the rounding to the dtype of the inputs. ``torch.autocast`` changes nothing.

    Parameters
    ----------
    queries : tensor or array [N, d], float32, float16 or bfloat16
        No queries (N = 0) give an empty result.
    keys : tensor or array [V, d], or PackedKeys
        At least one. Rows of queries and keys may have any stride.
    scale : float, or tensor with one element
        Any finite float32 number; the inverse of a temperature.

    Returns
    -------
    Tensor [N] float32
        Where a score is beyond the range of float32, infinity or NaN. Beyond inputs and result,
        each thread uses at most about 2.5 MiB (4 bytes * 48 * d where that is more), and the call
        16 bytes * N * min(64, ceil(V / 8192)) while N < 32,768, else 16 bytes * N; on CUDA devices
        about 128 MiB and 4 bytes * min(N, 16,384) * (d + 520) instead, or less if there is no room.
        The backward uses about 50 MiB and float32 copies of the inputs, in float64 twice as much.

    Raises
    ------
    TypeError
        An argument is no array or has another dtype, or ``scale`` is no number.
    ValueError
        An argument has a wrong shape, is on another device, or holds NaN or infinity, or there are
        no keys.

    Examples
    --------
    >>> import fastclip
    >>> images = fastclip.data.load_sample("coco-images").normalized().features
    >>> captions = fastclip.data.load_sample("coco-captions").normalized().features
    >>> own = (images * captions).sum(1)  # caption i belongs to image i
    >>> loss = (fastclip.logsumexp(images, captions, 100.0) - 100.0 * own).mean()
    >>> round(loss.item(), 3)
    1.719
    """
    packed = isinstance(keys, PackedKeys)
    if not isinstance(scale, torch.Tensor):
        number = as_number("scale", scale)
        if try_plain():
            rows, threads = keys.rows if packed else keys, torch.get_num_threads()
            found = _C.plain_logsumexp(queries, rows, number, not packed, threads)
            if found is not None:
                check_row(found[1], len(queries))
                return found[0]
        scale = torch.tensor(number, dtype=torch.float64, device="cpu")
    scale = as_tensor("scale", scale)
    check_device("scale", scale)
    query_rows = as_rows("queries", queries)
    key_rows, screen = as_keys(keys)
    check_same_width(query_rows, key_rows)
    check_some_rows("keys", key_rows)
    if scale.numel() != 1 or not scale.is_floating_point():
        raise ValueError(
            f"scale: a floating-point tensor with one element is needed, "
            f"got shape {tuple(scale.shape)} {scale.dtype}"
        )
    result: torch.Tensor = call("logsumexp", query_rows, key_rows, scale, not screen)
    return result


def _logsumexp(
    queries: torch.Tensor, keys: torch.Tensor, scale: torch.Tensor, check_keys: bool
) -> torch.Tensor:
    number = as_number("scale", scale)
    queries, keys = with_adjacent_elements(queries), with_adjacent_elements(keys)
    if on_cuda(queries):
        check_finite("queries", queries)
        if check_keys:
            check_finite("keys", keys)
    out = _empty(queries, keys, scale, check_keys)
    row = run("logsumexp", queries, keys, number, check_keys, out)
    check_row(row, len(queries))
    return out


def _empty(
    queries: torch.Tensor, keys: torch.Tensor, scale: torch.Tensor, check_keys: bool
) -> torch.Tensor:
    return queries.new_empty(queries.shape[0], dtype=torch.float32)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    ctx.save_for_backward(*inputs[:3], output)


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    grads = call("logsumexp_backward", grad, *ctx.saved_tensors)
    return *(g if n else None for g, n in zip(grads, ctx.needs_input_grad, strict=False)), None


def _logsumexp_backward(
    grad: torch.Tensor,
    queries: torch.Tensor,
    keys: torch.Tensor,
    scale: torch.Tensor,
    result: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Softmax the scores again, block by block."""
    number = scale.item()
    dtype = dtype_for_exponents(abs(number) * longest(queries) * longest(keys))
    q, k, grad = queries.to(dtype), keys.to(dtype), grad.to(dtype)
    # Where the result was rounded too much to be the sum of these weights, it is had again.
    result = result if dtype == torch.float32 else log_sums(q, k, number)[0]
    grad_q, grad_k = torch.zeros_like(q), torch.zeros_like(k)
    grad_scale = q.new_zeros((), dtype=torch.float64)
    for i, j in blocks(q, k):
        scores = q[i] @ k[j].T
        # Rounded as in log_sums: where exponents are large, a fused multiply-add gives others.
        weights = (scores * number).sub_(result[i, None]).exp_().mul_(grad[i, None])
        grad_q[i].addmm_(weights, k[j], alpha=number)
        grad_k[j].addmm_(weights.T, q[i], alpha=number)
        grad_scale += scores.mul_(weights).sum(dtype=torch.float64)
    return (
        grad_q.to(queries.dtype).contiguous(),
        grad_k.to(keys.dtype).contiguous(),
        grad_scale.to(scale).reshape(scale.shape),
    )


def _logsumexp_backward_fake(
    grad: torch.Tensor,
    queries: torch.Tensor,
    keys: torch.Tensor,
    scale: torch.Tensor,
    result: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return empty_like(queries), empty_like(keys), torch.empty_like(scale)


implement("logsumexp", _logsumexp)
implement("logsumexp_backward", _logsumexp_backward)
torch.library.register_fake("fastclip::logsumexp", _empty, lib=library)
torch.library.register_fake("fastclip::logsumexp_backward", _logsumexp_backward_fake, lib=library)
differentiable("logsumexp", _backward, _setup_context)
differentiable_once("logsumexp")
