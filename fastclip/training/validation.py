"""Figures that show what training gains, and what it damages."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from fastclip.data import (
    CaptionedImages,
    HardPositiveItem,
    HardPositiveSet,
    ImageSource,
    ItemImages,
    read_texts,
)
from fastclip.data.hard_positives import texts_in_table
from fastclip.data.image_decoding import decode_image
from fastclip.metrics import hard_positive_scores, retrieval
from fastclip.models import Model, templates
from fastclip.ops.rank import rank

_BATCH = 128
_RECALLS = ("image_to_text_recall", "text_to_image_recall")
_MEASURES = ("original_accuracy", "augmented_accuracy", "brittleness")


class Validation:
    """Scores of a benchmark of hard positives, zero-shot accuracy and retrieval, for training.

    Parameters
    ----------
    benchmark : (items, ItemImages), optional
        As of `read_hard_positives` and `find_item_images`; all items have hard positives, or none.
    zero_shot : (images, class names), optional
        Paths of images, and the name of the class of each. The vocabulary is the set of names, in
        the prompts of `fastclip.models.templates("imagenet-simple")`.
    retrieval : CaptionedImages, optional
        What `fastclip.data.find_captioned_images` returned; scored by `fastclip.metrics.retrieval`.

    Attributes
    ----------
    figures : tuple of str
        What is measured, of zero-shot accuracy and retrieval: names that ``guard`` can watch.

    Raises
    ------
    ValueError
        None is given, lengths differ, or no item has an image.
    """

    def __init__(
        self,
        benchmark: tuple[Sequence[HardPositiveItem], ItemImages] | None = None,
        zero_shot: tuple[Sequence[str | os.PathLike[str]], Sequence[str]] | None = None,
        retrieval: CaptionedImages | None = None,
    ) -> None:
        if benchmark is None and zero_shot is None and retrieval is None:
            raise ValueError("benchmark, zero_shot, retrieval: one of them is needed")
        if zero_shot is not None and len(zero_shot[0]) != len(zero_shot[1]):
            raise ValueError(
                f"zero_shot: {len(zero_shot[0])} images have {len(zero_shot[1])} class names"
            )
        self._benchmark = benchmark
        self._zero_shot = zero_shot
        self._retrieval = retrieval
        of_zero_shot = () if zero_shot is None else ("zero_shot_accuracy",)
        self.figures = (*of_zero_shot, *(() if retrieval is None else _RECALLS))

    def __call__(self, model: Model) -> dict[str, float]:
        """Measure a model: ``original_accuracy``, ``augmented_accuracy``, ``brittleness`` (means
        of the categories), ``zero_shot_accuracy``, ``image_to_text_recall`` and
        ``text_to_image_recall`` (R@1), as far as their data are given."""
        figures: dict[str, float] = {}
        if self._benchmark is not None:
            figures |= _benchmark(model, *self._benchmark)
        if self._zero_shot is not None:
            figures["zero_shot_accuracy"] = _zero_shot(model, *self._zero_shot)
        if self._retrieval is not None:
            figures |= zip(_RECALLS, _recalls(model, self._retrieval), strict=True)
        return figures


def read_classes(table: Path) -> tuple[list[Path], tuple[str, ...]]:
    """Read images and class names from a table, for ``zero_shot``; paths are relative to it."""
    names = read_texts(table, column="image")
    classes = (name.strip() for name in read_texts(table, column="class"))  # "cat " is "cat"
    return [table.parent / name for name in names], tuple(classes)


def _benchmark(
    model: Model, items: Sequence[HardPositiveItem], found: ItemImages
) -> dict[str, float]:
    pairs = zip(items, found.image_of_item, strict=True)
    kept = [(item, image) for item, image in pairs if image >= 0]
    if not kept:
        raise ValueError("benchmark: no item has an image")
    items, rows = [item for item, _ in kept], np.array([image for _, image in kept])
    texts = HardPositiveSet(tuple(items)).texts
    captions, positives, negatives = texts_in_table(items, texts)
    scores = hard_positive_scores(
        _encode_source(model, found.source),
        np.array(captions),
        positives if items[0].hard_positives else None,
        negatives,
        text_features=model.encode_text(texts),
        image_of_item=rows,
        categories=[item.category for item in items],
        resamples=0,
    )
    return {name: getattr(scores.macro, name) for name in _MEASURES}


def _zero_shot(
    model: Model, images: Sequence[str | os.PathLike[str]], classes: Sequence[str]
) -> float:
    names = list(dict.fromkeys(classes))
    texts = model.encode_text(names, templates=templates("imagenet-simple"))
    target = torch.tensor([names.index(name) for name in classes], device=texts.device)
    ranks = rank(model.encode_image(list(images)), texts, target)
    return float((ranks == 0).double().mean())


def _recalls(model: Model, found: CaptionedImages) -> tuple[float, float]:
    rows, image_of_text = torch.tensor(found.image_of_caption).unique(return_inverse=True)
    images = _encode_source(model, found.source)[rows.to(model.device)]
    both = retrieval(images, model.encode_text(found.captions), image_of_text)
    return both.image_to_text.recall[1], both.text_to_image.recall[1]


def _encode_source(model: Model, source: ImageSource) -> torch.Tensor:
    parts = [
        model.encode_image(
            [decode_image(source.read(i)) for i in range(start, min(start + _BATCH, len(source)))]
        )
        for start in range(0, len(source), _BATCH)
    ]
    return torch.cat(parts)
