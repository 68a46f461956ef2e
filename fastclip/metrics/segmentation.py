"""How well masks cover what they should: IoU, and what is missing and too much in the union."""

from dataclasses import dataclass

import torch

from fastclip.data.checks import check_at_least


@dataclass(frozen=True)
class SegmentationScores:
    """Result of `SegmentationScorer`. Of each class c with TP + FP + FN > 0, over all images:

    ``iou = TP / (TP + FP + FN)``, ``fpr = FP / (TP + FP + FN)``, ``fnr = FN / (TP + FP + FN)``:
    they sum to 1. NaN for classes that are neither predicted nor true anywhere.
    """

    images: int
    mean_iou: float
    """unweighted mean over the classes that have one; so for the other two"""
    mean_fpr: float
    mean_fnr: float
    iou: torch.Tensor
    """[C] float64"""
    fpr: torch.Tensor
    fnr: torch.Tensor


class SegmentationScorer:
    """mIoU, mFPR and mFNR (TTD) of label maps, over a data set; three counts a class are kept.

    Parameters
    ----------
    classes : int
        C, at least 1. The background is a class like others if it has a number.

    Examples
    --------
    >>> import torch
    >>> from fastclip.metrics import SegmentationScorer
    >>> scorer = SegmentationScorer(2)
    >>> scorer.update(torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, 1, 1, -1]]))
    >>> scores = scorer.compute()
    >>> scores.iou, scores.mean_iou + scores.mean_fpr + scores.mean_fnr
    (tensor([0.5000, 0.5000], dtype=torch.float64), 1.0)
    """

    def __init__(self, classes: int) -> None:
        check_at_least(1, classes=classes)
        self._classes = classes
        # Of each class: both, predicted, true. torchmetrics would count pairs of classes, C * C.
        self._counts = torch.zeros(3, classes, dtype=torch.int64)
        self._images = 0

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
        _check_masks(labels=labels, truth=truth)
        for name, tensor in (("labels", labels), ("truth", truth)):
            if tensor.is_floating_point() or tensor.dtype == torch.bool:
                raise TypeError(f"{name}: an integer tensor is needed, got {tensor.dtype}")
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
        self._counts += torch.stack(
            [torch.bincount(x, minlength=self._classes) for x in parts]
        ).cpu()
        self._images += 1 if labels.ndim == 2 else len(labels)

    def compute(self) -> SegmentationScores:
        """Return the scores of all images so far.

        Raises
        ------
        ValueError
            No pixel was given that counts.
        """
        both, predicted, true = self._counts.double()
        union = predicted + true - both
        some = union > 0
        if not some.any():
            raise ValueError("update: no pixels that count were given, needed: at least one")
        iou, fpr, fnr = (x / union for x in (both, predicted - both, true - both))  # 0 / 0: NaN
        means = [float(share[some].mean()) for share in (iou, fpr, fnr)]
        return SegmentationScores(self._images, means[0], means[1], means[2], iou, fpr, fnr)


@dataclass(frozen=True)
class CaptionMaskScores:
    """Result of `CaptionMaskScorer`: means over captions, except the last; they sum to 1."""

    captions: int
    iou: float
    fpr: float
    fnr: float
    pooled_iou: float
    """of the pixels of all captions together"""
    empty: int
    """captions that nothing was predicted for and nothing is true of; they are left out"""


class CaptionMaskScorer:
    """Caption IoU (TTD): masks of whole captions against the masks of what they name.

    Whether the paper averages over captions or pools their pixels is not published; both are given.

    Examples
    --------
    >>> import torch
    >>> from fastclip.metrics import CaptionMaskScorer
    >>> scorer = CaptionMaskScorer()
    >>> scorer.update(torch.tensor([[True, True, False]]), torch.tensor([[True, False, False]]))
    >>> scorer.update(torch.tensor([[True, True, True]]), torch.tensor([[True, True, True]]))
    >>> scores = scorer.compute()
    >>> scores.iou, scores.pooled_iou
    (0.75, 0.8)
    """

    def __init__(self) -> None:
        self._shares = torch.zeros(3, dtype=torch.float64)
        self._pixels = torch.zeros(3, dtype=torch.int64)
        self._captions = self._empty = 0

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
        for name, tensor in given.items():
            if tensor.dtype != torch.bool:
                raise TypeError(f"{name}: a bool tensor is needed, got {tensor.dtype}")
        _check_masks(**given)
        if counted is not None:
            masks, truth = masks & counted, truth & counted
        pairs = (masks & truth, masks & ~truth, ~masks & truth)
        pixels = torch.stack([x.flatten(-2).sum(-1).reshape(-1) for x in pairs]).cpu()
        union = pixels.sum(0)
        some = union > 0
        self._shares += (pixels[:, some] / union[some].double()).sum(1)
        self._pixels += pixels.sum(1)
        self._captions += int(some.sum())
        self._empty += int((~some).sum())

    def compute(self) -> CaptionMaskScores:
        """Return the scores of all captions so far.

        Raises
        ------
        ValueError
            There were none but empty ones.
        """
        if not self._captions:
            raise ValueError("update: no captions with a mask were given, needed: at least one")
        iou, fpr, fnr = (self._shares / self._captions).tolist()
        pooled = int(self._pixels[0]) / int(self._pixels.sum())
        return CaptionMaskScores(self._captions, iou, fpr, fnr, pooled, self._empty)


def _check_masks(**tensors: torch.Tensor) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    first = next(iter(shapes.values()))
    if len(first) not in (2, 3) or len(set(shapes.values())) > 1:
        raise ValueError(
            f"{', '.join(shapes)}: one shape [H, W] or [B, H, W] is needed, "
            f"got {', '.join(map(str, shapes.values()))}"
        )
