"""Text-tag self-distillation of a CLIP model: data, settings, and the training."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, get_args

import numpy as np
import torch

from fastclip.data.captioned_images import CaptionedImages
from fastclip.models import Model, pixel_features
from fastclip.models._dense import METHODS
from fastclip.training.data import CaptionedData, CaptionImages
from fastclip.training.loop import run_objective
from fastclip.training.losses import Parts
from fastclip.training.objective import Objective
from fastclip.training.settings import RunSettings, setting
from fastclip.ttd.losses import Distance, Student, check_options, distillation_loss


class TaggedData(CaptionedData, Protocol):
    """Captioned images, and the tags of each caption; `TaggedImages`, or one's own."""

    def texts(self, index: int) -> tuple[str, Sequence[str]]:
        """Return a caption and its tags."""


@dataclass(frozen=True)
class DistillationSettings(RunSettings):
    """Settings of `distill`.

    ``minimum``, ``gain`` and ``bias`` are those of `distillation_loss`.

    Examples
    --------
    >>> from fastclip.ttd import DistillationSettings
    >>> DistillationSettings(distance="l1", student="min-max").tag_weight
    1.0
    """

    batch_size: int = 32
    epochs: int = 1
    method: str = setting(
        "value",
        "How features of patches are read from the model, as in Model.encode_pixels.",
        choices=METHODS,
    )
    threshold: float = setting(
        0.5, "Normalised score from which a tag counts as visible.", low=0, high=1
    )
    minimum: float | None = None
    distance: Distance = setting(
        "bce", "Distance between maps and their targets.", choices=get_args(Distance)
    )
    student: Student = setting(
        "sigmoid", "What of a map is compared with its target.", choices=get_args(Student)
    )
    gain: float = 10.0
    bias: float = -2.5
    tag_weight: float = setting(1.0, "Weight of the loss of single tags.", low=0)
    map_size: int | None = setting(
        None,
        "Side that maps are up-sampled to, such as that of the image. Default: the grid of the "
        "patches.",
        low=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self.distance, self.student)


class TaggedImages(CaptionImages):
    """Captioned images with the tags of their captions; those without a tag are left out.

    Parameters
    ----------
    found : CaptionedImages
        Of `fastclip.data.find_captioned_images`.
    tags : sequence of sequences of str
        The tags of each caption, such as `extract_tags` gives.
    workers : int, optional
        Threads that read and decode. Default: one per available processor, 8 at most.

    Attributes
    ----------
    untagged : int
        How many captions were left out.

    Raises
    ------
    ValueError
        There is not one entry of tags for each caption, or no caption has a tag.
    """

    def __init__(
        self, found: CaptionedImages, tags: Sequence[Sequence[str]], workers: int | None = None
    ) -> None:
        if len(tags) != len(found.captions):
            raise ValueError(
                f"tags: {len(tags)} entries, needed: {len(found.captions)}, one for each caption"
            )
        triples = zip(found.image_of_caption, found.captions, map(tuple, tags), strict=True)
        self._items = [item for item in triples if item[2]]
        self.untagged = len(tags) - len(self._items)
        if not self._items:
            raise ValueError("tags: no caption has any")
        super().__init__(found.source, [row for row, _, _ in self._items], workers)

    def texts(self, index: int) -> tuple[str, Sequence[str]]:
        return self._items[index][1:]

    def digest(self) -> str:
        digest = hashlib.sha256(self._source.digest().encode())
        for item in self._items:
            digest.update(f"{item}\n".encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class TaggedBatch:
    """Images, their captions, the different tags, and which of these each caption has in turn."""

    images: torch.Tensor
    captions: list[str]
    tags: list[str]
    tag_of: list[int]
    counts: list[int]

    @property
    def texts(self) -> list[str]:
        return [*self.captions, *self.tags]


class Distillation(Objective[TaggedBatch]):
    """`distillation_loss` of captioned images."""

    def __init__(self, data: TaggedData, settings: DistillationSettings) -> None:
        self.data: TaggedData = data
        self.settings: DistillationSettings = settings

    def batch(
        self, images: torch.Tensor, chosen: Sequence[int], rng: np.random.Generator
    ) -> TaggedBatch:
        captions, tags = zip(*(self.data.texts(index) for index in chosen), strict=True)
        rows: dict[str, int] = {}
        tag_of = [rows.setdefault(tag, len(rows)) for own in tags for tag in own]
        return TaggedBatch(images, list(captions), list(rows), tag_of, [len(own) for own in tags])

    def encode_images(self, module: Any, images: torch.Tensor) -> torch.Tensor:
        return pixel_features(module, images, method=self.settings.method)

    def loss(
        self, batch: TaggedBatch, images: torch.Tensor, texts: torch.Tensor, module: Any
    ) -> Parts:
        settings = self.settings
        captions, tags = texts.split([len(batch.captions), len(batch.tags)])
        side = settings.map_size
        return distillation_loss(
            images,
            captions,
            tags[batch.tag_of],
            batch.counts,
            threshold=settings.threshold,
            minimum=settings.minimum,
            distance=settings.distance,
            student=settings.student,
            gain=settings.gain,
            bias=settings.bias,
            tag_weight=settings.tag_weight,
            map_size=None if side is None else (side, side),
        )


def distill(
    name: str,
    pretrained: str | os.PathLike[str] | None,
    data: TaggedData,
    output: str | os.PathLike[str],
    settings: DistillationSettings | None = None,
    *,
    device: str | torch.device = "cpu",
    validate: Callable[[Model], Mapping[str, float]] | None = None,
    guard: Mapping[str, float] | None = None,
    tensorboard: bool = False,
    progress: bool = True,
) -> Model:
    """Fine-tune a CLIP model by text-tag self-distillation, from captioned images alone.

    Jo et al., *TTD: Text-Tag Self-Distillation Enhancing Image-Text Alignment in CLIP to Alleviate
    Single Tag Bias*, ECCV 2024: the heat map of a caption learns the union of the maps of those of
    its tags that the image shows. What is minimised is `distillation_loss`. Nothing in it keeps
    features of whole images and texts as they are: let ``guard`` watch what must not get lost.
    All else is as in `fastclip.train`.

    Parameters
    ----------
    name, pretrained, output, device, validate, guard, tensorboard, progress
        As for `fastclip.train`.
    data : TaggedData
        `TaggedImages`, or anything with its methods.
    settings : DistillationSettings, optional

    Returns
    -------
    Model
        The trained model, loaded from ``output``.

    Raises
    ------
    ValueError, ImportError
        As for `fastclip.train`; or the model has no features of pixels by ``settings.method``.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from fastclip.data import find_captioned_images
    >>> from fastclip.ttd import DistillationSettings, TaggedImages, distill
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (64, 64), "red").save(f"{folder}/1.png")
    ...     _ = Path(folder, "1.txt").write_text("a red wall by the sea")
    ...     data = TaggedImages(find_captioned_images(folder), [["wall", "sea"]])
    ...     settings = DistillationSettings(batch_size=1, warmup=0)
    ...     model = distill("tiny", None, data, f"{folder}/out", settings, progress=False)
    >>> model.dim
    128
    """
    objective = Distillation(data, settings or DistillationSettings())
    return run_objective(
        name, pretrained, objective, output,
        device=device, validate=validate, guard=guard, tensorboard=tensorboard, progress=progress,
    )  # fmt: skip
