"""What callers hand over, as tensors whose memory holds what they mean.

What is accepted, and why nothing else, is in the docstring of fastclip.ops.
"""

from __future__ import annotations

import warnings
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.masked
import torch.utils.dlpack

from fastclip import _C

Array: TypeAlias = Any
"""A torch tensor, a NumPy array, or anything else that speaks DLPack."""

_NUMBERS = (np.float32, np.float16, np.int64)  # in the byte order of this machine

_C.set_tensor_types(torch.Tensor, torch.UntypedStorage)


def as_tensor(name: str, x: Array, dtype: str = "np.float32") -> torch.Tensor:
    """Return a dense tensor of the numbers of ``x``, in its memory where torch can view it.

    ``dtype`` is what messages suggest for conversions.
    """
    if isinstance(x, torch.Tensor):
        return _settled(name, x)
    if isinstance(x, np.ndarray):
        return _from_numpy(name, x)
    if hasattr(x, "__dlpack__"):
        try:
            tensor: torch.Tensor = torch.utils.dlpack.from_dlpack(x)
        except Exception as error:  # each library raises others
            raise TypeError(
                f"{name}: torch cannot read this {type(x).__name__} through DLPack: {error}; "
                f"pass a tensor or NumPy array of its numbers"
            ) from error
        return _settled(name, tensor)
    if type(x).__module__.startswith("fastclip."):  # rows in files, or spread over ranks
        raise TypeError(
            f"{name}: numbers in memory are needed here, got {type(x).__name__}; pass a tensor or "
            f"NumPy array"
        )
    convert = f"np.asarray({name}, {dtype})"
    if hasattr(x, "to_numpy") and not hasattr(x, "type"):  # of pandas, polars; not of pyarrow
        convert = f"{name}.to_numpy({dtype})"
    raise TypeError(
        f"{name}: a torch tensor, NumPy array or DLPack array is needed, got {type(x).__name__}; "
        f"pass {convert}"
    )


def _settled(name: str, x: torch.Tensor) -> torch.Tensor:
    """Return a tensor whose memory, if it has any, may be read as it is."""
    if torch.compiler.is_compiling():
        return x  # The dispatcher resolves what operators are given.
    if _C.is_plain(x):  # which takes a quarter of the time of what follows
        return x
    if isinstance(x, torch.masked.MaskedTensor):
        raise TypeError(
            f"{name}: a masked tensor is not allowed, for the mask would be ignored; "
            f"pass {name}.to_tensor(value), with value for the masked numbers"
        )
    if hasattr(x, "placements") and hasattr(x, "full_tensor"):  # a DTensor, without its import
        raise TypeError(
            f"{name}: a DTensor is not allowed; pass {name}.full_tensor(), or {name}.to_local() "
            f"to the functions of fastclip.distributed"
        )
    if x.is_nested:
        raise TypeError(
            f"{name}: a nested tensor is not allowed; pass torch.cat({name}.unbind()) to have the "
            f"rows of all its tensors"
        )
    if x.layout != torch.strided:
        raise TypeError(
            f"{name}: a dense tensor is needed, got layout {x.layout}; pass {name}.to_dense()"
        )
    if x.is_quantized:
        raise TypeError(
            f"{name}: a quantized tensor is not allowed, got {short(x.dtype)}; "
            f"pass {name}.dequantize()"
        )
    if x.is_neg():
        x = x.resolve_neg()
    if x._is_zerotensor():
        x = x.clone()  # gives zeros memory
    check_storage(name, x)
    return x


def has_memory(x: torch.Tensor) -> bool:
    """Whether ``x`` has memory of its own; not where a subclass or transform stands for it."""
    return (
        (x.is_cpu or x.is_cuda)
        and type(x).__torch_dispatch__ is torch.Tensor.__torch_dispatch__
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
        and not torch._is_functional_tensor(x)
    )


def check_memory(name: str, x: torch.Tensor) -> None:
    """Check the argument ``name`` of a function that reads memory before torch sees it."""
    if has_memory(x):
        return
    what = type(x).__name__
    if type(x) is torch.Tensor:
        what = f"tensor on '{x.device}'" if x.is_meta else "tensor inside a transform of torch"
    raise TypeError(
        f"{name}: its numbers are read at once, but a {what} has none in memory of its own; "
        f"call outside of the mode or transform, with a plain tensor"
    )


def check_storage(name: str, x: torch.Tensor) -> None:
    """Check that the storage of the argument ``name`` was not freed or made smaller."""
    count = x.numel()
    if count == 0 or not has_memory(x):
        return
    last = count - 1
    if not x.is_contiguous():
        last = sum((n - 1) * stride for n, stride in zip(x.shape, x.stride(), strict=True))
    needed = (x.storage_offset() + last + 1) * x.element_size()
    there = x.untyped_storage().nbytes()
    if there < needed:
        raise ValueError(
            f"{name}: its storage was {'made smaller' if there else 'freed'}: it holds {there} "
            f"bytes, shape {tuple(x.shape)} needs {needed}; pass a copy made before that"
        )


def _from_numpy(name: str, x: np.ndarray[Any, Any]) -> torch.Tensor:
    usual = type(x) is np.ndarray and x.dtype in _NUMBERS and x.flags.carray
    if usual and x.size and min(x.strides, default=1) > 0:
        return torch.from_numpy(x)
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(
            f"{name}: a masked array is not allowed, for the mask would be ignored; pass "
            f"{name}.filled(value), with value for the masked numbers, or only the rows "
            f"without any: np.ma.compress_rows({name})"
        )
    if not x.dtype.isnative:
        raise TypeError(
            f"{name}: numbers must be in the byte order of this machine, got {x.dtype.str}; "
            f"pass {name}.astype(np.{x.dtype.name})"
        )
    short_floats = x.dtype.name == "bfloat16"  # of ml_dtypes, which NumPy arrays of JAX have
    if short_floats:
        x = x.view(np.int16)
    strides = [s if n > 1 else x.itemsize for n, s in zip(x.shape, x.strides, strict=True)]
    if any(stride < 0 or stride % x.itemsize for stride in strides) or not x.flags.aligned:
        x = x.copy(order="C")  # torch has no such strides
    elif x.size and min(x.strides, default=0) < 0:  # of axes of length 1
        x = np.lib.stride_tricks.as_strided(x, strides=strides)
    with warnings.catch_warnings():
        # Read-only arrays (memory maps) are only read here.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        try:
            tensor = torch.from_numpy(x)
        except TypeError as error:
            raise TypeError(
                f"{name}: an array of numbers is needed, got {x.dtype.str} ({x.dtype})"
            ) from error
    return tensor.view(torch.bfloat16) if short_floats else tensor


def as_target(name: str, x: Array) -> torch.Tensor:
    """Return the argument ``name``, to be written to, as a tensor that shares its memory.

    Raises
    ------
    TypeError
        It is no array, or has no memory of its own.
    ValueError
        It is, or may be, read-only, or torch can only have a copy.
    """
    if isinstance(x, torch.Tensor):
        if not torch.compiler.is_compiling():
            _check_writable(name, x)
        return as_tensor(name, x)
    if isinstance(x, np.ndarray):
        if not x.flags.writeable:
            raise ValueError(f"{name}: the array is read-only")
        tensor = as_tensor(name, x)
        if x.size and tensor.data_ptr() != x.ctypes.data:
            raise ValueError(f"{name}: its strides cannot be written to without a copy")
        return tensor
    tensor = as_tensor(name, x)
    try:
        capsule = x.__dlpack__(max_version=(1, 0))
    except TypeError:  # knows no versions
        capsule = x.__dlpack__()
    if not _C.dlpack_is_writable(capsule):
        raise ValueError(
            f"{name}: this {type(x).__name__} is read-only, or does not say that it may be written "
            f"to (as arrays of JAX may not); pass a tensor, or a NumPy array"
        )
    return tensor


def _check_writable(name: str, x: torch.Tensor) -> None:
    if x.is_neg() or x.is_conj() or x._is_zerotensor():
        kind = "a constant zero" if x._is_zerotensor() else "a lazily negated or conjugated view"
        raise ValueError(f"{name}: {kind} cannot be written to; pass a tensor of torch.empty")
    if x.requires_grad:
        raise ValueError(f"{name}: must not require a gradient")


def check_apart(name: str, x: torch.Tensor, other: str, y: torch.Tensor) -> None:
    """Check that the rows of the arguments ``name`` and ``other`` have no memory in common."""
    if x.numel() == 0 or y.numel() == 0 or x.device != y.device:
        return
    if _overlap(x, y) if len(x) <= len(y) else _overlap(y, x):
        raise ValueError(
            f"{name}: shares memory with {other}, which would be overwritten while it is read; "
            f"pass other memory, or a copy of {other}"
        )


def _overlap(x: torch.Tensor, y: torch.Tensor) -> bool:
    """Whether any row of ``x``, from its first to its last byte, meets a row of ``y``."""
    (begin, size, step), (other, other_size, other_step) = _rows(x), _rows(y)
    end, other_end = begin + (len(x) - 1) * step + size, other + (len(y) - 1) * other_step
    if end <= other or other_end + other_size <= begin:
        return False
    # Row i of x ends behind the beginning of row j of y for all j below `stop`, and begins before
    # its end for all j from `start`.
    begins = begin - other + np.arange(len(x)) * step
    stop = -((begins + size) // -other_step)
    start = (begins - other_size) // other_step + 1
    return bool((np.maximum(start, 0) < np.minimum(stop, len(y))).any())


def _rows(x: torch.Tensor) -> tuple[int, int, int]:
    """Return the first byte, and the bytes of a row and from one row to the next."""
    size = ((x.shape[1] - 1) * x.stride(1) + 1) * x.element_size()
    return x.data_ptr(), size, max(x.stride(0), 1) * x.element_size()


def short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
