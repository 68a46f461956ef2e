"""Readers of the single-file formats: safetensors, npy and npz. Nothing is ever unpickled."""

import itertools
import os
import struct
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

from .features import FORMAT, VERSION, FeatureFileError, FeatureMetadata, Features
from .headers import TENSOR_DTYPES, NpyHeader, TensorPlace, npy_header, safetensors_header

try:
    from lzma import LZMAError
except ImportError:  # a Python without it, whose zipfile refuses what is compressed so

    class LZMAError(Exception):  # type: ignore[no-redef]
        pass


NPY_DTYPES = (np.dtype(np.float32), np.dtype(np.float16))

WITH_ARRAYS = (".npz", ".safetensors", ".parquet", ".pt", ".pth")
"""Suffixes of files whose arrays or columns have names."""

# Arrays of an npz, or entries of a pt, that can hold names of the rows, most telling first.
NAME_KEYS = ("names", "caption", "prompts", "image_id")


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
        MemoryError,  # with OverflowError: a shape that no array has
        OverflowError,
        zipfile.BadZipFile,
        struct.error,
        zlib.error,
        LZMAError,
    ) as error:
        raise FeatureFileError(f"{path}: {error}") from error


@contextmanager
def arrow_errors() -> Iterator[None]:
    """Turn pyarrow's errors into ValueErrors."""
    import pyarrow as pa

    try:
        yield
    except pa.ArrowException as error:
        raise ValueError(str(error)) from error


def open_parquet(source: Any, **options: Any) -> Any:
    """Open a parquet file; what has checksums is compared with them when it is read."""
    import pyarrow.parquet as pq

    return pq.ParquetFile(source, page_checksum_verification=True, **options)


class MappedTensors:
    """A safetensors file, memory-mapped: what is written into a tensor stays in this process."""

    def __init__(self, path: Path) -> None:
        with open(path, "rb") as file:
            self.metadata, self.places = safetensors_header(file, os.fstat(file.fileno()).st_size)
            self._bytes = torch.from_numpy(np.memmap(file, np.uint8, "c"))

    def __getitem__(self, name: str) -> torch.Tensor:
        place = self.places[name]
        if place.dtype not in TENSOR_DTYPES:
            raise ValueError(f"array {name!r} is {place.dtype}, allowed: F32, F16 or BF16")
        dtype = TENSOR_DTYPES[place.dtype]
        part = self._bytes[place.begin : place.end]
        if place.begin % dtype.itemsize:
            part = part.clone()  # numbers must lie at multiples of their size
        return part.view(dtype).view(place.shape)


def read_safetensors(path: Path, array: str | None) -> Features:
    """A file of `write_features`, or any other with one 2-D floating tensor, memory-mapped."""
    with file_errors(path):
        tensors = MappedTensors(path)
        key = choose_tensor(path, tensors.metadata, tensors.places, array)
        if is_own(tensors.metadata):
            return _read_own(tensors)
        return Features(tensors[key])


def is_own(metadata: dict[str, str]) -> bool:
    """Whether a file is one of `write_features`, of a version that can be read."""
    if metadata.get("format") != FORMAT:
        return False
    if metadata.get("version") != VERSION:
        raise ValueError(
            f"version is {metadata.get('version')!r} of {FORMAT}, allowed: {VERSION!r}"
        )
    if metadata.get("normalized") not in (None, "true", "false"):
        raise ValueError(
            f"normalized is {metadata['normalized']!r}, allowed: 'true', 'false' or absent"
        )
    return True


def choose_tensor(
    path: Path, metadata: dict[str, str], places: dict[str, TensorPlace], array: str | None
) -> str:
    """The tensor of a safetensors file to read: `array`, or the only one it can be."""
    if not is_own(metadata):
        return choose_array(
            path, {key: (of.floating, of.shape) for key, of in places.items()}, array
        )
    if array not in (None, "features"):
        raise ValueError(f"array is {array!r}, allowed here: 'features' or None")
    if "features" not in places:
        raise ValueError(f"no tensor 'features'; it holds {sorted(places)}")
    return "features"


def _read_own(tensors: MappedTensors) -> Features:
    keys, metadata = tensors.places.keys(), tensors.metadata
    names = None
    if keys & {"names.utf8", "names.offsets"}:
        if not keys >= {"names.utf8", "names.offsets"}:
            raise ValueError("has only one of the tensors 'names.utf8' and 'names.offsets'")
        names = _decode_names(tensors["names.utf8"], tensors["names.offsets"])
    normalized = metadata.get("normalized")
    return Features(
        tensors["features"],
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
        array, header = map_npy(path)
        check_npy_dtype("array", header.dtype)
        return share(array)


def map_npy(path: str | os.PathLike[str]) -> tuple[npt.NDArray[Any], NpyHeader]:
    """The array of an npy file, memory-mapped and read-only, and its header."""
    with open(path, "rb") as file:
        header = npy_header(file, os.fstat(file.fileno()).st_size)
        if header.dtype.hasobject:
            raise ValueError("array holds pickled objects, which are never loaded")
        if 0 in header.shape or not header.dtype.itemsize:
            return np.empty(header.shape, header.dtype), header
        array = np.memmap(
            file,
            header.dtype,
            "r",
            header.begin,
            header.shape,
            "F" if header.by_column else "C",
        )
        return array, header


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
        headers: dict[str, NpyHeader] = {}
        for member in archive.namelist():
            if member.endswith(".npy"):
                with archive.open(member) as file:
                    header = npy_header(file, archive.getinfo(member).file_size)
                headers[member.removesuffix(".npy")] = header
        shapes = {key: (of.dtype.kind == "f", of.shape) for key, of in headers.items()}
        key = choose_array(path, shapes, array)
        check_npy_dtype(f"array {key!r}", headers[key].dtype)
        features = share(_npz_array(archive, key))
        name_key = _npz_name_key(headers, features.shape[0]) if features.dim() == 2 else None
        names = None if name_key is None else map(str, _npz_array(archive, name_key).tolist())
        return Features(features, None if names is None else tuple(names))


def _npz_array(archive: zipfile.ZipFile, key: str) -> npt.NDArray[Any]:
    with archive.open(f"{key}.npy") as file:
        array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        file.read(1)  # the checksum is compared at the end only
        return array


def _npz_name_key(headers: dict[str, NpyHeader], rows: int) -> str | None:
    if "names" in headers:
        dtype, shape = headers["names"][:2]
        if dtype.kind != "U" or len(shape) != 1:
            raise ValueError(
                f"array 'names' is {dtype} of shape {list(shape)}, "
                "allowed: one str per row, saved as a str array"
            )
        # In a file of several feature arrays, names may belong to another one.
        others = {s[0] for d, s, _, _ in headers.values() if d.kind == "f" and len(s) == 2}
        if shape[0] not in others | {rows}:
            raise ValueError(f"array 'names' has {shape[0]} entries, allowed: {rows}, one per row")
    for key in NAME_KEYS:
        if key not in headers:
            continue
        dtype, shape = headers[key][:2]
        if shape == (rows,) and dtype.kind in ("Uiu" if key == "image_id" else "U"):
            return key
    return None
