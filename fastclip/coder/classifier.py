"""Zero-shot classification in two stages: all texts of a class, then texts on pairs of classes."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple, SupportsFloat, SupportsIndex

import torch

from fastclip.coder._classifier import Classifier, is_text
from fastclip.coder.prompts import KINDS, checked_kinds
from fastclip.coder.protocol import deviations
from fastclip.coder.representation import Coder
from fastclip.engine.checks import Array, as_number
from fastclip.engine.pair_scores import pair_scores
from fastclip.ops import group_max, similarity

_ROWS = 4096  # images whose class scores are held at a time
_PAIRS = 2**18  # pairs of candidates, of all images together, that are held at a time


class Decisions(NamedTuple):
    """What `CoderClassifier.decide` found, for N images and m candidates."""

    classes: torch.Tensor
    """[N] int64: the answer."""
    first_stage: torch.Tensor
    """[N] int64: the answer before reranking."""
    gaps: torch.Tensor
    """[N] float32: by how much the most probable class is ahead of the second."""
    reranked: torch.Tensor
    """[N] bool: whether the second stage decided: a small gap, and texts on the candidates."""
    candidates: torch.Tensor
    """[N, m] int64: the best classes of the first stage, best first."""
    margins: torch.Tensor
    """[N, m] float32: what the second stage compares; NaN where it did not run."""


class CoderClassifier(Classifier):
    r"""Classify images by the texts of classes, and the doubtful ones again by texts on pairs.

    First stage, of class j with texts on attributes, sentences and analogous classes
    :math:`a_1..a_n` and texts with its name and synonyms :math:`b_0..b_m`:

    .. math:: h_j(x) = 100 \, (x \cdot a_1 + \dots + x \cdot a_n + \max_i x \cdot b_i) / (n + 1)

    Second stage, where the two largest probabilities, :math:`p = \mathrm{softmax}(h)`, differ by
    less than ``threshold``: with :math:`o(A, B)` the mean cosine of the texts that tell A from B,
    the best candidate is that with the largest

    .. math:: r_A = \mathrm{mean}_{B \ne A} \, (o(A, B) - o(B, A))

    where pairs without texts in both directions count as 0. Labels play no part in it.

    The first stage is computed as one product with the sum of the texts of each class, beside
    `fastclip.group_max` of classes with synonyms; the second as one product per image and pair,
    with the difference of the mean texts of both directions. Memory does not grow with the number
    of texts.

    Some ensembles of scikit-learn (VotingClassifier, StackingClassifier, BaggingClassifier) replace
    labels by their places in sorted order. In these, use a coder whose class names are sorted, and
    labels of all classes.

    Parameters
    ----------
    coder : Coder, optional
        The texts; or pass them to `fit` in place of images.
    kinds : iterable of str
        Which texts count in the first stage, of `KINDS`; classes without any of them are refused.
    rerank : bool
        Whether there is a second stage.
    threshold : float from 0 to 1
        One for all data sets; 0 reranks none. The authors' differ (`AUTHORS_THRESHOLDS`), without a
        procedure that chose them.
    candidates : int, at least 2
        How many classes are candidates.
    protocol : "honest", "authors", or names of `DEVIATIONS`
        "authors" reranks the images alone whose label is a candidate, which is of no use but to
        compare; it needs labels. Texts are worded earlier: give `ClassTexts.prompts` the same.

    Attributes
    ----------
    classes_ : array [C]
        0 to C - 1; where `fit` was given names of the coder's classes, these, sorted.
    class_names_ : tuple of C str
        In the coder's order.
    n_features_in_ : int
        d

    Examples
    --------
    >>> import torch
    >>> from fastclip.coder import ClassTexts, Coder, CoderClassifier, OneClass
    >>> known = ClassTexts((OneClass("cat", attributes=("whiskers",)), OneClass("dog")))
    >>> classifier = CoderClassifier(Coder(known, torch.eye(3, 4))).fit()
    >>> images = torch.tensor([[0.6, 0.8, 0.0, 0.0], [0.6, 0.0, 0.8, 0.0]])
    >>> classifier.class_scores(images)  # 100 * (0.6 + 0.8) / 2, ...
    tensor([[70.0000,  0.0000],
            [30.0000, 80.0000]])
    >>> classifier.predict(images)
    tensor([0, 1])
    >>> classifier.fit(images, ["cat", "dog"]).predict(images).tolist()
    ['cat', 'dog']
    """

    _last = "class_names_"

    def __init__(
        self,
        coder: Coder | None = None,
        *,
        kinds: Iterable[str] = KINDS,
        rerank: bool = True,
        threshold: SupportsFloat = 0.1,
        candidates: SupportsIndex = 5,
        protocol: str | Collection[str] = "honest",
    ) -> None:
        self.coder = coder
        self.kinds = kinds
        self.rerank = rerank
        self.threshold = threshold
        self.candidates = candidates
        self.protocol = protocol

    def fit(self, X: Coder | Array | None = None, y: Array | None = None) -> CoderClassifier:
        """Sum up the texts of each class; no image teaches it anything.

        Parameters
        ----------
        X : Coder, or [N, d], unit rows, optional
            The texts, in place of the constructor's; or images, which are checked alone.
        y : labels [N], optional
            Numbers from 0 to C - 1, or names of the coder's classes: these have names predicted.

        Raises
        ------
        TypeError, ValueError
            There is no Coder, a parameter is out of range, a class has no name text among
            ``kinds``, or rows are of another length or no unit rows.
        """
        coder = X if isinstance(X, Coder) else self.coder
        if not isinstance(coder, Coder):
            given = X if coder is None else coder
            raise TypeError(
                f"coder: a Coder is needed, got {type(given).__name__}; pass it to the constructor"
            )
        kinds = checked_kinds(self.kinds)
        if "name" not in kinds:
            raise ValueError(f"kinds: must hold 'name', got {kinds}")
        if not 0 <= as_number("threshold", self.threshold) <= 1:
            raise ValueError(f"threshold: from 0 to 1 is allowed, got {self.threshold}")
        if operator.index(self.candidates) < 2:
            raise ValueError(f"candidates: at least 2 are needed, got {self.candidates}")
        deviations(self.protocol)
        self._texts_width = coder.features.shape[1]
        images = None
        if X is None or X is coder:
            self.__dict__.pop(self._last, None)
            self.n_features_in_ = self._texts_width
        else:
            images = self._images(X, fitting=True)
        self._sum_up(coder, set(kinds))
        self._pairs = _Pairs(coder)
        names = coder.class_names
        self._order = self._set_classes(self._labels_for(y, names), len(names))
        if y is not None and images is not None:
            self._codes(y, images)  # checks them
        self.class_names_ = names
        return self

    def _sum_up(self, coder: Coder, kinds: set[str]) -> None:
        """Make h a product with one row per class, plus what names and synonyms add."""
        device = coder.features.device
        class_of, prompts = coder.prompts.class_of, coder.prompts
        count = len(coder.class_names)
        summed = prompts.of_kinds(kinds - {"name", "synonym"})
        competing = prompts.of_kinds(kinds & {"name", "synonym"})
        entries = torch.bincount(class_of[summed], minlength=count) + 1
        # A name without synonyms competes with nothing: it is one more text of the sum.
        alone = torch.bincount(class_of[competing], minlength=count) == 1
        summed = summed | (competing & alone[class_of])
        rows = torch.zeros(count, coder.features.shape[1], dtype=torch.float64, device=device)
        for part in summed.nonzero().flatten().split(8192):
            of_class = class_of[part].to(device)
            rows.index_add_(0, of_class, coder.features[part.to(device)].double())
        self._scale = (100 / entries.double()).to(device)
        self._rows = (rows * self._scale[:, None]).float()
        competing = competing & ~alone[class_of]
        self._competing = coder.features[competing.to(device)]
        self._with_synonyms, groups = class_of[competing].unique(return_inverse=True)
        self._groups = groups.to(device)
        self._with_synonyms = self._with_synonyms.to(device)

    def predict(self, X: Array, labels: Array | None = None) -> Array:
        """Return the class of each image, [N]; see `decide`.

        Numbers of classes are a tensor where X is one; all else is an array.
        """
        return self._labels_of(self._places(self.decide(X, labels).classes), X)

    def decide(self, X: Array, labels: Array | None = None) -> Decisions:
        """Return the class of each image and how it was found.

        Parameters
        ----------
        X : [N, d], unit rows
            Features of images: a tensor, or what scikit-learn takes, such as an array.
        labels : [N], optional
            Needed, and allowed, where ``protocol`` lets labels choose what is reranked.

        Returns
        -------
        Decisions
            Of tensors, with classes in the coder's order.

        Raises
        ------
        TypeError, ValueError
            Rows are of another length, no unit rows, or hold NaN or infinity; labels are missing,
            not asked for or out of range; not fitted.
        """
        images = self._images(X)
        chosen = "labels-choose" in deviations(self.protocol)
        if chosen != (labels is not None):
            raise ValueError(
                f"labels: {'needed' if chosen else 'not allowed'} with protocol {self.protocol!r}"
            )
        truth = None
        if labels is not None:
            truth = self._order.to(images.device)[self._codes(labels, images)]
        starts = range(0, max(len(images), 1), _ROWS)  # once for no images
        parts = [
            self._decide(images[i : i + _ROWS], None if truth is None else truth[i : i + _ROWS])
            for i in starts
        ]
        return Decisions(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def _predicted(self, images: torch.Tensor) -> torch.Tensor:
        return self._places(self.decide(images).classes)

    def _class_scores(self, images: torch.Tensor) -> torch.Tensor:
        scores = self._scores(images)
        return scores[:, self._order.to(scores.device)] if self._named else scores

    def _places(self, classes: torch.Tensor) -> torch.Tensor:
        """Return the places in ``classes_`` of classes in the coder's order."""
        return self._order.argsort().to(classes.device)[classes]

    def _labels_for(self, y: Array | None, names: Sequence[str]) -> Any:
        """Return the label of each class, or None: they are numbers."""
        return names if y is not None and is_text(y) else None

    def _width(self) -> int:
        return self._texts_width

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = False  # texts are all that it learns from
        return tags

    def _decide(self, images: torch.Tensor, labels: torch.Tensor | None) -> Decisions:
        scores = self._scores(images)
        count = min(operator.index(self.candidates), scores.shape[1])
        best = _ordered(scores, count)
        first = best[:, 0]
        gaps = scores.new_ones(len(images))
        if count > 1:
            two = scores.softmax(1).gather(1, best[:, :2])
            gaps = two[:, 0] - two[:, 1]
        margins = torch.full(best.shape, torch.nan, device=best.device)
        doubtful = gaps < float(self.threshold)
        if not self.rerank or "silent-rerank" in deviations(self.protocol):
            doubtful = torch.zeros_like(doubtful)
        if labels is not None:
            doubtful &= (best == labels[:, None]).any(1)
        for rows in doubtful.nonzero().flatten().split(max(1, _PAIRS // count**2)):
            margins[rows] = self._pairs.margins(images[rows], best[rows])
        doubtful &= ~margins[:, 0].isnan()
        # Of equal margins the first candidate's counts; not reranked: the first candidate.
        pick = margins.nan_to_num(0.0).argmax(1, keepdim=True)
        classes = best.gather(1, pick)[:, 0]
        return Decisions(classes, first, gaps, doubtful, best, margins)

    def _scores(self, images: torch.Tensor) -> torch.Tensor:
        scores = similarity(images, self._rows)
        if len(self._competing):
            names = group_max(images, self._competing, self._groups).values
            names *= self._scale[self._with_synonyms].float()
            scores.index_add_(1, self._with_synonyms, names)
        return scores


def confusable_pairs(classifier: CoderClassifier, image_features: Array) -> list[tuple[str, str]]:
    """Return the pairs of names that one-to-one texts would be needed for, in both orders.

    Parameters
    ----------
    classifier : CoderClassifier
        Fitted; with the ``threshold`` and ``candidates`` of later use.
    image_features : tensor or array [N, d], unit rows
        Without labels: of any images like those that will be classified.

    Returns
    -------
    list of (name, other name)
        Of any two candidates of an image whose two best classes are close. Those that come up
        together most often are first.
    """
    found = classifier.decide(image_features)
    close = found.candidates[found.gaps < float(classifier.threshold)].cpu()
    count = close.shape[1]
    a, b = torch.triu_indices(count, count, 1)
    keys = close[:, a] * len(classifier.classes_) + close[:, b]
    keys, times = keys.flatten().unique(return_counts=True)
    names = classifier.class_names_
    result: dict[tuple[str, str], None] = {}
    for key in keys[times.argsort(descending=True, stable=True)].tolist():
        one, other = names[key // len(names)], names[key % len(names)]
        result[one, other] = result[other, one] = None
    return list(result)


class _Pairs:
    """The difference of the mean texts of A against B and of B against A, for A before B."""

    def __init__(self, coder: Coder) -> None:
        self._classes = len(coder.class_names)
        features = coder.pair_features
        about, other = coder.prompts.pair_of[: len(features)].to(features.device).T
        keys, group = (about * self._classes + other).unique(return_inverse=True)
        means = features.new_zeros((len(keys), features.shape[1]), dtype=torch.float64)
        for part in torch.arange(len(features)).split(8192):
            means.index_add_(0, group[part], features[part].double())
        means /= torch.bincount(group, minlength=len(keys))[:, None].clamp(min=1)
        reverse = keys % self._classes * self._classes + keys // self._classes
        at = _find(keys, reverse)
        # What is known in one direction alone is not compared; of two directions one is enough.
        both = (at >= 0) & (keys < reverse)
        self._keys = keys[both]
        self._rows = (means[both] - means[at[both]]).float()

    def margins(self, images: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        """Return r of each candidate, [n, m] float32; NaN where no pair of them has texts."""
        count = candidates.shape[1]
        a, b = torch.triu_indices(count, count, 1, device=candidates.device)
        first, second = candidates[:, a], candidates[:, b]
        low, high = torch.minimum(first, second), torch.maximum(first, second)
        at = _find(self._keys, low * self._classes + high)
        if not len(self._keys):
            return torch.full(candidates.shape, torch.nan, device=candidates.device)
        ahead = pair_scores(images.float(), self._rows, at.clamp(min=0))
        ahead = torch.where(at >= 0, torch.where(first < second, ahead, -ahead), 0)
        result = ahead.new_zeros((len(images), count))
        result.index_add_(1, a, ahead)
        result.index_add_(1, b, -ahead)
        return (result / (count - 1)).where((at >= 0).any(1, keepdim=True), torch.nan)


def _find(keys: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return where ``wanted`` stand in sorted ``keys``, -1 for those that are not there."""
    if not len(keys):
        return torch.full_like(wanted, -1)
    at = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return torch.where(keys[at] == wanted, at, -1)


def _ordered(scores: torch.Tensor, count: int) -> torch.Tensor:
    """Return the best columns of each row, equal scores by the lower column: [N, count]."""
    values, best = scores.topk(count, 1)
    best = best.sort(1).values
    # Which of several that equal the last one are among the best, topk leaves open.
    tied = (scores >= values[:, -1:]).sum(1) > count
    if tied.any():
        exact = scores[tied].sort(dim=1, descending=True, stable=True).indices
        best[tied] = exact[:, :count].sort(1).values
    order = scores.gather(1, best).sort(dim=1, descending=True, stable=True).indices
    return best.gather(1, order)
