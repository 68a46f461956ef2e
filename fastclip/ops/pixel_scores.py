"""The nearest pixel of each tag."""

from typing import Any, NamedTuple

import torch

from fastclip.engine.checks import (
    Array,
    as_pixels,
    check_finite,
    check_finite_pixels,
    pixel_rows,
    with_adjacent_elements,
)
from fastclip.engine.kernels import run
from fastclip.engine.packed import PackedKeys, as_keys
from fastclip.engine.transforms import Gradient, call, define


class PixelScores(NamedTuple):
    """The nearest pixel of each tag."""

    values: torch.Tensor
    """[B, T] float32: exact scores."""
    locations: torch.Tensor
    """[B, T] int64: the pixel, y * w + x."""


def pixel_scores(pixels: Array, tags: Array | PackedKeys) -> PixelScores:
    """Return each tag's largest inner product with a pixel of each image, and where that pixel is.

    ``values[b, t] = max over p of <pixels[b, :, p], tags[t]>``: the pixel-tag score of TTD, by
    which tags are judged visible. The same as ``einsum("bdhw,td->bthw").flatten(2).max(2)`` without
    the [B, T, h, w] scores, and exact: scores are those of :func:`fastclip.topk`, equal ones go to
    the lower location. The answer is the same to the bit for any number of threads, instruction
    set and device. Differentiable in ``values``, with respect to ``pixels`` and unpacked ``tags``.

    Parameters
    ----------
    pixels : tensor or array [B, d, h, w], float32, float16 or bfloat16
        Dense features; not normalised here. Any strides; channels-last ones are not copied. No
        images (B = 0) give an empty result.
    tags : tensor or array [T, d], or PackedKeys
        Their rows may have any stride. No tags give an empty result.

    Returns
    -------
    PixelScores
        ``values`` [B, T] float32 and ``locations`` [B, T] int64, as ``y * w + x``. Beyond inputs
        and result: a copy of ``pixels`` with adjacent features, 16 bytes * B * T for each part
        that an image is split into, and about 16 bytes * 256 * d per thread; on CUDA devices
        64 MiB and 32 KiB * d, or less if there are fewer tags and pixels or no room, instead of
        what parts and threads use.

    Raises
    ------
    TypeError, ValueError
        As :func:`fastclip.topk` but for k, or there are no pixels.

    Examples
    --------
    >>> import torch, fastclip
    >>> pixels = torch.tensor([[0.1, 0.9, 0.3], [0.8, 0.2, 0.7]]).view(1, 2, 1, 3)
    >>> fastclip.pixel_scores(pixels, torch.eye(2))
    PixelScores(values=tensor([[0.9000, 0.8000]]), locations=tensor([[1, 0]]))
    """
    tag_rows, screen = as_keys(tags, "tags")
    images = as_pixels(pixels, tag_rows)
    return PixelScores(*call("pixel_scores", images, tag_rows, not screen))


def _pixel_scores(
    pixels: torch.Tensor, tags: torch.Tensor, check_tags: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    tags = with_adjacent_elements(tags)
    rows = pixel_rows(pixels)
    check_finite_pixels("pixels", pixels, rows)
    if check_tags:
        check_finite("tags", tags)
    result = _empty(pixels, tags)
    run("pixel_scores", rows, pixels.shape[2] * pixels.shape[3], tags, *result)
    return result


def _empty(pixels: torch.Tensor, tags: torch.Tensor, *_: bool) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (pixels.shape[0], tags.shape[0])
    return pixels.new_empty(shape, dtype=torch.float32), pixels.new_empty(shape, dtype=torch.int64)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
    pixels, tags, _ = inputs
    _, locations = output
    ctx.mark_non_differentiable(locations)
    ctx.save_for_backward(pixels, tags, locations)
    ctx.save_for_forward(pixels, tags, locations)


def _backward(
    ctx: Any, grad_values: torch.Tensor, grad_locations: torch.Tensor | None
) -> tuple[torch.Tensor | None, ...]:
    pixels, tags, locations = ctx.saved_tensors
    images, width, h, w = pixels.shape
    first = torch.arange(images, device=pixels.device) * (h * w)
    row = (locations + first[:, None]).reshape(-1)
    tag = torch.arange(tags.shape[0], device=pixels.device).repeat(images)
    grad = grad_values.float().reshape(-1)
    grad_pixels = grad_tags = None
    if ctx.needs_input_grad[0]:
        rows = call("scatter_rows", row, tag, grad, tags, images * h * w).to(pixels.dtype)
        grad_pixels = rows.reshape(images, h, w, width).permute(0, 3, 1, 2)
    if ctx.needs_input_grad[1]:
        nearest = pixels.permute(0, 2, 3, 1).reshape(images * h * w, width)
        rows = call("scatter_rows", tag, row, grad, nearest, tags.shape[0])
        grad_tags = rows.to(tags.dtype)
    return grad_pixels, grad_tags, None


def _jvp(
    ctx: Any, pixels: torch.Tensor | None, tags: torch.Tensor | None, _: None
) -> tuple[torch.Tensor, None]:
    all_pixels, tag_rows, locations = ctx.saved_tensors
    tangent = torch.zeros(locations.shape, dtype=torch.float32, device=locations.device)
    if pixels is not None:
        tangent = tangent + _at(pixels, tag_rows, locations)
    if tags is not None:
        tangent = tangent + _at(all_pixels, tags, locations)
    return tangent, None


def _at(pixels: torch.Tensor, tags: torch.Tensor, locations: torch.Tensor) -> torch.Tensor:
    """Return the float32 score of each tag with one pixel of each image, [B, T]."""
    places = locations[:, None].expand(-1, pixels.shape[1], -1)
    return (pixels.reshape(*pixels.shape[:2], -1).float().gather(2, places) * tags.float().T).sum(1)


define(
    "pixel_scores(Tensor pixels, Tensor tags, bool check_tags) -> (Tensor values, Tensor"
    " locations)",
    _pixel_scores,
    _empty,
    Gradient(_backward, _setup_context, _jvp),
)
