from __future__ import annotations

import math
from typing import Any

import distillation_by_hand as by_hand
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fastclip.ttd import distillation_loss, losses

OPTIONS = [
    ("bce", "sigmoid"),
    *((d, s) for d in ("l1", "l2", "cosine") for s in ("sigmoid", "raw", "min-max")),
]


def unit(*shape: int, generator: torch.Generator, dtype: torch.dtype = torch.float64) -> Tensor:
    return F.normalize(torch.randn(shape, generator=generator, dtype=torch.float64), dim=1).to(
        dtype
    )


def made(counts: list[int], seed: int, h: int = 3, w: int = 4, d: int = 5) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    shapes = (len(counts), d, h, w), (len(counts), d), (sum(counts), d)
    return tuple(unit(*shape, generator=generator).requires_grad_() for shape in shapes)


def split(tags: Tensor, counts: list[int]) -> list[np.ndarray]:
    return [own.detach().numpy() for own in tags.split(counts)]


@pytest.mark.parametrize(("distance", "student"), OPTIONS)
@given(counts=st.lists(st.integers(1, 5), min_size=1, max_size=4), seed=st.integers(0, 2**32))
@settings(max_examples=15)
def test_equals_the_loops(
    distance: Any, student: Any, counts: list[int], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "_AT_ONCE", 3 * 12)  # so that captions have several blocks
    pixels, captions, tags = made(counts, seed)
    options = {"distance": distance, "student": student, "gain": 7.0, "bias": -1.0}
    parts = distillation_loss(pixels, captions, tags, counts, tag_weight=0.5, **options)
    arrays = pixels.detach().numpy(), captions.detach().numpy(), split(tags, counts)
    text, tag = by_hand.losses(*arrays, **options)
    assert parts["text"].item() == pytest.approx(text, rel=1e-9)
    assert parts["tag"].item() == pytest.approx(tag, rel=1e-9)
    assert parts["loss"].item() == pytest.approx(text + tag / 2, rel=1e-9)


@pytest.mark.parametrize(("distance", "student"), OPTIONS)
def test_gradient_leaves_the_targets(distance: Any, student: Any) -> None:
    """Against finite differences of the loops, whose targets stay those of the first inputs."""
    counts = [3, 1]
    inputs = made(counts, 0)
    parts = distillation_loss(*inputs, counts, distance=distance, student=student)
    found = torch.autograd.grad(parts["loss"], inputs)
    frozen = {
        "target_pixels": inputs[0].detach().numpy().copy(),
        "target_tags": [own.copy() for own in split(inputs[2], counts)],
    }

    def total() -> float:
        arrays = inputs[0].detach().numpy(), inputs[1].detach().numpy(), split(inputs[2], counts)
        return sum(by_hand.losses(*arrays, **frozen, distance=distance, student=student))

    step = 1e-6
    for tensor, gradient in zip(inputs, found, strict=True):
        flat, expected = tensor.detach().view(-1), []
        for place in range(flat.numel()):
            before = flat[place].item()
            ends = []
            for moved in (before + step, before - step):
                flat[place] = moved
                ends.append(total())
            flat[place] = before
            expected.append((ends[0] - ends[1]) / (2 * step))
        np.testing.assert_allclose(gradient.numpy().ravel(), expected, rtol=1e-5, atol=1e-7)


def test_gradcheck_where_targets_do_not_move() -> None:
    """Captions are part of no target."""
    pixels, captions, tags = made([2, 3], 1)

    def text(rows: Tensor) -> Tensor:
        return distillation_loss(pixels.detach(), rows, tags.detach(), [2, 3], map_size=(5, 9))[
            "text"
        ]

    assert torch.autograd.gradcheck(text, captions)


@given(counts=st.lists(st.integers(1, 6), min_size=1, max_size=4), seed=st.integers(0, 2**32))
@settings(max_examples=20)
def test_up_sampled_equals_plain_torch(
    counts: list[int], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "_AT_ONCE", 2 * 77)
    inputs = made(counts, seed)
    parts = distillation_loss(*inputs, counts, map_size=(7, 11))
    expected = by_hand.plain_losses(*inputs, counts, (7, 11))
    for name, other in zip(("text", "tag"), expected, strict=True):
        assert parts[name].item() == pytest.approx(other.item(), rel=1e-9)
        ours, theirs = (
            torch.autograd.grad(loss, inputs, retain_graph=True, materialize_grads=True)
            for loss in (parts[name], other)
        )
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)


def test_the_targets_get_no_gradient() -> None:
    """Tags enter the text loss as targets alone, captions the tag loss not at all."""
    inputs = made([3, 2], 2)
    parts = distillation_loss(*inputs, [3, 2])
    of_text = torch.autograd.grad(parts["text"], inputs, retain_graph=True, allow_unused=True)
    of_tags = torch.autograd.grad(parts["tag"], inputs, allow_unused=True)
    assert not of_text[2].any()
    assert not of_tags[1].any()
    assert of_text[1].abs().min() > 0
    assert of_tags[2].abs().min() > 0


def test_a_rejected_tag_is_pressed_to_nothing() -> None:
    pixels, caption = torch.eye(2).view(1, 2, 1, 2), torch.tensor([[1.0, 0.0]])
    tags = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], requires_grad=True)
    parts = distillation_loss(pixels, caption, tags, [2], distance="l2")
    assert parts["text"].item() == pytest.approx(
        ((1 / (1 + math.exp(-7.5)) - 1) ** 2 + (1 / (1 + math.exp(2.5))) ** 2) / 2, rel=1e-5
    )
    (gradient,) = torch.autograd.grad(parts["tag"], tags)
    assert gradient[1, 1] > 0  # the cosine with the pixel where it was 0 shall fall


def test_without_tags_and_without_gradients() -> None:
    pixels, caption = torch.eye(2).view(1, 2, 1, 2), torch.tensor([[0.0, 1.0]])
    parts = distillation_loss(pixels, caption, torch.empty(0, 2), [0], distance="l1", student="raw")
    assert [parts[name].item() for name in ("text", "tag")] == [0.5, 0.0]
    half = made([2, 0, 1], 4)
    parts = distillation_loss(*half, [2, 0, 1])
    assert not parts["loss"].isnan()
    assert torch.isfinite(torch.autograd.grad(parts["loss"], half[0])[0]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distance": "huber"}, "distance: is 'huber', allowed: bce, l1, l2, cosine"),
        ({"student": "softmax"}, "student: is 'softmax', allowed: sigmoid, raw, min-max"),
        ({"student": "raw"}, "student: is 'raw', allowed with distance 'bce': sigmoid"),
        ({"map_size": (0, 3)}, "map_size: two numbers"),
        ({"counts": [2, 2]}, "counts: none negative and 3 in all"),
    ],
)
def test_errors(options: dict[str, Any], message: str) -> None:
    arguments = {"counts": [2, 1], **options}
    with pytest.raises(ValueError, match=message):
        distillation_loss(*made([2, 1], 0), **arguments)


def test_twenty_steps_end_as_plain_torch_does() -> None:
    """Features of pixels and texts themselves are trained, once each way."""
    counts, size = [16, 16], (56, 56)
    runs = []
    for ours in (True, False):
        inputs = [x.detach().float().requires_grad_() for x in made(counts, 5, 28, 28, 32)]
        optimizer = torch.optim.Adam(inputs, lr=1e-2)
        run = []
        for _ in range(20):
            pixels, captions, tags = (F.normalize(x, dim=1) for x in inputs)
            if ours:
                parts = distillation_loss(pixels, captions, tags, counts, map_size=size)
                text, tag = parts["text"], parts["tag"]
            else:
                text, tag = by_hand.plain_losses(pixels, captions, tags, counts, size)
            optimizer.zero_grad()
            (text + tag).backward()
            optimizer.step()
            run.append((text.item(), tag.item()))
        runs.append(run)
    np.testing.assert_allclose(runs[0], runs[1], rtol=1e-4)
    assert sum(runs[0][-1]) < sum(runs[0][0]) - 0.02


def test_up_sampled_maps_are_not_kept() -> None:
    counts = [16] * 4
    pixels, captions, tags = (x.detach().float().requires_grad_() for x in made(counts, 0, 14, 14))
    sizes = []

    def keep(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        distillation_loss(pixels, captions, tags, counts, map_size=(112, 112))
    assert max(sizes[-2:]) == 64 * 14 * 14  # what the whole leaves behind
