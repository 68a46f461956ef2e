"""Sums and pixel questions on CUDA devices, few queries, tags or images at a time."""

from __future__ import annotations

import functools

import pytest
import reference
import torch
from inputs import smooth_pixels

import fastclip
from fastclip import _C
from fastclip.engine import devices

pytestmark = pytest.mark.skipif(not devices.BUILT, reason="a build without CUDA")


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch):
    """Let operations take so many at a time."""
    return functools.partial(monkeypatch.setattr, _C.cuda.tuning)


def rows(count: int, width: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, width, generator=generator))


@pytest.mark.parametrize("count", [1, 7, 150])
def test_queries_do_not_depend_on_others(isa: str, at_once, count: int) -> None:
    q, k, values = rows(150, 40, 0), rows(300, 40, 1), torch.randn(300, 5)
    expected = fastclip.logsumexp(q, k, 50.0), fastclip.cache_logits(q, k, values, 5.0)
    at_once("logsumexp_queries", count)
    at_once("cache_queries", count)
    assert torch.equal(fastclip.logsumexp(q, k, 50.0), expected[0])
    assert torch.equal(fastclip.cache_logits(q, k, values, 5.0), expected[1])


@pytest.mark.parametrize("offset", [0.0, 1e3])
@pytest.mark.parametrize("count", [1, 7, 150])
def test_rows_do_not_depend_on_others(isa: str, at_once, count: int, offset: float) -> None:
    x, y = rows(150, 40, 0), rows(300, 40, 1)
    y[0] += offset  # norms too large for products, or not
    expected = fastclip.gaussian_potential(x), fastclip.gaussian_potential(x, y)
    at_once("potential_rows", count)
    assert fastclip.gaussian_potential(x) == expected[0]
    assert fastclip.gaussian_potential(x, y) == expected[1]


@pytest.mark.parametrize("count", [1, 10, 40])
def test_blocks_of_tags_and_pixels(isa: str, at_once, count: int) -> None:
    tags = rows(23, 20, 0)
    pixels = smooth_pixels(tags, 3, 4, 5)
    at_once("pixel_scores_at_once", count)
    result = fastclip.pixel_scores(pixels, tags)
    values, locations = reference.pixel_scores(pixels, tags)
    assert reference.same_bits(result.values, values)
    assert (result.locations.numpy() == locations).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("k", [1, 3])
def test_images_one_at_a_time(isa: str, at_once, k: int, dtype: torch.dtype) -> None:
    tags = rows(23, 20, 0)
    pixels, tags = smooth_pixels(tags, 3, 4, 5).to(dtype), tags.to(dtype)
    at_once("pixel_labels_scores", 1)
    result = fastclip.pixel_labels(pixels, tags, (17, 30), k)
    values, indices = reference.pixel_labels(pixels, tags, (17, 30), k)
    assert reference.same_bits(result.values, values)
    assert (result.indices.numpy() == indices).all()


def test_masks_of_one_image_at_a_time(isa: str, at_once) -> None:
    images, masks = torch.randn(3, 3, 9, 11), torch.rand(3, 10, 9, 11)
    expected = fastclip.refine_masks(images, masks)
    at_once("refine_weights", 1)
    assert torch.equal(fastclip.refine_masks(images, masks), expected)


def test_more_dilations_than_one_launch_takes(isa: str) -> None:
    images, masks = torch.randn(1, 2, 6, 7), torch.rand(1, 2, 6, 7)
    dilations = tuple(range(1, 71))
    result = fastclip.refine_masks(images, masks, iterations=2, dilations=dilations)
    exact = reference.refine_masks(images, masks, 2, dilations)
    # Sums over 560 neighbours.
    torch.testing.assert_close(result.double(), torch.from_numpy(exact), rtol=0, atol=3e-5)
