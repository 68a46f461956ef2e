"""How evenly features fill their space."""

import math
from itertools import pairwise
from typing import Any, SupportsFloat, TypeAlias

import torch

from fastclip.engine.checks import (
    Array,
    as_number,
    as_rows,
    check_finite,
    check_some_rows,
    with_adjacent_elements,
)
from fastclip.engine.devices import check_same_device, on_cuda
from fastclip.engine.kernels import run
from fastclip.engine.ranks import Ranks, Tensors
from fastclip.engine.sharded import ShardedKeys
from fastclip.engine.transforms import Gradient, call, define, once
from fastclip.ops._blocks import blocks, empty_like, longest

_Pair: TypeAlias = "tuple[torch.Tensor, torch.Tensor | None]"


def gaussian_potential(
    x: Array | ShardedKeys, y: Array | ShardedKeys | None = None, t: SupportsFloat = 2.0
) -> torch.Tensor:
    r"""Return the logarithm of the mean Gaussian potential over pairs of rows.

    .. math:: \log \operatorname{mean}_{i, j} \exp(-t \, \lVert x_i - y_j \rVert^2)

    Over all pairs of a row of ``x`` and a row of ``y``. Without ``y`` over the pairs i < j of
    ``x``, which is half the work: where rows have unit length, the uniformity of Wang and Isola
    (`arXiv:2005.10242 <https://arxiv.org/abs/2005.10242>`_).
    The same as ``(-t * torch.pdist(x) ** 2).exp().mean().log()`` without the pairs, and without
    underflow where all of them are far apart. Differentiable in ``x`` and ``y``.

    Rows need no unit length. Their mean is taken away first, which changes no distance. Where the
    largest squared norm is then at most 8 / t, a squared distance is had from the norms and the
    inner product, else from the differences, which takes twice as long; computed in float32, its
    relative error is then at most ``(66 + d / 64) * 2**-24``. In the first case t times the squared
    distance has an absolute error of at most ``40 * (66 + d / 64) * 2**-24``, on features some
    hundred times less (on CUDA devices with d / 16 for d / 64). Where squares of differences are
    denormal, ``d * 2**-149`` is added to a squared distance's error. The result is the same to the
    bit for any number of threads, but not for any instruction set.

    The gradient weights the difference of each pair by its share of the sum, in float64. With D
    the largest distance of a row from the mean, the shares have a relative error of at most
    ``2**-53 * (20 + 8 * d * t * D**2)`` and the differences an error of some 2^-52 D. Where t D^2
    is above 2^26, differences are taken before they are squared, which is slower, and the squared
    distance of the nearest rows stands for D^2. ``torch.autocast`` changes nothing.

    Parameters
    ----------
    x : tensor or array [N, d], float32, float16 or bfloat16, or ShardedKeys
        At least one row, two without ``y``; any row stride. Of ShardedKeys, the rows of all ranks
        count; the call is collective.
    y : as ``x``, [M, d], optional
        At least one row.
    t : float > 0
        A finite float32 number.

    Returns
    -------
    Tensor, one float32 number
        Minus infinity or NaN where a squared distance is beyond the range of float32. Beyond the
        inputs, the call uses 4 bytes * (N + M) * d for centred rows (half without ``y``),
        16 bytes * N * min(64, ceil(M / 8192)) while N < 32,768, else 16 bytes * N, and each
        thread at most about 2.5 MiB; on CUDA devices about 128 MiB, 16 bytes * N and
        4 bytes * min(N, 16,384) * (d + 520) instead of these. The backward uses float64 copies of
        the inputs and about 200 MiB.

        Of ShardedKeys the same number on all ranks, within the error above, where rows are large or
        not beside the mean of each part, not of all. The same bits every time for the same rows in
        the same order and as many ranks, however the rows are spread; not those of another number
        of ranks, nor of one process. Each rank uses some 5 times the memory of its part, and what a
        call in memory uses for two parts. Not differentiable.

    Raises
    ------
    TypeError, ValueError
        As :func:`fastclip.topk` but for k, or rows are too few, or ``t`` is no positive number.

    Examples
    --------
    >>> import fastclip
    >>> images = fastclip.data.load_sample("coco-images").normalized().features
    >>> captions = fastclip.data.load_sample("coco-captions").normalized().features
    >>> round(fastclip.gaussian_potential(images).item(), 2)
    -1.79
    >>> round(fastclip.gaussian_potential(images, captions).item(), 2)
    -3.33
    """
    if isinstance(x, ShardedKeys) or isinstance(y, ShardedKeys):
        return _of_ranks(x, y, t)
    x_rows, y_rows, t = _as_arguments(x, y, t)
    if y_rows is not None:
        check_some_rows("x", x_rows)
        check_some_rows("y", y_rows)
    elif x_rows.shape[0] < 2:
        raise ValueError(
            f"x: at least two rows are needed without y, got shape {tuple(x_rows.shape)}"
        )
    result: torch.Tensor = call("gaussian_potential", x_rows, y_rows, t)
    return result.float()


def _as_arguments(
    x: Array, y: Array | None, t: SupportsFloat
) -> tuple[torch.Tensor, torch.Tensor | None, float]:
    """Check all of the arguments but how many rows there are, and whether these are finite."""
    x_rows = as_rows("x", x)
    y_rows = None
    if y is not None:
        y_rows = as_rows("y", y)
        check_same_device("y", y_rows, "x", x_rows)
        if x_rows.shape[1] != y_rows.shape[1]:
            raise ValueError(
                f"y: rows must be as long as those of x, "
                f"got {y_rows.shape[1]} and {x_rows.shape[1]}"
            )
    return x_rows, y_rows, _as_t(t)


def _as_t(t: SupportsFloat) -> float:
    number = as_number("t", t)
    if number <= 0:
        raise ValueError(f"t: must be positive, got {number}")
    return number


def _gaussian_potential(x: torch.Tensor, y: torch.Tensor | None, t: float) -> torch.Tensor:
    x = with_adjacent_elements(x)
    check_finite("x", x)
    if y is not None:
        y = with_adjacent_elements(y)
        check_finite("y", y)
    others = x if y is None else y
    centre = others.mean(0, dtype=torch.float64) if on_cuda(x) else None
    out = x.new_empty((), dtype=torch.float64)
    run("gaussian_potential", x, others, y is None, t, centre, out)
    return out


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    x, y, ctx.t = inputs
    ctx.save_for_backward(x, y)


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    x, y = ctx.saved_tensors
    grad_x, grad_y = call("gaussian_potential_backward", grad, x, y, ctx.t)
    return grad_x, None if y is None else grad_y, None


def _gaussian_potential_backward(
    grad: torch.Tensor, x: torch.Tensor, y: torch.Tensor | None, t: float
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Weight the difference of each pair by its share w of the sum, times -2 t.

    The shares are of a sum made here, in the same pass: w of pairs that are far apart needs more
    digits than the result has. Without ``y`` every pair is met twice, once as a gradient of either
    row; the pairs i = i, which the result leaves out, have no difference and so no gradient.
    """
    others = x if y is None else y
    a, b, apart = _rows_to_subtract(x, others, t)
    norms_a, norms_b = a.square().sum(1), b.square().sum(1)
    grad_a = torch.zeros_like(a)
    grad_b = torch.zeros_like(b if y is not None else b[:0])
    largest, total = -math.inf, 0.0  # exponent so far, and the sum of exp(exponent - largest)
    for i, j in blocks(a, b):
        if apart:
            squares = torch.cdist(a[i], b[j], compute_mode="donot_use_mm_for_euclid_dist").square_()
        else:
            squares = (norms_a[i, None] + norms_b[j] - 2 * (a[i] @ b[j].T)).clamp_(min=0)
        exponents = squares.mul_(-t)
        if y is None:
            exponents.diagonal(i.start - j.start).fill_(-math.inf)
        seen = exponents.max().item()
        if seen > largest:
            for sums in (grad_a, grad_b):
                sums *= math.exp(largest - seen)
            total *= math.exp(largest - seen)
            largest = seen
        if largest == -math.inf:
            continue
        weights = exponents.sub_(largest).exp_()
        total += weights.sum(dtype=torch.float64).item()
        grad_a[i] += weights.sum(1, keepdim=True) * a[i] - weights @ b[j]
        if y is not None:
            grad_b[j] += weights.sum(0)[:, None] * b[j] - weights.T @ a[i]
    factor = (-2 * t * grad.double() / (total / 2 if y is None else total)).to(a.dtype)
    return (factor * grad_a).to(x.dtype), (factor * grad_b).to(others.dtype)


# Times t and the largest squared length: from here on float64 inner products are too coarse.
_INNER_PRODUCTS = 2.0**26


def _rows_to_subtract(
    x: torch.Tensor, y: torch.Tensor, t: float
) -> tuple[torch.Tensor, torch.Tensor, bool]:
    """Return both in float64: less a centre, or as they are where only differences will do.

    In float64, since the gradient is a difference of sums that are nearly equal where rows are.
    """
    centre = y.mean(0, dtype=torch.float64)
    a, b = x - centre, y - centre
    if t * max(longest(a), longest(b)) ** 2 > _INNER_PRODUCTS:
        return x.double(), y.double(), True
    return a, b, False


define(
    "gaussian_potential(Tensor x, Tensor? y, float t) -> Tensor",
    _gaussian_potential,
    lambda x, y, t: x.new_empty((), dtype=torch.float64),
    Gradient(_backward, _setup_context),
)
define(
    "gaussian_potential_backward(Tensor grad, Tensor x, Tensor? y, float t) -> (Tensor, Tensor)",
    _gaussian_potential_backward,
    lambda grad, x, y, t: (empty_like(x), empty_like(x[:0] if y is None else y)),
    once("gaussian_potential"),
)


def _of_ranks(x: Any, y: Any, t: SupportsFloat) -> torch.Tensor:
    """All rows are cut into parts of one size, one for each rank. Those of ``x`` stay, while those
    of ``y`` go round all ranks; without ``y`` those of ``x`` go half the way round, so that each
    pair of rows is met once. All ranks have equal work, wherever the rows were."""
    given = [x] if y is None else [x, y]
    ranks = next(rows.ranks for rows in given if isinstance(rows, ShardedKeys))

    def describe() -> dict[str, Any]:
        for name, rows in zip("xy", given, strict=False):
            if not isinstance(rows, ShardedKeys):
                raise TypeError(
                    f"{name}: must be ShardedKeys as the other rows are, got {type(rows).__name__}"
                    f"; pass fastclip.distributed.ShardedKeys({name})"
                )
        if len({rows.shape[1] for rows in given}) > 1:
            raise ValueError(
                f"y: rows must be as long as those of x, got {y.shape[1]} and {x.shape[1]}"
            )
        return {"function": "gaussian_potential", "arguments": len(given), "t": _as_t(t)}

    ranks.agree(describe, own="")
    totals = [len(rows) for rows in given]
    if y is None and totals[0] == 1:
        raise ValueError("x: at least two rows are needed on all ranks together, got 1")
    for name, total in zip("xy", totals, strict=False):
        if total == 0:
            raise ValueError(f"{name}: at least one row is needed on some rank, got none")
    parts = [_even_part(ranks, rows.rows, rows.counts) for rows in given]
    sums = _ring(ranks, parts[0], None if y is None else parts[1], float(t))
    return (sums.logsumexp(0) - math.log(_pairs(*totals))).float()


def _even_part(ranks: Ranks, rows: torch.Tensor, counts: tuple[int, ...]) -> torch.Tensor:
    """Return this rank's part of all rows, which are cut evenly and in order of the ranks."""
    begin, total = sum(counts[: ranks.rank]), sum(counts)
    cuts = [min(max(total * r // ranks.size - begin, 0), len(rows)) for r in range(ranks.size + 1)]
    found = ranks.exchange(1, lambda: [(rows[a:b],) for a, b in pairwise(cuts)])
    return torch.cat([part for (part,) in found])


def _ring(ranks: Ranks, x: torch.Tensor, y: torch.Tensor | None, t: float) -> torch.Tensor:
    """Return log-sums over all pairs, each pair in one of them; the same on all ranks."""
    travelling = x if y is None else y
    here: _Pair = x, y
    sums: list[torch.Tensor] = []
    for distance in range(1, ranks.size // 2 + 1 if y is None else ranks.size):
        target, source = ((ranks.rank + way) % ranks.size for way in (-distance, distance))

        def send(here: _Pair = here, target: int = target) -> list[Tensors]:
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
    mean: torch.Tensor = call("gaussian_potential", x, y, t)
    return mean + math.log(pairs)


def _pairs(x: int, y: int | None = None) -> int:
    return x * (x - 1) // 2 if y is None else x * y
