from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from inputs import (
    PixelProblem,
    pixel_hard_cases,
    pixel_problems,
    pixels_of_all_magnitudes,
    smooth_pixels,
)

import fastclip


def assert_exact(
    problem: PixelProblem,
    size: tuple[int, int],
    k: int = 1,
    background: float | None = None,
    tags: object = None,
) -> None:
    result = fastclip.pixel_labels(
        problem.pixels, problem.tags if tags is None else tags, size, k, background=background
    )
    values, indices = reference.pixel_labels(problem.pixels, problem.tags, size, k, background)
    assert result.survivors is None
    assert result.indices.dtype == torch.int64
    assert np.array_equal(result.indices.numpy(), indices)
    assert reference.same_bits(result.values, values)


@given(problem=pixel_problems(), data=st.data())
def test_equals_the_reference(isa: str, problem: PixelProblem, data: st.DataObject) -> None:
    size = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    count = len(problem.tags)
    k = data.draw(st.just(1) | st.integers(1, count) | st.just(count))
    background = data.draw(st.none() | st.sampled_from([0.0, -1.0, 0.5, 1.0, 3.0]))
    packed = data.draw(st.booleans())
    assert_exact(problem, size, k, background, fastclip.pack(problem.tags) if packed else None)


@pytest.mark.parametrize("k", [1, 3, 90])
@pytest.mark.parametrize("size", [(48, 80), (9, 37), (2, 3)])
@pytest.mark.parametrize("problem", pixel_hard_cases().values(), ids=pixel_hard_cases().keys())
def test_hard_cases(isa: str, problem: PixelProblem, size: tuple[int, int], k: int) -> None:
    assert_exact(problem, size, k)


@given(problem=pixels_of_all_magnitudes(), data=st.data())
def test_the_whole_range_of_numbers(isa: str, problem: PixelProblem, data: st.DataObject) -> None:
    h, w = problem.pixels.shape[2:]
    size, k = (data.draw(st.integers(1, 3)) * h, 2 * w), data.draw(st.sampled_from([1, 3]))
    background = data.draw(st.none() | st.floats(-45, 38).map(lambda x: 10**x))
    if np.abs(reference.score_maps(problem.pixels, problem.tags)).max() > 2**126:
        with pytest.raises(OverflowError, match="a score is beyond"):
            fastclip.pixel_labels(problem.pixels, problem.tags, size, k, background=background)
    else:
        assert_exact(problem, size, k, background)


@pytest.mark.parametrize("num_threads", [1, 2, 3])
@pytest.mark.parametrize("k", [1, 4])
def test_threads(isa: str, threads: None, num_threads: int, k: int) -> None:
    torch.set_num_threads(num_threads)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(-1, 2, (3, 33, 7, 8), generator=generator).float()  # many ties
    assert_exact(
        PixelProblem(pixels, torch.randn(300, 33, generator=generator).round()), (50, 90), k
    )


@pytest.mark.once
@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize(
    ("size", "tolerance"),
    [
        ((448, 448), 2**-21),
        ((28, 28), 2**-21),
        ((14, 56), 2**-21),
        # Positions in the grid are rounded here, by torch in one step or two depending on the code
        # that it takes: up to 2^-19 apart at 16 to 28, on two axes, between numbers 2 max apart.
        ((100, 333), 2**-17),
        ((13, 7), 2**-17),
    ],
)
def test_torch_interpolates_to_the_same(
    size: tuple[int, int], tolerance: float, smooth: bool
) -> None:
    tags = fastclip.data.load_sample("lvis").normalized().features[:100]
    pixels = smooth_pixels(tags, 1, 28, 28)
    if not smooth:
        pixels = torch.nn.functional.normalize(torch.randn(pixels.shape), dim=1)
    maps = torch.from_numpy(reference.score_maps(pixels, tags))
    dense = torch.nn.functional.interpolate(maps, size, mode="bilinear", align_corners=False)
    best = dense.topk(3, dim=1)
    result = fastclip.pixel_labels(pixels, tags, size, 3)
    close = {"rtol": 0, "atol": tolerance * maps.abs().max().item()}
    torch.testing.assert_close(result.values, best.values, **close)
    torch.testing.assert_close(dense.gather(1, result.indices), best.values, **close)


@given(seed=st.integers(0, 2**32 - 1))
def test_close_to_float64(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.standard_normal((1, 8, 4, 5)).astype(np.float32)
    tags = rng.standard_normal((9, 8)).astype(np.float32)
    result = fastclip.pixel_labels(pixels, tags, (31, 17))
    maps = reference.score_maps(pixels, tags).astype(np.float64)
    exact = reference.bilinear(maps, (31, 17))
    chosen = np.take_along_axis(exact, result.indices.numpy(), axis=1)
    bound = 4 * 2.0**-24 * np.abs(maps).max()
    assert np.abs(result.values.numpy() - chosen).max() <= bound
    assert (exact.max(1, keepdims=True) - chosen).max() <= 2 * bound


def test_same_size_is_no_interpolation(isa: str) -> None:
    pixels, tags = torch.randn(2, 16, 5, 6), torch.randn(20, 16)
    result = fastclip.pixel_labels(pixels, tags, (5, 6), 20)
    values, indices = reference.topk(pixels.permute(0, 2, 3, 1).reshape(60, 16), tags, 20)
    assert reference.same_bits(result.values.permute(0, 2, 3, 1).reshape(60, 20), values)
    assert np.array_equal(result.indices.permute(0, 2, 3, 1).reshape(60, 20).numpy(), indices)


@pytest.mark.parametrize("k", [1, 2])
def test_background(isa: str, k: int) -> None:
    pixels = torch.tensor([0.25, 0.5, 0.75]).view(1, 1, 1, 3)
    tags = torch.tensor([[1.0], [0.5]])
    result = fastclip.pixel_labels(pixels, tags, (1, 3), k, background=0.5)
    assert result.indices[0, 0, 0].tolist() == [-1, 0, 0]  # a tag as good as the background wins
    assert result.values[0, 0, 0].tolist() == [0.5, 0.5, 0.75]
    if k == 2:
        assert result.indices[0, 1, 0].tolist() == [0, -1, -1]
        assert result.values[0, 1, 0].tolist() == [0.25, 0.5, 0.5]


@pytest.mark.parametrize("k", [1, 5])
def test_survivors(isa: str, k: int) -> None:
    tags = torch.nn.functional.normalize(torch.randn(200, 32), dim=1)
    pixels = torch.cat([smooth_pixels(tags, 1, 6, 9), torch.ones(1, 32, 6, 9)])
    survivors = fastclip.pixel_labels(pixels, tags, (60, 90), k, return_survivors=True).survivors
    assert survivors.dtype == torch.int64
    assert 54 * k <= survivors[0] < 54 * 200 // 2
    assert survivors[1] == 54 * k  # equal corners leave no doubt
    below = fastclip.pixel_labels(pixels, tags, (60, 90), background=50.0, return_survivors=True)
    assert below.survivors.tolist() == [0, 0]
    assert (below.indices == -1).all()
    assert (below.values == 50.0).all()


def test_survivors_are_those_that_the_bound_leaves(isa: str) -> None:
    generator = torch.Generator().manual_seed(0)
    pixels, tags = torch.randn(1, 3, 4, 6, generator=generator), torch.randn(50, 3)
    maps = np.pad(reference.score_maps(pixels, tags)[0], ((0, 0), (0, 1), (0, 1)), mode="edge")
    corners = np.stack([maps[:, y : y + 4, x : x + 6] for y in (0, 1) for x in (0, 1)])
    for k in (1, 3):
        level = np.sort(corners.min(0), axis=0)[-k]
        expected = (corners.max(0) >= level).sum()
        result = fastclip.pixel_labels(pixels, tags, (9, 9), k, return_survivors=True)
        assert result.survivors.tolist() == [expected]


def test_no_images() -> None:
    result = fastclip.pixel_labels(
        torch.empty(0, 5, 2, 3), torch.ones(4, 5), (7, 8), 2, return_survivors=True
    )
    assert result.values.shape == result.indices.shape == (0, 2, 7, 8)
    assert result.survivors.shape == (0,)


def test_has_no_gradient() -> None:
    pixels = torch.randn(1, 5, 2, 3, requires_grad=True)
    assert not fastclip.pixel_labels(pixels, torch.randn(4, 5), (7, 8)).values.requires_grad


def test_scores_that_cannot_be_interpolated(isa: str) -> None:
    pixels, tags = torch.full((1, 1, 2, 2), 1e30), torch.tensor([[1.0], [1e10]])
    with pytest.raises(OverflowError, match="pixels, tags: a score is beyond"):
        fastclip.pixel_labels(pixels, tags, (4, 4))
    assert fastclip.pixel_labels(pixels, tags[:1], (4, 4)).values.unique().tolist() == [
        pixels[0, 0, 0, 0]
    ]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"size": (4,)}, ValueError, r"size: two numbers \(H, W\) are needed, got \(4,\)"),
        ({"size": (4, 0)}, ValueError, r"size: H and W must be at least 1, got \(4, 0\)"),
        ({"size": (4.0, 4)}, TypeError, "float"),
        ({"k": 0}, ValueError, "k: must be from 1 to the number of tags 5, got 0"),
        ({"k": 6}, ValueError, "k: must be from 1 to the number of tags 5, got 6"),
        ({"background": float("nan")}, ValueError, "background: a finite float32 .* got nan"),
        ({"background": 1e39}, ValueError, "background: a finite float32 .* got 1e"),
    ],
)
def test_wrong_numbers(arguments: dict, error: type[Exception], message: str) -> None:
    good = {"pixels": torch.ones(1, 8, 2, 3), "tags": torch.ones(5, 8), "size": (4, 4)}
    with pytest.raises(error, match=message):
        fastclip.pixel_labels(**{**good, **arguments})
