"""Selection against its formula in float64, and where a caption leaves little to choose."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given

from fastclip.ttd import select_tags

NEAR = 1e-5  # of the threshold, where float32 may decide otherwise


def unit(x: np.ndarray, axis: int) -> torch.Tensor:
    return torch.from_numpy((x / np.linalg.norm(x, axis=axis, keepdims=True)).astype(np.float32))


@st.composite
def problems(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    counts = draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))
    h, w, d = (draw(st.integers(1, 4)) for _ in range(3))
    pixels = unit(rng.standard_normal((len(counts), d, h, w)), 1)
    return pixels, unit(rng.standard_normal((sum(counts), d)), 1), counts


@given(problems(), st.sampled_from(["min-max", "softmax"]), st.sampled_from([None, 0.2]))
def test_formula(problem, normalization, minimum):
    pixels, tags, counts = problem
    found = select_tags(
        pixels, tags, counts, normalization=normalization, threshold=0.5, minimum=minimum, scale=7
    )
    tag = 0
    for image, count in enumerate(counts):
        own = tags[tag : tag + count].double().numpy()
        maps = np.einsum("dp,td->tp", pixels[image].flatten(1).double().numpy(), own)
        scores = maps.max(1, initial=-np.inf)
        if normalization == "softmax":
            weights = np.exp(7 * (scores - scores.max(initial=-np.inf)))
            normalized = weights / weights.sum()
        else:
            low, high = scores.min(initial=np.inf), scores.max(initial=-np.inf)
            normalized = (scores - low) / (high - low) if high - low > 1e-6 else np.ones(count)
        place = slice(tag, tag + count)
        np.testing.assert_allclose(found.scores[place], scores, atol=1e-6)
        assert np.isclose(
            np.take_along_axis(maps, found.locations[place, None].numpy(), 1)[:, 0],
            scores,
            atol=1e-6,
        ).all()
        spread = np.ptp(scores) if count else 1
        if spread > 1e-2 or count < 2:
            np.testing.assert_allclose(found.normalized[place], normalized, atol=1e-4)
            sure = np.abs(normalized - 0.5) > 1e-3
            chosen = normalized >= 0.5
            if minimum is not None:
                sure &= np.abs(scores - minimum) > NEAR
                chosen &= scores >= minimum
            assert (found.selected[place].numpy() == chosen)[sure].all()
        tag += count


def test_baselines_score_with_the_whole_image_or_caption():
    rng = np.random.default_rng(0)
    whole, tags = unit(rng.standard_normal((2, 6)), 1), unit(rng.standard_normal((5, 6)), 1)
    for method in ("image-tag", "text-tag"):
        found = select_tags(whole, tags, [2, 3], method=method)
        own = whole[[0, 0, 1, 1, 1]].double()
        np.testing.assert_allclose(found.scores, (own * tags.double()).sum(1), atol=1e-6)
        assert found.locations.tolist() == [0] * 5
        assert found.normalized[:2].max() == found.normalized[2:].max() == 1
        assert found.normalized[:2].min() == found.normalized[2:].min() == 0


def test_figure_2_of_ttd():
    """Its scores are those of min-max: both ends are reached, and 0.5 lies where it decides."""
    shown = torch.tensor([1.00, 0.82, 0.22, 0.18, 0.03, 0.00])  # jacuzzi woman in a spends time
    pixels = torch.eye(6).view(1, 6, 2, 3)
    found = select_tags(pixels, torch.diag(0.15 + 0.1 * shown))
    np.testing.assert_allclose(found.normalized, shown, atol=1e-6)
    assert found.selected.tolist() == [True, True, False, False, False, False]


def test_captions_that_leave_no_choice():
    pixels = torch.tensor([[1.0], [0.0]]).view(1, 2, 1, 1).expand(3, 2, 1, 1)
    tags = torch.tensor([[0.1, 0.9], [0.3, 0.5], [0.3, -0.5]])
    only_and_equal = select_tags(pixels, tags, [1, 0, 2])
    assert only_and_equal.normalized.tolist() == [1, 1, 1]
    assert only_and_equal.selected.all()
    with_floor = select_tags(pixels, tags, [1, 0, 2], minimum=0.2)
    assert with_floor.selected.tolist() == [False, True, True]
    assert select_tags(pixels, tags[:0], [0, 0, 0]).selected.shape == (0,)


ROWS, PIXELS = torch.ones(2, 4), torch.ones(2, 4, 1, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: select_tags(ROWS, ROWS, [1, 1]), r"features: 4 dimensions \[B, d, h, w\]"),
        (lambda: select_tags(PIXELS, ROWS, [1, 1], method="text-tag"), r"features: 2 .* \[B, d\]"),
        (lambda: select_tags(PIXELS, ROWS, [1, 1], method="best"), "method: is 'best', allowed: p"),
        (lambda: select_tags(PIXELS, ROWS, [1, 1], normalization="z"), "normalization: is 'z'"),
        (lambda: select_tags(PIXELS, ROWS, [1, 2]), "counts: .* 3 in all"),
        (lambda: select_tags(PIXELS, ROWS), "counts: are needed"),
        (lambda: select_tags(PIXELS, ROWS, [1, 1], threshold=float("nan")), "threshold: a finite"),
        (lambda: select_tags(PIXELS * float("nan"), ROWS, [1, 1]), "NaN"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
