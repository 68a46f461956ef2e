"""What is trained on: images, captions, hard negatives and hard positives."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import torch

import fastclip
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


class SimilarImages(Protocol):
    """What data have besides if ``hard_images`` is to be set."""

    def similar(self, index: int) -> Sequence[int]:
        """Captions of the images that look most like that of a caption."""


class ItemData:
    """Items of `read_hard_positives` with their images.

    Parameters
    ----------
    items : sequence of HardPositiveItem
    found : ItemImages
        What `find_item_images` returned for them. Items whose image is missing are left out.
    workers : int, optional
        Threads that read and decode. Default: one per available processor, 8 at most.
    similar : int64 tensor [I, k], optional
        Of `similar_images`, for the I images of ``found.source``; for ``hard_images``.

    Raises
    ------
    ValueError
        No item has an image, or ``similar`` is not of these images.
    """

    def __init__(
        self,
        items: Sequence[HardPositiveItem],
        found: ItemImages,
        workers: int | None = None,
        *,
        similar: torch.Tensor | None = None,
    ) -> None:
        pairs = zip(items, found.image_of_item, strict=True)
        self._pairs = [(item, image) for item, image in pairs if image >= 0]
        if not self._pairs:
            raise ValueError("items: none of them has an image")
        if similar is not None and len(similar) != len(found.source):
            raise ValueError(
                f"similar: has {len(similar)} rows, allowed: {len(found.source)}, one an image"
            )
        self._source = found.source
        self._similar = None if similar is None else similar.tolist()
        self._of_image: dict[int, list[int]] = {}
        for index, (_, image) in enumerate(self._pairs):
            self._of_image.setdefault(image, []).append(index)
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

    def similar(self, index: int) -> list[int]:
        if self._similar is None:
            raise ValueError("hard_images: ItemData needs `similar`, of `similar_images`")
        images = self._similar[self._pairs[index][1]]
        return [other for image in images for other in self._of_image[image]]

    def digest(self) -> str:
        digest = hashlib.sha256(f"{self._source.digest()} {self._similar}".encode())
        for item, image in self._pairs:
            digest.update(f"{image}\0{item}\n".encode())
        return digest.hexdigest()


def similar_images(image_features: torch.Tensor, k: int = 3) -> torch.Tensor:
    """The k images that look most like each, for the hard images of NegCLIP.

    Parameters
    ----------
    image_features : tensor [I, d]
        Of the model before training, of unit length; a row for each image of an `ItemImages`.
    k : int, 1 to I - 1

    Returns
    -------
    int64 tensor [I, k]
        Rows of ``image_features``, the most similar first and never the image's own.

    Raises
    ------
    ValueError
        ``k`` is out of range, or features hold NaN or infinity.

    Examples
    --------
    >>> import torch
    >>> from fastclip.training import similar_images
    >>> similar_images(torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), k=1).tolist()
    [[1], [2], [1]]
    """
    count = len(image_features)
    if not 1 <= k < count:
        raise ValueError(f"k: is {k}, allowed: 1 to {count - 1}, for {count} images")
    nearest = fastclip.topk(image_features, image_features, k + 1).indices
    own = nearest == torch.arange(count, device=nearest.device)[:, None]
    own[:, -1] |= ~own.any(1)  # as near as k + 1 others: the last of them goes
    return nearest[~own].reshape(count, k)


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

        if settings.hard_images:
            if not hasattr(data, "similar"):
                raise ValueError(f"hard_images: {type(data).__name__} has no method `similar`")
            data.similar(0)  # raises now what a step would raise

    def __len__(self) -> int:
        return self.per_epoch * self.settings.epochs

    def load(self, step: int) -> Batch:
        """Read the images and draw the texts of a step."""
        epoch, place = divmod(step, self.per_epoch)
        size = self.settings.batch_size
        order = _generator(self.settings.seed, epoch, 0).permutation(len(self.data))
        chosen = order[place * size : (place + 1) * size].tolist()
        rng = _generator(self.settings.seed, epoch, place + 1)
        if self.settings.hard_images:
            chosen += _hard(cast(SimilarImages, self.data), chosen, rng)
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


def _hard(data: SimilarImages, chosen: Sequence[int], rng: np.random.Generator) -> list[int]:
    """For each of ``chosen`` a caption of a similar image that the batch has not yet, if any."""
    there = dict.fromkeys(chosen)  # in this order
    for index in chosen:
        others = [other for other in data.similar(index) if other not in there]
        which = rng.random()
        if others:
            there[others[int(which * len(others))]] = None
    return list(there)[len(chosen) :]


def _columns(drawn: list[tuple[str, int]]) -> tuple[list[str], list[int]]:
    return [text for text, _ in drawn], [row for _, row in drawn]


def _generator(seed: int, epoch: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, (epoch << 32) | stream]))
