"""How well tags are told from other words, and how well each tag ranks images."""

from typing import Any, SupportsIndex

import torch

from fastclip.data.checks import check_at_least
from fastclip.engine.checks import INTEGERS, as_integer
from fastclip.metrics._metric import ExactMetric, Scores, check_tensors

_REAL = (torch.float16, torch.bfloat16, torch.float32, torch.float64, *INTEGERS)


class TagScores(Scores):
    """Result of `TagScorer`, of all words together; 0 where there is nothing to divide by."""

    words: torch.Tensor
    """number of words, int64"""
    positive_rate: torch.Tensor
    """the share of the words that are right; equal for two methods asked about the same words"""
    precision: torch.Tensor
    """float64, as are those that follow"""
    recall: torch.Tensor
    f1: torch.Tensor
    accuracy: torch.Tensor


class TagScorer(ExactMetric):
    """Precision, recall, F1 and accuracy of selected words, pooled over all captions (TTD).

    A metric of torchmetrics. Only four counts are kept, and results do not depend on how words are
    split into updates or ranks. Needs ``pip install 'fastclip-kernels[metrics]'``.

    Parameters
    ----------
    **kwargs
        Those of `torchmetrics.Metric`.

    Examples
    --------
    >>> import torch
    >>> from fastclip.metrics import TagScorer
    >>> scorer = TagScorer()
    >>> scorer.update(torch.tensor([True, True, False]), torch.tensor([True, False, False]))
    >>> scorer.update(torch.tensor([True]), torch.tensor([True]))
    >>> scores = scorer.compute()
    >>> float(scores.precision), float(scores.recall), float(scores["accuracy"])
    (0.6666666666666666, 1.0, 0.75)
    """

    higher_is_better = True
    plot_lower_bound, plot_upper_bound = 0.0, 1.0
    tag_counts: torch.Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # Selected and present, selected alone, present alone, neither.
        self.add_state("tag_counts", torch.zeros(4, dtype=torch.int64), dist_reduce_fx="sum")

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
        both = (selected & present).sum()
        found, true = selected.sum() - both, present.sum() - both
        neither = selected.numel() - both - found - true
        counts = torch.stack([both, found, true, neither])
        self.tag_counts = self.tag_counts + counts.to(self.device)

    def compute(self) -> TagScores:
        """Return the scores of all words so far.

        Raises
        ------
        ValueError
            There were no words.
        """
        both, found, true, neither = self.tag_counts.double()
        words = self.tag_counts.sum()
        self._require(bool(words), "update: no words were given, needed: at least one")
        return TagScores(
            words=words,
            positive_rate=(both + true) / words,
            precision=both / (both + found).clamp(min=1),
            recall=both / (both + true).clamp(min=1),
            f1=2 * both / (2 * both + found + true).clamp(min=1),
            accuracy=(both + neither) / words,
        )


class AveragePrecision(Scores):
    """Result of `MeanAveragePrecision`."""

    mean: torch.Tensor
    """over the tags that some image shows; float64"""
    of_tags: torch.Tensor
    """[T] float32, NaN for a tag that no image shows"""
    _vectors = ("of_tags",)


class MeanAveragePrecision(ExactMetric):
    """Average precision of each tag's ranking of the images, and the mean over tags.

    Equal scores count as one place in the ranking. A metric of torchmetrics; results do not depend
    on how images are split into updates or ranks. Needs
    ``pip install 'fastclip-kernels[metrics]'``.

    Parameters
    ----------
    tags : int
        T, at least 1.
    bins : int, at least 2, optional
        Sort scores into so many bins, so that memory does not grow with the images: 16 bytes * T *
        bins. Scores in one bin count as equal. Default: exact; all scores are kept, 5 bytes * T for
        each image with scores in float32.
    low, high : float
        The range of the bins; other scores count as its ends. Scores of CLIP fill little of -1 to
        1, mostly 0.1 to 0.35: most bins of the whole range stay empty.
    **kwargs
        Those of `torchmetrics.Metric`; ``compute_on_cpu=True`` keeps scores there.

    Raises
    ------
    TypeError, ValueError
        An argument is no number of its kind, or out of range.

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

    higher_is_better = True
    plot_lower_bound, plot_upper_bound = 0.0, 1.0
    _constants = ("bin_range",)
    bin_counts: torch.Tensor
    bin_range: torch.Tensor

    def __init__(
        self,
        tags: SupportsIndex,
        *,
        bins: SupportsIndex | None = None,
        low: float = -1.0,
        high: float = 1.0,
        **kwargs: Any,
    ) -> None:
        tags = as_integer("tags", tags)
        bins = None if bins is None else as_integer("bins", bins)
        check_at_least(1, tags=tags)
        check_at_least(2, bins=bins)
        if not low < high:
            raise ValueError(f"low, high: are {low}, {high}, allowed: low less than high")
        super().__init__(**kwargs)
        self._tags, self._bins = tags, bins
        if bins is None:
            self.add_state("tag_scores", [], dist_reduce_fx="cat")
            self.add_state("tags_shown", [], dist_reduce_fx="cat")
            return
        # Of each tag and bin: the images that show the tag, and all images.
        counts = torch.zeros(2, tags, bins, dtype=torch.int64)
        self.add_state("bin_counts", counts, dist_reduce_fx="sum")
        ends = torch.tensor([low, high], dtype=torch.float64)
        self.add_state("bin_range", ends, dist_reduce_fx="max")

    def update(self, scores: torch.Tensor, present: torch.Tensor) -> None:
        """Take the scores [B, T] of images and tags, and whether each image shows each tag.

            Raises
            ------
            TypeError
        XX, or a score is NaN.
        """
        _check_bools(present=present)
        check_tensors("a real", _REAL, scores=scores)
        if scores.ndim != 2 or scores.shape[1] != self._tags or scores.shape != present.shape:
            raise ValueError(
                f"scores, present: shapes [B, {self._tags}] are needed, "
                f"got {tuple(scores.shape)} and {tuple(present.shape)}"
            )
        if not scores.is_floating_point():
            scores = scores.double()
        if scores.isnan().any():
            raise ValueError("scores: hold NaN")
        if self._bins is None:
            self._keep(tag_scores=scores, tags_shown=present.byte())
            return
        low, high = self.bin_range.to(scores.device)
        share = ((scores.detach().double() - low) / (high - low)).clamp(0, 1).float()
        edges = torch.linspace(0, 1, self._bins, device=share.device)
        places = torch.bucketize(share, edges, right=True) - 1
        counts = _counts(places, present, self._bins)
        self.bin_counts = self.bin_counts + counts.to(self.device)

    def compute(self) -> AveragePrecision:
        """Return the average precisions of all images so far.

        Raises
        ------
        ValueError
            No image shows any tag.
        """
        found = self._of_all_scores() if self._bins is None else _precisions(self.bin_counts)
        shown = ~found.isnan()
        self._require(bool(shown.any()), "present: no image shows any tag, needed: at least one")
        return AveragePrecision(mean=found[shown].mean(), of_tags=found.float())

    def _of_all_scores(self) -> torch.Tensor:
        scores = self._joined("tag_scores").view(-1, self._tags)
        present = self._joined("tags_shown").view(-1, self._tags) > 0
        found = torch.full((self._tags,), torch.nan, dtype=torch.float64, device=self.device)
        for tag in present.any(0).nonzero()[:, 0].tolist():
            values, places = scores[:, tag, None].unique(return_inverse=True)
            found[tag] = _precisions(_counts(places, present[:, tag, None], len(values)))[0]
        return found


def _counts(places: torch.Tensor, present: torch.Tensor, count: int) -> torch.Tensor:
    """[2, T, count]: of each tag and place the images that show the tag, and all images."""
    tags = present.shape[1]
    flat = places + count * torch.arange(tags, device=places.device)
    some = flat[present], flat.flatten()
    return torch.stack([torch.bincount(x, minlength=tags * count) for x in some]).view(
        2, tags, count
    )


def _precisions(counts: torch.Tensor) -> torch.Tensor:
    """[T] float64: average precisions from counts [2, T, places], the highest place last."""
    shown = counts[0].double()
    above = counts.flip(2).cumsum(2).flip(2).double()  # of each place and those above it
    precision = above[0] / above[1].clamp(min=1)
    return (shown * precision).sum(1) / shown.sum(1)  # 0 / 0: NaN


def _check_bools(**tensors: torch.Tensor) -> None:
    check_tensors("a bool", (torch.bool,), **tensors)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"{', '.join(shapes)}: must have one shape, got {shapes}")
