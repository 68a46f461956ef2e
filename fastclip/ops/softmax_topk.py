"""The most probable keys of each query."""

from collections.abc import Sequence
from typing import Any, NamedTuple, SupportsFloat, SupportsIndex, cast

import torch

from fastclip.engine.answer import Keys, Queries, answer, elsewhere
from fastclip.engine.arguments import K, Scale, Sides
from fastclip.engine.checks import as_number
from fastclip.engine.floats import rounded, to_double, to_float
from fastclip.engine.operation import Operation, Part, State, register
from fastclip.engine.transforms import Gradient, call, define, watched
from fastclip.ops.logsumexp import LogSumExp, logsumexp
from fastclip.ops.topk import BestKeys, topk


class SoftmaxTopK(NamedTuple):
    """The k most probable keys of each query, the most probable first."""

    probabilities: torch.Tensor
    """[N, k] float32: of the softmax over all keys."""
    indices: torch.Tensor
    """[N, k] int64: rows of ``keys``."""


def softmax_topk(
    queries: Queries, keys: Keys, k: SupportsIndex, scale: SupportsFloat | torch.Tensor
) -> SoftmaxTopK:
    r"""Return the k keys of the largest softmax probability, and these probabilities.

    .. math:: p_{ij} = \exp(\mathrm{scale} \cdot q_i \cdot k_j) \, / \,
        \sum_l \exp(\mathrm{scale} \cdot q_i \cdot k_l)

    The same as ``(scale * (queries @ keys.T)).softmax(1).topk(k)`` without the [N, V] matrix:
    zero-shot probabilities, also of a million names. The keys are those of :func:`fastclip.topk`,
    to the bit; a probability's relative error is the absolute error that
    :func:`fastclip.logsumexp` states for its denominator. Differentiable in ``probabilities``, with
    respect to ``queries``, unpacked ``keys``, and ``scale`` if that is a tensor.

    Parameters
    ----------
    queries : tensor or array [N, d], float32, float16 or bfloat16; also Rows if ``keys`` are
        No queries (N = 0) give an empty result.
    keys : tensor or array [V, d], PackedKeys, fastclip.data.Rows, or ShardedKeys
        Their rows may have any stride.
    k : int, 1 <= k <= V
    scale : float, or tensor with one element, > 0
        The inverse of the temperature: 100 for most CLIP models.

    Returns
    -------
    SoftmaxTopK
        ``probabilities`` [N, k] float32, zero or NaN where a score is beyond the range of float32,
        and ``indices`` [N, k] int64. Beyond inputs and result, what ``topk`` and then ``logsumexp``
        use.

    Raises
    ------
    TypeError, ValueError
        As :func:`fastclip.topk`, or the scale is no positive number.

    Examples
    --------
    >>> import fastclip
    >>> images = fastclip.data.load_sample("coco-images").normalized().features
    >>> captions = fastclip.data.load_sample("coco-captions").normalized()
    >>> best = fastclip.softmax_topk(images, captions.features, k=2, scale=100.0)
    >>> captions.names[best.indices[2, 0]], round(best.probabilities[2, 0].item(), 2)
    ('a toilet with an unusual green seat and back', 0.25)
    """
    if elsewhere(keys):
        found = answer(_MostProbable, queries, keys, k=k, scale=scale)
        return cast(SoftmaxTopK, found)
    if not watched():
        _check_positive(scale.detach() if isinstance(scale, torch.Tensor) else scale)
    best = topk(queries, keys, k)
    return _result(best.values, best.indices, logsumexp(queries, keys, scale), scale)


def _check_positive(scale: SupportsFloat) -> None:
    if (number := as_number("scale", scale)) <= 0:
        raise ValueError(f"scale: must be positive, got {number}")


def _result(
    values: torch.Tensor,
    indices: torch.Tensor,
    log_sums: torch.Tensor,
    scale: SupportsFloat | torch.Tensor,
) -> SoftmaxTopK:
    if not isinstance(scale, torch.Tensor):
        scale = torch.tensor(to_float(scale), dtype=torch.float64, device="cpu")
    return SoftmaxTopK(call("softmax_of", values, log_sums, scale), indices)


def _softmax_of(values: torch.Tensor, log_sums: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """In float64: a large exponent must still have digits behind the point."""
    exponents = to_double(values) * as_number("scale", scale) - to_double(log_sums)[:, None]
    return rounded(exponents.exp_())


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    values, _, scale = inputs
    ctx.save_for_backward(values, scale, output)


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
    values, scale, probabilities = ctx.saved_tensors
    weights = grad * probabilities
    grad_scale = (weights.double() * values).sum().to(scale.dtype).reshape(scale.shape)
    return (weights * scale.item()).to(values.dtype), -weights.sum(1), grad_scale.to(scale.device)


define(
    "softmax_of(Tensor values, Tensor log_sums, Tensor scale) -> Tensor",
    _softmax_of,
    lambda values, *_: torch.empty_like(values),
    Gradient(_backward, _setup_context),
    function="softmax_topk",
)


@register
class _MostProbable(Operation):
    """The state is that of the best keys and then that of the denominator."""

    name = "softmax_topk"
    arguments = (K(), Scale())
    fields = ("indices", "probabilities")
    result = SoftmaxTopK
    exact = False
    k: int
    scale: float

    def __init__(self, sides: Sides, **given: Any) -> None:
        super().__init__(sides, **given)
        _check_positive(self.scale)
        self._parts: tuple[Operation, Operation] = (
            BestKeys(sides, k=self.k),
            LogSumExp(sides, scale=self.scale),
        )

    @property
    def row_bytes(self) -> int:
        return sum(part.row_bytes for part in self._parts)

    def alignment(self) -> int:
        return self._parts[1].alignment()

    def over_ranks(self) -> Operation:
        operation = _MostProbable(self.sides, k=self.k, scale=self.scale)
        operation._parts = (self._parts[0], self._parts[1].over_ranks())
        return operation

    def start(self, rows: int) -> State:
        return sum((part.start(rows) for part in self._parts), ())

    def add(self, state: State, block: Part, chunk: Part) -> State:
        best, total = self._parts
        return best.add(state[:2], block, chunk) + total.add(state[2:], block, chunk)

    def merge(self, first: State, second: State) -> State:
        best, total = self._parts
        return best.merge(first[:2], second[:2]) + total.merge(first[2:], second[2:])

    def join(self, states: Sequence[State]) -> State:
        best, total = self._parts
        return best.join([x[:2] for x in states]) + total.join([x[2:] for x in states])

    def finish(self, state: State, rows: torch.Tensor) -> SoftmaxTopK:
        best, total = self._parts
        values, indices = best.finish(state[:2], rows)
        return _result(values, indices, total.finish(state[2:], rows), self.scale)
