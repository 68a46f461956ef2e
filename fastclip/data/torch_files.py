"""Reader of files of torch.save: tensors, texts and numbers; nothing else is ever unpickled."""

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from .features import Features
from .formats import NAME_KEYS, choose_array, file_errors

SUFFIXES = (".pt", ".pth")
_ADVICE = "save the tensor alone, or a dict of tensors"


def read_torch(path: Path, array: str | None) -> Features:
    """A tensor, or a dict with one 2-D floating tensor; memory-mapped where torch can do that.

    Rows are named by a list of texts in the dict, under a key of `NAME_KEYS`.
    """
    with file_errors(path):
        content = _loaded(path)
        if isinstance(content, torch.Tensor):
            if array is not None:
                raise ValueError(f"no array {array!r}; it holds one tensor without a name")
            return Features(_plain("the tensor", content))
        if not isinstance(content, dict):
            raise ValueError(f"holds a {type(content).__name__}: {_ADVICE}")
        tensors = {str(k): x for k, x in content.items() if isinstance(x, torch.Tensor)}
        shapes = {key: (x.is_floating_point(), tuple(x.shape)) for key, x in tensors.items()}
        key = choose_array(path, shapes, array)
        rows = _plain(f"array {key!r}", tensors[key])
        return Features(rows, _names(content, len(rows)) if rows.dim() else None)


def _loaded(path: Path) -> Any:
    mapped = zipfile.is_zipfile(path)  # older files have their tensors in the pickle
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on what makes an error here, or no difference
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"damaged, or holds objects other than tensors, which are never loaded: {_ADVICE}"
        ) from error
    except Exception as error:  # of a pickle that was damaged: whatever its commands then do
        raise ValueError(
            f"cannot be loaded ({type(error).__name__}: {error}): {_ADVICE}"
        ) from error


def _plain(name: str, tensor: torch.Tensor) -> torch.Tensor:
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise ValueError(f"{name} is sparse or quantised, allowed: a plain tensor")
    return tensor.detach()


def _names(content: dict[Any, Any], rows: int) -> list[str] | None:
    for key in NAME_KEYS:
        names = content.get(key)
        if isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names):
            if len(names) != rows:
                raise ValueError(f"{key!r} has {len(names)} entries, allowed: {rows}, one per row")
            return list(names)
    return None
