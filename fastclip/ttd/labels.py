"""From features of pixels to the best tag of each pixel, at the size of the image."""

import operator
from collections.abc import Sequence
from typing import NamedTuple, SupportsIndex

import torch
import torch.nn.functional as F

from fastclip.engine.checks import Array, as_number, as_rows
from fastclip.engine.packed import as_keys
from fastclip.ops import PackedKeys, pixel_labels, refine_masks
from fastclip.ttd.masks import tag_maps

_AT_ONCE = 1 << 26  # numbers of the maps that are refined together


class Segmentation(NamedTuple):
    """The best tag of each pixel."""

    labels: torch.Tensor
    """[H, W] int64: rows of tags, -1 for the background."""
    scores: torch.Tensor
    """[H, W] float32: mean cosines with the best tag; the background's where it is the best."""


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


def image_maps(
    pixel_features: torch.Tensor,
    tag_features: torch.Tensor,
    size: Sequence[int],
    *,
    refine_by: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return heat maps of tags at the size of their image: up-sampled (bilinear) and refined.

    Parameters
    ----------
    pixel_features : tensor [1, d, h, w]
    tag_features : tensor [T, d]
    size : (H, W)
    refine_by : tensor [1, 3, H, W], optional
        As in `label_features`.

    Returns
    -------
    tensor [T, H, W]

    Raises
    ------
    ValueError
        A shape is wrong.

    Examples
    --------
    >>> import torch
    >>> from fastclip.ttd import image_maps
    >>> pixels = torch.tensor([[0.9, 0.1], [0.2, 0.6]]).view(1, 2, 1, 2)
    >>> image_maps(pixels, torch.eye(2), (1, 4))
    tensor([[[0.9000, 0.7000, 0.3000, 0.1000]],
            [[0.2000, 0.3000, 0.5000, 0.6000]]])
    """
    maps = resized(tag_maps(pixel_features, tag_features)[None], size)
    return (maps if refine_by is None else refine_masks(refine_by, maps))[0]


def _best_refined(
    pixels: torch.Tensor, tags: torch.Tensor, image: torch.Tensor, background: float | None
) -> Segmentation:
    size = image.shape[2:]
    scores = image.new_full(size, -torch.inf, dtype=torch.float32)
    labels = torch.full_like(scores, -1, dtype=torch.int64)
    some = max(1, _AT_ONCE // (size[0] * size[1]))
    for start in range(0, len(tags), some):
        refined = image_maps(pixels, tags[start : start + some], size, refine_by=image)
        best, index = refined.max(0)  # the first of equal ones
        better = best > scores
        scores = torch.where(better, best, scores)
        labels = torch.where(better, index + start, labels)
    if background is not None:
        behind = scores < as_number("background", background)
        labels, scores = labels.masked_fill(behind, -1), scores.clamp(min=background)
    return Segmentation(labels, scores)


def resized(maps: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    if tuple(maps.shape[2:]) == tuple(size):
        return maps
    return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=False)
