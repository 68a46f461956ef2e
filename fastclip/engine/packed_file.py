"""The file that packed keys are kept in.

safetensors with the tensors ``codes`` [ceil(V / 32), w / 4, 32, 4] uint8, ``bounds``
[3, ceil(V / 32), 32] and ``center`` [d] float32 and, unless left out, ``rows`` [V, d]; the metadata
tell format, version, encoding, V, d, the rows' dtype and a checksum of some of them. ``rows`` alone
is 2-D, so that any reader of feature files finds the keys.
"""

import hashlib
from pathlib import Path

import torch

from fastclip import _C
from fastclip.data.files import bytes_of, write_safetensors
from fastclip.data.formats import MappedTensors, file_errors
from fastclip.engine.checks import DTYPES, Array, as_rows, short, with_adjacent_elements
from fastclip.engine.tensors import check_memory

FORMAT = "fastclip.packed_keys"
VERSION = "1"

_CHECKED_ROWS = 64
_ROW_DTYPES = {short(dtype): dtype for dtype in DTYPES}


def write_packed(
    path: Path, rows: torch.Tensor, screen: list[torch.Tensor], encoding: int, with_rows: bool
) -> None:
    """Write ``path``, all of it or nothing; ``screen`` is codes, bounds and center."""
    if path.suffix != ".safetensors":
        raise ValueError(f"path is {str(path)!r}, allowed: a name that ends in .safetensors")
    codes, bounds, center = screen
    # Codes first: they fill whole cache lines and so keep the others aligned.
    tensors = {
        "codes": codes,
        "bounds": bounds.view(3, len(codes), _C.panel),
        "center": center,
    }
    if with_rows:
        tensors["rows"] = rows
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "encoding": str(encoding),
        "keys": str(rows.shape[0]),
        "width": str(rows.shape[1]),
        "dtype": short(rows.dtype),
        "sha256_of_some_rows": _checksum(rows),
    }
    write_safetensors(path, tensors, metadata)


def read_packed(path: Path, rows: Array | None, encoding: int) -> list[torch.Tensor]:
    """Return rows, codes, bounds and center, memory-mapped; ``rows`` if the file has none."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    with file_errors(path):
        file = MappedTensors(path)
        metadata = file.metadata
        for key, allowed in (
            ("format", FORMAT),
            ("version", VERSION),
            ("encoding", str(encoding)),
        ):
            if metadata.get(key) != allowed:
                raise ValueError(
                    f"{key} is {metadata.get(key)!r}, this version of fastclip reads {allowed!r}"
                )
        tensors = {name: file[name] for name in file.places}
        shape = _check(metadata, tensors)
    if "rows" not in tensors:
        dtype = _ROW_DTYPES[metadata["dtype"]]
        tensors["rows"] = _check_rows(path, rows, shape, dtype, metadata["sha256_of_some_rows"])
    elif rows is not None:
        raise ValueError(f"rows: must be None, {path} holds the rows")
    bounds = tensors["bounds"].view(3, -1 if shape[0] else 0)
    return [tensors["rows"], tensors["codes"], bounds, tensors["center"]]


def _check(metadata: dict[str, str], tensors: dict[str, torch.Tensor]) -> tuple[int, int]:
    """Return (V, d) if metadata and tensors agree; raise ValueError or TypeError otherwise."""
    for key in ("keys", "width"):
        if not metadata.get(key, "").isdecimal():
            raise ValueError(f"{key} is {metadata.get(key)!r}, allowed: a whole number")
    if metadata.get("dtype") not in _ROW_DTYPES:
        raise ValueError(f"dtype is {metadata.get('dtype')!r}, allowed: {', '.join(_ROW_DTYPES)}")
    if "sha256_of_some_rows" not in metadata:
        raise ValueError("sha256_of_some_rows is missing")
    count, width = int(metadata["keys"]), int(metadata["width"])
    _check_tensor(tensors, "center", torch.float32, (width,))  # so the width is no absurd one
    panels = -(-count // _C.panel)
    _check_tensor(tensors, "codes", torch.uint8, (panels, _C.code_width(width) // 4, _C.panel, 4))
    _check_tensor(tensors, "bounds", torch.float32, (3, panels, _C.panel))
    if "rows" in tensors:
        _check_tensor(tensors, "rows", _ROW_DTYPES[metadata["dtype"]], (count, width))
    return count, width


def _check_tensor(
    tensors: dict[str, torch.Tensor], name: str, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    if name not in tensors:
        raise ValueError(f"no tensor {name!r}; it holds {sorted(tensors)}")
    found = tensors[name]
    if found.dtype != dtype or found.shape != shape:
        raise ValueError(
            f"{name} is {short(found.dtype)} of shape {tuple(found.shape)}, "
            f"needed: {short(dtype)} of shape {shape}"
        )


def _check_rows(
    path: Path, rows: Array | None, shape: tuple[int, int], dtype: torch.dtype, checksum: str
) -> torch.Tensor:
    if rows is None:
        raise ValueError(f"rows: needed, since {path} was saved without them")
    given = as_rows("rows", rows).detach()
    check_memory("rows", given)
    given = with_adjacent_elements(given)
    if given.device.type != "cpu":
        raise ValueError(f"rows: is on device '{given.device}', 'cpu' is needed")
    if given.shape != shape:
        raise ValueError(f"rows: {path} has packed keys of shape {shape}, got {tuple(given.shape)}")
    if given.dtype != dtype:
        raise TypeError(f"rows: {path} has packed keys of {short(dtype)}, got {short(given.dtype)}")
    if _checksum(given) != checksum:
        raise ValueError(f"rows: are not the keys packed in {path}")
    return given


def _checksum(rows: torch.Tensor) -> str:
    """Return SHA-256 of up to 64 rows, evenly spaced from the first to the last."""
    count = min(len(rows), _CHECKED_ROWS)
    at = torch.arange(count, device=rows.device) * (len(rows) - 1) // max(count - 1, 1)
    return hashlib.sha256(bytes_of(rows[at]).numpy().data).hexdigest()
