"""What a run minimises, and from what; the loop knows no more of it than this."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar, cast

import numpy as np
import torch

from fastclip.models._text import pooled

from ._ranks import ALONE, OneProcess
from .data import (
    Batch,
    CaptionedData,
    Preprocess,
    SimilarImages,
    TrainingData,
    draw_texts,
    hard_images,
)
from .losses import LOSSES, BatchFeatures, Parts
from .settings import RunSettings, TrainingSettings


class AnyBatch(Protocol):
    """Images [B, 3, H, W], of several ranks each its own, and all texts that go with them."""

    @property
    def images(self) -> torch.Tensor: ...

    @property
    def texts(self) -> list[str]: ...


B = TypeVar("B", bound=AnyBatch)


class Objective(ABC, Generic[B]):
    """A loss with its data and settings.

    Attributes
    ----------
    data : CaptionedData
    settings : RunSettings
        A dataclass; a run resumes only with the same values of all fields.
    """

    data: CaptionedData
    settings: RunSettings

    def more(self, chosen: Sequence[int], rng: np.random.Generator) -> list[int]:
        """Captions that join those of a step."""
        return []

    @abstractmethod
    def batch(self, images: torch.Tensor, chosen: Sequence[int], rng: np.random.Generator) -> B:
        """The batch of captions ``chosen``; its random choices follow from ``rng`` alone.

        ``images`` are those of all of them or, on one of several ranks, of its share.
        """

    @abstractmethod
    def encode_images(self, module: Any, images: torch.Tensor) -> torch.Tensor:
        """[B, d, ...]: features, not yet of unit length along d."""

    @abstractmethod
    def loss(self, batch: B, images: torch.Tensor, texts: torch.Tensor, module: Any) -> Parts:
        """The parts of the loss and their sum ``loss``.

        ``images`` are float32 features of unit length along dimension 1, those of all ranks, and
        ``texts`` the rows of ``batch.texts`` alike.
        """


class HardCaptions(Objective[Batch]):
    """A loss of `LOSSES`: pooled images against captions, hard negatives and hard positives."""

    def __init__(self, data: TrainingData, settings: TrainingSettings) -> None:
        self.data: TrainingData = data
        self.settings: TrainingSettings = settings
        if settings.hard_images:
            if not hasattr(data, "similar"):
                raise ValueError(f"hard_images: {type(data).__name__} has no method `similar`")
            data.similar(0)  # raises now what a step would raise

    def more(self, chosen: Sequence[int], rng: np.random.Generator) -> list[int]:
        if not self.settings.hard_images:
            return []
        return hard_images(cast(SimilarImages, self.data), chosen, rng)

    def batch(self, images: torch.Tensor, chosen: Sequence[int], rng: np.random.Generator) -> Batch:
        shares = self.settings.negatives, self.settings.positives
        return Batch(images, **draw_texts(self.data, shares, chosen, rng))

    def encode_images(self, module: Any, images: torch.Tensor) -> torch.Tensor:
        return pooled(module.encode_image(images, normalize=False))

    def loss(self, batch: Batch, images: torch.Tensor, texts: torch.Tensor, module: Any) -> Parts:
        sizes = len(batch.captions), len(batch.negatives), len(batch.positives)
        captions, negatives, positives = texts.split(sizes)
        features = BatchFeatures(
            images,
            captions,
            negatives,
            torch.tensor(batch.negative_of, dtype=torch.int64, device=texts.device),
            positives,
            torch.tensor(batch.positive_of, dtype=torch.int64, device=texts.device),
        )
        return LOSSES[self.settings.loss](features, module.logit_scale.float().exp())


class Batches(Generic[B]):
    """The batch of every step, a function of the seed and the step alone.

    So a resumed run sees what it would have seen without any state to keep, and each of several
    ranks knows the whole batch, of which it reads its share of the images.
    """

    def __init__(
        self, objective: Objective[B], preprocess: Preprocess, ranks: OneProcess = ALONE
    ) -> None:
        self.objective = objective
        self.preprocess = preprocess
        self.ranks = ranks
        size, captions = objective.settings.batch_size, len(objective.data)
        self.per_epoch = captions // size
        if not self.per_epoch:
            raise ValueError(
                f"batch_size: is {size}, allowed: up to {captions}, the number of captions"
            )
        if size < ranks.size:
            raise ValueError(
                f"batch_size: is {size}, allowed: {ranks.size} or more, an image for each rank"
            )

    def __len__(self) -> int:
        return self.per_epoch * self.objective.settings.epochs

    def load(self, step: int) -> B:
        """Read the images and draw the texts of a step."""
        epoch, place = divmod(step, self.per_epoch)
        data, settings = self.objective.data, self.objective.settings
        size = settings.batch_size
        order = _generator(settings.seed, epoch, 0).permutation(len(data))
        chosen = order[place * size : (place + 1) * size].tolist()
        rng = _generator(settings.seed, epoch, place + 1)
        chosen += self.objective.more(chosen, rng)
        images = data.images(self.ranks.own(chosen), self.preprocess)
        return self.objective.batch(images, chosen, rng)


def _generator(seed: int, epoch: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, (epoch << 32) | stream]))
