"""Features of an image's pixels from several views of it: scales, its mirror image, windows."""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, SupportsIndex

import torch

from fastclip.engine.checks import as_number
from fastclip.ttd.labels import resized

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

    from fastclip.models import Model


def dense_features(
    model: Model,
    image: PilImage | str | os.PathLike[str],
    *,
    size: SupportsIndex = 448,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    window: SupportsIndex | None = None,
    method: str = "value",
) -> torch.Tensor:
    """Encode an image's patches, averaged over scales, flips and overlapping windows.

    A tag's score is linear in them, so that the scores of the mean features are the mean scores:
    averages over views cost the same for one tag and for thousands. Features of each view have unit
    length; those of each scale are brought to the grid of the largest one (bilinear) and
    averaged, not normalised again.

    Parameters
    ----------
    model : Model
    image : PIL image or path
    size : int
        Shorter side in pixels; both sides are rounded to whole patches.
    scales : sequence of float
        Of that size, each above 0.
    flip : bool
        Average with the mirrored image.
    window : int, optional
        Encode squares of this side, half overlapping, and average where they overlap; must
        be whole patches. Default: the whole image at once, whatever its size.
    method : str
        As in `Model.encode_pixels`.

    Returns
    -------
    tensor [1, d, h, w], float32
        (h, w) is the number of patches at the largest scale.

    Raises
    ------
    TypeError, FileNotFoundError
        An argument is of another kind, or the image is missing.
    ValueError
        The image cannot be read or is smaller than a patch, or a number is out of range.

    Examples
    --------
    >>> import fastclip
    >>> from PIL import Image
    >>> model = fastclip.models.load("tiny")
    >>> features = fastclip.ttd.dense_features(
    ...     model, Image.new("RGB", (200, 100)), size=64, scales=(1.0, 2.0), flip=True
    ... )
    >>> features.shape  # 128 x 256 pixels, patches of 8 x 8
    torch.Size([1, 128, 16, 32])
    """
    picture = read_picture(image)
    patch = model.patch_size
    if patch is None:
        raise ValueError("model: has no features of pixels")
    shorter = operator.index(size)
    if shorter < min(patch):
        raise ValueError(f"size: must be at least a patch, {min(patch)} pixels, got {shorter}")
    if picture.height < patch[0] or picture.width < patch[1]:
        raise ValueError(
            f"image: must be at least a patch of {patch[0]} x {patch[1]} pixels, "
            f"got {picture.height} x {picture.width}"
        )
    factors = [as_number("scales", scale) for scale in scales]
    if not factors or min(factors) <= 0:
        raise ValueError(f"scales: one or more numbers above 0 are needed, got {tuple(scales)}")
    side = None if window is None else operator.index(window)
    if side is not None and (side < 1 or side % patch[0] or side % patch[1]):
        raise ValueError(f"window: whole patches of {patch[0]} x {patch[1]} are needed, got {side}")
    found = []
    for factor in sorted(factors, reverse=True):
        ratio = shorter * factor / min(picture.size)
        shape = [
            max(1, round(length * ratio / cell)) * cell
            for length, cell in zip((picture.height, picture.width), patch, strict=True)
        ]
        pixels = model.prepare([picture], size=shape)
        found.append(_encoded(model, pixels, patch, side, flip, method))
    grid = found[0].shape[2:]
    return torch.stack([resized(features, grid) for features in found]).mean(0)


def _encoded(
    model: Model,
    pixels: torch.Tensor,
    patch: tuple[int, int],
    window: int | None,
    flip: bool,
    method: str,
) -> torch.Tensor:
    """Mean features [1, d, h, w] of one scale, over windows and flips."""
    height, width = pixels.shape[2:]
    tall, wide = (min(window or n, n) for n in (height, width))
    corners = [
        (y, x) for y in _starts(height, tall, patch[0]) for x in _starts(width, wide, patch[1])
    ]
    views = torch.cat([pixels[:, :, y : y + tall, x : x + wide] for y, x in corners])
    features = model.encode_pixels(views, method=method)
    if flip:
        features = (features + model.encode_pixels(views.flip(3), method=method).flip(3)) / 2
    h, w = height // patch[0], width // patch[1]
    total = features.new_zeros(1, features.shape[1], h, w)
    times = features.new_zeros(h, w)
    for (y, x), part in zip(corners, features, strict=True):
        rows = slice(y // patch[0], y // patch[0] + part.shape[1])
        columns = slice(x // patch[1], x // patch[1] + part.shape[2])
        total[0, :, rows, columns] += part
        times[rows, columns] += 1
    return total / times


def _starts(length: int, window: int, cell: int) -> list[int]:
    """Where windows begin: half a window apart, in whole cells, the last one at the end."""
    stride = max(1, window // 2 // cell) * cell
    return [*range(0, length - window, stride), length - window]


def read_picture(image: PilImage | str | os.PathLike[str]) -> PilImage:
    from PIL import Image

    from fastclip.models._images import as_rgb, check_pictures

    if not isinstance(image, (str, os.PathLike, Image.Image)):
        raise TypeError(f"image: a PIL image or a path is needed, got {type(image).__name__}")
    check_pictures("image", [image])
    return as_rgb(image)
