"""The best tags of each output pixel, without up-sampling the map of every tag."""

import math
from collections.abc import Sequence
from typing import NamedTuple, SupportsFloat, SupportsIndex

import torch

from fastclip.engine.arguments import Sides
from fastclip.engine.checks import (
    Array,
    as_integer,
    as_integers,
    as_number,
    as_pixels,
    check_finite,
    check_finite_pixels,
    check_k,
    pixel_rows,
    with_adjacent_elements,
)
from fastclip.engine.devices import capturing, on_cuda
from fastclip.engine.filters import Allowed, Exclude, Excluding
from fastclip.engine.kernels import run
from fastclip.engine.packed import PackedKeys, as_keys
from fastclip.engine.scalars import INT64_MAX
from fastclip.engine.transforms import CONSTANT, call, define


class PixelLabels(NamedTuple):
    """The k best tags of each output pixel, best first."""

    values: torch.Tensor
    """[B, k, H, W] float32: interpolated scores."""
    indices: torch.Tensor
    """[B, k, H, W] int64: rows of ``tags``, or -1 for the background."""
    survivors: torch.Tensor | None = None
    """[B] int64, if asked for: (cell, tag) pairs that had to be interpolated."""


def pixel_labels(
    pixels: Array,
    tags: Array | PackedKeys,
    size: Sequence[SupportsIndex],
    k: SupportsIndex = 1,
    *,
    background: SupportsFloat | None = None,
    allowed: Array | None = None,
    exclude: Excluding | None = None,
    return_survivors: bool = False,
) -> PixelLabels:
    """Return the k tags with the best up-sampled score at each output pixel.

    A tag's map, its scores ``<pixels[b, :, y, x], tags[t]>`` on the [h, w] grid, is up-sampled to
    [H, W] as ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`` does; the
    best maps win at each pixel: ``interpolate(maps, size).topk(k, dim=1)``. Never are there
    [B, T, H, W] numbers. Between four neighbouring feature pixels (a cell) an interpolated score
    lies between the smallest and the largest of its four corners, so a tag whose largest corner is
    below the k-th best of the smallest corners cannot win there and is left out.

    Scores are those of :func:`fastclip.topk`, rounded to float32. With ``lerp(a, b, s) =
    a + s * (b - a)``, each operation rounded to float32, the value is ``lerp(lerp(top_left,
    bottom_left, sy), lerp(top_right, bottom_right, sy), sx)``. It is the same to the bit for any
    number of threads, instruction set and device, and differs from torch's by a few units in the
    last place of the largest corner (more where H / h is no power of two: torch's positions on the
    grid then depend on the code path that it takes). Equal values: the lower tag first. Has no
    gradient.

    Parameters
    ----------
    pixels : tensor or array [B, d, h, w], float32, float16 or bfloat16
        Dense features; not normalised here. Any strides; channels-last ones are not copied. No
        images (B = 0) give an empty result.
    tags : tensor or array [T, d], or PackedKeys
        Their rows may have any stride.
    size : (H, W), both at least 1
        Also smaller than (h, w).
    k : int, 1 <= k <= T
    background : float, optional
        A competitor with this score at every pixel and index -1, behind tags of the same value.
        With k = 1: pixels whose best value is below it get index -1 and this value.
    allowed : bool tensor or array [T], optional
        Tags that count.
    exclude : integers [B] or [B, m], or a sparse matrix of torch or SciPy [B, T], optional
        Tags that do not count for each image, -1 for none. The answer is that of the tags that are
        left, to the bit; beyond their number indices are -1 and values minus infinity.
    return_survivors : bool
        Count the (cell, tag) pairs that the screen left over. Where (H, W) is no smaller than
        (h, w), these are so many of h * w * T per image.

    Returns
    -------
    PixelLabels
        ``values`` [B, k, H, W] float32, ``indices`` [B, k, H, W] int64 and, on request,
        ``survivors`` [B] int64. Beyond inputs and result: a copy of ``pixels`` with adjacent
        features, 4 bytes * T * h * w for the scores of one image, and per thread about
        16 bytes * 256 * d during the product, 72 bytes * T + 128 bytes * k after it; on CUDA
        devices, for as many images at a time as have 2^24 scores, 4.2 bytes for each score and 4
        bytes * d for each pixel and tag.

    Raises
    ------
    TypeError, ValueError
        As :func:`fastclip.topk`, or there are no pixels, or size or background is out of range.
    OverflowError
        A score is beyond 2^126 in magnitude, so that differences of scores could overflow.

    Examples
    --------
    >>> import torch, fastclip
    >>> pixels = torch.tensor([[0.9, 0.1], [0.2, 0.6]]).view(1, 2, 1, 2)
    >>> labels = fastclip.pixel_labels(pixels, torch.eye(2), size=(1, 4))
    >>> labels.indices
    tensor([[[[0, 0, 1, 1]]]])
    >>> labels.values
    tensor([[[[0.9000, 0.7000, 0.5000, 0.6000]]]])
    >>> fastclip.pixel_labels(pixels, torch.eye(2), size=(1, 4), background=0.65).indices
    tensor([[[[ 0,  0, -1, -1]]]])
    """
    tag_rows, screen = as_keys(tags, "tags")
    images = as_pixels(pixels, tag_rows)
    sides = as_integers("size", size)
    if len(sides) != 2:
        raise ValueError(f"size: two numbers (H, W) are needed, got {tuple(sides)}")
    height, width = sides
    if height < 1 or width < 1:
        raise ValueError(f"size: H and W must be at least 1, got {(height, width)}")
    k = as_integer("k", k)
    check_k(k, tag_rows.shape[0], "tags")
    if max(images.shape[0], 1) * k * height * width > INT64_MAX // 8:
        raise ValueError(
            f"size: {(height, width)} is too large, the result would have 2^63 bytes or more"
        )
    if background is not None:
        background = as_number("background", background)
    rows, options = (images.detach(), tag_rows.detach()), (background, not screen)
    if allowed is None and exclude is None:
        found = call("pixel_labels", *rows, (height, width), k, *options)
    else:
        found = _filtered(*rows, (height, width), k, options, allowed, exclude)
    values, indices, survivors = found
    return PixelLabels(values, indices, survivors if return_survivors else None)


def _filtered(
    images: torch.Tensor,
    tags: torch.Tensor,
    size: tuple[int, int],
    k: int,
    options: tuple[float | None, bool],
    allowed: Array | None,
    exclude: Excluding | None,
) -> tuple[torch.Tensor, ...]:
    """Label with the tags that count for all images, or those of each image in turn."""
    sides = Sides(len(images), len(tags), len(tags), tags.shape[1], images.device)
    mask, lists = Allowed().check(allowed, sides), Exclude().check(exclude, sides)
    kept = torch.ones(len(tags), dtype=torch.bool, device=tags.device)
    if mask is not None:
        kept = mask[0 : len(tags)]
    if options[1]:
        check_finite("tags", tags)

    def of(some: torch.Tensor, kept: torch.Tensor) -> tuple[torch.Tensor, ...]:
        places, (background, _) = kept.nonzero()[:, 0], options
        if len(places) >= k:
            found = call("pixel_labels", some, tags[places], size, k, background, False)
            values, indices, survivors = found
            return values, places[indices.clamp(min=0)].masked_fill(indices < 0, -1), survivors
        values, indices, survivors = _empty(some, tags, size, k)
        values.fill_(-math.inf)
        indices.fill_(-1)
        survivors.zero_()
        if len(places):
            found = call("pixel_labels", some, tags[places], size, len(places), None, False)
            values[:, : len(places)], best, survivors = found
            indices[:, : len(places)] = places[best]
        if background is not None:
            values[:, len(places)] = background
            values, order = values.sort(dim=1, descending=True, stable=True)
            indices = indices.gather(1, order)
        return values, indices, survivors

    if lists is None:
        return of(images, kept)
    found = []
    for i in range(len(images)):
        left, without = kept.clone(), lists[i : i + 1]
        left[without[without >= 0]] = False
        found.append(of(images[i : i + 1], left))
    return tuple(map(torch.cat, zip(*found, strict=True))) if found else of(images, kept)


def _pixel_labels(
    pixels: torch.Tensor,
    tags: torch.Tensor,
    size: tuple[int, int],
    k: int,
    background: float | None,
    check_tags: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    tags = with_adjacent_elements(tags)
    rows = pixel_rows(pixels)
    check_finite_pixels("pixels", pixels, rows)
    if check_tags:
        check_finite("tags", tags)
    result = _empty(pixels, tags, size, k)
    overflow = rows.new_empty((), dtype=torch.int32) if on_cuda(rows) else None
    least = -math.inf if background is None else background
    run("pixel_labels", rows, *pixels.shape[2:], tags, least, *result, overflow)
    if overflow is not None and not capturing(rows) and overflow.item():
        raise OverflowError("pixels, tags: a score is beyond +-2^126, interpolation could overflow")
    return result


def _empty(
    pixels: torch.Tensor, tags: torch.Tensor, size: tuple[int, int], k: int, *_: float | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    shape = (pixels.shape[0], k, size[0], size[1])
    return (
        pixels.new_empty(shape, dtype=torch.float32),
        pixels.new_empty(shape, dtype=torch.int64),
        pixels.new_empty(pixels.shape[:1], dtype=torch.int64),
    )


define(
    "pixel_labels(Tensor pixels, Tensor tags, SymInt[2] size, int k, float? background, bool"
    " check_tags) -> (Tensor values, Tensor indices, Tensor survivors)",
    _pixel_labels,
    _empty,
    CONSTANT,
)
