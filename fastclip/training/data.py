"""What is trained on: images, captions, hard negatives and hard positives."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from fastclip.data import HardPositiveItem, ImageSource, ItemImages
from fastclip.data.image_decoding import decode_image

Preprocess = Callable[[Any], torch.Tensor]


class TrainingData(Protocol):
    """Captioned images in a fixed order; `ItemData`, or one's own."""

    def __len__(self) -> int:
        """How many captions there are."""

    def images(self, indices: Sequence[int], preprocess: Preprocess) -> torch.Tensor:
        """The images of some captions, [B, 3, H, W] float32, preprocessed."""

    def texts(self, index: int) -> tuple[str, Sequence[str], Sequence[str]]:
        """A caption, its hard negatives and its hard positives; these two can be empty."""

    def digest(self) -> str:
        """A text that is another one if the data are."""


class ItemData:
    """Items of `read_hard_positives` with their images.

    Parameters
    ----------
    items : sequence of HardPositiveItem
    found : ItemImages
        What `find_item_images` returned for them. Items whose image is missing are left out.
    workers : int, optional
        Threads that read and decode. Default: one per available processor, 8 at most.

    Raises
    ------
    ValueError
        No item has an image.
    """

    def __init__(
        self, items: Sequence[HardPositiveItem], found: ItemImages, workers: int | None = None
    ) -> None:
        pairs = zip(items, found.image_of_item, strict=True)
        self._pairs = [(item, image) for item, image in pairs if image >= 0]
        if not self._pairs:
            raise ValueError("items: none of them has an image")
        self._source = found.source
        self._pool = ThreadPoolExecutor(workers or min(8, len(os.sched_getaffinity(0))))

    def __len__(self) -> int:
        return len(self._pairs)

    def images(self, indices: Sequence[int], preprocess: Preprocess) -> torch.Tensor:
        rows = [self._pairs[index][1] for index in indices]
        return read_images(self._source, rows, preprocess, self._pool)

    def texts(self, index: int) -> tuple[str, Sequence[str], Sequence[str]]:
        item = self._pairs[index][0]
        return item.caption, item.hard_negatives, item.hard_positives

    def digest(self) -> str:
        digest = hashlib.sha256(self._source.digest().encode())
        for item, image in self._pairs:
            digest.update(f"{image}\0{item}\n".encode())
        return digest.hexdigest()


def read_images(
    source: ImageSource, rows: Sequence[int], preprocess: Preprocess, pool: ThreadPoolExecutor
) -> torch.Tensor:
    """Read, decode and preprocess some images of a source, [B, 3, H, W]."""

    def load(row: int) -> torch.Tensor:
        try:
            return preprocess(decode_image(source.read(row)))
        except ValueError as error:
            raise ValueError(f"{source.names[row]}: {error}") from error

    return torch.stack(list(pool.map(load, rows)))


@dataclass(frozen=True)
class Batch:
    """Images and texts of a step; the M + P extra texts belong to captions ``negative_of`` ..."""

    images: torch.Tensor
    captions: list[str]
    negatives: list[str]
    negative_of: list[int]
    positives: list[str]
    positive_of: list[int]

    @property
    def texts(self) -> list[str]:
        return [*self.captions, *self.negatives, *self.positives]


def draw_texts(
    data: TrainingData, shares: tuple[float, float], chosen: Sequence[int], rng: np.random.Generator
) -> dict[str, Any]:
    """All of a `Batch` but its images: captions ``chosen`` with ``shares`` of their extra texts."""
    captions: list[str] = []
    negatives: list[tuple[str, int]] = []
    positives: list[tuple[str, int]] = []
    for row, index in enumerate(chosen):
        caption, *others = data.texts(index)
        captions.append(caption)
        for texts, share, drawn in zip(others, shares, (negatives, positives), strict=True):
            use, which = rng.random(2)
            if texts and use < share:
                drawn.append((texts[int(which * len(texts))], row))
    return {
        "captions": captions,
        "negatives": [text for text, _ in negatives],
        "negative_of": [row for _, row in negatives],
        "positives": [text for text, _ in positives],
        "positive_of": [row for _, row in positives],
    }
