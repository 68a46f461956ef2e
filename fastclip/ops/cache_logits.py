"""Values weighted by how near their keys are: the cache model of Tip-Adapter."""

from typing import Any, SupportsFloat, cast

import torch

from fastclip import _C
from fastclip.engine.answer import Keys, Queries, answer, elsewhere
from fastclip.engine.arguments import Beta, RowColumn, ValueRows
from fastclip.engine.checks import (
    Array,
    OneWait,
    as_number,
    as_rows,
    check_finite,
    with_adjacent_elements,
)
from fastclip.engine.devices import check_same_device, on_cuda
from fastclip.engine.floats import rounded, to_double
from fastclip.engine.kernels import run
from fastclip.engine.operation import Operation, Part, State, register
from fastclip.engine.packed import as_sides, finite_rows
from fastclip.engine.transforms import Gradient, call, define, once
from fastclip.ops._blocks import blocks, dtype_for_exponents, empty_like, longest


def cache_logits(queries: Queries, keys: Keys, values: Array, beta: SupportsFloat) -> torch.Tensor:
    r"""Return the values of all keys summed up, each weighted by its nearness to the query.

    .. math:: \mathrm{out}_i = \sum_j \exp(-\beta (1 - q_i \cdot k_j)) \, \mathrm{values}_j

    The same as ``(-beta * (1 - queries @ keys.T)).exp() @ values`` without the [N, V] matrix: the
    cache model of Tip-Adapter (`arXiv:2111.03930 <https://arxiv.org/abs/2111.03930>`_), where
    keys are the features of the training images and values their one-hot labels. Differentiable in
    ``queries``, unpacked ``keys`` and ``values``.

    Scores, weights and sums over some 256 keys are computed in float32, these sums added in
    float64. With ``s = max_j sum_i abs(q_i * k_j_i)``, the error is at most
    ``2**-24 * (70 + abs(beta) * (4 + (66 + d / 64) * s))`` of ``sum_j weight_j * abs(value_j)``; on
    features it is some tens of times smaller. Where weighted values are denormal, ``V * 2**-149``
    is added to it. On CUDA devices 75 stands for 70, and d / 16 for
    d / 64. Weights below 2.7e-38 count as that much. The result is the same to the bit for any
    number of threads, but not for any instruction set.

    The gradient is that of the weights computed again: in float32 while
    ``x = abs(beta) * (1 + max_i |q_i| * max_j |k_j|)`` is at most 256, in float64 beyond that and
    where torch may lower float32 products. Weights have a relative error of at most
    ``u * (20 + d) * (1 + x)`` then, where u is 2**-24, in float64 2**-53. ``torch.autocast``
    changes nothing.

    Parameters
    ----------
    queries : tensor or array [N, d], float32, float16 or bfloat16; also Rows if ``keys`` are
        No queries (N = 0) give an empty result.
    keys : tensor or array [V, d], PackedKeys, fastclip.data.Rows, or ShardedKeys
        No keys give zeros.
    values : tensor or array [V, C], float32, float16 or bfloat16
        Rows of all three may have any stride.
    beta : float
        Any finite float32 number; the sharpness.

    Returns
    -------
    Tensor [N, C] float32
        Infinite or NaN where a score or weight is beyond the range of float32. Beyond inputs and
        result, each thread uses at most about 8 MiB (4 bytes * 48 * d more where d is large); on
        CUDA devices the call uses about 100 MiB, or less if there is no room. The
        backward uses about 50 MiB and float32 copies of the inputs, in float64 twice as much.

    Raises
    ------
    TypeError, ValueError
        As :func:`fastclip.topk` but for k; TypeError also where ``beta`` is no number.

    Examples
    --------
    >>> import torch, fastclip
    >>> images = fastclip.data.load_sample("coco-images").normalized().features
    >>> labels = torch.nn.functional.one_hot(torch.arange(400) % 10).float()
    >>> fastclip.cache_logits(images[400:], images[:400], labels, beta=5.5).shape
    torch.Size([100, 10])
    """
    if elsewhere(keys):
        found = answer(_CacheLogits, queries, keys, values=values, beta=beta)
        return cast(torch.Tensor, found)
    query_rows, key_rows, screen = as_sides(queries, keys)
    value_rows = as_rows("values", values)
    check_same_device("values", value_rows, "queries", query_rows)
    if value_rows.shape[0] != key_rows.shape[0]:
        raise ValueError(
            f"values: one row per key is needed, got {value_rows.shape[0]} rows and "
            f"{key_rows.shape[0]} keys"
        )
    result: torch.Tensor = call(
        "cache_logits", query_rows, key_rows, value_rows, as_number("beta", beta), not screen
    )
    return result


def _cache_logits(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    beta: float,
    check_keys: bool,
) -> torch.Tensor:
    queries, keys = with_adjacent_elements(queries), with_adjacent_elements(keys)
    values = with_adjacent_elements(values)
    with OneWait(queries):
        check_finite("queries", queries)
        if check_keys:
            check_finite("keys", keys)
        check_finite("values", values)
        out = _empty(queries, keys, values)
        run("cache_logits", queries, keys, values, beta, out, None)
    return out


def _empty(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, *_: float
) -> torch.Tensor:
    return queries.new_empty((queries.shape[0], values.shape[1]), dtype=torch.float32)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    ctx.beta = inputs[3]
    ctx.save_for_backward(*inputs[:3])


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    grads = call("cache_logits_backward", grad, *ctx.saved_tensors, ctx.beta)
    needed = (g if n else None for g, n in zip(grads, ctx.needs_input_grad, strict=False))
    return *needed, None, None


def _cache_logits_backward(
    grad: torch.Tensor,
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    beta: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weight the scores again, block by block."""
    dtype = dtype_for_exponents(abs(beta) * (1 + longest(queries) * longest(keys)))
    q, k, v, grad = (x.to(dtype) for x in (queries, keys, values, grad))
    grad_q, grad_k, grad_v = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    for i, j in blocks(q, k):
        weights = (q[i] @ k[j].T).sub_(1).mul_(beta).exp_()
        grad_v[j].addmm_(weights.T, grad[i])
        grad_scores = weights.mul_(grad[i] @ v[j].T)
        grad_q[i].addmm_(grad_scores, k[j], alpha=beta)
        grad_k[j].addmm_(grad_scores.T, q[i], alpha=beta)
    return (
        grad_q.to(queries.dtype).contiguous(),
        grad_k.to(keys.dtype).contiguous(),
        grad_v.to(values.dtype).contiguous(),
    )


define(
    "cache_logits(Tensor queries, Tensor keys, Tensor values, float beta, bool check_keys) ->"
    " Tensor",
    _cache_logits,
    _empty,
    Gradient(_backward, _setup_context),
)
define(
    "cache_logits_backward(Tensor grad, Tensor queries, Tensor keys, Tensor values, float beta)"
    " -> (Tensor, Tensor, Tensor)",
    _cache_logits_backward,
    lambda grad, queries, keys, values, beta: tuple(map(empty_like, (queries, keys, values))),
    once("cache_logits"),
)


@register
class _CacheLogits(Operation):
    """The state holds the sums so far, [N, C] float64.

    Merged states of chunks apart give the sum of both, rounded otherwise than by keys in order.
    """

    name = "cache_logits"
    arguments = (ValueRows(), Beta())
    fields = ("logits",)
    exact = False
    beta: float
    values: RowColumn

    @property
    def row_bytes(self) -> int:
        return 24 * self.values.width

    def alignment(self) -> int:
        return _C.value_blocks(self.sides.keys, self.sides.width)[0]

    def start(self, rows: int) -> State:
        return (torch.zeros(rows, self.values.width, dtype=torch.float64),)

    def add(self, state: State, block: Part, chunk: Part) -> State:
        queries = block.tensor
        values = chunk.columns["values"]
        if on_cuda(queries):
            found = cache_logits(queries, chunk.rows, values, self.beta)
            return self.merge(state, (to_double(found),))
        queries, keys = with_adjacent_elements(queries), finite_rows(chunk.rows)
        values = with_adjacent_elements(values)
        _C.cache_logits(queries, keys, values, self.beta, None, *state, torch.get_num_threads())
        return state

    def merge(self, first: State, second: State) -> State:
        return (first[0] + second[0],)

    def finish(self, state: State, rows: torch.Tensor) -> torch.Tensor:
        return rounded(state[0])
