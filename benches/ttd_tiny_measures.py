"""What `ttd_tiny.py` measures: tags, rankings, masks, and which tag a caption is closest to."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from ttd_tiny_data import Pictures

import fastclip
from fastclip.metrics import (
    CaptionMaskScorer,
    MeanAveragePrecision,
    SegmentationScorer,
    TagScorer,
)
from fastclip.models import Model
from fastclip.models.tiny.train import SIDE
from fastclip.ttd import label_features, select_tags, single_tag_bias

METHOD = "value-only"  # features of pixels: the small model's best
SCORINGS = ("image-tag", "text-tag", "pixel-tag")
PAPER = 0.21  # cosine where sigmoid(10 * cosine - 2.5) is 0.40, the paper's constant background
_GRID = [round(0.02 * i, 2) for i in range(-5, 31)]  # backgrounds to choose from
_BATCH = 100


def encoded(model: Model, pictures: Pictures) -> Iterator[tuple[int, torch.Tensor]]:
    """Features of pixels [1, d, h, w] of each picture."""
    count = len(pictures.images)
    alike = len({tuple(image.shape) for image in pictures.images}) == 1
    size = _BATCH if alike else 1
    for start in range(0, count, size):
        some = torch.stack(pictures.images[start : start + size])
        for i, features in enumerate(model.encode_pixels(some, method=METHOD)):
            yield start + i, features[None]


def whole_images(model: Model, pictures: Pictures) -> torch.Tensor:
    squares = [
        F.interpolate(image[None], (SIDE, SIDE), mode="area")[0] for image in pictures.images
    ]
    return model.encode_image(torch.stack(squares))


def choose_background(model: Model, pictures: Pictures) -> float:
    """The cosine with the best caption IoU; chosen on training drawings."""
    found = {background: CaptionMaskScorer() for background in _GRID}
    texts = model.encode_text([captions[0] for captions in pictures.captions])
    for i, features in encoded(model, pictures):
        label = pictures.labels[i]
        scores = label_features(features, texts[i : i + 1], label.shape).scores
        for background, scorer in found.items():
            scorer.update(scores >= background, label > 0)
    return max(_GRID, key=lambda background: found[background].compute().iou)


def measure(model: Model, pictures: Pictures, background: float) -> dict[str, float]:
    """All figures of some pictures."""
    counts = [len(own) for own in pictures.tags]
    tags = model.encode_text([tag for own in pictures.tags for tag in own])
    flat = torch.tensor([x for own in pictures.shown for x in own])
    captions = [model.encode_text(own) for own in pictures.captions]
    first, images = torch.stack([own[0] for own in captions]), whole_images(model, pictures)
    names = model.encode_text(pictures.classes)
    tag_scorers = {scoring: TagScorer() for scoring in SCORINGS}
    # Rankings of the pictures, by the whole image and by the nearest pixel.
    rankings = [MeanAveragePrecision(len(names)) for _ in range(2)]
    masks = {"": background, " at 0.40": PAPER}
    caption_scorers = {name: CaptionMaskScorer() for name in masks}
    class_scorers = {name: SegmentationScorer(1 + len(names)) for name in masks}
    start = 0
    for i, features in encoded(model, pictures):
        own = slice(start, start + counts[i])
        start += counts[i]
        for scoring, given in zip(
            SCORINGS, (images[i : i + 1], first[i : i + 1], features), strict=True
        ):
            chosen = select_tags(given, tags[own], method=scoring).selected
            tag_scorers[scoring].update(chosen, flat[own])
        label = pictures.labels[i]
        present = torch.bincount(label[label > 0] - 1, minlength=len(names)) > 0
        for ranking, scores in zip(
            rankings,
            (images[i : i + 1] @ names.T, fastclip.pixel_scores(features, names).values),
            strict=True,
        ):
            ranking.update(scores, present[None])
        asked = torch.tensor([-1, *pictures.asked[i]]) + 1  # from the background on
        of_tags = label_features(features, names[pictures.asked[i]], label.shape)
        of_captions = [label_features(features, c[None], label.shape).scores for c in captions[i]]
        for name, cosine in masks.items():
            found = torch.where(of_tags.scores >= cosine, of_tags.labels + 1, 0)
            class_scorers[name].update(asked[found], label)
            for scores in of_captions:
                caption_scorers[name].update(scores >= cosine, label > 0, label >= 0)
    figures: dict[str, float] = {"background": background}
    for scoring, scorer in tag_scorers.items():
        tagged = scorer.compute()
        figures |= {
            f"{scoring} {name}": float(tagged[name])
            for name in ("precision", "recall", "f1", "accuracy")
        }
        figures["positive rate"] = float(tagged.positive_rate)
    for name, ranking in zip(("image mAP", "pixel mAP"), rankings, strict=True):
        figures[name] = float(ranking.compute().mean)
    for name in masks:
        of_caption, of_class = caption_scorers[name].compute(), class_scorers[name].compute()
        figures |= {
            f"caption IoU{name}": float(of_caption.iou),
            f"mIoU{name}": float(of_class.mean_iou),
            f"mFPR{name}": float(of_class.mean_fpr),
            f"mFNR{name}": float(of_class.mean_fnr),
        }
    kept = [sum(own) for own in pictures.shown]
    for name, rows in (("caption", first), ("image", images)):
        bias = single_tag_bias(rows, tags[flat], kept, scale=10.0)
        figures |= {f"{name} dominance": bias.dominance, f"{name} gap": bias.gap}
    return figures
