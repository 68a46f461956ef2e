from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from losses_by_hand import gradients, make, plain
from torch import Tensor

from fastclip.ops import _blocks
from fastclip.training import LOSSES, _two_way


@pytest.mark.parametrize("name", LOSSES)
@given(data=st.data())
def test_equals_the_matrices(name: str, data: st.DataObject) -> None:
    b, d = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 70))
    m, p = (data.draw(st.integers(0, b)) for _ in range(2))
    size = data.draw(st.sampled_from([1.0, 14.3, 100.0]))
    seed = data.draw(st.integers(0, 2**32))
    batch, scale = make(b, m, p, d, seed), torch.tensor(size, requires_grad=True)
    exact = make(b, m, p, d, seed, torch.float64)
    exact_scale = torch.tensor(size, dtype=torch.float64, requires_grad=True)
    expected = plain(name, exact, exact_scale)
    found = LOSSES[name](batch, scale)["loss"]
    assert found.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-5)
    for ours, theirs in zip(
        gradients(found, batch, scale), gradients(expected, exact, exact_scale), strict=True
    ):
        assert torch.allclose(ours.double(), theirs, rtol=1e-5, atol=1e-5 * size)


def test_parts_say_what_they_are() -> None:
    parts = LOSSES["hard-positives"](make(8, 5, 3, 16, 0), torch.tensor(10.0))
    *others, total = parts.values()
    assert total.item() == pytest.approx(sum(x.item() for x in others) / 4)
    alone = LOSSES["hard-positives"](make(8, 5, 0, 16, 0), torch.tensor(10.0))
    assert list(alone) == ["image_to_caption", "caption_to_image", "loss"]


def test_a_positive_is_no_negative_of_its_image() -> None:
    """Moving an image towards the positive of its caption never raises the loss of captions."""
    batch = make(6, 0, 6, 16, 0)
    parts = LOSSES["hard-positives"](batch, torch.tensor(20.0))
    (grad,) = torch.autograd.grad(parts["image_to_caption"], batch.positives, allow_unused=True)
    assert grad is None


@given(n=st.integers(1, 60), v=st.integers(1, 60), seed=st.integers(0, 2**32))
def test_two_way_logsumexp(n: int, v: int, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_two_way, "_WIDTH", 7)  # so that there are many blocks
    monkeypatch.setattr(_blocks, "_ROWS", 5)
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.randn(n, 5, generator=generator), torch.randn(v, 5, generator=generator)
    weights = torch.randn(n, generator=generator), torch.randn(v, generator=generator)
    inputs = [x.requires_grad_() for x in (rows, columns, torch.tensor([1.5]))]
    found = _two_way.two_way_logsumexp(*inputs)
    scores = inputs[2] * rows @ columns.T
    expected = scores.logsumexp(1), scores.logsumexp(0)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    totals = [
        sum((a * w).sum() for a, w in zip(x, weights, strict=True)) for x in (found, expected)
    ]
    for ours, theirs in zip(*(torch.autograd.grad(t, inputs) for t in totals), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def kept(loss: Callable[[], Tensor]) -> int:
    """Numbers in the largest tensor that the backward keeps."""
    sizes = [0]

    def keep(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss()
    return max(sizes)


@pytest.mark.parametrize("name", LOSSES)
def test_no_matrix_of_scores_is_kept(name: str) -> None:
    batch, scale = make(300, 300, 300, 8, 0), torch.tensor(50.0, requires_grad=True)
    assert kept(lambda: LOSSES[name](batch, scale)["loss"]) <= 300 * 8 * 2
    assert kept(lambda: plain(name, batch, scale)) >= 300 * 300
