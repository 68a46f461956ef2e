"""How well masks cover what they should: IoU, and what is missing and too much in the union."""

from typing import Any, SupportsIndex

import torch

from fastclip.data.checks import check_at_least
from fastclip.engine.checks import INTEGERS, as_integer
from fastclip.metrics._metric import ExactMetric, Scores, check_tensors


class SegmentationScores(Scores):
    """Result of `SegmentationScorer`. Of each class c with TP + FP + FN > 0, over all images:

    ``iou = TP / (TP + FP + FN)``, ``fpr = FP / (TP + FP + FN)``, ``fnr = FN / (TP + FP + FN)``:
    they sum to 1. NaN for classes that are neither predicted nor true anywhere.
    """

    images: torch.Tensor
    """number of images, int64"""
    mean_iou: torch.Tensor
    """unweighted mean over the classes that have one; so for the other two; float64"""
    mean_fpr: torch.Tensor
    mean_fnr: torch.Tensor
    iou: torch.Tensor
    """[C] float64"""
    fpr: torch.Tensor
    fnr: torch.Tensor
    _vectors = ("iou", "fpr", "fnr")


class SegmentationScorer(ExactMetric):
    """mIoU, mFPR and mFNR (TTD) of label maps, over a data set.

    A metric of torchmetrics. Only three counts per class are kept, and results do not depend on how
    images are split into updates or ranks. Needs ``pip install 'fastclip-kernels[metrics]'``.

    Parameters
    ----------
    classes : int
        C, at least 1. The background is a class like others if it has a number.
    **kwargs
        Those of `torchmetrics.Metric`.

    Examples
    --------
    >>> import torch
    >>> from fastclip.metrics import SegmentationScorer
    >>> scorer = SegmentationScorer(2)
    >>> scorer.update(torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, 1, 1, -1]]))
    >>> scores = scorer.compute()
    >>> scores.iou, float(scores.mean_iou + scores.mean_fpr + scores.mean_fnr)
    (tensor([0.5000, 0.5000], dtype=torch.float64), 1.0)
    """

    plot_lower_bound, plot_upper_bound = 0.0, 1.0
    class_pixels: torch.Tensor
    images: torch.Tensor

    def __init__(self, classes: SupportsIndex, **kwargs: Any) -> None:
        classes = as_integer("classes", classes)
        check_at_least(1, classes=classes)
        super().__init__(**kwargs)
        self._classes = classes
        # Of each class: both, predicted, true. torchmetrics would count pairs of classes, C * C.
        counts = torch.zeros(3, classes, dtype=torch.int64)
        self.add_state("class_pixels", counts, dist_reduce_fx="sum")
        self.add_state("images", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, labels: torch.Tensor, truth: torch.Tensor) -> None:
        """Take the label map of an image, [H, W], or of several, [B, H, W].

        Parameters
        ----------
        labels : integer tensor
            0 to C - 1.
        truth : integer tensor, of the same shape
            0 to C - 1, or -1 where nothing counts.

        Raises
        ------
        TypeError
            One is no integer tensor.
        ValueError
            Shapes differ or are wrong, or a label is out of range.
        """
        check_tensors("an integer", INTEGERS, labels=labels, truth=truth)
        _check_masks(labels=labels, truth=truth)
        counted = truth != -1
        predicted, true = labels[counted].long(), truth[counted].long()
        for name, numbers in (("labels", predicted), ("truth", true)):
            bad = numbers[(numbers < 0) | (numbers >= self._classes)]
            if len(bad):
                raise ValueError(
                    f"{name}: holds {int(bad[0])}, allowed: 0 to {self._classes - 1}"
                    f"{', or -1 where nothing counts' if name == 'truth' else ''}"
                )
        parts = predicted[predicted == true], predicted, true
        counts = [torch.bincount(x, minlength=self._classes) for x in parts]
        self.class_pixels = self.class_pixels + torch.stack(counts).to(self.device)
        self.images = self.images + (1 if labels.ndim == 2 else len(labels))

    def compute(self) -> SegmentationScores:
        """Return the scores of all images so far.

        Raises
        ------
        ValueError
            No pixel was given that counts.
        """
        both, predicted, true = self.class_pixels.double()
        union = predicted + true - both
        some = union > 0
        self._require(
            bool(some.any()), "update: no pixels that count were given, needed: at least one"
        )
        iou, fpr, fnr = (x / union for x in (both, predicted - both, true - both))  # 0 / 0: NaN
        return SegmentationScores(
            images=self.images,
            mean_iou=iou[some].mean(),
            mean_fpr=fpr[some].mean(),
            mean_fnr=fnr[some].mean(),
            iou=iou,
            fpr=fpr,
            fnr=fnr,
        )


class CaptionMaskScores(Scores):
    """Result of `CaptionMaskScorer`: means over captions, except the last; they sum to 1."""

    captions: torch.Tensor
    """number of captions that count, int64"""
    iou: torch.Tensor
    """float64, as are those that follow"""
    fpr: torch.Tensor
    fnr: torch.Tensor
    pooled_iou: torch.Tensor
    """of the pixels of all captions together"""
    empty: torch.Tensor
    """captions that nothing was predicted for and nothing is true of; they are left out; int64"""


class CaptionMaskScorer(ExactMetric):
    """Caption IoU (TTD): masks of whole captions against the masks of what they name.

    Whether the paper averages over captions or pools their pixels is not published; both are given.

    A metric of torchmetrics. Only counts and three float64 sums over captions are kept: splitting N
    captions into other updates or ranks changes their means by less than N * 2^-52 of the value,
    and nothing else. Needs ``pip install 'fastclip-kernels[metrics]'``.

    Parameters
    ----------
    **kwargs
        Those of `torchmetrics.Metric`.

    Examples
    --------
    >>> import torch
    >>> from fastclip.metrics import CaptionMaskScorer
    >>> scorer = CaptionMaskScorer()
    >>> scorer.update(torch.tensor([[True, True, False]]), torch.tensor([[True, False, False]]))
    >>> scorer.update(torch.tensor([[True, True, True]]), torch.tensor([[True, True, True]]))
    >>> scores = scorer.compute()
    >>> float(scores.iou), float(scores.pooled_iou)
    (0.75, 0.8)
    """

    plot_lower_bound, plot_upper_bound = 0.0, 1.0
    shares: torch.Tensor
    pixels: torch.Tensor
    captions: torch.Tensor
    empty: torch.Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # Both, predicted alone, true alone.
        self.add_state("shares", torch.zeros(3, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("pixels", torch.zeros(3, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("captions", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("empty", torch.tensor(0), dist_reduce_fx="sum")

    def update(
        self, masks: torch.Tensor, truth: torch.Tensor, counted: torch.Tensor | None = None
    ) -> None:
        """Take the mask of a caption, [H, W], or of several, [B, H, W].

        Parameters
        ----------
        masks, truth : bool tensors of one shape
        counted : bool tensor of the same shape, optional
            False where nothing counts. Default: all counts.

        Raises
        ------
        TypeError
            One is no bool tensor.
        ValueError
            Shapes differ or are wrong.
        """
        given = {"masks": masks, "truth": truth} | ({} if counted is None else {"counted": counted})
        check_tensors("a bool", (torch.bool,), **given)
        _check_masks(**given)
        if counted is not None:
            masks, truth = masks & counted, truth & counted
        pairs = (masks & truth, masks & ~truth, ~masks & truth)
        pixels = torch.stack([x.flatten(-2).sum(-1).reshape(-1) for x in pairs]).to(self.device)
        union = pixels.sum(0)
        some = union > 0
        self.shares = self.shares + (pixels[:, some] / union[some].double()).sum(1)
        self.pixels = self.pixels + pixels.sum(1)
        self.captions = self.captions + some.sum()
        self.empty = self.empty + (~some).sum()

    def compute(self) -> CaptionMaskScores:
        """Return the scores of all captions so far.

        Raises
        ------
        ValueError
            There were none but empty ones.
        """
        self._require(
            bool(self.captions), "update: no captions with a mask were given, needed: at least one"
        )
        iou, fpr, fnr = self.shares / self.captions
        pooled = self.pixels.double()
        return CaptionMaskScores(
            captions=self.captions,
            iou=iou,
            fpr=fpr,
            fnr=fnr,
            pooled_iou=pooled[0] / pooled.sum(),
            empty=self.empty,
        )


def _check_masks(**tensors: torch.Tensor) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    first = next(iter(shapes.values()))
    if len(first) not in (2, 3) or len(set(shapes.values())) > 1:
        raise ValueError(
            f"{', '.join(shapes)}: one shape [H, W] or [B, H, W] is needed, "
            f"got {', '.join(map(str, shapes.values()))}"
        )
