from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastclip
from fastclip.metrics.openness import accuracy_by_size


@given(
    st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 5), st.integers(0, 5),
    st.integers(1, 2),
)  # fmt: skip
@settings(max_examples=25)
def test_every_vocabulary_of_each_size(seed, images, classes, words, prompts) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.integers(-2, 3, (classes, prompts, 4)).astype(np.float32)
    labels = rng.integers(0, classes, images)
    pictures = rows[labels, 0] + rng.integers(-1, 2, (images, 4)).astype(np.float32)
    distractors = rng.integers(-2, 3, (words, 4)).astype(np.float32)
    scores = np.einsum("nd,cpd->ncp", pictures, rows).max(2)
    extra = pictures @ distractors.T

    def right(image, vocabulary, added):
        own = scores[image, labels[image]]
        ahead = [(-scores[image, c], c) < (-own, labels[image]) for c in vocabulary]
        return not any(ahead) and not any(extra[image, w] > own for w in added)

    expected = []
    for size in range(1, classes + words + 1):
        each = []
        for image in range(images):
            others = [c for c in range(classes) if c != labels[image]]
            drawn = itertools.combinations(others, min(size, classes) - 1)
            added = list(itertools.combinations(range(words), max(0, size - classes)))
            each += [[right(image, v, a) for v in drawn for a in added]]
        expected.append(np.mean([np.mean(e) for e in each]))
    found = accuracy_by_size(
        pictures, labels, rows, distractors if words else None, range(1, classes + words + 1)
    )
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_hundred_thousand_words() -> None:
    """Against the mean of drawn vocabularies, and at the full size against the count itself."""
    images = fastclip.data.load_sample("coco-images").normalized().features
    captions = fastclip.data.load_sample("coco-captions").normalized().features
    generator = torch.Generator().manual_seed(0)
    noise = 0.05 * torch.randn(100_000, 512, generator=generator)
    words = torch.nn.functional.normalize(captions.repeat(200, 1) + noise)
    labels, packed = torch.arange(500), fastclip.pack(words)
    found = accuracy_by_size(images, labels, captions, packed, [500, 5_500, 100_500])
    own = (images * captions).sum(1)
    assert found[0] == 0.552
    # The share of images with no better word: from the best word of each.
    ranks = fastclip.rank(images, captions, labels)
    best = fastclip.topk(images, packed, 1).values[:, 0]
    assert found[2] == pytest.approx(
        float(((ranks == 0) & (best <= own)).double().mean()), abs=3e-3
    )
    drawn = []
    for _ in range(20):
        some = words[torch.randperm(100_000, generator=generator)[:5_000]]
        best = fastclip.topk(images, some, 1).values[:, 0]
        drawn.append(float(((ranks == 0) & (best <= own)).double().mean()))
    assert found[1] == pytest.approx(np.mean(drawn), abs=0.01)


def test_names_the_wrong_argument() -> None:
    rows = torch.eye(3)
    with pytest.raises(ValueError, match=r"sizes: each must be from 1 .* 5, got 6"):
        accuracy_by_size(rows, torch.arange(3), rows, rows[:2], [6])
    with pytest.raises(ValueError, match="distractor_features: rows must be as long"):
        accuracy_by_size(rows, torch.arange(3), rows, torch.eye(2), [1])
