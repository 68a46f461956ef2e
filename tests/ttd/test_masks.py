"""Maps, masks and their union against the formulas in float64, pixel by pixel."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given

from fastclip.ttd import tag_maps, tag_masks, text_mask


@st.composite
def problems(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    counts = draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))
    h, w, d = (draw(st.integers(1, 4)) for _ in range(3))
    pixels = rng.standard_normal((len(counts), d, h, w))
    tags = rng.standard_normal((sum(counts), d))
    return (torch.from_numpy(pixels), torch.from_numpy(tags), counts,
            torch.from_numpy(rng.random(sum(counts)) < 0.6))  # fmt: skip


def by_loops(pixels, tags, counts, selected, eps):
    """A_i(p) = <v_p, u_i>; Y_i = min-max of it or 0; U = max_i Y_i."""
    images, _, h, w = pixels.shape
    maps, masks = np.zeros((len(tags), h, w)), np.zeros((len(tags), h, w))
    union = np.zeros((images, h, w))
    tag = 0
    for image, count in enumerate(counts):
        for _ in range(count):
            for y in range(h):
                for x in range(w):
                    maps[tag, y, x] = sum(pixels[image, :, y, x] * tags[tag])
            low, high = maps[tag].min(), maps[tag].max()
            if selected[tag]:
                masks[tag] = (maps[tag] - low) / (high - low + eps)
            union[image] = np.maximum(union[image], masks[tag])
            tag += 1
    return maps, masks, union


@given(problems())
def test_formulas(problem):
    pixels, tags, counts, selected = problem
    maps = tag_maps(pixels, tags, counts)
    masks = tag_masks(maps, selected, eps=1e-6)
    union = text_mask(masks, counts)
    exact = by_loops(pixels.numpy(), tags.numpy(), counts, selected.numpy(), 1e-6)
    for ours, theirs in zip((maps, masks, union), exact, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-9)


@given(problems())
def test_union_holds_every_mask_and_nothing_where_all_are_rejected(problem):
    pixels, tags, counts, selected = problem
    masks = tag_masks(tag_maps(pixels, tags, counts), selected)
    union = text_mask(masks, counts)
    image = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    assert (union[image] >= masks).all()
    assert union.min() >= 0
    assert union.max() <= 1
    assert (masks[~selected] == 0).all()
    nothing = text_mask(tag_masks(tag_maps(pixels, tags, counts), selected & False), counts)
    assert (nothing == 0).all()


def test_constant_maps_become_zero():
    assert (tag_masks(torch.full((2, 3, 3), 0.3)) == 0).all()


def test_gradients():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(2, 3, 2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    tags = torch.randn(3, 3, generator=generator, dtype=torch.float64, requires_grad=True)

    def union(pixels, tags):
        maps = tag_maps(pixels, tags, [2, 1])
        return text_mask(tag_masks(maps, torch.tensor([True, True, False])), [2, 1])

    assert torch.autograd.gradcheck(union, (pixels, tags))


PIXELS, TAGS = torch.zeros(2, 4, 3, 3), torch.zeros(3, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tag_maps(PIXELS[0], TAGS), r"pixel_features: shape \[B, d, h, w\]"),
        (lambda: tag_maps(PIXELS[:, :, :0], TAGS), "pixel_features: shape .* at least one pixel"),
        (lambda: tag_maps(PIXELS, TAGS[:, :3], [2, 1]), r"tag_features: shape \[T, 4\]"),
        (lambda: tag_maps(PIXELS, TAGS), "counts: are needed, one for each of the 2 images"),
        (lambda: tag_maps(PIXELS, TAGS, [3]), "counts: one for each of the 2 images"),
        (lambda: tag_maps(PIXELS, TAGS, [1, 1]), r"counts: .* got \[1, 1\], 2 in all"),
        (lambda: tag_maps(PIXELS, TAGS, [4, -1]), "counts: none negative"),
        (lambda: tag_masks(TAGS), r"maps: shape \[T, h, w\]"),
        (lambda: tag_masks(PIXELS[0], torch.ones(3, dtype=torch.bool)), r"selected: shape \(4,\)"),
        (lambda: text_mask(TAGS), r"masks: shape \[T, h, w\]"),
        (lambda: text_mask(PIXELS[0], []), "counts: at least one image"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_selected_must_be_bool():
    with pytest.raises(TypeError, match="selected: a bool tensor"):
        tag_masks(torch.zeros(2, 1, 1), torch.ones(2))
