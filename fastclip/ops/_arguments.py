"""Checks of arguments, in the caller's terms: the argument's name, what it was, what is allowed."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, SupportsFloat, TypeAlias

import numpy as np
import torch
import torch.utils.dlpack

from fastclip import _C

if TYPE_CHECKING:
    from fastclip.ops.pack import PackedKeys

Array: TypeAlias = Any
"""A torch tensor, a NumPy array, or anything else that speaks DLPack."""

DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
"""Number types of features, with the number that the extension knows them by."""

FLOAT32_MAX = torch.finfo(torch.float32).max

ALLOWED_DTYPES = "float32, float16 or bfloat16"


def as_rows(name: str, x: Array) -> torch.Tensor:
    """Return the argument ``name`` as a [rows, d] tensor on the CPU, without a copy if possible."""
    tensor = as_tensor(name, x)
    if tensor.ndim != 2:
        raise ValueError(
            f"{name}: 2 dimensions [rows, d] are needed, got shape {tuple(tensor.shape)}"
        )
    if tensor.dtype not in DTYPES:
        raise TypeError(f"{name}: {ALLOWED_DTYPES} is allowed, got {_short(tensor.dtype)}")
    if tensor.layout != torch.strided:
        raise TypeError(f"{name}: a dense tensor is needed, got layout {tensor.layout}")
    if tensor.device.type != "cpu":
        raise ValueError(
            f"{name}: is on device '{tensor.device}', this build of fastclip computes on 'cpu' only"
        )
    return tensor


def as_tensor(name: str, x: Array) -> torch.Tensor:
    """Return a tensor that shares the memory of ``x`` where torch can view it."""
    if isinstance(x, torch.Tensor):
        return x
    if isinstance(x, np.ndarray):
        return _from_numpy(name, x)
    if hasattr(x, "__dlpack__"):
        tensor: torch.Tensor = torch.utils.dlpack.from_dlpack(x)
        return tensor
    raise TypeError(
        f"{name}: a torch tensor, NumPy array or DLPack array is needed, got {type(x).__name__}"
    )


def _from_numpy(name: str, x: np.ndarray[Any, Any]) -> torch.Tensor:
    if x.dtype not in (np.float32, np.float16) or not x.dtype.isnative:
        raise TypeError(f"{name}: {ALLOWED_DTYPES} is allowed, got {x.dtype.str} ({x.dtype})")
    if any(stride < 0 or stride % x.itemsize for stride in x.strides):
        x = np.ascontiguousarray(x)  # torch has no such strides
    with warnings.catch_warnings():
        # Read-only arrays (memory maps) are only read here.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(x)


def check_same_width(queries: torch.Tensor, keys: torch.Tensor) -> None:
    if queries.shape[1] != keys.shape[1]:
        raise ValueError(
            f"keys: rows must be as long as those of queries, "
            f"got {keys.shape[1]} and {queries.shape[1]}"
        )


def check_some_rows(name: str, rows: torch.Tensor) -> None:
    if rows.shape[0] == 0:
        raise ValueError(f"{name}: at least one row is needed, got shape {tuple(rows.shape)}")


def as_number(name: str, x: SupportsFloat) -> float:
    """Return the argument ``name`` as a number within the range of float32."""
    if isinstance(x, (bool, str)) or not isinstance(x, SupportsFloat):
        raise TypeError(f"{name}: a number is needed, got {type(x).__name__}")
    number = float(x)
    if not abs(number) <= FLOAT32_MAX:
        raise ValueError(f"{name}: a finite float32 number is needed, got {number}")
    return number


def keys_as_rows(keys: Array | PackedKeys) -> tuple[torch.Tensor, bool]:
    """Return the rows of ``keys`` and whether they are known to be finite."""
    from fastclip.ops.pack import PackedKeys

    if isinstance(keys, PackedKeys):
        return keys.rows, True
    return as_rows("keys", keys), False


def check_finite(name: str, rows: torch.Tensor) -> None:
    row = _C.find_nonfinite(matrix(rows), torch.get_num_threads())
    if row >= 0:
        raise ValueError(f"{name}: row {row} holds NaN or infinity, all numbers must be finite")


def matrix(rows: torch.Tensor) -> _C.Matrix:
    """Describe the memory of ``rows`` to the extension; the elements of a row must be adjacent."""
    height, width = rows.shape
    return _C.Matrix(rows.data_ptr(), DTYPES[rows.dtype], height, width, rows.stride(0))


def with_adjacent_elements(rows: torch.Tensor) -> torch.Tensor:
    """Return ``rows`` itself unless the elements of a row are apart; then a copy."""
    return rows if rows.shape[1] <= 1 or rows.stride(1) == 1 else rows.contiguous()


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
