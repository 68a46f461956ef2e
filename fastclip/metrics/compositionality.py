"""Whether a model tells captions apart by what they mean: hard negatives and hard positives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from fastclip.data.checks import check_at_least
from fastclip.data.html import SHOWN, percent, table
from fastclip.engine.checks import Array, as_indices
from fastclip.metrics._bootstrap import Means, bootstrap_means
from fastclip.metrics._inputs import images_of, rows
from fastclip.metrics._texts import as_texts

OUTCOMES = (
    "original_accuracy",
    "augmented_accuracy",
    "brittleness",
    "positive_rejected",
    "caption_rejected",
    "both_rejected",
    "ties",
    "score_change",
)
_DISTANCES = ("positive_score", "negative_score", "negative_nearer", "ties")


@dataclass(frozen=True)
class HardPositiveSummary:
    """Measures of a set of items; all but ``score_change`` are fractions of the items.

    With S, P and N the scores of caption, hard positive and hard negative:
    """

    items: int
    original_accuracy: float
    """S > N"""
    augmented_accuracy: float
    """S > N and P > N"""
    brittleness: float
    """``positive_rejected + caption_rejected``; lower is better"""
    positive_rejected: float
    """S > N > P"""
    caption_rejected: float
    """P > N > S"""
    both_rejected: float
    """N > S and N > P"""
    ties: float
    """N equals S or P: wrong for the accuracies that it is part of, and in no other cell"""
    score_change: float
    """mean of abs(S - P)"""
    intervals: dict[str, tuple[float, float]]
    """for each measure the ends of its bootstrap interval"""
    chance: dict[str, float]
    """the accuracies and the brittleness of independent random scores"""


@dataclass(frozen=True)
class HardPositiveScores(HardPositiveSummary):
    """Result of `hard_positive_scores`: the measures of all items pooled, and more."""

    categories: dict[str, HardPositiveSummary]
    """the measures of each category, in the order of first appearance"""
    macro: HardPositiveSummary
    """the unweighted mean of the categories, as the paper averages the parts of REPLACE"""
    caption_scores: torch.Tensor
    """S, [N] float32"""
    positive_scores: torch.Tensor
    """P, [N] float32: the lowest of an item's hard positives"""
    negative_scores: torch.Tensor
    """N, [N] float32: the highest of an item's hard negatives"""

    def _repr_html_(self) -> str:
        parts: list[tuple[str, HardPositiveSummary]] = list(self.categories.items())[:SHOWN]
        left = len(self.categories) - len(parts)
        more = [(f"... {left:,} more", "", "", "", "")] if left else []
        return table(
            f"Hard positives: {self.items:,} items",
            ["", "items", "original accuracy", "augmented accuracy", "brittleness"],
            [*map(_shown, parts), *more, _shown(("all items", self))],
        )


def _shown(part: tuple[str, HardPositiveSummary]) -> tuple[str, ...]:
    """A line of a table in a notebook; NaN where a measure needs hard positives and has none."""
    name, found = part
    shares = (found.original_accuracy, found.augmented_accuracy, found.brittleness)
    return (name, f"{found.items:,}", *map(percent, shares))


@dataclass(frozen=True)
class TextSensitivity:
    """Result of `text_sensitivity` for a set of items."""

    items: int
    positive_score: float
    """mean score of caption and hard positive"""
    negative_score: float
    """mean score of caption and hard negative"""
    negative_nearer: float
    """fraction of items whose negative scores higher with the caption than the positive does"""
    ties: float
    """fraction of items where both score the same"""
    intervals: dict[str, tuple[float, float]]
    """for each measure the ends of its bootstrap interval"""
    categories: dict[str, TextSensitivity]
    """the same for each category; empty inside of these"""

    def _repr_html_(self) -> str:
        parts = [*list(self.categories.items())[:SHOWN], ("all items", self)]
        left = len(self.categories) + 1 - len(parts)
        shown = [
            (
                name,
                f"{found.items:,}",
                f"{found.positive_score:.3f}",
                f"{found.negative_score:.3f}",
                percent(found.negative_nearer),
            )
            for name, found in parts
        ]
        if left:
            shown.insert(-1, (f"... {left:,} more", "", "", "", ""))
        return table(
            f"Texts alone: {self.items:,} items",
            ["", "items", "score of positives", "score of negatives", "negative nearer"],
            shown,
        )


def hard_positive_scores(
    image_features: Array,
    captions: Array,
    hard_positives: Array | Sequence[Any] | None,
    hard_negatives: Array | Sequence[Any],
    *,
    text_features: Array | None = None,
    image_of_item: Array | None = None,
    categories: Sequence[str] | None = None,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> HardPositiveScores:
    r"""Ask whether captions and hard positives both beat hard negatives.

    Kamath, Hsieh, Chang, Krishna, *The Hard Positive Truth about Vision-Language
    Compositionality*, ECCV 2024. With S, P, N the scores of an image with its caption, the hard
    positive (another wording) and the hard negative (another meaning):

    .. math::
        \mathrm{original} = \overline{[S > N]},\quad
        \mathrm{augmented} = \overline{[S > N \wedge P > N]},\quad
        \mathrm{brittleness} = \overline{[S > N > P]} + \overline{[P > N > S]}

    Comparisons are strict and of exact scores (`fastclip.similarity`). Of several hard positives
    the lowest score counts and of several hard negatives the highest: all of the first have to
    beat all of the second. Features are compared as they are, so normalise them for cosines.

    Parameters
    ----------
    image_features : tensor or array [I, d], float32, float16 or bfloat16
    captions : tensor or array [N, d] of features, N >= 1, or integers [N]
        Integers are rows of ``text_features``.
    hard_positives, hard_negatives : as ``captions``, or sequence of N tensors or lists
        Where items have several: features [n_i, d], or n_i integers; each item has at least one.
        ``hard_positives`` may be None: only ``original_accuracy`` is a number then.
    text_features : tensor or array [V, d], optional
        A table of text features, so that each text is encoded and kept once.
    image_of_item : integer tensor or array [N], optional
        The row of each item's image. Default: item i is about image i, and I = N.
    categories : sequence of N str, optional
        Such as the kind of edit.
    resamples : int, default 1000
        Number of bootstrap resamples, which draw images with all of their items; 0 gives NaN
        intervals.
    confidence : float, between 0 and 1
    seed : int

    Returns
    -------
    HardPositiveScores

    Raises
    ------
    TypeError
        An argument is no array or has another dtype.
    ValueError
        An argument has a wrong shape or length, holds NaN or infinity, or is out of range, or an
        item has no hard negative or no hard positive.

    Examples
    --------
    >>> import torch
    >>> from fastclip.metrics import hard_positive_scores
    >>> images = torch.eye(2)
    >>> texts = torch.tensor([[0.9, 0.0], [0.8, 0.0], [0.5, 0.1], [0.0, 0.7], [0.0, 0.3], [0, 0.4]])
    >>> found = hard_positive_scores(images, texts[::3], texts[1::3], texts[2::3])
    >>> found.original_accuracy, found.augmented_accuracy, found.brittleness
    (1.0, 0.5, 0.5)
    """
    _check_options(resamples, confidence)
    found = item_scores(
        image_features, captions, hard_positives, hard_negatives, text_features, image_of_item
    )
    count = len(found.caption)
    values = found.outcomes()
    names, category = _categories(categories, count)
    images = found.image_of_item.cpu().numpy()
    clusters = np.unique(images, return_inverse=True)[1].astype(np.int64)
    pooled, each, macro = bootstrap_means(
        values, clusters, category, resamples=resamples, confidence=confidence, seed=seed
    )
    chance = _chance(found.positives, found.negatives)
    summaries = {
        name: _summary(means, int((category == k).sum()), chance[category == k].mean(0))
        for k, (name, means) in enumerate(zip(names, each, strict=True))
    }
    of_categories = np.mean([list(x.chance.values()) for x in summaries.values()], axis=0)
    return HardPositiveScores(
        **vars(_summary(pooled, count, chance.mean(0))),
        categories={} if categories is None else summaries,
        macro=_summary(macro, count, of_categories),
        caption_scores=found.caption.cpu(),
        positive_scores=found.positive.cpu(),
        negative_scores=found.negative.cpu(),
    )


class ItemScores(NamedTuple):
    """Exact scores of items with their images, [N] float32 each, and how many texts decided."""

    caption: torch.Tensor
    """S"""
    positive: torch.Tensor
    """P, the lowest of each item's; NaN without hard positives"""
    negative: torch.Tensor
    """N, the highest of each item's"""
    image_of_item: torch.Tensor
    """[N] int64"""
    positives: np.ndarray[Any, Any]
    """[N]: how many hard positives"""
    negatives: np.ndarray[Any, Any]

    def outcomes(self) -> np.ndarray[Any, Any]:
        """[N, M]: the measures of each item, NaN where they ask for a hard positive and none is."""
        s, p, n = (x.double().cpu().numpy() for x in self[:3])
        both = (s > n) & (p > n)
        rejected_p, rejected_s = (s > n) & (n > p), (p > n) & (n > s)
        values = np.column_stack(
            [
                s > n,
                both,
                rejected_p | rejected_s,
                rejected_p,
                rejected_s,
                (n > s) & (n > p),
                (n == s) | (n == p),
                np.abs(s - p),
            ]
        )
        if np.isnan(p).any():
            values[:, 1:] = math.nan
        return values


def item_scores(
    image_features: Array,
    captions: Array,
    hard_positives: Array | Sequence[Any] | None,
    hard_negatives: Array | Sequence[Any],
    text_features: Array | None,
    image_of_item: Array | None,
) -> ItemScores:
    """Check arguments as `hard_positive_scores` has them, and score each text with its image."""
    images = rows("image_features", image_features)
    table = None if text_features is None else rows("text_features", text_features)
    own = as_texts("captions", captions, None, table)
    count = own.count
    of_item = images_of("image_of_item", image_of_item, images, count)
    negatives = as_texts("hard_negatives", hard_negatives, count, table)
    positives = as_texts("hard_positives", hard_positives, count, table)
    s = own.scores("image_features", images, of_item)
    n = negatives.extreme("image_features", images, of_item, "amax")
    p = torch.full_like(s, math.nan)
    if positives.count:
        p = positives.extreme("image_features", images, of_item, "amin")
    return ItemScores(s, p, n, of_item, positives.sizes(count), negatives.sizes(count))


def text_sensitivity(
    captions: Array,
    hard_positives: Array | Sequence[Any],
    hard_negatives: Array | Sequence[Any],
    *,
    text_features: Array | None = None,
    group_of_item: Array | None = None,
    categories: Sequence[str] | None = None,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> TextSensitivity:
    """Ask, without any image, whether the hard positive is nearer to the caption.

    Where the negative is nearer, an image feature close to the caption's puts them in the wrong
    order. Of several hard positives the lowest score counts and of several hard negatives the
    highest.

    Parameters
    ----------
    captions, hard_positives, hard_negatives, text_features
        As in `hard_positive_scores`.
    group_of_item : integer tensor or array [N], optional
        Items that are not independent, such as those of one image, have the same number; the
        bootstrap draws groups. Default: each item alone.
    categories, resamples, confidence, seed
        As in `hard_positive_scores`.

    Returns
    -------
    TextSensitivity

    Raises
    ------
    TypeError, ValueError
        As `hard_positive_scores`.

    Examples
    --------
    >>> import torch
    >>> from fastclip.metrics import text_sensitivity
    >>> caption, near, far = torch.tensor([[1.0, 0]]), torch.tensor([[0.9, 0.1]]), torch.eye(2)[1:]
    >>> text_sensitivity(caption, hard_positives=far, hard_negatives=near).negative_nearer
    1.0
    """
    _check_options(resamples, confidence)
    table = None if text_features is None else rows("text_features", text_features)
    own = as_texts("captions", captions, None, table)
    count = own.count
    negatives = as_texts("hard_negatives", hard_negatives, count, table)
    positives = as_texts("hard_positives", hard_positives, count, table)
    if not positives.count:
        raise ValueError("hard_positives: needed, got None")
    if group_of_item is None:
        groups = torch.arange(count)
    else:
        groups = as_indices("group_of_item", group_of_item, count, torch.device("cpu"))
    n = negatives.extreme("captions", own.table, own.indices, "amax").double().cpu().numpy()
    p = positives.extreme("captions", own.table, own.indices, "amin").double().cpu().numpy()
    names, category = _categories(categories, count)
    pooled, each, _ = bootstrap_means(
        np.column_stack([p, n, n > p, n == p]),
        np.unique(groups.numpy(), return_inverse=True)[1].astype(np.int64),
        category,
        resamples=resamples,
        confidence=confidence,
        seed=seed,
    )

    def summary(means: Means, items: int, inner: dict[str, TextSensitivity]) -> TextSensitivity:
        numbers = dict(zip(_DISTANCES, means.value.tolist(), strict=True))
        ends = _intervals(_DISTANCES, means)
        return TextSensitivity(items=items, **numbers, intervals=ends, categories=inner)

    inner = {
        name: summary(means, int((category == k).sum()), {})
        for k, (name, means) in enumerate(zip(names, each, strict=True))
    }
    return summary(pooled, count, {} if categories is None else inner)


def _chance(positives: Any, negatives: Any) -> Any:
    """[N, 3]: original and augmented accuracy and brittleness of independent random scores.

    The lowest of a beats the highest of b with probability 1 / binomial(a + b, b); brittleness
    follows from original + P(positive beats negative) = 2 augmented + brittleness.
    """

    def ahead(a: int, b: int) -> float:
        return 1 / math.comb(a + b, b)

    rows = {}
    for p, n in set(zip(positives.tolist(), negatives.tolist(), strict=True)):
        original, augmented = ahead(1, n), ahead(p + 1, n)
        brittleness = original + ahead(p, n) - 2 * augmented
        rows[p, n] = (original, augmented, brittleness) if p else (original, math.nan, math.nan)
    pairs = zip(positives.tolist(), negatives.tolist(), strict=True)
    return np.array([rows[pair] for pair in pairs])


def _categories(categories: Sequence[str] | None, count: int) -> tuple[list[str], Any]:
    if categories is None:
        return [""], np.zeros(count, np.int64)
    if isinstance(categories, (str, bytes)) or len(categories) != count:
        raise ValueError(f"categories: {count} names are needed, got {len(categories)}")
    names = {name: k for k, name in enumerate(dict.fromkeys(categories))}
    return list(names), np.array([names[name] for name in categories], np.int64)


def _check_options(resamples: int, confidence: float) -> None:
    check_at_least(0, resamples=resamples)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: must be between 0 and 1, got {confidence}")


def _intervals(names: Sequence[str], means: Means) -> dict[str, tuple[float, float]]:
    ends = zip(means.low.tolist(), means.high.tolist(), strict=True)
    return dict(zip(names, ends, strict=True))


def _summary(means: Means, items: int, chance: Any) -> HardPositiveSummary:
    return HardPositiveSummary(
        items=items,
        **dict(zip(OUTCOMES, means.value.tolist(), strict=True)),
        intervals=_intervals(OUTCOMES, means),
        chance=dict(zip(OUTCOMES[:3], chance.tolist(), strict=True)),
    )
