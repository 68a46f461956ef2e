"""The block of scores itself, for when it is wanted."""

from typing import Any

import torch

from fastclip.engine.checks import (
    ALLOWED_DTYPES,
    DTYPES,
    Array,
    as_rows,
    check_finite,
    with_adjacent_elements,
)
from fastclip.engine.devices import check_same_device
from fastclip.engine.kernels import run
from fastclip.engine.packed import PackedKeys, as_sides
from fastclip.engine.tensors import as_target, check_apart, short
from fastclip.engine.transforms import Gradient, call, define


def similarity(
    queries: Array,
    keys: Array | PackedKeys,
    *,
    out: Array | None = None,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Return the exact score of every query with every key, ``queries @ keys.T``.

    A score is the inner product accumulated in float64 in 16 interleaved lanes, rounded once to
    float32. It is the same to the bit for any number of threads and instruction set, and the same
    that :func:`fastclip.topk` ranks by. Differentiable in ``queries`` and ``keys``.

    Parameters
    ----------
    queries : tensor or array [N, d], float32, float16 or bfloat16
    keys : tensor or array [V, d], or PackedKeys
        Their rows may have any stride. No keys or no queries give an empty result.
    out : tensor or array [N, V], optional
        Where to write, also a memory map larger than the memory; the elements of a row must be
        adjacent. It must be writable and share no memory with queries and keys, which are not
        compared where one file is mapped twice. No gradient then.
    dtype : torch.dtype, default: that of ``out``, else torch.float32
        float32, float16 or bfloat16; the two short ones are rounded from the float32 score.

    Returns
    -------
    Tensor [N, V]
        ``out`` as a tensor if it was given. Beyond inputs and result, each thread uses about
        16 bytes * 256 * d of workspace.

    Raises
    ------
    TypeError, ValueError
        As :func:`fastclip.topk` but for k, or ``out`` is read-only, overlaps itself or another
        argument, or its producer does not say that it may be written to.

    Examples
    --------
    >>> import torch, fastclip
    >>> fastclip.similarity(torch.eye(2), torch.tensor([[0.5, 0.25]]))
    tensor([[0.5000],
            [0.2500]])
    """
    query_rows, key_rows, screen = as_sides(queries, keys)
    if out is None:
        dtype = torch.float32 if dtype is None else dtype
        if not isinstance(dtype, torch.dtype) or dtype not in DTYPES:
            raise TypeError(f"dtype: {ALLOWED_DTYPES} of torch is allowed, got {dtype}")
        result: torch.Tensor = call("similarity", query_rows, key_rows, dtype, not screen)
        return result
    target = _as_target(out, (query_rows.shape[0], key_rows.shape[0]), dtype)
    check_same_device("out", target, "queries", query_rows)
    if torch.is_grad_enabled() and (query_rows.requires_grad or key_rows.requires_grad):
        raise ValueError("out: results written into out have no gradient; use torch.no_grad()")
    call("similarity_out", query_rows, key_rows, target, not screen)
    if not torch.compiler.is_compiling() and not target.is_inference():
        torch.autograd.graph.increment_version(target)  # a backward may need what was there
    return target


def _as_target(out: Array, shape: tuple[int, int], dtype: torch.dtype | None) -> torch.Tensor:
    target = as_target("out", out)
    if target.dtype not in DTYPES:  # what as_rows says is of inputs, which may be converted
        raise TypeError(f"out: {ALLOWED_DTYPES} is allowed, got {short(target.dtype)}")
    target = as_rows("out", target)
    if tuple(target.shape) != shape:
        raise ValueError(f"out: shape {shape} is needed, got {tuple(target.shape)}")
    if dtype is not None and target.dtype != dtype:
        raise TypeError(f"out: dtype {dtype} was asked for, out has {target.dtype}")
    apart = shape[0] <= 1 or target.stride(0) >= shape[1]
    if target.numel() and not (apart and (shape[1] == 1 or target.stride(1) == 1)):
        raise ValueError(
            f"out: elements of a row must be adjacent and rows apart, got strides {target.stride()}"
        )
    return target


def _similarity_out(
    queries: torch.Tensor, keys: torch.Tensor, out: torch.Tensor, check_keys: bool
) -> None:
    check_apart("out", out, "queries", queries)
    check_apart("out", out, "keys", keys)
    _write(queries, keys, out, check_keys)


def _write(queries: torch.Tensor, keys: torch.Tensor, out: torch.Tensor, check_keys: bool) -> None:
    queries, keys = with_adjacent_elements(queries), with_adjacent_elements(keys)
    check_finite("queries", queries)
    if check_keys:
        check_finite("keys", keys)
    run("similarity", queries, keys, out)


def _similarity(
    queries: torch.Tensor, keys: torch.Tensor, dtype: torch.dtype, check_keys: bool
) -> torch.Tensor:
    out = _empty(queries, keys, dtype)
    _write(queries, keys, out, check_keys)
    return out


def _empty(queries: torch.Tensor, keys: torch.Tensor, dtype: torch.dtype, *_: bool) -> torch.Tensor:
    return queries.new_empty((queries.shape[0], keys.shape[0]), dtype=dtype)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    ctx.dtype = inputs[2]
    ctx.save_for_backward(inputs[0], inputs[1])
    ctx.save_for_forward(inputs[0], inputs[1])


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    queries, keys = ctx.saved_tensors
    grad = grad.float()
    grad_queries = (grad @ keys.float()).to(queries.dtype) if ctx.needs_input_grad[0] else None
    grad_keys = (grad.T @ queries.float()).to(keys.dtype) if ctx.needs_input_grad[1] else None
    return grad_queries, grad_keys, None, None


def _jvp(
    ctx: Any, queries: torch.Tensor | None, keys: torch.Tensor | None, *_: Any
) -> torch.Tensor:
    query_rows, key_rows = (rows.float() for rows in ctx.saved_tensors)
    tangent = query_rows.new_zeros(len(query_rows), len(key_rows))
    if queries is not None:
        tangent = tangent + queries.float() @ key_rows.T
    if keys is not None:
        tangent = tangent + query_rows @ keys.float().T
    result: torch.Tensor = tangent.to(ctx.dtype)
    return result


define(
    "similarity(Tensor queries, Tensor keys, ScalarType dtype, bool check_keys) -> Tensor",
    _similarity,
    _empty,
    Gradient(_backward, _setup_context, _jvp),
)
define(
    "similarity_out(Tensor queries, Tensor keys, Tensor(a!) out, bool check_keys) -> ()",
    _similarity_out,
    lambda *_: None,
    function="similarity with out",
)
