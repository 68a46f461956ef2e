"""How well tags are told from other words, and how well each tag ranks images."""

import warnings
from dataclasses import dataclass
from typing import Any

import torch

from fastclip.data.checks import check_at_least


@dataclass(frozen=True)
class TagScores:
    """Result of `TagScorer`, of all words together; 0 where there is nothing to divide by."""

    words: int
    positive_rate: float
    """the share of the words that are right; equal for two methods asked about the same words"""
    precision: float
    recall: float
    f1: float
    accuracy: float


class TagScorer:
    """Precision, recall, F1 and accuracy of selected words, pooled over all captions (TTD).

    Counts alone are kept. Needs torchmetrics: ``pip install 'fastclip-kernels[metrics]'``.

    Raises
    ------
    ImportError
        torchmetrics is missing.

    Examples
    --------
    >>> import torch
    >>> from fastclip.metrics import TagScorer
    >>> scorer = TagScorer()
    >>> scorer.update(torch.tensor([True, True, False]), torch.tensor([True, False, False]))
    >>> scorer.update(torch.tensor([True]), torch.tensor([True]))
    >>> scores = scorer.compute()
    >>> scores.precision, scores.recall, scores.accuracy  # doctest: +ELLIPSIS
    (0.6666..., 1.0, 0.75)
    """

    def __init__(self) -> None:
        torchmetrics = _torchmetrics("TagScorer")
        kinds = torchmetrics.classification
        self._metrics = torchmetrics.MetricCollection(
            {
                "precision": kinds.BinaryPrecision(),
                "recall": kinds.BinaryRecall(),
                "f1": kinds.BinaryF1Score(),
                "accuracy": kinds.BinaryAccuracy(),
            }
        )
        self._words = self._positives = 0

    def update(self, selected: torch.Tensor, present: torch.Tensor) -> None:
        """Take the words of a caption, or of several.

        Parameters
        ----------
        selected : bool tensor, of any shape
            What a method says.
        present : bool tensor, of the same shape
            What is true.

        Raises
        ------
        TypeError
            One is no bool tensor.
        ValueError
            Shapes differ.
        """
        _check_bools(selected=selected, present=present)
        if selected.numel() == 0:
            return
        self._words += selected.numel()
        self._positives += int(present.sum())
        self._metrics.update(selected.flatten().cpu().int(), present.flatten().cpu().int())

    def compute(self) -> TagScores:
        """Return the scores of all words so far.

        Raises
        ------
        ValueError
            There were no words.
        """
        if not self._words:
            raise ValueError("update: no words were given, needed: at least one")
        figures = {name: float(value) for name, value in self._metrics.compute().items()}
        return TagScores(self._words, self._positives / self._words, **figures)


@dataclass(frozen=True)
class AveragePrecision:
    """Result of `MeanAveragePrecision`."""

    mean: float
    """over the tags that some image shows"""
    of_tags: torch.Tensor
    """[T] float32, NaN for a tag that no image shows"""


class MeanAveragePrecision:
    """Average precision of each tag's ranking of the images, and the mean over tags.

    Equal scores count as one place in the ranking. Needs torchmetrics:
    ``pip install 'fastclip-kernels[metrics]'``.

    Parameters
    ----------
    tags : int
        T, at least 1.
    bins : int, at least 2, optional
        Sort scores into so many bins, so that memory does not grow with the images: 32 bytes * T *
        bins. Scores in one bin count as equal. Default: exact; all scores are kept, 5 bytes * T for
        each image.
    low, high : float
        The range of the bins; other scores count as its ends. Scores of CLIP fill little of -1 to
        1, mostly 0.1 to 0.35: most bins of the whole range stay empty.

    Raises
    ------
    ImportError
        torchmetrics is missing.
    ValueError
        An argument is out of range.

    Examples
    --------
    >>> import torch
    >>> from fastclip.metrics import MeanAveragePrecision
    >>> metric = MeanAveragePrecision(2)
    >>> scores = torch.tensor([[0.3, 0.1], [0.2, 0.4], [0.1, 0.3]])
    >>> metric.update(scores, torch.tensor([[True, True], [True, False], [False, False]]))
    >>> metric.compute().of_tags
    tensor([1.0000, 0.3333])
    """

    def __init__(
        self, tags: int, *, bins: int | None = None, low: float = -1.0, high: float = 1.0
    ) -> None:
        check_at_least(1, tags=tags)
        check_at_least(2, bins=bins)
        if not low < high:
            raise ValueError(f"low, high: are {low}, {high}, allowed: low less than high")
        torchmetrics = _torchmetrics("MeanAveragePrecision")
        self._binary = torchmetrics.functional.classification.binary_average_precision
        kind = torchmetrics.classification.MultilabelAveragePrecision
        # It takes no single label.
        self._binned = kind(max(2, tags), average=None, thresholds=bins) if bins else None
        self._kept: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._tags, self._low, self._high = tags, low, high
        self._shown = torch.zeros(tags, dtype=torch.int64)

    def update(self, scores: torch.Tensor, present: torch.Tensor) -> None:
        """Take the scores [B, T] of images and tags, and whether each image shows each tag.

        Raises
        ------
        TypeError
            ``present`` is no bool tensor.
        ValueError
            A shape is wrong, or a score is NaN.
        """
        _check_bools(present=present)
        if scores.ndim != 2 or scores.shape[1] != self._tags or scores.shape != present.shape:
            raise ValueError(
                f"scores, present: shapes [B, {self._tags}] are needed, "
                f"got {tuple(scores.shape)} and {tuple(present.shape)}"
            )
        if scores.isnan().any():
            raise ValueError("scores: hold NaN")
        self._shown += present.sum(0).cpu()
        if self._binned is None:
            self._kept.append((scores.detach().cpu().clone(), present.cpu().clone()))
            return
        share = ((scores.double() - self._low) / (self._high - self._low)).clamp(0, 1)
        target = present.int()
        if self._tags == 1:
            share, target = share.expand(-1, 2), target.expand(-1, 2)
        self._binned.update(share.float().cpu(), target.cpu())

    def compute(self) -> AveragePrecision:
        """Return the average precisions of all images so far.

        Raises
        ------
        ValueError
            No image shows any tag.
        """
        shown = self._shown > 0
        if not shown.any():
            raise ValueError("present: no image shows any tag, needed: at least one")
        found = self._of_all_scores(shown) if self._binned is None else self._of_bins()
        of_tags = torch.where(shown, found, float("nan"))
        return AveragePrecision(float(of_tags[shown].mean()), of_tags)

    def _of_bins(self) -> torch.Tensor:
        assert self._binned is not None
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="No positive samples")
            found: torch.Tensor = self._binned.compute()[: self._tags]
        return found

    def _of_all_scores(self, shown: torch.Tensor) -> torch.Tensor:
        found = torch.zeros(self._tags)
        for tag in shown.nonzero()[:, 0].tolist():
            scores = torch.cat([scores[:, tag] for scores, _ in self._kept])
            present = torch.cat([present[:, tag] for _, present in self._kept])
            # Ranks, since torchmetrics would take scores outside of 0 to 1 for logits.
            values, ranks = scores.unique(return_inverse=True)
            found[tag] = self._binary(ranks.double() / len(values), present.int())
        return found


def _torchmetrics(name: str) -> Any:
    try:
        import torchmetrics
    except ImportError as error:
        raise ImportError(
            f"{name}: needs the package torchmetrics: pip install 'fastclip-kernels[metrics]'",
            name="torchmetrics",
        ) from error
    return torchmetrics


def _check_bools(**tensors: torch.Tensor) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype != torch.bool:
            raise TypeError(f"{name}: a bool tensor is needed, got {tensor.dtype}")
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"{', '.join(shapes)}: must have one shape, got {shapes}")
