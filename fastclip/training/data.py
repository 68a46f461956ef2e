"""What is trained on: images, captions, hard negatives and hard positives."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from fastclip.data import HardPositiveItem, ImageSource, ItemImages
from fastclip.data.image_decoding import decode_image
from fastclip.data.parallel import processors
from fastclip.ops.topk import topk

Preprocess = Callable[[Any], torch.Tensor]


class CaptionedData(Protocol):
    """Captioned images in a fixed order: what the loop itself needs of the data."""

    def __len__(self) -> int:
        """How many captions there are."""

    def images(self, indices: Sequence[int], preprocess: Preprocess) -> torch.Tensor:
        """Return the images of some captions, [B, 3, H, W] float32, preprocessed."""

    def digest(self) -> str:
        """Return a text that changes with the data."""


class TrainingData(CaptionedData, Protocol):
    """What `HardCaptions` needs: `ItemData`, or one's own."""

    def texts(self, index: int) -> tuple[str, Sequence[str], Sequence[str]]:
        """Return a caption, its hard negatives and its hard positives; these can be empty."""


class SimilarImages(Protocol):
    """What data have besides if ``hard_images`` is to be set."""

    def similar(self, index: int) -> Sequence[int]:
        """Captions of the images that look most like that of a caption."""


class CaptionImages:
    """The image of each caption, ``rows`` of a source; read and decoded on some threads."""

    def __init__(self, source: ImageSource, rows: Sequence[int], workers: int | None) -> None:
        self._source = source
        self._rows = rows
        self._pool = ThreadPoolExecutor(workers or processors())

    def __len__(self) -> int:
        return len(self._rows)

    def images(self, indices: Sequence[int], preprocess: Preprocess) -> torch.Tensor:
        def load(index: int) -> torch.Tensor:
            row = self._rows[index]
            try:
                return preprocess(decode_image(self._source.read(row)))
            except ValueError as error:
                raise ValueError(f"{self._source.names[row]}: {error}") from error

        return torch.stack(list(self._pool.map(load, indices)))


class ItemData(CaptionImages):
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
        super().__init__(found.source, [image for _, image in self._pairs], workers)
        self._similar = None if similar is None else similar.tolist()
        self._of_image: dict[int, list[int]] = {}
        for index, image in enumerate(self._rows):
            self._of_image.setdefault(image, []).append(index)

    def texts(self, index: int) -> tuple[str, Sequence[str], Sequence[str]]:
        item = self._pairs[index][0]
        return item.caption, item.hard_negatives, item.hard_positives

    def similar(self, index: int) -> list[int]:
        if self._similar is None:
            raise ValueError("hard_images: ItemData needs `similar`, of `similar_images`")
        images = self._similar[self._rows[index]]
        return [other for image in images for other in self._of_image[image]]

    def digest(self) -> str:
        digest = hashlib.sha256(f"{self._source.digest()} {self._similar}".encode())
        for item, image in self._pairs:
            digest.update(f"{image}\0{item}\n".encode())
        return digest.hexdigest()


def similar_images(image_features: torch.Tensor, k: int = 3) -> torch.Tensor:
    """Find the k images that look most like each, for the hard images of NegCLIP.

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
    nearest = topk(image_features, image_features, k + 1).indices
    own = nearest == torch.arange(count, device=nearest.device)[:, None]
    own[:, -1] |= ~own.any(1)  # as near as k + 1 others: the last of them goes
    return nearest[~own].reshape(count, k)


@dataclass(frozen=True)
class Batch:
    """Texts of a step and images, of several ranks each its own.

    The M + P extra texts belong to captions ``negative_of`` and ``positive_of``.
    """

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


def hard_images(data: SimilarImages, chosen: Sequence[int], rng: np.random.Generator) -> list[int]:
    """For each of ``chosen`` a caption of a similar image that the batch has not yet, if any."""
    there = dict.fromkeys(chosen)  # in this order
    for index in chosen:
        others = [other for other in data.similar(index) if other not in there]
        which = rng.random()
        if others:
            there[others[int(which * len(others))]] = None
    return list(there)[len(chosen) :]
