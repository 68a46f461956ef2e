from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from inputs import DTYPES, PIXEL_LAYOUTS

import fastclip
from fastclip import _C

DILATIONS = (1, 2, 4, 8, 12, 24)


def problem(seed: int, batch: int, masks: int, h: int, w: int) -> tuple[torch.Tensor, torch.Tensor]:
    """An image with edges and noise, and soft masks."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(batch, 3, (h + 7) // 8, (w + 7) // 8, generator=generator)
    image = image.repeat_interleave(8, 2).repeat_interleave(8, 3)[:, :, :h, :w]
    image = image + 0.05 * torch.randn(image.shape, generator=generator)
    return image, torch.rand(batch, masks, h, w, generator=generator)


def assert_close(images: torch.Tensor, masks: torch.Tensor, **options: object) -> None:
    result = fastclip.refine_masks(images, masks, **options)
    assert result.dtype == torch.float32
    expected = reference.refine_masks(
        images, masks, **{"iterations": 10, "dilations": DILATIONS, **options}
    )
    assert result.shape == expected.shape
    np.testing.assert_allclose(result.numpy(), expected, rtol=0, atol=1e-5)


@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(1, 40), st.integers(1, 40)),
    iterations=st.integers(0, 10),
    dilations=st.lists(st.integers(1, 50), min_size=1, max_size=4).map(tuple) | st.just(DILATIONS),
    dtype=st.sampled_from(DTYPES),
    layout=st.sampled_from(sorted(PIXEL_LAYOUTS)),
)
def test_equals_the_reference(
    isa: str, seed: int, sizes: tuple, iterations: int, dilations: tuple, dtype: torch.dtype, layout
) -> None:
    images, masks = problem(seed, *sizes)
    images, masks = (PIXEL_LAYOUTS[layout](x.to(dtype)) for x in (images, masks))
    assert_close(images, masks, iterations=iterations, dilations=dilations)


IMAGES = {
    "flat": lambda x: torch.ones_like(x),
    "huge offset": lambda x: x + 1e4,
    "one bright pixel": lambda x: torch.where(x == x.amax((1, 2, 3), keepdim=True), 1e3, 0.0),
    "tiny differences": lambda x: x * 1e-9,
    "denormals": lambda x: x * 1e-41,
    "large": lambda x: x * 1e15,
    "squared sums that overflow": lambda x: x * 2.0**59,
    "differences that overflow": lambda x: torch.where(x > 0, 3e38, -3e38),
    "differences of one unit in the last place": lambda x: 2.0**46 + torch.sign(x) * 2.0**23,
    "one huge pixel": lambda x: torch.where(x == x.amax((1, 2, 3), keepdim=True), 3e38, x),
    "half huge, half small": lambda x: torch.cat([x[:, :, :15] * 1e37, x[:, :, 15:]], dim=2),
    "one channel": lambda x: x[:, :1],
    "five channels": lambda x: torch.cat([x, x[:, :2].flip(3)], dim=1),
}


@pytest.mark.parametrize("change", IMAGES.values(), ids=IMAGES.keys())
def test_hard_images(isa: str, change) -> None:
    images, masks = problem(0, 2, 2, 30, 45)
    assert_close(change(images), masks)


@given(
    seed=st.integers(0, 2**32 - 1),
    image=st.floats(-45, 38.5),
    spread=st.sampled_from([0.0, 1.0, 10.0, 40.0]),
    mask=st.floats(-45, 38),
)
def test_the_whole_range_of_numbers(
    isa: str, seed: int, image: float, spread: float, mask: float
) -> None:
    images, masks = problem(seed, 1, 2, 20, 25)
    exponents = image - spread * torch.rand(images.shape, dtype=torch.float64)
    largest = torch.finfo(torch.float32).max
    images = (images * 10**exponents).clamp(-largest, largest).float()
    masks = ((masks - 0.5).double() * 10**mask).float()
    result = fastclip.refine_masks(images, masks, iterations=3)
    expected = reference.refine_masks(images, masks, iterations=3, dilations=DILATIONS)
    roundings = 1e-5 * masks.abs().max().item() + 200 * 2.0**-149
    np.testing.assert_allclose(result.numpy(), expected, rtol=0, atol=roundings)


def test_instruction_sets_and_threads_agree_to_the_bit(threads: None) -> None:
    images, masks = problem(1, 1, 3, 50, 70)
    images[..., :20] *= 1e37
    results = []
    for isa in _C.available_isas():
        for num_threads in (1, 2, 3):
            _C.select_isa(isa)
            torch.set_num_threads(num_threads)
            results.append(fastclip.refine_masks(images, masks))
    _C.select_isa("")
    assert all(reference.same_bits(results[0], other) for other in results)


def test_weights_sum_to_one(isa: str) -> None:
    images, masks = problem(2, 1, 1, 40, 60)
    constant = fastclip.refine_masks(images, torch.full_like(masks, 0.3), iterations=50)
    assert (constant == torch.tensor(0.3)).all()
    parts = fastclip.refine_masks(images, torch.cat([masks, 1 - masks], dim=1))
    torch.testing.assert_close(parts.sum(1), torch.ones(1, 40, 60), rtol=0, atol=5e-6)


@pytest.mark.parametrize("scale", [1.0, -1e30, 1e-40])
def test_values_stay_in_the_range_of_their_mask(isa: str, scale: float) -> None:
    images, masks = problem(3, 2, 3, 33, 29)
    masks = (masks > 0.5) * scale
    result = fastclip.refine_masks(images, masks)
    assert (result >= masks.amin((2, 3), keepdim=True)).all()
    assert (result <= masks.amax((2, 3), keepdim=True)).all()


def test_follows_an_edge(isa: str) -> None:
    image = torch.zeros(1, 3, 32, 48)
    image[..., 24:] = 1
    mask = torch.rand(1, 1, 32, 48) * 0.2 + 0.8 * image[:, :1]
    left, right = fastclip.refine_masks(image, mask)[0, 0].split(24, dim=1)
    assert left.max() < 0.25
    assert right.min() > 0.75


@pytest.mark.parametrize(("batch", "masks"), [(65_537, 1), (1, 8 * 65_537)])
def test_many_tiny_images_and_masks(batch: int, masks: int) -> None:
    masks = torch.rand(batch, masks, 1, 1)
    images = torch.randn(batch, 1, 1, 1)
    assert torch.equal(fastclip.refine_masks(images, masks, iterations=1, dilations=(1,)), masks)


def test_no_iterations_copy_the_masks(isa: str) -> None:
    images, masks = problem(4, 2, 3, 9, 11)
    result = fastclip.refine_masks(images, masks, iterations=0)
    assert reference.same_bits(result, masks)
    assert result.data_ptr() != masks.data_ptr()


def test_has_no_gradient() -> None:
    images, masks = problem(5, 1, 1, 9, 11)
    assert not fastclip.refine_masks(images, masks.requires_grad_()).requires_grad


GOOD = torch.ones(2, 3, 4, 5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"images": GOOD[0]}, ValueError, r"images: 4 dimensions \[B, C, H, W\] are needed"),
        ({"masks": GOOD[0]}, ValueError, r"masks: 4 dimensions \[B, T, H, W\] are needed"),
        ({"images": GOOD.double()}, TypeError, "images: float32, .* got float64"),
        ({"masks": [1.0]}, TypeError, "masks: a torch tensor, .* got list"),
        ({"masks": GOOD.to("meta")}, ValueError, "masks: is on device 'meta'"),
        ({"images": GOOD[:, :0]}, ValueError, "images: at least one pixel and channel is needed"),
        ({"images": GOOD[..., :0]}, ValueError, "images: at least one pixel and channel is needed"),
        ({"masks": GOOD[:1]}, ValueError, r"masks: must have B, H and W of images \(2, 3, 4, 5\)"),
        ({"masks": GOOD[..., :4]}, ValueError, r"got shape \(2, 3, 4, 4\)"),
        ({"iterations": -1}, ValueError, "iterations: must be at least 0 and below"),
        ({"iterations": 1.5}, TypeError, "float"),
        ({"dilations": ()}, ValueError, r"dilations: one or more, .* got \[\]"),
        ({"dilations": (1, 0)}, ValueError, r"dilations: .*at least 1, are needed, got \[1, 0\]"),
    ],
)
def test_wrong_arguments(arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fastclip.refine_masks(**{"images": GOOD, "masks": GOOD, **arguments})


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("argument", ["images", "masks"])
def test_not_finite(isa: str, argument: str, number: float) -> None:
    bad = GOOD.clone()
    bad[1, 2, 3, 4] = number
    with pytest.raises(ValueError, match=rf"{argument}: \[1, 2, 3\] holds NaN or infinity"):
        fastclip.refine_masks(**{"images": GOOD, "masks": GOOD, argument: bad})
