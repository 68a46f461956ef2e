from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastclip.metrics import CaptionMaskScorer, SegmentationScorer


@given(
    images=st.integers(1, 5), classes=st.integers(1, 6), side=st.integers(1, 9),
    seed=st.integers(0, 2**32),
)  # fmt: skip
def test_equals_the_counts(images: int, classes: int, side: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, (images, side, side))
    truth = rng.integers(-1, classes, (images, side, side))
    scorer = SegmentationScorer(classes)
    scorer.update(torch.from_numpy(labels[0]), torch.from_numpy(truth[0]))
    if images > 1:
        scorer.update(torch.from_numpy(labels[1:]).to(torch.uint8), torch.from_numpy(truth[1:]))
    if (truth == -1).all():
        with pytest.raises(ValueError, match="no pixels that count"):
            scorer.compute()
        return
    shares = []
    for c in range(classes):
        tp, fp, fn = np.zeros(3)
        for p, t in zip(labels.ravel(), truth.ravel(), strict=True):
            if t != -1:
                tp, fp, fn = tp + (p == t == c), fp + (p == c != t), fn + (t == c != p)
        union = tp + fp + fn
        shares.append([tp / union, fp / union, fn / union] if union else [np.nan] * 3)
    expected = np.array(shares).T
    found = scorer.compute()
    assert found.images == images
    np.testing.assert_allclose([found.iou, found.fpr, found.fnr], expected)
    means = [found.mean_iou, found.mean_fpr, found.mean_fnr]
    np.testing.assert_allclose(means, np.nanmean(expected, axis=1))
    assert sum(means) == pytest.approx(1)


def test_agrees_with_torchmetrics() -> None:
    classification = pytest.importorskip("torchmetrics").classification
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(5, (3, 20, 30), generator=generator)
    truth = torch.randint(-1, 5, (3, 20, 30), generator=generator)
    scorer = SegmentationScorer(5)
    scorer.update(labels, truth)
    theirs = classification.MulticlassJaccardIndex(5, average=None, ignore_index=-1)
    torch.testing.assert_close(scorer.compute().iou.float(), theirs(labels, truth))
    binary = classification.BinaryJaccardIndex()
    masks = CaptionMaskScorer()
    masks.update(labels > 2, truth > 2)
    assert masks.compute().pooled_iou == pytest.approx(float(binary(labels > 2, truth > 2)))


@given(captions=st.integers(1, 6), side=st.integers(1, 5), seed=st.integers(0, 2**32))
def test_captions(captions: int, side: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (captions, side, side)
    masks, truth, counted = (rng.random(shape) < share for share in (0.3, 0.3, 0.8))
    scorer = CaptionMaskScorer()
    for i in range(0, captions, 2):
        scorer.update(*(torch.from_numpy(x[i : i + 2]) for x in (masks, truth, counted)))
    shares, pooled, empty = [], np.zeros(2), 0
    for mask, true, counts in zip(masks, truth, counted, strict=True):
        both = (mask & true & counts).sum()
        union = ((mask | true) & counts).sum()
        pooled += both, union
        empty += union == 0
        if union:
            shares.append(
                [both, (mask & ~true & counts).sum(), (~mask & true & counts).sum()] / union
            )
    if not shares:
        with pytest.raises(ValueError, match="no captions with a mask"):
            scorer.compute()
        return
    found = scorer.compute()
    np.testing.assert_allclose([found.iou, found.fpr, found.fnr], np.mean(shares, axis=0))
    assert found.iou + found.fpr + found.fnr == pytest.approx(1)
    assert found.pooled_iou == pytest.approx(pooled[0] / pooled[1])
    assert (found.captions, found.empty) == (len(shares), empty)


def test_errors() -> None:
    scorer, ones = SegmentationScorer(2), torch.ones(2, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match="classes: is 0"):
        SegmentationScorer(0)
    with pytest.raises(ValueError, match=r"labels: holds 2, allowed: 0 to 1$"):
        scorer.update(ones + 1, ones)
    with pytest.raises(ValueError, match=r"labels: holds -1, allowed: 0 to 1$"):
        scorer.update(ones - 2, ones)
    with pytest.raises(ValueError, match="truth: holds 255, allowed: 0 to 1, or -1"):
        scorer.update(ones, ones + 254)
    with pytest.raises(ValueError, match=r"labels, truth: one shape .* got \(2, 2\), \(2, 1\)"):
        scorer.update(ones, ones[:, :1])
    with pytest.raises(TypeError, match="truth: an integer tensor is needed"):
        scorer.update(ones, ones > 0)
    with pytest.raises(TypeError, match="masks: a bool tensor is needed"):
        CaptionMaskScorer().update(ones, ones > 0)
    with pytest.raises(ValueError, match=r"masks, truth: one shape"):
        CaptionMaskScorer().update(ones > 0, ones[0] > 0)
