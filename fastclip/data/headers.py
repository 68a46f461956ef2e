"""Headers of safetensors and npy files, checked: what they promise must be what the file holds."""

import json
import math
from typing import Any, NamedTuple

import numpy as np
import torch

# Bits of a number, by safetensors' name of its type.
_BITS = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E5M2FNUZ", "F8_E4M3FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}
TENSOR_DTYPES = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F64": torch.float64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_MOST_DIMENSIONS = 64
_MOST_BYTES = 100_000_000  # of a header, as in the safetensors library


class TensorPlace(NamedTuple):
    """A tensor of a safetensors file: from byte ``begin`` of the file to byte ``end``."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def floating(self) -> bool:
        return "F" in self.dtype


def safetensors_header(file: Any, size: int) -> tuple[dict[str, str], dict[str, TensorPlace]]:
    """Metadata and tensors of a safetensors file of ``size`` bytes.

    Raises
    ------
    ValueError
        The header is damaged, or the tensors are not the rest of the file, one after the other.
    """
    length = int.from_bytes(file.read(8), "little")
    if length > size - 8:
        raise ValueError("its header is longer than the file: it is damaged")
    if length > _MOST_BYTES:
        raise ValueError(f"its header has {length} bytes, allowed: up to {_MOST_BYTES}")
    header = parse_json(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object: it is damaged")
    metadata = header.pop("__metadata__", None)
    if metadata is None:
        metadata = {}
    if not isinstance(metadata, dict) or not all(isinstance(x, str) for x in metadata.values()):
        raise ValueError("its metadata are not text by name: it is damaged")
    for text in (*header, *metadata, *metadata.values()):
        text.encode()  # raises for a lone surrogate, which UTF-8 cannot hold
    tensors = {name: _tensor_place(name, entry, 8 + length) for name, entry in header.items()}
    end = 8 + length
    for name, place in sorted(tensors.items(), key=lambda item: item[1][2:]):
        if place.begin != end:
            what = "a gap before it" if place.begin > end else "bytes of another one"
            raise ValueError(f"tensor {name!r} has {what}: it is damaged")
        end = place.end
    _check_size(size, end)
    return metadata, tensors


def _tensor_place(name: str, entry: Any, start: int) -> TensorPlace:
    """What a header says of a tensor, checked; ``start`` is the byte that offsets count from."""
    if not isinstance(entry, dict):
        raise ValueError(f"tensor {name!r} is described by {entry!r:.80}: it is damaged")
    dtype: Any = entry.get("dtype")
    offsets: Any = entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise ValueError(f"tensor {name!r} has dtype {dtype!r:.80}, allowed: {', '.join(_BITS)}")
    shape = _shape(f"tensor {name!r}", entry.get("shape"))
    if not _is_whole(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(
            f"tensor {name!r} has no data_offsets, or others than its first byte and its end"
        )
    needed, odd = divmod(math.prod(shape) * _BITS[dtype], 8)
    if odd or offsets[1] - offsets[0] != needed:
        raise ValueError(
            f"tensor {name!r} of shape {list(shape)} {dtype} has {offsets[1] - offsets[0]} bytes, "
            f"needed: {needed}: it is damaged"
        )
    return TensorPlace(dtype, shape, start + offsets[0], start + offsets[1])


class NpyHeader(NamedTuple):
    """Type and shape of an npy array, whether it goes column by column, and its first byte."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    by_column: bool
    begin: int


def npy_header(file: Any, size: int) -> NpyHeader:
    """The header of an npy file of ``size`` bytes.

    Raises
    ------
    ValueError
        It is damaged, or the array is not the rest of the file.
    """
    version = np.lib.format.read_magic(file)
    # Version 3 exists for field names that are not latin-1: never an array of numbers.
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"npy version {version}, allowed: (1, 0) and (2, 0)")
    try:
        found, by_column, dtype = readers[version](file)
    except Exception as error:  # whatever Python's parser and numpy make of a damaged one
        raise ValueError(f"its header is damaged: {type(error).__name__}: {error}") from error
    shape = _shape("array", list(found))
    if not dtype.hasobject:  # else a pickle of any length follows
        _check_size(size, file.tell() + math.prod(shape) * dtype.itemsize)
    return NpyHeader(dtype, shape, by_column, file.tell())


def parse_json(content: bytes) -> Any:
    """Parse JSON as the standard says, where Python's parser takes more.

    Raises
    ------
    ValueError
        It is no JSON in UTF-8, it has NaN or the same name twice, or it is nested too deeply.
    """
    try:
        return json.loads(
            content.decode(), object_pairs_hook=_object, parse_constant=_refuse_constant
        )
    except RecursionError as error:
        raise ValueError("JSON is nested too deeply") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"JSON has the name {twice!r:.80} twice")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _shape(what: str, shape: Any) -> tuple[int, ...]:
    if not _is_whole(shape):
        shown = "a shape of other things" if isinstance(shape, list) else f"shape {shape!r:.80}"
        raise ValueError(f"{what} has {shown}, allowed: whole numbers below 2^63")
    if len(shape) > _MOST_DIMENSIONS:  # as in NumPy
        raise ValueError(f"{what} has {len(shape)} dimensions, allowed: {_MOST_DIMENSIONS}")
    return tuple(shape)


def _is_whole(numbers: Any) -> bool:
    """Whether it is a list of integers from 0 to 2^63 - 1; True is none."""
    return isinstance(numbers, list) and all(type(n) is int and 0 <= n < 2**63 for n in numbers)


def _check_size(size: int, needed: int) -> None:
    if size < needed:
        raise ValueError(f"ends after {size} bytes, {needed} are needed: it is damaged")
    if size > needed:
        raise ValueError(
            f"has {size} bytes, but its header promises {needed}: it is damaged, or more was "
            "written after it"
        )
