"""Masks that follow the edges of their image."""

from collections.abc import Sequence
from typing import SupportsIndex

import torch

from fastclip.engine.checks import Array, as_integer, as_integers, as_rows, find_nonfinite
from fastclip.engine.devices import check_same_device, on_cuda
from fastclip.engine.kernels import run
from fastclip.engine.scalars import INT64_MAX
from fastclip.engine.transforms import CONSTANT, call, define


def refine_masks(
    images: Array,
    masks: Array,
    *,
    iterations: SupportsIndex = 10,
    dilations: Sequence[SupportsIndex] = (1, 2, 4, 8, 12, 24),
) -> torch.Tensor:
    """Refine soft masks by their image: pixel-adaptive mask refinement (PAMR).

    In every iteration a mask's value becomes the mean of its neighbours' values, weighted by how
    alike the pixels are. Neighbours q of p are the 8 around p at every dilation, with replicated
    borders; p itself is none. With x_k channel k of the image and sigma_k(p) the unbiased standard
    deviation of x_k over the 3 x 3 windows of all dilations together::

        a(p, q) = softmax over q of  mean over k of  -|x_k(p) - x_k(q)| / (1e-8 + 0.1 sigma_k(p))
        m(p) <- sum over q of a(p, q) m(q)

    as in Araslanov & Roth (CVPR 2020), whose defaults these are; theirs up-sample the masks
    beforehand. Computed in float32, the same to the bit for any number of threads and instruction
    set, not on every device; values stay within the range of the input mask. Has no gradient.

    Parameters
    ----------
    images : tensor or array [B, C, H, W], float32, float16 or bfloat16
        As fed to the network, usually C = 3; at least one pixel and channel. No images (B = 0)
        give an empty result.
    masks : tensor or array [B, T, H, W], float32, float16 or bfloat16
    iterations : int, at least 0
    dilations : ints, each at least 1

    Returns
    -------
    Tensor [B, T, H, W] float32
        Beyond inputs (as contiguous float32) and result, for one image at a time, with n dilations
        up to R: 32 n * H * W bytes of affinities and 8 T * H * (W + 2 R) bytes of masks; on CUDA
        devices 4 T * H * W of these, and several images at a time up to about 256 MiB.

    Raises
    ------
    TypeError, ValueError
        As :func:`fastclip.topk` but for k, or there are no pixels, or iterations or dilations are
        out of range.

    Examples
    --------
    >>> import torch, fastclip
    >>> image = torch.zeros(1, 3, 4, 6)
    >>> image[..., 3:] = 1  # an edge
    >>> mask = image[:, :1].clone()
    >>> mask[..., 2] = 0.5  # that the mask blurs
    >>> fastclip.refine_masks(image, mask, dilations=(1,))[0, 0, 0]
    tensor([0.1187, 0.1191, 0.1194, 1.0000, 1.0000, 1.0000])
    """
    image_pixels = as_rows("images", images, "[B, C, H, W]")
    mask_pixels = as_rows("masks", masks, "[B, T, H, W]")
    check_same_device("masks", mask_pixels, "images", image_pixels)
    batch, channels, height, width = image_pixels.shape
    if channels * height * width == 0:
        raise ValueError(
            "images: at least one pixel and channel is needed, "
            f"got shape {tuple(image_pixels.shape)}"
        )
    if (batch, height, width) != (mask_pixels.shape[0], *mask_pixels.shape[2:]):
        raise ValueError(
            f"masks: must have B, H and W of images {tuple(image_pixels.shape)}, "
            f"got shape {tuple(mask_pixels.shape)}"
        )
    iterations = as_integer("iterations", iterations)
    if not 0 <= iterations <= INT64_MAX:
        raise ValueError(f"iterations: must be at least 0 and below 2^63, got {iterations}")
    steps = as_integers("dilations", dilations)
    if not steps or min(steps) < 1:
        raise ValueError(f"dilations: one or more, each at least 1, are needed, got {steps}")
    # Neighbours farther away than the image is long are the same pixels of its border.
    steps = [min(step, max(height, width)) for step in steps]
    result: torch.Tensor = call(
        "refine_masks", image_pixels.detach(), mask_pixels.detach(), iterations, steps
    )
    return result


def _refine_masks(
    images: torch.Tensor, masks: torch.Tensor, iterations: int, dilations: list[int]
) -> torch.Tensor:
    images, masks = images.float().contiguous(), masks.float().contiguous()
    _check_finite("images", images)
    _check_finite("masks", masks)
    out = torch.empty_like(masks)
    low = high = None  # the CPU finds the least and the largest number of each mask on its way
    if on_cuda(images):
        if iterations == 0 or masks.numel() == 0:
            return out.copy_(masks)
        low, high = masks.amin((2, 3)), masks.amax((2, 3))
    run("refine_masks", images, masks, low, high, iterations, dilations, out)
    return out


def _check_finite(name: str, planes: torch.Tensor) -> None:
    batch, count, height, width = planes.shape
    rows = planes.view(batch * count * height, width)
    row = find_nonfinite(rows)
    if row >= 0:
        plane, y = divmod(row, height)
        raise ValueError(
            f"{name}: [{plane // count}, {plane % count}, {y}] holds NaN or infinity, "
            "all numbers must be finite"
        )


define(
    "refine_masks(Tensor images, Tensor masks, int iterations, int[] dilations) -> Tensor",
    _refine_masks,
    lambda images, masks, *_: masks.new_empty(masks.shape, dtype=torch.float32),
    CONSTANT,
)
