"""Checks of arguments, in the caller's terms: the argument's name, what it was, what is allowed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple, SupportsFloat

import numpy as np
import torch

from fastclip.engine.devices import (
    EMULATED,
    capturing,
    check_device,
    check_movable,
    check_same_device,
    on_cuda,
)
from fastclip.engine.floats import full
from fastclip.engine.kernels import run
from fastclip.engine.scalars import FLOAT32_MAX as FLOAT32_MAX
from fastclip.engine.scalars import as_integer as as_integer
from fastclip.engine.scalars import as_integers as as_integers
from fastclip.engine.scalars import as_number as as_number
from fastclip.engine.scalars import as_threshold as as_threshold
from fastclip.engine.tensors import Array as Array
from fastclip.engine.tensors import as_tensor as as_tensor
from fastclip.engine.tensors import check_memory
from fastclip.engine.tensors import short as short
from fastclip.engine.transforms import watched

DTYPES = torch.float32, torch.float16, torch.bfloat16
"""Number types of features."""

INTEGERS = (
    *(torch.int64, torch.int32, torch.int16, torch.int8),
    *(torch.uint64, torch.uint32, torch.uint16, torch.uint8),
)

ALLOWED_DTYPES = "float32, float16 or bfloat16"

_ONE = {"rows": "row", "B": "image"}  # along the first dimension


def as_rows(name: str, x: Array, dimensions: str = "[rows, d]") -> torch.Tensor:
    """Return the argument ``name`` as a tensor, without a copy if possible.

    It must be [rows, d] or have as many other ``dimensions``, such as "[B, d, h, w]".
    """
    tensor = as_tensor(name, x)
    count = dimensions.count(",") + 1
    if tensor.ndim != count:
        one = _ONE.get(dimensions[1:].split(",")[0]) if tensor.ndim == count - 1 else None
        raise ValueError(
            f"{name}: {count} dimensions {dimensions} are needed, got shape {tuple(tensor.shape)}"
            + (f"; pass {name}[None] for one {one}" if one else "")
        )
    if tensor.dtype not in DTYPES:
        raise TypeError(
            f"{name}: {ALLOWED_DTYPES} is allowed, got {short(tensor.dtype)}"
            + conversion(name, x, tensor)
        )
    check_device(name, tensor)
    return tensor


def conversion(name: str, x: Array, tensor: torch.Tensor, dtype: str = "float32") -> str:
    """Return the end of a message: how to convert the argument ``name``, given as ``x``."""
    if tensor.is_complex():
        return ""
    if isinstance(x, np.ndarray):
        return f"; pass {name}.astype(np.{dtype})"
    given = name if isinstance(x, torch.Tensor) else f"torch.from_dlpack({name})"
    return f"; pass {given}.to(torch.{dtype})"


def check_same_width(queries: torch.Tensor, keys: torch.Tensor) -> None:
    check_same_device("keys", keys, "queries", queries)
    if queries.shape[1] != keys.shape[1] and queries.shape[1] == keys.shape[0]:
        raise ValueError(
            f"keys: rows must be as long as those of queries, got {keys.shape[1]} and "
            f"{queries.shape[1]}; pass keys.T, whose rows are the keys"
        )
    check_width(queries.shape[1], keys.shape[1])


def check_width(queries: int, keys: int) -> None:
    if queries != keys:
        raise ValueError(
            f"keys: rows must be as long as those of queries, got {keys} and {queries}"
        )


def check_some_rows(name: str, rows: torch.Tensor) -> None:
    if rows.shape[0] == 0:
        raise ValueError(f"{name}: at least one row is needed, got shape {tuple(rows.shape)}")


def as_indices(name: str, x: Array, count: int, device: torch.device) -> torch.Tensor:
    """Return ``count`` integers as an int64 tensor on ``device``, from there or from the CPU."""
    if isinstance(x, np.ndarray) and x.dtype.kind in "iu" and not x.dtype.isnative:
        x = x.astype(x.dtype.newbyteorder("="))
    tensor = as_tensor(name, x, "np.int64")
    if tensor.dtype not in INTEGERS:
        raise TypeError(
            f"{name}: integers are needed, got {short(tensor.dtype)}"
            + conversion(name, x, tensor, "int64")
        )
    if tensor.shape != (count,):
        raise ValueError(f"{name}: shape ({count},) is needed, got {tuple(tensor.shape)}")
    check_movable(name, tensor, device)
    indices = tensor.to(device, torch.int64).contiguous()
    if tensor.dtype == torch.uint64 and not capturing(indices):
        check_memory(name, indices)
        if (indices < 0).any():
            at = int((indices < 0).nonzero()[0])
            raise ValueError(
                f"{name}: integers below 2^63 are allowed, got {int(indices[at]) + 2**64} at {at}"
            )
    return indices


def check_range(name: str, indices: torch.Tensor, count: int, of: str) -> None:
    """Check that all are from 0 to ``count`` - 1. CUDA graphs are captured unchecked."""
    check_none(
        (indices < 0) | (indices >= count),
        lambda at: ValueError(
            f"{name}: must be from 0 to {count - 1}, one of {count} {of}, "
            f"got {int(indices[at])} at {at}"
        ),
    )


def check_k(k: int, count: int, of: str = "keys") -> None:
    """Check how many of the best are wanted of ``count`` keys."""
    if not 1 <= k <= count:
        raise ValueError(f"k: must be from 1 to the number of {of} {count}, got {k}")


def as_thresholds(
    thresholds: Array | SupportsFloat, queries: int, device: torch.device
) -> torch.Tensor:
    """Return a float32 threshold for each query, given so or as one number; may hold NaN."""
    if isinstance(thresholds, torch.Tensor):
        thresholds = thresholds.detach()
        is_number = thresholds.ndim == 0 and thresholds.dtype != torch.float32
    else:
        is_number = type(thresholds) in (float, int) or (
            isinstance(thresholds, SupportsFloat) and not getattr(thresholds, "shape", ())
        )
    if is_number:
        number = as_threshold("thresholds", thresholds)
        return full(queries, number, device)
    scores = as_tensor("thresholds", thresholds).detach()
    if scores.dtype != torch.float32:
        raise TypeError(
            f"thresholds: float32 is needed, got {short(scores.dtype)}"
            + conversion("thresholds", thresholds, scores)
        )
    if scores.shape not in ((), (queries,)):
        raise ValueError(
            f"thresholds: shape ({queries},) or a number is needed, got {tuple(scores.shape)}"
        )
    check_movable("thresholds", scores, device)
    return scores.to(device).expand(queries).contiguous()


def as_pixels(pixels: Array, tags: torch.Tensor) -> torch.Tensor:
    """Return ``pixels`` as a [B, d, h, w] tensor with at least one pixel, as wide as ``tags``."""
    tensor = as_rows("pixels", pixels, "[B, d, h, w]")
    if tensor.shape[2] * tensor.shape[3] == 0:
        raise ValueError(
            f"pixels: at least one pixel per image is needed, got shape {tuple(tensor.shape)}"
        )
    if tensor.shape[1] != tags.shape[1]:
        raise ValueError(
            f"tags: rows must be as long as the dimension d = {tensor.shape[1]} of pixels, "
            f"got {tags.shape[1]}"
        )
    return tensor


def pixel_rows(pixels: torch.Tensor) -> torch.Tensor:
    """Return [B, d, h, w] as [B * h * w, d]: a view of channels-last pixels, else a copy."""
    images, width, h, w = pixels.shape
    return with_adjacent_elements(pixels.permute(0, 2, 3, 1).reshape(images * h * w, width))


def try_plain() -> bool:
    """Whether the extension may look at tensors itself, since torch need not see the operators.

    It finds tensors on the CPU that need no other check, no copy and no gradient. For the smallest
    calls: the checks of this module take longer than their arithmetic.
    """
    return not (EMULATED or watched())


def check_finite(name: str, rows: torch.Tensor, first: int = 0) -> None:
    """Check rows, numbered from ``first``. CUDA graphs are captured unchecked."""
    check_memory(name, rows)
    if _waits.checks is None or not on_cuda(rows):
        row = find_nonfinite(rows)
        if row >= 0:
            raise not_finite(name, first + row)
    elif not capturing(rows):
        rows = with_adjacent_elements(rows)
        same = (name, first, rows.data_ptr(), rows.shape, rows.stride(), rows.dtype)
        if same not in _waits.checks:
            flag = _first_nonfinite(rows)
            _later(same, flag, rows, lambda row: not_finite(name, first + row))


def as_in_range(name: str, indices: torch.Tensor, count: int, of: str) -> torch.Tensor:
    """Return ``indices``, checked as by :func:`check_range`, or within :class:`OneWait` to be.

    Then those that are out of range are replaced. CUDA graphs are captured unchecked.
    """
    check_range(name, indices, count, of)
    later = _waits.checks is not None and on_cuda(indices) and not capturing(indices)
    return indices.clamp(0, count - 1) if later else indices


def check_no_nan(name: str, numbers: torch.Tensor) -> None:
    """Check that there is no NaN. CUDA graphs are captured unchecked."""
    check_none(numbers.isnan(), lambda at: ValueError(f"{name}: NaN at {at}"))


def check_none(wrong: torch.Tensor, error: Callable[[int], ValueError]) -> None:
    """Raise what ``error`` says of the first that is true. CUDA graphs are captured unchecked."""
    if capturing(wrong):
        return
    if _waits.checks is not None and on_cuda(wrong):
        _later(object(), _first(wrong), wrong, error)
    elif wrong.any():
        raise error(int(wrong.nonzero()[0]))


def _first(wrong: torch.Tensor) -> torch.Tensor:
    """Return where the first of a vector of bool is true, or its length."""
    places = torch.arange(len(wrong) + 1, device=wrong.device)
    return torch.where(torch.cat([wrong, wrong.new_ones(1)]), places, len(wrong)).min()


class _Check(NamedTuple):
    first: torch.Tensor
    """The number of the first thing that is wrong, or at least that of all things."""
    of: torch.Tensor
    """All things; held so that its memory is not another tensor's before the end."""
    error: Callable[[int], ValueError]


class _Waits(threading.local):
    checks: dict[object, _Check] | None = None


_waits = _Waits()


def _later(
    key: object, first: torch.Tensor, of: torch.Tensor, error: Callable[[int], ValueError]
) -> None:
    assert _waits.checks is not None
    _waits.checks[key] = _Check(first, of, error)


class OneWait:
    """Within it, checks of tensors on the device of ``x`` are asked for, and awaited at the end.

    Each alone would make the host wait for the device. So what is computed within must do no harm
    with numbers that are not finite; the results are thrown away. What is wrong first is raised,
    also in place of another error. The outermost one waits; on the CPU all is as without it, and
    a compiler sees none: each operator waits by itself.
    """

    def __init__(self, x: torch.Tensor) -> None:
        alone = _waits.checks is None and not torch.compiler.is_compiling()
        self._outermost = alone and on_cuda(x)

    def __enter__(self) -> None:
        if self._outermost:
            _waits.checks = {}

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if not self._outermost:
            return
        checks, _waits.checks = list((_waits.checks or {}).values()), None
        if checks and (kind is None or issubclass(kind, Exception)):
            found = torch.stack([check.first for check in checks]).tolist()
            for first, check in zip(found, checks, strict=True):
                if first < len(check.of):
                    raise check.error(first)


def check_row(row: int | None, queries: int) -> None:
    """Raise where a search has found a row that is not finite: of the queries, then of the keys."""
    if row is not None and row >= 0:
        raise not_finite("queries", row) if row < queries else not_finite("keys", row - queries)


def not_finite(name: str, row: int) -> ValueError:
    return ValueError(f"{name}: row {row} holds NaN or infinity, all numbers must be finite")


def find_nonfinite(rows: torch.Tensor) -> int:
    """Return the lowest row with a NaN or infinity, or -1. CUDA graphs are captured unchecked."""
    rows = with_adjacent_elements(rows)
    if not on_cuda(rows):
        return int(run("find_nonfinite", rows, None))
    if capturing(rows):
        return -1
    row = int(_first_nonfinite(rows))
    return row if row < len(rows) else -1


def _first_nonfinite(rows: torch.Tensor) -> torch.Tensor:
    """Return the lowest row with a NaN or infinity, or a larger number, on the device."""
    first = torch.empty((), dtype=torch.int64, device=rows.device)
    run("find_nonfinite", rows, first)
    return first


def check_finite_pixels(name: str, images: torch.Tensor, rows: torch.Tensor) -> None:
    """Check [B, d, h, w] ``images``, given as :func:`pixel_rows` too."""
    h, w = images.shape[2:]
    pixel = find_nonfinite(rows)
    if pixel >= 0:
        raise ValueError(
            f"{name}: image {pixel // (h * w)} holds NaN or infinity at y = {pixel // w % h}, "
            f"x = {pixel % w}, all numbers must be finite"
        )


def with_adjacent_elements(rows: torch.Tensor) -> torch.Tensor:
    """Return ``rows`` itself unless the elements of a row are apart; then a copy."""
    return rows if rows.shape[1] <= 1 or rows.stride(1) == 1 else rows.contiguous()
