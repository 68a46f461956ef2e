from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fastclip.ttd import single_tag_bias


def test_definition():
    rng = np.random.default_rng(0)
    texts, tags = (torch.from_numpy(rng.standard_normal((n, 5))).float() for n in (4, 6))
    counts, scale = [3, 1, 0, 2], 1.5
    bias = single_tag_bias(texts, tags, counts, scale=scale)
    dominances, gaps = [], []
    for text, own in ((0, slice(0, 3)), (3, slice(4, 6))):
        s = tags[own].double().numpy() @ texts[text].double().numpy()
        p = np.exp(scale * s) / np.exp(scale * s).sum()
        dominances.append((len(s) * p.max() - 1) / (len(s) - 1))
        gaps.append(s.max() - np.delete(s, s.argmax()).mean())
    np.testing.assert_allclose(bias.dominances[[0, 3]], dominances, rtol=1e-5)
    np.testing.assert_allclose(bias.gaps[[0, 3]], gaps, rtol=1e-5)
    assert bias.dominances[[1, 2]].isnan().all()
    assert (bias.captions, bias.skipped) == (2, 2)
    assert bias.dominance == pytest.approx(np.mean(dominances), rel=1e-5)
    assert bias.gap == pytest.approx(np.mean(gaps), rel=1e-5)


def test_ends_of_the_range():
    alike = single_tag_bias(torch.ones(1, 4), torch.eye(4))
    assert (alike.dominance, alike.gap) == (0, 0)
    one = single_tag_bias(torch.eye(4)[:1], torch.eye(4), scale=1000)
    assert (one.dominance, one.gap) == (1, 1)


def test_captions_of_one_tag_are_counted_and_skipped():
    bias = single_tag_bias(torch.ones(2, 3), torch.ones(1, 3), [1, 0])
    assert math.isnan(bias.dominance)
    assert (bias.captions, bias.skipped) == (0, 2)


def test_wrong_counts():
    with pytest.raises(ValueError, match="counts: one for each of the 2 images"):
        single_tag_bias(torch.ones(2, 3), torch.ones(1, 3), [1])
