"""A model on captions with hard positives and negatives, from its features to its scores."""

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastclip.data import (
    Encoder,
    HardPositiveItem,
    HardPositiveSet,
    ItemImages,
    embed_images,
    embed_texts,
    read_features,
)
from fastclip.data.checks import check_choice
from fastclip.data.hard_positives import edit, texts_in_table
from fastclip.data.html import picture, table, together
from fastclip.data.image_decoding import decode_image
from fastclip.metrics.compositionality import (
    HardPositiveScores,
    TextSensitivity,
    hard_positive_scores,
    text_sensitivity,
)

_EXAMPLES = 4  # of each outcome
_SIDE = 96  # pixels of an image in a notebook
_RARE = 20  # items; edits that fewer have are pooled

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class HardPositiveReport:
    """Result of `measure_hard_positives`.

    Attributes
    ----------
    items : tuple of HardPositiveItem
        Those that were scored.
    scores : HardPositiveScores, or None without images
    texts : TextSensitivity, or None without hard positives
    images : ItemImages, or None
    image_of_item : tuple of int
        The image of each of ``items``.
    unreadable : dict
        Images that could not be read, with the reason; their items are not among ``items``.
    """

    items: tuple[HardPositiveItem, ...]
    scores: HardPositiveScores | None
    texts: TextSensitivity | None
    images: ItemImages | None
    image_of_item: tuple[int, ...]
    unreadable: dict[str, str]

    def examples(self, outcome: str) -> list[int]:
        """The items furthest from right, one per image, of "positive_rejected" and the like."""
        if self.scores is None or self.texts is None:
            return []
        s, p, n = (
            x.double()
            for x in (
                self.scores.caption_scores,
                self.scores.positive_scores,
                self.scores.negative_scores,
            )
        )
        of_outcome = {
            "positive_rejected": (s > n) & (n > p),
            "caption_rejected": (p > n) & (n > s),
            "both_rejected": (n > s) & (n > p),
        }[outcome]
        margin = torch.minimum(s, p) - n
        worst: dict[int, int] = {}
        for item in margin.argsort(stable=True).tolist():
            if of_outcome[item]:
                worst.setdefault(self.image_of_item[item], item)
            if len(worst) == _EXAMPLES:
                break
        return list(worst.values())

    def _repr_html_(self) -> str:
        outcomes = ("positive_rejected", "caption_rejected", "both_rejected")
        examples = {outcome: self.examples(outcome) for outcome in outcomes}
        rows = [
            (self._picture(item), outcome.replace("_", " "), *self._texts(item))
            for outcome, items in examples.items()
            for item in items
        ]
        columns = ["image", "outcome", "caption", "hard positives", "hard negatives"]
        return together(
            None if self.scores is None else self.scores._repr_html_(),
            None if self.texts is None else self.texts._repr_html_(),
            table("Items furthest from right", columns, rows) if rows else None,
        )

    def _texts(self, item: int) -> tuple[str, str, str]:
        entry = self.items[item]
        return entry.caption, " / ".join(entry.hard_positives), " / ".join(entry.hard_negatives)

    def _picture(self, item: int) -> str:
        """The image of an item, or its name where it cannot be read any more."""
        name = self.items[item].image
        if self.images is None:
            return name
        try:
            image = decode_image(self.images.source.read(self.image_of_item[item]))
        except (OSError, ValueError):
            return name
        return picture(image, _SIDE, name)


def measure_hard_positives(
    items: Sequence[HardPositiveItem],
    model: Encoder,
    folder: Path,
    *,
    images: ItemImages | None = None,
    by: str = "category",
    resamples: int = 1000,
    batch_size: int = 128,
    model_name: str | None = None,
    pretrained: str | None = None,
    workers: int | None = None,
    progress: Callable[[str], Progress] | None = None,
) -> HardPositiveReport:
    """Encode the texts of items, and their images where given, and score them.

    Parameters
    ----------
    items : sequence of HardPositiveItem
    model : Encoder
        A model of `fastclip.models.load`.
    folder : path
        Where features are kept, so that a second call resumes.
    images : ItemImages, optional
        What `find_item_images` found for these items; those whose image is missing are left out.
        Without it, texts alone are measured.
    by : "category" or "edit"
        What the figures are split by. Edits are those of the hard positive, such as
        "black -> ebony"; those of fewer than 20 items are pooled as "other".
    resamples : int
        See `fastclip.metrics.hard_positive_scores`.
    batch_size, model_name, pretrained, workers
        See `fastclip.data.embed_images`.
    progress : callable, optional
        Called with "images" or "texts"; returns what `embed_images` takes as ``progress``.

    Warns
    -----
    UserWarning
        Texts of an item differ only after the end of the model's context, so that they score as
        ties.

    Raises
    ------
    ValueError
        ``by`` is neither word, some items have hard positives and others none, or no image can be
        read; and as `embed_images`.
    """
    check_choice("by", by, ("category", "edit"))
    having = sum(bool(item.hard_positives) for item in items)
    if 0 < having < len(items):
        raise ValueError(
            f"items: {len(items) - having} of {len(items)} have no hard positive, "
            "allowed: all or none; fastclip.data.complete_items returns those that have all"
        )
    named: dict[str, Any] = {"model_name": model_name, "pretrained": pretrained}
    _warn_of_cut_texts(items, model)
    folder.mkdir(parents=True, exist_ok=True)
    texts = HardPositiveSet(tuple(items)).texts
    told = progress("texts") if progress else None
    embed_texts(texts, model, folder / "texts", batch_size=2 * batch_size, progress=told, **named)
    table = _unit(folder / "texts")
    if images is None:
        _, sensitivity = _measures(items, texts, table, None, by, resamples)
        return HardPositiveReport(tuple(items), None, sensitivity, None, (), {})
    told = progress("images") if progress else None
    summary = embed_images(
        images.source,
        model,
        folder / "images",
        batch_size=batch_size,
        workers=workers,
        progress=told,
        **named,
    )
    bad = {entry.index for entry in summary.unreadable}
    row_of_image = {
        i: row for row, i in enumerate(i for i in range(len(images.source)) if i not in bad)
    }
    scored = [
        (item, i) for item, i in zip(items, images.image_of_item, strict=True) if i in row_of_image
    ]
    if not scored:
        raise ValueError("images: none of them can be read")
    kept, image_of_item = zip(*scored, strict=True)
    features = _unit(folder / "images")
    rows = np.array([row_of_image[i] for i in image_of_item])
    scores, sensitivity = _measures(kept, texts, table, (features, rows), by, resamples)
    unreadable = {entry.name: entry.reason for entry in summary.unreadable}
    return HardPositiveReport(kept, scores, sensitivity, images, image_of_item, unreadable)


def _measures(
    items: Sequence[HardPositiveItem],
    texts: Sequence[str],
    table: torch.Tensor,
    images: tuple[torch.Tensor, Any] | None,
    by: str,
    resamples: int,
) -> tuple[HardPositiveScores | None, TextSensitivity | None]:
    """Both measures, or None for what there is nothing to measure of."""
    captions, positives, negatives = texts_in_table(items, texts)
    has_positives = bool(items[0].hard_positives)
    options: dict[str, Any] = {
        "text_features": table,
        "categories": _edits(items) if by == "edit" else [i.category or "all" for i in items],
        "resamples": resamples,
    }
    scores = sensitivity = None
    if images is not None:
        scores = hard_positive_scores(
            images[0],
            np.array(captions),
            positives if has_positives else None,
            negatives,
            image_of_item=images[1],
            **options,
        )
    if has_positives:
        numbers = {name: k for k, name in enumerate(dict.fromkeys(i.image for i in items))}
        # Items that name no image are taken for independent ones.
        groups = [numbers[i.image] if i.image else len(items) + k for k, i in enumerate(items)]
        sensitivity = text_sensitivity(
            np.array(captions), positives, negatives, group_of_item=np.array(groups), **options
        )
    return scores, sensitivity


def _warn_of_cut_texts(items: Sequence[HardPositiveItem], model: Encoder) -> None:
    """Warn of texts of an item that differ only behind the end of the model's context."""
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None:
        return
    length = tokenizer([""]).shape[1]
    texts = HardPositiveSet(tuple(items)).texts
    # A token is a byte or more, and two stand for the ends.
    long = [text for text in texts if len(text.encode("utf-8", "replace")) > length - 2]
    seen = {
        text: row.tobytes()
        for start in range(0, len(long), 1024)
        for part in [long[start : start + 1024]]
        for text, row in zip(part, tokenizer(part).numpy(), strict=True)
    }
    equal = [
        item
        for item in items
        if item.caption in seen
        and any(
            text != item.caption and seen.get(text) == seen[item.caption]
            for text in (*item.hard_positives, *item.hard_negatives)
        )
    ]
    if equal:
        warnings.warn(
            f"items: {len(equal)} of {len(items)} have a caption that differs from a hard positive "
            f"or negative only after the model's context of {length} tokens: they score as ties. "
            f"The first is {equal[0].caption!r:.200}",
            stacklevel=3,
        )


def _unit(folder: Path) -> torch.Tensor:
    return read_features(folder).normalized().features


def _edits(items: Sequence[HardPositiveItem]) -> list[str]:
    """The first edit of each item, in words that a reader can count."""
    edits = [edit(i.caption, (*i.hard_positives, *i.hard_negatives)[0]) for i in items]
    counts = Counter(edits)
    return [e if counts[e] >= _RARE else "other" for e in edits]
