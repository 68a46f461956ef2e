"""The logarithm of a softmax's denominator, without the scores."""

from collections.abc import Sequence
from typing import Any, SupportsFloat, cast

import torch

from fastclip import _C
from fastclip.engine.answer import Keys, Queries, answer, elsewhere
from fastclip.engine.arguments import Scale, Sides
from fastclip.engine.checks import (
    OneWait,
    as_number,
    as_tensor,
    check_finite,
    check_row,
    check_some_rows,
    try_plain,
    with_adjacent_elements,
)
from fastclip.engine.devices import check_device, on_cuda
from fastclip.engine.kernels import run
from fastclip.engine.operation import Operation, Part, State, register
from fastclip.engine.packed import PackedKeys, as_sides, finite_rows
from fastclip.engine.transforms import Gradient, call, define, once
from fastclip.ops._blocks import blocks, dtype_for_exponents, empty_like, log_sums, longest


def logsumexp(queries: Queries, keys: Keys, scale: SupportsFloat | torch.Tensor) -> torch.Tensor:
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
    queries : tensor or array [N, d], float32, float16 or bfloat16; also Rows if ``keys`` are
        No queries (N = 0) give an empty result.
    keys : tensor or array [V, d], PackedKeys, fastclip.data.Rows, or ShardedKeys
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
    TypeError, ValueError
        As :func:`fastclip.topk` but for k, or ``scale`` is no number, or there are no keys.

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
    if elsewhere(keys):
        return cast(torch.Tensor, answer(LogSumExp, queries, keys, scale=scale))
    number = None if isinstance(scale, torch.Tensor) else as_number("scale", scale)
    if number is not None:
        found = _plain(queries, keys, number)
        if found is not None:
            return found
    query_rows, key_rows, screen = as_sides(queries, keys)
    check_some_rows("keys", key_rows)
    if number is not None:
        found = _plain(query_rows, keys if screen else key_rows, number)  # such as NumPy's arrays
        if found is not None:
            return found
        scale = torch.tensor(number, dtype=torch.float64, device="cpu")
    scale = as_tensor("scale", scale)
    check_device("scale", scale)
    if scale.numel() != 1 or not scale.is_floating_point():
        raise ValueError(
            f"scale: a floating-point tensor with one element is needed, "
            f"got shape {tuple(scale.shape)} {scale.dtype}"
        )
    result: torch.Tensor = call("logsumexp", query_rows, key_rows, scale, not screen)
    return result


def _plain(queries: Any, keys: Any, scale: float) -> torch.Tensor | None:
    """Compute it without torch where that need not see the tensors; else return None."""
    if not try_plain():
        return None
    packed = isinstance(keys, PackedKeys)
    rows, threads = keys.rows if packed else keys, torch.get_num_threads()
    found = _C.plain_logsumexp(queries, rows, scale, not packed, threads)
    if found is None:
        return None
    check_row(found[1], len(queries))
    return found[0]


def _logsumexp(
    queries: torch.Tensor, keys: torch.Tensor, scale: torch.Tensor, check_keys: bool
) -> torch.Tensor:
    number = as_number("scale", scale)
    queries, keys = with_adjacent_elements(queries), with_adjacent_elements(keys)
    with OneWait(queries):
        if on_cuda(queries):
            check_finite("queries", queries)
            if check_keys:
                check_finite("keys", keys)
        out = _empty(queries)
        row = run("logsumexp", queries, keys, number, check_keys, out)
    check_row(row, len(queries))
    return out


def _empty(queries: torch.Tensor, *_: torch.Tensor | bool) -> torch.Tensor:
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


define(
    "logsumexp(Tensor queries, Tensor keys, Tensor scale, bool check_keys) -> Tensor",
    _logsumexp,
    _empty,
    Gradient(_backward, _setup_context),
)
define(
    "logsumexp_backward(Tensor grad, Tensor queries, Tensor keys, Tensor scale, Tensor result) ->"
    " (Tensor, Tensor, Tensor)",
    _logsumexp_backward,
    lambda grad, queries, keys, scale, result: tuple(map(empty_like, (queries, keys, scale))),
    once("logsumexp"),
)


@register
class LogSumExp(Operation):
    """The state holds what each of up to 64 parts of the keys gave: maxima and sums, [parts, N].

    Chunks may come in any order and be merged in any way as long as none begins or ends inside of a
    part: a part's own keys must be added in their order.
    """

    name = "logsumexp"
    arguments = (Scale(),)
    fields = ("logsumexp",)
    exact = False
    row_bytes = 12 * 64 + 64
    scale: float

    def __init__(self, sides: Sides, **given: Any) -> None:
        super().__init__(sides, **given)
        if not sides.keys:
            raise ValueError("keys: at least one row is needed, got none")
        self._block, self.part, self._parts = _C.value_blocks(sides.keys, sides.width)

    def alignment(self) -> int:
        return self._block

    def start(self, rows: int) -> State:
        shape = self._parts, rows
        return (
            torch.full(shape, -torch.inf, dtype=torch.float32),
            torch.zeros(shape, dtype=torch.float64),
        )

    def add(self, state: State, block: Part, chunk: Part) -> State:
        if chunk.begin % self._block:
            raise ValueError(f"begin: a multiple of {self._block} is needed, got {chunk.begin}")
        queries = with_adjacent_elements(block.tensor)
        keys = finite_rows(chunk.rows)
        threads = torch.get_num_threads()
        place = chunk.begin, self.sides.keys
        _C.logsumexp_add(queries, keys, self.scale, *place, *state, threads)
        return state

    def merge(self, first: State, second: State) -> State:
        _C.logsumexp_merge(*first, *second, self.scale, torch.get_num_threads())
        return first

    def join(self, states: Sequence[State]) -> State:
        return tuple(torch.cat(parts, 1) for parts in zip(*states, strict=True))

    def finish(self, state: State, rows: torch.Tensor) -> torch.Tensor:
        out = torch.empty(state[0].shape[1], dtype=torch.float32)
        _C.logsumexp_finish(*state, self.scale, out, torch.get_num_threads())
        return out

    def over_ranks(self) -> Operation:
        return _LogSumExpOfRanks(self.sides, scale=self.scale)


class _LogSumExpOfRanks(Operation):
    """Ranks have keys without regard to parts: the state holds their results, [N] float64."""

    name = "logsumexp"
    arguments = (Scale(),)
    fields = ("logsumexp",)
    exact = False
    row_bytes = 64
    scale: float

    def start(self, rows: int) -> State:
        return (torch.full((rows,), -torch.inf, dtype=torch.float64),)

    def add(self, state: State, block: Part, chunk: Part) -> State:
        if len(chunk) == 0:
            return state
        return self.merge(state, (logsumexp(block.rows, chunk.rows, self.scale).double(),))

    def merge(self, first: State, second: State) -> State:
        return (torch.logaddexp(first[0], second[0]),)

    def finish(self, state: State, rows: torch.Tensor) -> torch.Tensor:
        return state[0].float()
