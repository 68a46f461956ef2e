"""Features on disk: fastclip's own format, NumPy files and clip-retrieval folders."""

from __future__ import annotations

import itertools
import json
import os
import re
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from fastclip.data.features import DTYPES, FeatureMetadata, Features

FORMAT = "fastclip.features"
VERSION = "1"
NUMPY_DTYPES = (np.dtype(np.float32), np.dtype(np.float16))
NPZ_NAMES = ("names", "caption", "prompts", "image_id")
PARQUET_NAMES = {
    "img_emb": ("image_path",),
    "text_emb": ("caption",),
    None: ("name", "names", "caption", "image_path"),
}


class FeatureFileError(ValueError):
    """A file that does not hold features as it should; the message names file and reason."""

    def __init__(self, path: str | os.PathLike[str], reason: object) -> None:
        super().__init__(f"{os.fspath(path)}: {reason}")


def write_features(path: str | os.PathLike[str], features: Features) -> None:
    """Write named features to a safetensors file.

    The file appears whole or not at all. It holds the tensor ``features`` [V, d], the names as
    ``names.utf8`` (all of them, one after the other) and ``names.offsets`` [V + 1], so that a
    million names need not be parsed, and the metadata in safetensors' own header.

    Parameters
    ----------
    path : path ending in ``.safetensors``
    features : Features

    Raises
    ------
    ValueError
        The path ends otherwise.

    Examples
    --------
    >>> import tempfile, torch
    >>> from fastclip.data import Features, read_features, write_features
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_features(f"{folder}/pets.safetensors", Features(torch.eye(2), ["cat", "dog"]))
    ...     list(read_features(f"{folder}/pets.safetensors").names)
    ['cat', 'dog']
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"path: must end in .safetensors, got '{path}'")
    tensors = {"features": features.features.detach().contiguous()}
    if features.names is not None:
        encoded = [name.encode() for name in features.names]
        tensors["names.utf8"] = torch.frombuffer(
            bytearray(b"".join(encoded)) or bytearray(1), dtype=torch.uint8
        )[: sum(map(len, encoded))].clone()
        offsets = itertools.accumulate(map(len, encoded), initial=0)
        tensors["names.offsets"] = torch.tensor(list(offsets), dtype=torch.int64)
    known = {name: value for name, value in vars(features.metadata).items() if value is not None}
    header = {"format": FORMAT, "version": VERSION, "metadata": json.dumps(known)}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata=header)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place if the block succeeds."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp's own mode is for the owner alone
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_features(path: str | os.PathLike[str], *, array: str | None = None) -> Features:
    """Read features from whatever ``path`` is. Nothing is ever unpickled.

    Parameters
    ----------
    path : path
        - ``.safetensors`` as :func:`write_features` makes it, or any with one 2-D float tensor;
          memory-mapped.
        - ``.npy``: [V, d] float32 or float16; memory-mapped.
        - ``.npz``: names are taken from ``names``, ``caption``, ``prompts`` or ``image_id``.
        - a folder of ``.npy`` shards with their metadata parquet as clip-retrieval writes them:
          its ``img_emb`` or ``text_emb``, the folder above where it has only one of the two, or
          shards and ``metadata*.parquet`` side by side. Shards are taken in the order of their
          numbers; a single one is memory-mapped.
    array : str, optional
        Which array or tensor to read, where a ``.npz`` or ``.safetensors`` holds several.

    Returns
    -------
    Features
        What the file does not say about itself is None.

    Raises
    ------
    FileNotFoundError
        There is nothing at ``path``.
    FeatureFileError
        The file is truncated, has a wrong dtype or shape, holds pickled objects or is no known
        kind; the message names the file and the reason.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from fastclip.data import read_features
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/images.npy", np.ones((3, 4), np.float32))
    ...     read_features(f"{folder}/images.npy")
    Features(3 x 4, no names)
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    if array is not None and path.suffix not in (".npz", ".safetensors"):
        raise FeatureFileError(path, f"only .npz and .safetensors hold named arrays ({array!r})")
    if path.is_dir():
        return _read_shards(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path, array)
    if path.suffix == ".npy":
        return Features(_as_tensor(_read_npy(path)))
    if path.suffix == ".npz":
        return _read_npz(path, array)
    raise FeatureFileError(
        path, "features are read from .safetensors, .npy, .npz and folders of .npy shards"
    )


def _read_safetensors(path: Path, array: str | None) -> Features:
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise FeatureFileError(path, f"not a whole safetensors file ({error})") from error
    own = header.get("format") == FORMAT
    if own and header.get("version") != VERSION:
        raise FeatureFileError(
            path, f"version {header.get('version')} of {FORMAT}; this fastclip reads {VERSION}"
        )
    if array is None:
        array = "features" if own else _only_matrix(path, tensors)
    if array not in tensors:
        raise FeatureFileError(path, f"no tensor {array!r}; it holds {sorted(tensors)}")
    features = tensors[array]
    if features.dtype not in DTYPES or features.ndim != 2:
        raise FeatureFileError(path, _expected(array, features.dtype, features.shape))
    if not own or array != "features":
        return Features(features)
    return Features(features, _decode_names(path, tensors, len(features)), _metadata(path, header))


def _decode_names(
    path: Path, tensors: dict[str, torch.Tensor], rows: int
) -> tuple[str, ...] | None:
    text, offsets = tensors.get("names.utf8"), tensors.get("names.offsets")
    if text is None and offsets is None:
        return None
    if text is None or offsets is None:
        raise FeatureFileError(path, "one of the tensors names.utf8 and names.offsets is missing")
    if text.dtype != torch.uint8 or offsets.dtype != torch.int64 or offsets.shape != (rows + 1,):
        raise FeatureFileError(
            path,
            f"names must be uint8 with {rows + 1} int64 offsets, got {text.dtype} with "
            f"{tuple(offsets.shape)} {offsets.dtype}",
        )
    ends = offsets.tolist()
    if ends[0] != 0 or ends[-1] != len(text) or any(a > b for a, b in itertools.pairwise(ends)):
        raise FeatureFileError(path, f"names.offsets must rise from 0 to {len(text)}")
    data = text.numpy().tobytes()
    try:
        return tuple(data[a:b].decode() for a, b in itertools.pairwise(ends))
    except UnicodeDecodeError as error:
        raise FeatureFileError(path, f"names are not UTF-8 ({error})") from error


def _metadata(path: Path, header: dict[str, str]) -> FeatureMetadata:
    try:
        return FeatureMetadata(**json.loads(header.get("metadata", "{}")))
    except (TypeError, ValueError) as error:
        raise FeatureFileError(path, f"unreadable metadata ({error})") from error


def _read_npy(path: Path) -> np.ndarray[Any, Any]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise FeatureFileError(path, _unreadable("npy", error)) from error
    if not isinstance(array, np.ndarray):
        raise FeatureFileError(path, "not an npy file, whatever its name says")
    _check_matrix(path, "the array", array)
    return array


def _read_npz(path: Path, array: str | None) -> Features:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {}
            for name in file.files:
                try:
                    arrays[name] = file[name]
                except ValueError as error:
                    raise FeatureFileError(
                        path, f"array {name!r}: {_unreadable('npz', error)}"
                    ) from error
    except FeatureFileError:
        raise
    # NumPy gives an array, without a context, for an npy file under another name.
    except (ValueError, EOFError, OSError, TypeError, zipfile.BadZipFile, KeyError) as error:
        raise FeatureFileError(path, _unreadable("npz", error)) from error
    if array is None:
        array = _only_matrix(path, arrays)
    if array not in arrays:
        raise FeatureFileError(path, f"no array {array!r}; it holds {sorted(arrays)}")
    features = arrays[array]
    _check_matrix(path, f"array {array!r}", features)
    for name in NPZ_NAMES:
        names = arrays.get(name)
        if names is not None and names.dtype.kind in "Uiu" and names.shape == features.shape[:1]:
            return Features(_as_tensor(features), tuple(map(str, names.tolist())))
    return Features(_as_tensor(features))


def _read_shards(folder: Path) -> Features:
    kinds = [kind for kind in ("img_emb", "text_emb") if (folder / kind).is_dir()]
    if len(kinds) == 2:
        raise FeatureFileError(folder, "has images and texts; name its img_emb or its text_emb")
    if kinds:
        folder = folder / kinds[0]
    shards = sorted(folder.glob("*.npy"), key=_number)
    if not shards:
        raise FeatureFileError(folder, "holds no .npy shards, nor img_emb or text_emb folders")
    arrays = [_read_npy(shard) for shard in shards]
    for shard, array in zip(shards, arrays, strict=True):
        if array.shape[1] != arrays[0].shape[1] or array.dtype != arrays[0].dtype:
            raise FeatureFileError(
                shard,
                f"rows of {array.shape[1]} {array.dtype}, but {shards[0].name} has rows of "
                f"{arrays[0].shape[1]} {arrays[0].dtype}",
            )
    features = _as_tensor(arrays[0] if len(arrays) == 1 else np.concatenate(arrays))
    return Features(features, _shard_names(folder, [len(array) for array in arrays]))


def _shard_names(folder: Path, rows: Sequence[int]) -> tuple[str, ...] | None:
    import pyarrow
    import pyarrow.parquet

    kind = folder.name if folder.name in PARQUET_NAMES else None
    tables = sorted(folder.glob("metadata*.parquet"), key=_number)
    tables = tables or sorted((folder.parent / "metadata").glob("*.parquet"), key=_number)
    if not tables:
        return None
    if len(tables) != len(rows):
        raise FeatureFileError(folder, f"{len(rows)} .npy shards but {len(tables)} parquet files")
    names: list[str] = []
    for table, count in zip(tables, rows, strict=True):
        try:
            file = pyarrow.parquet.ParquetFile(table)
            if file.metadata.num_rows != count:
                raise FeatureFileError(
                    table, f"{file.metadata.num_rows} rows for {count} rows of features"
                )
            column = next((c for c in PARQUET_NAMES[kind] if c in file.schema_arrow.names), None)
            if column is None:
                return None
            values = file.read([column]).column(column).to_pylist()
        except (pyarrow.ArrowException, OSError) as error:
            raise FeatureFileError(table, f"not a whole parquet file ({error})") from error
        names.extend("" if value is None else str(value) for value in values)
    return tuple(names)


def _number(path: Path) -> tuple[int, str]:
    digits = re.findall(r"\d+", path.stem)
    return (int(digits[-1]) if digits else -1, path.name)


def _only_matrix(path: Path, arrays: dict[str, Any]) -> str:
    found = [
        name
        for name, array in arrays.items()
        if array.ndim == 2 and array.dtype in (*DTYPES, *NUMPY_DTYPES)
    ]
    if len(found) == 1:
        return found[0]
    shapes = {name: f"{array.dtype} {list(array.shape)}" for name, array in arrays.items()}
    what = f"{len(found)} arrays" if found else "no array"
    raise FeatureFileError(
        path, f"{what} of shape [V, d] in float32 or float16, name the one to read: {shapes}"
    )


def _check_matrix(path: Path, what: str, array: np.ndarray[Any, Any]) -> None:
    if array.dtype not in NUMPY_DTYPES or array.ndim != 2:
        raise FeatureFileError(path, _expected(what, array.dtype, array.shape))


def _expected(what: str, dtype: object, shape: Sequence[int]) -> str:
    return f"{what} must be [V, d] in float32 or float16 (or bfloat16), got {dtype} {list(shape)}"


def _unreadable(kind: str, error: Exception) -> str:
    if "allow_pickle" in str(error):
        return "holds pickled objects, which are never loaded"
    return f"not a whole {kind} file ({error})"


def _as_tensor(array: np.ndarray[Any, Any]) -> torch.Tensor:
    with warnings.catch_warnings():
        # A memory map is read-only; so are, by agreement, the features made of it.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
