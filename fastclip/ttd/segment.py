"""Label maps of images: which of any number of tags is where?"""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex

import torch
import torch.nn.functional as F

from fastclip.ops import PackedKeys, pixel_labels, refine_masks
from fastclip.ops._arguments import Array, as_keys, as_number, as_rows
from fastclip.ttd._texts import check_context

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

    from fastclip.models import Model

_AT_ONCE = 1 << 26  # numbers of the maps that are refined together


class Segmentation(NamedTuple):
    """The best tag of each pixel."""

    labels: torch.Tensor
    """[H, W] int64: rows of tags, -1 for the background."""
    scores: torch.Tensor
    """[H, W] float32: mean cosines with the best tag; the background's where it is the best."""


def segment(
    model: Model,
    image: PilImage | str | os.PathLike[str],
    tags: Sequence[str] | Array | PackedKeys,
    *,
    background: float | None = None,
    templates: Sequence[str] = ("a photo of a {}.",),
    refine: bool = False,
    size: SupportsIndex = 448,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    window: SupportsIndex | None = None,
    method: str = "value",
) -> Segmentation:
    """Label each pixel of an image with the best of any number of tags.

    `dense_features`, then `label_features`. TTD evaluates with ``scales=(1.0, 0.5, 1.5, 2.0),
    flip=True, window=448, refine=True``, ImageNet's templates, and backgrounds of 0.40 or 0.45 on
    the map ``sigmoid(10 * cosine - 2.5)`` of its model, which are cosines of 0.21 and 0.23.

    Parameters
    ----------
    model : Model
    image : PIL image or path
    tags : sequence of T str, or their features [T, d], or PackedKeys
        Thousands are no problem.
    background, refine
        As in `label_features`; refined by this image.
    templates : sequence of str
        Prompts whose features are averaged, where tags are str. "{}" alone takes them as they
        are: then a whole caption can be the only tag.
    size, scales, flip, window, method
        As in `dense_features`.

    Returns
    -------
    Segmentation
        At the size of the image.

    Raises
    ------
    TypeError, FileNotFoundError
        An argument is of another kind, or the image is missing.
    ValueError
        The image cannot be read or is smaller than a patch, there are no tags, one does not fit
        the model's context, or a number is out of range.

    Examples
    --------
    >>> import fastclip
    >>> from PIL import Image
    >>> model = fastclip.models.load("tiny")
    >>> halves = Image.new("RGB", (128, 96), "white")
    >>> halves.paste("red", (0, 0, 64, 96))
    >>> fastclip.ttd.segment(model, halves, ["apple", "snow"], size=96).labels.shape
    torch.Size([96, 128])
    """
    picture = _picture(image)
    if not isinstance(tags, PackedKeys) and _are_texts(tags):
        tags = encode_tags(model, tags, templates)
    features = dense_features(
        model, picture, size=size, scales=scales, flip=flip, window=window, method=method
    )
    shape = (picture.height, picture.width)
    guide = model.prepare([picture], size=shape).float() if refine else None
    return label_features(features, tags, shape, background=background, refine_by=guide)


def encode_tags(
    model: Model, tags: Sequence[str], templates: Sequence[str] = ("a photo of a {}.",)
) -> torch.Tensor:
    """Features [T, d] of tags in prompts, averaged; ValueError for one that does not fit.

    Examples
    --------
    >>> import fastclip
    >>> fastclip.ttd.encode_tags(fastclip.models.load("tiny"), ["cat", "dog"]).shape
    torch.Size([2, 128])
    """
    if len(tags) == 0:
        raise ValueError("tags: at least one is needed, got none")
    longest = max(templates, key=len, default="{}")
    check_context("tags", [longest.replace("{}", tag) for tag in tags], model)
    return model.encode_text(tags, templates=templates)


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
    """Features of an image's patches, averaged over scales, flips and overlapping windows.

    A tag's score is linear in them, so that the scores of the mean features are the mean scores:
    averages over views cost the same for one tag and for thousands. Features of each view have unit
    length; those of each scale are brought to the grid of the largest one (bilinear) and
    averaged, not normalised again.

    Parameters
    ----------
    model : Model
    image : PIL image or path
    size : int
        Of the shorter side in pixels; both sides are rounded to whole patches.
    scales : sequence of float
        Of that size, each above 0.
    flip : bool
        Average with the mirrored image.
    window : int, optional
        Encode squares of so many pixels, half overlapping, and average where they overlap; must
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
    picture = _picture(image)
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
    return torch.stack([_resized(features, grid) for features in found]).mean(0)


def label_features(
    pixel_features: Array,
    tag_features: Array | PackedKeys,
    size: Sequence[SupportsIndex],
    *,
    background: float | None = None,
    refine_by: torch.Tensor | None = None,
) -> Segmentation:
    """Label each pixel with its best tag, whose map is up-sampled (bilinear).

    The same as ``interpolate(einsum("bdhw,td->bthw", pixels, tags), size).max(1)``, by
    `fastclip.pixel_labels` without the maps of all tags. Equal scores: the lower tag.

    Parameters
    ----------
    pixel_features : tensor or array [1, d, h, w]
    tag_features : tensor or array [T, d], or PackedKeys
    size : (H, W)
    background : float, optional
        Pixels whose best score is below this get label -1.
    refine_by : tensor [1, 3, H, W], optional
        The image: refine each up-sampled map by it (`fastclip.refine_masks`), some at a time, so
        that labels follow its edges. The time grows with T.

    Returns
    -------
    Segmentation

    Raises
    ------
    TypeError, ValueError
        As `fastclip.pixel_labels`, or refine_by has another size.

    Examples
    --------
    >>> import torch
    >>> from fastclip.ttd import label_features
    >>> pixels = torch.tensor([[0.9, 0.1], [0.2, 0.6]]).view(1, 2, 1, 2)
    >>> label_features(pixels, torch.eye(2), (1, 4), background=0.65).labels
    tensor([[ 0,  0, -1, -1]])
    """
    pixels = as_rows("pixel_features", pixel_features, "[B, d, h, w]")
    if len(pixels) != 1:
        raise ValueError(f"pixel_features: one image is needed, got {len(pixels)}")
    if refine_by is None:
        best = pixel_labels(pixels, tag_features, size, background=background)
        return Segmentation(best.indices[0, 0], best.values[0, 0])
    shape = tuple(operator.index(n) for n in size)
    if refine_by.shape != (1, 3, *shape):
        raise ValueError(
            f"refine_by: shape {(1, 3, *shape)} is needed, got {tuple(refine_by.shape)}"
        )
    rows, _ = as_keys(tag_features, "tag_features")
    return _best_refined(pixels.float(), rows.float(), refine_by, background)


def _best_refined(
    pixels: torch.Tensor, tags: torch.Tensor, image: torch.Tensor, background: float | None
) -> Segmentation:
    size = image.shape[2:]
    scores = image.new_full(size, -torch.inf, dtype=torch.float32)
    labels = torch.full_like(scores, -1, dtype=torch.int64)
    some = max(1, _AT_ONCE // (size[0] * size[1]))
    for start in range(0, len(tags), some):
        maps = torch.einsum("bdhw,td->bthw", pixels, tags[start : start + some])
        refined = refine_masks(image, _resized(maps, size))[0]
        best, index = refined.max(0)  # the first of equal ones
        better = best > scores
        scores = torch.where(better, best, scores)
        labels = torch.where(better, index + start, labels)
    if background is not None:
        behind = scores < as_number("background", background)
        labels, scores = labels.masked_fill(behind, -1), scores.clamp(min=background)
    return Segmentation(labels, scores)


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


def _resized(maps: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    if tuple(maps.shape[2:]) == tuple(size):
        return maps
    return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=False)


def _picture(image: PilImage | str | os.PathLike[str]) -> PilImage:
    from PIL import Image

    from fastclip.models._images import as_rgb, check_pictures

    if not isinstance(image, (str, os.PathLike, Image.Image)):
        raise TypeError(f"image: a PIL image or a path is needed, got {type(image).__name__}")
    check_pictures("image", [image])
    return as_rgb(image)


def _are_texts(tags: Any) -> bool:
    return isinstance(tags, (str, list, tuple)) or (
        isinstance(tags, Sequence) and not hasattr(tags, "__dlpack__")
    )
