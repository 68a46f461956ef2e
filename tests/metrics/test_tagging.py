from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastclip.metrics import MeanAveragePrecision, TagScorer

pytest.importorskip("torchmetrics")


@given(data=st.data())
def test_pooled_counts(data: st.DataObject) -> None:
    scorer = TagScorer()
    sizes = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=5))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    selected, present = (rng.random(sum(sizes)) < share for share in (0.4, 0.3))
    if not sizes or not sum(sizes):
        with pytest.raises(ValueError, match="update: no words were given"):
            scorer.compute()
        return
    start = 0
    for size in sizes:  # caption after caption
        own = slice(start, start + size)
        scorer.update(torch.from_numpy(selected[own]), torch.from_numpy(present[own]))
        start += size
    tp, fp, fn = (
        (selected & present).sum(),
        (selected & ~present).sum(),
        (~selected & present).sum(),
    )
    found = scorer.compute()
    assert found.words == len(selected)
    assert found.positive_rate == pytest.approx(present.mean())
    assert found.precision == pytest.approx(tp / max(1, tp + fp))
    assert found.recall == pytest.approx(tp / max(1, tp + fn))
    assert found.f1 == pytest.approx(2 * tp / max(1, 2 * tp + fp + fn))
    assert found.accuracy == pytest.approx((selected == present).mean())


def average_precision(scores: np.ndarray, present: np.ndarray) -> float:
    """Mean over the present ones of the precision among all that score no less."""
    at_least = scores[present][:, None] <= scores[None]
    return float((at_least & present).sum(1).__truediv__(at_least.sum(1)).mean())


@given(
    images=st.integers(1, 12), tags=st.integers(1, 4), levels=st.integers(1, 40),
    seed=st.integers(0, 2**32), bins=st.sampled_from([None, 4001]),
)  # fmt: skip
def test_average_precision(
    images: int, tags: int, levels: int, seed: int, bins: int | None
) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(-levels, levels + 1, (images, tags)) / levels  # ties, and all in bins
    present = rng.random((images, tags)) < 0.4
    metric = MeanAveragePrecision(tags, bins=bins)
    for i in range(0, images, 5):
        metric.update(torch.from_numpy(scores[i : i + 5]), torch.from_numpy(present[i : i + 5]))
    if not present.any():
        with pytest.raises(ValueError, match="no image shows any tag"):
            metric.compute()
        return
    expected = [
        average_precision(scores[:, t], present[:, t]) if present[:, t].any() else np.nan
        for t in range(tags)
    ]
    found = metric.compute()
    np.testing.assert_allclose(found.of_tags, expected, rtol=1e-5)
    assert found.mean == pytest.approx(np.nanmean(expected), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_exact_by_default_whatever_the_range(dtype: torch.dtype) -> None:
    """Scores of CLIP fill little of -1 to 1; others may be logits, or differ in the last bit."""
    rng = np.random.default_rng(0)
    present = rng.random((500, 3)) < 0.1
    scores = torch.from_numpy(rng.normal(0.2, 0.02, (500, 3)) + 0.01 * present)
    scores[:, 1] = 30 * scores[:, 1] + 90
    if dtype == torch.float32:  # neighbours, in the order of the images
        scores[:, 2] = (0.2 * (1 << 26) + torch.arange(500)) / (1 << 26)
    scores = scores.to(dtype)
    metric = MeanAveragePrecision(3)
    for part in range(0, 500, 99):
        metric.update(scores[part : part + 99], torch.from_numpy(present[part : part + 99]))
    wide = scores.double().numpy()
    expected = [average_precision(wide[:, t], present[:, t]) for t in range(3)]
    np.testing.assert_allclose(metric.compute().of_tags, expected, rtol=1e-6)


def test_scores_of_a_bin_are_equal() -> None:
    fine, coarse = MeanAveragePrecision(2, bins=1000), MeanAveragePrecision(2, bins=3)
    for metric in (fine, coarse):
        metric.update(
            torch.tensor([[0.31, -2.0], [0.3, 9.0]]), torch.tensor([[True, False], [False, True]])
        )
    assert fine.compute().of_tags.tolist() == [1.0, 1.0]
    assert coarse.compute().of_tags.tolist() == [0.5, 1.0]


def test_errors() -> None:
    true = torch.tensor([True])
    with pytest.raises(TypeError, match=r"selected: a bool tensor is needed, got torch\.float32"):
        TagScorer().update(torch.ones(1), true)
    with pytest.raises(TypeError, match=r"present: a bool tensor is needed, got list"):
        TagScorer().update(true, [True])
    with pytest.raises(TypeError, match="scores: a real tensor is needed, got ndarray"):
        MeanAveragePrecision(1).update(np.ones((1, 1)), true[None])
    with pytest.raises(TypeError, match="tags: an integer is needed, got float"):
        MeanAveragePrecision(1.5)
    with pytest.raises(ValueError, match="selected, present: must have one shape"):
        TagScorer().update(true, torch.tensor([True, False]))
    for options, message in (
        ({"tags": 0}, "tags: is 0, allowed: 1 or more"),
        ({"bins": 1}, "bins: is 1, allowed: 2 or more"),
        ({"low": 2.0}, "low, high: are 2.0, 1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            MeanAveragePrecision(**{"tags": 2, **options})
    metric = MeanAveragePrecision(2)
    with pytest.raises(ValueError, match=r"shapes \[B, 2\] are needed, got \(1, 1\)"):
        metric.update(torch.ones(1, 1), true[None])
    with pytest.raises(ValueError, match="scores: hold NaN"):
        metric.update(torch.full((1, 2), torch.nan), true.expand(1, 2))
