"""TTD's losses, literally: once in float64 loops, once as plain torch would write them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-6


def losses(
    pixels: np.ndarray,
    captions: np.ndarray,
    tags: Sequence[np.ndarray],
    *,
    target_pixels: np.ndarray | None = None,
    target_tags: Sequence[np.ndarray] | None = None,
    threshold: float = 0.5,
    distance: str = "bce",
    student: str = "sigmoid",
    gain: float = 10.0,
    bias: float = -2.5,
) -> tuple[float, float]:
    """The text loss and the tag loss of images [B, d, h, w], in float64, map after map.

    Targets are made of ``target_pixels`` and ``target_tags``, by default the same: a change of the
    others leaves them, as a stopped gradient does.
    """
    target_pixels = pixels if target_pixels is None else target_pixels
    target_tags = tags if target_tags is None else target_tags
    text, tag = [], []
    for b, caption in enumerate(captions):
        union = np.zeros(pixels.shape[2:])
        targets = [heat_map(target_pixels[b], own) for own in target_tags[b]]
        scores = [target.max() for target in targets]
        for i, own in enumerate(tags[b]):
            low, high = min(scores), max(scores)
            share = (scores[i] - low) / (high - low) if high > low else 1.0
            target = min_max(targets[i]) if share >= threshold else np.zeros_like(union)
            union = np.maximum(union, target)
            tag.append(between(heat_map(pixels[b], own), target, distance, student, gain, bias))
        text.append(between(heat_map(pixels[b], caption), union, distance, student, gain, bias))
    return float(np.mean(text)), float(np.mean(tag))


def heat_map(pixels: np.ndarray, text: np.ndarray) -> np.ndarray:
    return np.array([[pixels[:, y, x] @ text for x in range(pixels.shape[2])]
                     for y in range(pixels.shape[1])])  # fmt: skip


def min_max(values: np.ndarray) -> np.ndarray:
    return (values - values.min()) / (values.max() - values.min() + EPS)


def between(
    values: np.ndarray, target: np.ndarray, distance: str, student: str, gain: float, bias: float
) -> float:
    if student == "sigmoid":
        values = 1 / (1 + np.exp(-(gain * values + bias)))
    elif student == "min-max":
        values = min_max(values)
    if distance == "bce":
        return float(-np.mean(target * np.log(values) + (1 - target) * np.log(1 - values)))
    if distance == "l1":
        return float(np.mean(np.abs(values - target)))
    if distance == "l2":
        return float(np.mean((values - target) ** 2))
    norms = max(np.linalg.norm(values), 1e-8) * max(np.linalg.norm(target), 1e-8)
    return float(1 - (values * target).sum() / norms)


def plain_losses(
    pixels: Tensor,
    captions: Tensor,
    tags: Tensor,
    counts: Sequence[int],
    size: tuple[int, int],
    *,
    threshold: float = 0.5,
    gain: float = 10.0,
    bias: float = -2.5,
) -> tuple[Tensor, Tensor]:
    """The same with binary cross-entropy as one writes it in torch: all up-sampled maps at once."""

    def up_sampled(maps: Tensor) -> Tensor:
        return F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]

    owner = torch.repeat_interleave(torch.tensor(counts))
    low_maps = torch.einsum("tdhw,td->thw", pixels[owner], tags)
    maps, text_maps = (
        up_sampled(low_maps),
        up_sampled(torch.einsum("bdhw,bd->bhw", pixels, captions)),
    )
    with torch.no_grad():
        selected = []
        for scores in low_maps.amax((1, 2)).split(list(counts)):
            spread = scores.max() - scores.min()
            selected.append(
                (scores - scores.min()) / spread >= threshold if spread > 0 else scores == scores
            )
        low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
        targets = (maps - low) / (high - low + EPS) * torch.cat(selected)[:, None, None]
        unions = torch.stack([own.amax(0) for own in targets.split(list(counts))])
    bce = F.binary_cross_entropy_with_logits
    return bce(gain * text_maps + bias, unions), bce(gain * maps + bias, targets)
