"""Readers of the single-file formats: safetensors, npy and npz. Nothing is ever unpickled."""

from __future__ import annotations

import itertools
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open

from .features import FORMAT, VERSION, FeatureFileError, FeatureMetadata, Features

NPY_DTYPES = (np.dtype(np.float32), np.dtype(np.float16))

# Arrays of an npz that can hold the names of the rows, most telling first.
_NPZ_NAMES = ("names", "caption", "prompts", "image_id")


@contextmanager
def file_errors(path: Path | str) -> Iterator[None]:
    """Turn what a broken file makes its reader raise into a FeatureFileError."""
    try:
        yield
    except FeatureFileError:
        raise
    except (
        OSError,
        ValueError,
        TypeError,
        EOFError,
        NotImplementedError,  # a zip compression that this Python lacks
        RuntimeError,  # an encrypted zip
        SyntaxError,  # with TokenError: a damaged npy header
        tokenize.TokenError,
        MemoryError,  # with OverflowError: a shape that no array has
        OverflowError,
        zipfile.BadZipFile,
        zlib.error,
        SafetensorError,
    ) as error:
        raise FeatureFileError(f"{path}: {error}") from error


def read_safetensors(path: Path, array: str | None) -> Features:
    """A file of `write_features`, or any other with one 2-D floating tensor, memory-mapped."""
    with file_errors(path), safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if metadata.get("format") == FORMAT:
            if array not in (None, "features"):
                raise ValueError(f"array is {array!r}, allowed here: 'features' or None")
            return _read_own(file, metadata)
        shapes = {key: _safetensors_shape(file, key) for key in file.keys()}  # noqa: SIM118
        return Features(file.get_tensor(choose_array(path, shapes, array)))


def _safetensors_shape(file: Any, key: str) -> tuple[bool, tuple[int, ...]]:
    view = file.get_slice(key)
    return "F" in view.get_dtype(), tuple(view.get_shape())


def _read_own(file: Any, metadata: dict[str, str]) -> Features:
    version = metadata.get("version")
    if version != VERSION:
        raise ValueError(f"version is {version!r} of {FORMAT}, allowed: {VERSION!r}")
    keys = set(file.keys())
    if "features" not in keys:
        raise ValueError(f"no tensor 'features'; it holds {sorted(keys)}")
    features = file.get_tensor("features")
    names = None
    if keys & {"names.utf8", "names.offsets"}:
        if not keys >= {"names.utf8", "names.offsets"}:
            raise ValueError("has only one of the tensors 'names.utf8' and 'names.offsets'")
        names = _decode_names(file.get_tensor("names.utf8"), file.get_tensor("names.offsets"))
    normalized = metadata.get("normalized")
    if normalized not in (None, "true", "false"):
        raise ValueError(f"normalized is {normalized!r}, allowed: 'true', 'false' or absent")
    return Features(
        features,
        names,
        FeatureMetadata(
            metadata.get("model"),
            metadata.get("pretrained"),
            metadata.get("template"),
            None if normalized is None else normalized == "true",
        ),
    )


def _decode_names(utf8: torch.Tensor, offsets: torch.Tensor) -> list[str]:
    for name, tensor, dtype in (
        ("names.utf8", utf8, torch.uint8),
        ("names.offsets", offsets, torch.int64),
    ):
        if tensor.dtype != dtype or tensor.dim() != 1:
            raise ValueError(
                f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}, allowed: {dtype}, 1-D"
            )
    borders = offsets.tolist()
    if not borders or borders[0] != 0 or borders[-1] != len(utf8) or (offsets.diff() < 0).any():
        raise ValueError(
            f"names.offsets is not a non-decreasing sequence from 0 to {len(utf8)}, "
            "the length of names.utf8"
        )
    text = utf8.numpy().tobytes()
    names = []
    for i, (start, stop) in enumerate(itertools.pairwise(borders)):
        try:
            names.append(text[start:stop].decode())
        except UnicodeDecodeError as error:
            raise ValueError(f"name {i} is not UTF-8: {error}") from error
    return names


def choose_array(
    path: Path, shapes: dict[str, tuple[bool, tuple[int, ...]]], array: str | None
) -> str:
    """The key to read: `array`, or the only 2-D floating one.

    ``shapes`` gives, for each key, whether it is floating and its shape.
    """
    if array is not None:
        if array not in shapes:
            raise ValueError(f"no array {array!r}; it holds {', '.join(shapes) or 'none'}")
        return array
    found = [key for key, (floating, shape) in shapes.items() if floating and len(shape) == 2]
    if not found:
        raise ValueError(f"no 2-D floating array; it holds {_describe(shapes) or 'no array'}")
    if len(found) > 1:
        raise ValueError(
            f"holds several 2-D floating arrays ({', '.join(found)}): name one by array=, "
            f"or on the command line as {path.name}:{found[0]}"
        )
    return found[0]


def _describe(shapes: dict[str, tuple[bool, tuple[int, ...]]]) -> str:
    return ", ".join(f"{key} {list(shape)}" for key, (_, shape) in shapes.items())


def read_npy(path: Path) -> torch.Tensor:
    """The array of an npy file, [V, d], memory-mapped and read-only."""
    with file_errors(path):
        with open(path, "rb") as file:
            dtype, _, _ = npy_header(file)
        check_npy_dtype("array", dtype)
        return share(np.lib.format.open_memmap(path, mode="r"))


def npy_header(file: Any) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    """The type and shape of an npy file, and whether it goes column by column."""
    version = np.lib.format.read_magic(file)
    # Version 3 exists for field names that are not latin-1: never an array of numbers.
    if version == (1, 0):
        shape, by_column, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, by_column, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"npy version {version}, allowed: (1, 0) and (2, 0)")
    return dtype, shape, by_column


def check_npy_dtype(name: str, dtype: np.dtype[Any]) -> None:
    """Refuse what torch could not share, or what only a pickle could give."""
    if dtype.hasobject:
        raise ValueError(f"{name} holds pickled objects, which are never loaded")
    if dtype not in NPY_DTYPES:
        raise ValueError(
            f"{name} has dtype {dtype.newbyteorder('=') if dtype.isnative else dtype.str}, "
            f"allowed: {', '.join(map(str, NPY_DTYPES))}"
        )


def share(array: npt.NDArray[Any]) -> torch.Tensor:
    """A tensor in the memory of `array`, which may be read-only."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def read_npz(path: Path, array: str | None) -> Features:
    """A 2-D floating array of an npz file and its names."""
    with file_errors(path), zipfile.ZipFile(path) as archive:
        headers: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
        for member in archive.namelist():
            if member.endswith(".npy"):
                with archive.open(member) as file:
                    headers[member.removesuffix(".npy")] = npy_header(file)[:2]
        shapes = {key: (dtype.kind == "f", shape) for key, (dtype, shape) in headers.items()}
        key = choose_array(path, shapes, array)
        check_npy_dtype(f"array {key!r}", headers[key][0])
        features = share(_npz_array(archive, key))
        name_key = _npz_name_key(headers, features.shape[0]) if features.dim() == 2 else None
        names = None if name_key is None else map(str, _npz_array(archive, name_key).tolist())
        return Features(features, None if names is None else tuple(names))


def _npz_array(archive: zipfile.ZipFile, key: str) -> npt.NDArray[Any]:
    with archive.open(f"{key}.npy") as file:
        array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        return array


def _npz_name_key(
    headers: dict[str, tuple[np.dtype[Any], tuple[int, ...]]], rows: int
) -> str | None:
    if "names" in headers:
        dtype, shape = headers["names"]
        if dtype.kind != "U" or len(shape) != 1:
            raise ValueError(
                f"array 'names' is {dtype} of shape {list(shape)}, "
                "allowed: one str per row, saved as a str array"
            )
        # In a file of several feature arrays, names may belong to another one.
        others = {s[0] for d, s in headers.values() if d.kind == "f" and len(s) == 2}
        if shape[0] not in others | {rows}:
            raise ValueError(f"array 'names' has {shape[0]} entries, allowed: {rows}, one per row")
    for key in _NPZ_NAMES:
        dtype, shape = headers.get(key, (np.dtype(object), ()))
        if shape == (rows,) and dtype.kind in ("Uiu" if key == "image_id" else "U"):
            return key
    return None
