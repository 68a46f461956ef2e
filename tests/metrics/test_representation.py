from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fastclip
from fastclip.metrics import (
    alignment,
    margins,
    modality_gap,
    representation,
    similarity_histograms,
    uniformity,
)


def sample(name):
    return fastclip.data.load_sample(name).normalized().features


def test_shipped_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(representation, "_ROWS", 70)
    images, captions = sample("coco-images"), sample("coco-captions")
    a, b = images.double(), captions.double()
    assert alignment(images, torch.arange(500), captions) == pytest.approx(
        float(2 - 2 * (a * b).sum(1).mean()), abs=1e-6
    )
    assert modality_gap(images, captions) == pytest.approx(
        float((a.mean(0) - b.mean(0)).norm()), abs=1e-12
    )
    expected = float((-2 * torch.pdist(b).square()).exp().mean().log())
    assert uniformity(captions) == pytest.approx(expected, rel=1e-6)
    found = margins(images, torch.arange(500), captions)
    assert float((found.margin > 0).double().mean()) == 0.552
    scores = a @ b.T
    np.testing.assert_allclose(found.true, scores.diagonal(), atol=1e-7)
    wrong = scores.masked_fill(torch.eye(500, dtype=torch.bool), -1).amax(1)
    np.testing.assert_allclose(found.wrong, wrong, atol=1e-7)


def test_rows_need_no_unit_length_for_alignment() -> None:
    images, texts = torch.tensor([[3.0, 0.0]]), torch.tensor([[1.0, 1.0], [0.0, 4.0]])
    assert alignment(images, torch.tensor([1]), texts) == 25


@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(1, 20), st.integers(1, 9))
def test_histograms(seed, groups, more, bins) -> None:
    rng = np.random.default_rng(seed)
    of_class = np.concatenate([np.arange(groups), rng.integers(-1, groups, 4)])
    labels = np.concatenate([
        np.arange(groups), rng.choice(np.flatnonzero(of_class >= 0), more)
    ])  # fmt: skip
    classes, images = (rng.normal(size=(n, 6)) for n in (len(of_class), len(labels)))
    classes /= np.linalg.norm(classes, axis=1, keepdims=True)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(representation, "_SCORES", 20)
        found = similarity_histograms(
            images.astype(np.float32), labels, classes.astype(np.float32), of_class, bins=bins
        )
    scores = images.astype(np.float32).astype(float) @ classes.astype(np.float32).astype(float).T
    scores = scores.astype(np.float32).astype(float)

    def counts(values):
        return np.histogram(values, bins, (-1, 1))[0].tolist()

    every = np.arange(len(labels))
    wrong = np.ones(scores.shape, bool)
    wrong[every, labels] = False
    wrong[:, of_class < 0] = False
    assert found.true.tolist() == counts(scores[every, labels])
    assert found.wrong.tolist() == counts(scores[wrong])
    np.testing.assert_allclose(found.edges, np.linspace(-1, 1, bins + 1), atol=1e-15)
    for step in range(groups):
        best = []
        for image in every:
            own = of_class[labels[image]]
            present = [own, *[g for g in range(groups) if g != own][:step]]
            here = wrong[image] & np.isin(of_class, present)
            best += [scores[image, here].max()] if here.any() else []
        assert found.steps[step].tolist() == counts(best)


def test_names_the_wrong_argument() -> None:
    rows, labels = torch.eye(3), torch.arange(3)
    for call, message in (
        (lambda: alignment(rows, labels, torch.eye(2)), "text_features: rows must be as long"),
        (lambda: alignment(rows, labels + 1, rows), "labels: must be from 0 to 2"),
        (lambda: alignment(rows, labels, rows * float("nan")), "text_features: row 0 holds NaN"),
        (lambda: modality_gap(rows[:0], rows), "image_features: at least one row"),
        (lambda: margins(rows, labels * 0, rows[:1]), "class_features: at least two classes"),
        (lambda: similarity_histograms(rows, labels, rows, labels, bins=0), "bins: must be at"),
        (lambda: similarity_histograms(rows, labels, rows, labels * 0), "groups: at least two"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
