"""Tags of several images in one tensor: how many belong to each."""

import operator
from collections.abc import Sequence

import torch


def as_counts(counts: Sequence[int] | None, tags: int, images: int | None) -> list[int]:
    """Return how many of the ``tags`` each of the ``images`` has; None: any number of images."""
    if images == 0 or (counts is not None and len(counts) == 0):
        raise ValueError("counts: at least one image is needed, got none")
    if counts is None:
        if images not in (None, 1):
            raise ValueError(f"counts: are needed, one for each of the {images} images")
        return [tags]
    numbers = [operator.index(n) for n in counts]
    if images is not None and len(numbers) != images:
        raise ValueError(
            f"counts: one for each of the {images} images is needed, got {len(numbers)}"
        )
    if min(numbers, default=0) < 0 or sum(numbers) != tags:
        raise ValueError(
            f"counts: none negative and {tags} in all, the number of tags, are needed, "
            f"got {_shortened(numbers)}, {sum(numbers)} in all"
        )
    return numbers


def check_features(pixel_features: torch.Tensor, tag_features: torch.Tensor) -> None:
    if pixel_features.ndim != 4 or 0 in pixel_features.shape[2:]:
        raise ValueError(
            "pixel_features: shape [B, d, h, w] with at least one pixel is needed, "
            f"got {tuple(pixel_features.shape)}"
        )
    width = pixel_features.shape[1]
    if tag_features.ndim != 2 or tag_features.shape[1] != width:
        raise ValueError(
            f"tag_features: shape [T, {width}], as wide as pixel_features, is needed, "
            f"got {tuple(tag_features.shape)}"
        )


def _shortened(numbers: list[int]) -> str:
    return str(numbers) if len(numbers) <= 8 else f"[{', '.join(map(str, numbers[:8]))}, ...]"
