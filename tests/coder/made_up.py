"""Classes and features that mean nothing, but have the shape and geometry of real ones."""

from __future__ import annotations

import numpy as np
import torch

from fastclip.coder import ClassTexts, Coder, OneClass


def unit(rows: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(rows, dim=-1)


def cone(count: int, width: int, generator: torch.Generator, spread: float = 1.0) -> torch.Tensor:
    """Unit rows about one direction, as CLIP's features are."""
    return unit(torch.randn(count, width, generator=generator) * spread + 1.5)


def class_texts(classes: int, seed: int, *, share_of_pairs: float = 0.7) -> ClassTexts:
    """Classes with different numbers of texts of each kind, down to none."""
    rng = np.random.default_rng(seed)
    names = [f"class_{i}" for i in range(classes)]

    def some(what: str, most: int) -> tuple[str, ...]:
        return tuple(f"{what} {rng.integers(10**9)}" for _ in range(rng.integers(0, most + 1)))

    known = [
        OneClass(name, some("part", 6), some("Sentence", 2), some("thing", 3), some("word", 2))
        for name in names
    ]
    pairs = {
        (a, b): some("mark", 3)
        for a in names
        for b in names
        if a != b and rng.random() < share_of_pairs
    }
    return ClassTexts(tuple(known), pairs)


def made_up_coder(classes: int, width: int, seed: int) -> tuple[Coder, torch.Generator]:
    generator = torch.Generator().manual_seed(seed)
    prompts = class_texts(classes, seed).prompts()
    texts = cone(len(prompts.texts), width, generator)
    pair_texts = cone(len(prompts.pair_texts), width, generator)
    return Coder(prompts, texts, pair_texts), generator


def few_shot(
    coder: Coder, generator: torch.Generator, shots: int, count: int, noise: float = 0.6
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Support images, their labels, other images, their labels; each class about a direction."""
    classes, width = len(coder.class_names), coder.features.shape[1]
    centres = cone(classes, width, generator)

    def images(labels: torch.Tensor) -> torch.Tensor:
        away = torch.randn(len(labels), width, generator=generator) * noise / width**0.5
        return unit(centres[labels] + away * 2)

    support = torch.arange(classes).repeat_interleave(shots)
    labels = torch.randint(classes, (count,), generator=generator)
    return images(support), support, images(labels), labels
