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

from fastclip.data import HardPositiveItem, ItemImages
from fastclip.data.image_decoding import decode_image

from .settings import TrainingSettings

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
        def load(index: int) -> torch.Tensor:
            image = self._pairs[index][1]
            try:
                return preprocess(decode_image(self._source.read(image)))
            except ValueError as error:
                raise ValueError(f"{self._source.names[image]}: {error}") from error

        return torch.stack(list(self._pool.map(load, indices)))

    def texts(self, index: int) -> tuple[str, Sequence[str], Sequence[str]]:
        item = self._pairs[index][0]
        return item.caption, item.hard_negatives, item.hard_positives

    def digest(self) -> str:
        digest = hashlib.sha256(self._source.digest().encode())
        for item, image in self._pairs:
            digest.update(f"{image}\0{item}\n".encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class Batch:
    """Images and texts of a step; the M + P extra texts belong to captions ``negative_of`` ..."""

    images: torch.Tensor
    captions: list[str]
    negatives: list[str]
    negative_of: list[int]
    positives: list[str]
    positive_of: list[int]


class Batches:
    """The batch of every step, a function of the seed and the step alone.

    So a run that goes on after a kill sees what it would have seen, without any state to keep.
    """

    def __init__(
        self, data: TrainingData, settings: TrainingSettings, preprocess: Preprocess
    ) -> None:
        self.data = data
        self.settings = settings
        self.preprocess = preprocess
        self.per_epoch = len(data) // settings.batch_size
        if not self.per_epoch:
            raise ValueError(
                f"batch_size: is {settings.batch_size}, allowed: up to {len(data)}, "
                "the number of captions"
            )

    def __len__(self) -> int:
        return self.per_epoch * self.settings.epochs

    def load(self, step: int) -> Batch:
        """Read the images and draw the texts of a step."""
        epoch, place = divmod(step, self.per_epoch)
        size = self.settings.batch_size
        order = _generator(self.settings.seed, epoch, 0).permutation(len(self.data))
        chosen = order[place * size : (place + 1) * size].tolist()
        rng = _generator(self.settings.seed, epoch, place + 1)
        captions: list[str] = []
        negatives: list[tuple[str, int]] = []
        positives: list[tuple[str, int]] = []
        for row, index in enumerate(chosen):
            caption, *others = self.data.texts(index)
            captions.append(caption)
            shares = self.settings.negatives, self.settings.positives
            for texts, share, drawn in zip(others, shares, (negatives, positives), strict=True):
                use, which = rng.random(2)
                if texts and use < share:
                    drawn.append((texts[int(which * len(texts))], row))
        return Batch(
            self.data.images(chosen, self.preprocess),
            captions,
            *_columns(negatives),
            *_columns(positives),
        )


def _columns(drawn: list[tuple[str, int]]) -> tuple[list[str], list[int]]:
    return [text for text, _ in drawn], [row for _, row in drawn]


def _generator(seed: int, epoch: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, (epoch << 32) | stream]))
