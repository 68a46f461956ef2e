"""The losses of fastclip.training as matrices of scores, and batches to try them on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fastclip.training import BatchFeatures


def cross_entropy(rows: Tensor, texts: Tensor, target: Tensor, scale: Tensor) -> Tensor:
    return F.cross_entropy(scale * rows @ texts.T, target)


def plain(name: str, batch: BatchFeatures, scale: Tensor) -> Tensor:
    """The losses as matrices of scores."""
    v, c, n, p = batch.images, batch.captions, batch.negatives, batch.positives
    own = torch.arange(len(v))
    if name == "clip":
        n = n[:0]
    to_caption = cross_entropy(v, torch.cat([c, n]), own, scale)
    to_image = cross_entropy(c, v, own, scale)
    parts = [to_caption, to_image]
    place = torch.arange(len(p))
    if name == "hard-positives" and len(p):
        some = v[batch.positive_of]
        parts += [
            cross_entropy(some, torch.cat([p, n]), place, scale),
            cross_entropy(p, v, batch.positive_of, scale),
        ]
    total = torch.stack(parts).mean()
    if name == "svlc" and len(n):
        pairs = torch.stack([c[batch.negative_of], n], dim=1)
        scores = scale * (v[batch.negative_of, None] * pairs).sum(2)
        total = total + F.cross_entropy(scores, torch.zeros(len(n), dtype=torch.int64))
    if name == "svlc" and len(p):
        for rows in (v, c):
            total = total + cross_entropy(rows[batch.positive_of], p, place, scale) / 2
    return total


def make(b: int, m: int, p: int, d: int, seed: int, dtype: torch.dtype = torch.float32):
    generator = torch.Generator().manual_seed(seed)

    def rows(count: int) -> Tensor:
        made = F.normalize(torch.randn(count, d, generator=generator, dtype=torch.float64), dim=1)
        return made.to(dtype).requires_grad_()

    def some(count: int) -> Tensor:
        return torch.randperm(b, generator=generator)[:count]

    return BatchFeatures(rows(b), rows(b), rows(m), some(m), rows(p), some(p))


def gradients(loss: Tensor, batch: BatchFeatures, scale: Tensor) -> list[Tensor]:
    inputs = [batch.images, batch.captions, batch.negatives, batch.positives, scale]
    found = torch.autograd.grad(loss, inputs, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=True)]
