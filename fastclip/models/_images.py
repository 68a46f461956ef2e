"""From pictures and paths to RGB pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import torch

from fastclip.data.image_decoding import decode_image, to_rgb

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

Picture: TypeAlias = "PilImage | str | os.PathLike[str] | torch.Tensor"
"""A PIL image, the path of an image file, or a preprocessed float tensor [3, H, W]."""

_ALLOWED = "PIL images, paths, or preprocessed float tensors [3, H, W]"


def check_pictures(name: str, pictures: Sequence[Picture] | torch.Tensor) -> None:
    """Check the argument ``name``: a sequence of pictures, or a float tensor [B, 3, H, W]."""
    if isinstance(pictures, torch.Tensor):
        if pictures.ndim != 4 or pictures.shape[1] != 3:
            raise ValueError(f"{name}: shape [B, 3, H, W] is needed, got {tuple(pictures.shape)}")
        _check_float(name, pictures)
        return
    if isinstance(pictures, (str, bytes, os.PathLike)) or not isinstance(pictures, Sequence):
        raise TypeError(
            f"{name}: a sequence of {_ALLOWED}, or a tensor [B, 3, H, W] is needed, "
            f"got {type(pictures).__name__}"
        )
    for i, picture in enumerate(pictures):
        _check_picture(f"{name}[{i}]", picture)


def _check_picture(name: str, picture: Picture) -> None:
    from PIL import Image

    if isinstance(picture, torch.Tensor):
        if picture.ndim != 3 or picture.shape[0] != 3:
            raise ValueError(f"{name}: shape [3, H, W] is needed, got {tuple(picture.shape)}")
        _check_float(name, picture)
    elif isinstance(picture, (str, os.PathLike)):
        if not os.path.isfile(picture):
            raise FileNotFoundError(f"{name}: {os.fspath(picture)}: no such file")
    elif not isinstance(picture, Image.Image):
        raise TypeError(f"{name}: {_ALLOWED} are allowed, got {type(picture).__name__}")


def _check_float(name: str, tensor: torch.Tensor) -> None:
    if not tensor.is_floating_point():
        raise TypeError(
            f"{name}: a preprocessed tensor of floating-point numbers is needed, got {tensor.dtype}"
        )


def as_rgb(picture: PilImage | str | os.PathLike[str]) -> PilImage:
    """Return the picture, upright, in RGB; what is transparent shows white behind it.

    Raises ValueError, with its path, for a file that is no image or is damaged.
    """
    if not isinstance(picture, (str, os.PathLike)):
        return to_rgb(picture)
    try:
        return decode_image(Path(picture).read_bytes())
    except ValueError as error:
        raise ValueError(f"{os.fspath(picture)}: {error}") from error
