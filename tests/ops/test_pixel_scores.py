from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from inputs import (
    DTYPES,
    PixelProblem,
    pixel_hard_cases,
    pixel_problems,
    pixels_of_all_magnitudes,
)

import fastclip


def assert_exact(problem: PixelProblem, tags: object = None) -> None:
    result = fastclip.pixel_scores(problem.pixels, problem.tags if tags is None else tags)
    values, locations = reference.pixel_scores(problem.pixels, problem.tags)
    assert result.locations.dtype == torch.int64
    assert np.array_equal(result.locations.numpy(), locations)
    assert reference.same_bits(result.values, values)


@given(problem=pixel_problems(), packed=st.booleans())
def test_equals_the_reference(isa: str, problem: PixelProblem, packed: bool) -> None:
    assert_exact(problem, fastclip.pack(problem.tags) if packed else None)


@pytest.mark.parametrize("problem", pixel_hard_cases().values(), ids=pixel_hard_cases().keys())
def test_hard_cases(isa: str, problem: PixelProblem) -> None:
    assert_exact(problem)


@given(problem=pixels_of_all_magnitudes())
def test_the_whole_range_of_numbers(isa: str, problem: PixelProblem) -> None:
    assert_exact(problem)


@pytest.mark.parametrize(
    ("images", "width", "h", "w", "tags"),
    [(1, 20, 60, 60, 3), (3, 1100, 20, 11, 5), (2, 8, 5, 5, 600), (9, 16, 2, 3, 4)],
)
@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_blocks_and_threads(
    isa: str, threads: None, num_threads: int, images: int, width: int, h: int, w: int, tags: int
) -> None:
    torch.set_num_threads(num_threads)
    generator = torch.Generator().manual_seed(h)
    pixels = torch.randint(-1, 2, (images, width, h, w), generator=generator).float()  # many ties
    assert_exact(PixelProblem(pixels, torch.randn(tags, width, generator=generator).round()))


def test_every_score_is_minus_infinity(isa: str) -> None:
    result = fastclip.pixel_scores(torch.full((1, 2, 3, 3), -1e30), torch.full((2, 2), 1e30))
    assert result.values.tolist() == [[-float("inf")] * 2]
    assert result.locations.tolist() == [[0, 0]]


def test_no_images_or_no_tags() -> None:
    assert fastclip.pixel_scores(torch.empty(0, 5, 2, 3), torch.ones(4, 5)).values.shape == (0, 4)
    assert fastclip.pixel_scores(torch.ones(2, 5, 2, 3), torch.empty(0, 5)).values.shape == (2, 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient(dtype: torch.dtype) -> None:
    pixels = torch.randn(2, 20, 3, 4).to(dtype).requires_grad_()
    tags = torch.randn(30, 20).to(dtype).requires_grad_()
    weight = torch.randn(2, 30)
    result = fastclip.pixel_scores(pixels, tags)
    assert not result.locations.requires_grad
    grads = torch.autograd.grad((result.values * weight).sum(), (pixels, tags))
    maps = torch.einsum("bdhw,td->bthw", pixels.double(), tags.double()).flatten(2)
    exact = maps.gather(2, result.locations[..., None])[..., 0]
    expected = torch.autograd.grad((exact * weight).sum(), (pixels, tags))
    for grad, want in zip(grads, expected, strict=True):
        assert grad.dtype == dtype
        torch.testing.assert_close(grad, want)


def test_gradient_with_packed_tags() -> None:
    pixels, tags = torch.randn(1, 4, 2, 2, requires_grad=True), torch.randn(3, 4)
    result = fastclip.pixel_scores(pixels, fastclip.pack(tags))
    result.values.sum().backward()
    expected = torch.zeros(4, 4).index_add_(0, result.locations[0], tags)
    torch.testing.assert_close(pixels.grad[0].flatten(1).T, expected)
