from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from inputs import DTYPES, Problem, problems

import fastclip


def unit_rows(count: int, width: int, seed: int = 0) -> torch.Tensor:
    rows = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows)


def assert_close(x: torch.Tensor, y: torch.Tensor | None, t: float) -> None:
    """Within the error that the docstring states."""
    result = fastclip.gaussian_potential(x, y, t)
    assert result.shape == ()
    assert result.dtype == torch.float32
    exact = reference.gaussian_potential(x, y, t)
    relative = (66 + x.shape[1] / 64) * 2.0**-24
    assert abs(result.item() - exact) <= relative * max(40, abs(exact)) + 1e-6


@given(problem=problems(), t=st.sampled_from([2.0, 1e-3, 50.0]))
def test_equals_the_reference(isa: str, problem: Problem, t: float) -> None:
    x, y = problem.queries, problem.keys
    if len(x) < 2:
        with pytest.raises(ValueError, match="x: at least two rows are needed without y"):
            fastclip.gaussian_potential(x, t=t)
    else:
        assert_close(x, None, t)
    if len(x) and len(y):
        assert_close(x, y, t)


@pytest.mark.parametrize("t", [2.0, 1e-4, 1e4])
@pytest.mark.parametrize(
    "change",
    [
        lambda x: x,
        lambda x: x + 1e4,
        lambda x: torch.cat([x, x + 1e4]),
        lambda x: torch.cat([x * 1e-2 - 3e3, x * 1e-2 + 3e3]),
        lambda x: x * torch.logspace(-15, 15, len(x))[:, None],
        lambda x: x[:1].expand(40, -1),
        lambda x: x * 1e-38,
        torch.zeros_like,
    ],
    ids=[
        "unit rows",
        "huge common offset",
        "two clusters far apart",
        "two tight clusters",
        "norms from 1e-15 to 1e15",
        "all equal",
        "denormals",
        "zeros",
    ],
)
def test_hard_cases(isa: str, change, t: float) -> None:
    x, y = change(unit_rows(90, 70)), change(unit_rows(50, 70, seed=1))
    assert_close(x, None, t)
    assert_close(x, y, t)


@pytest.mark.parametrize("t", [0.5, 2.0, 100.0])
@pytest.mark.large
def test_uniformity_of_real_features(isa: str, t: float) -> None:
    images = fastclip.data.load_sample("coco-images").normalized().features
    captions = fastclip.data.load_sample("coco-captions").normalized().features
    for x, y in [(images, None), (captions, None), (images, captions)]:
        exact = reference.gaussian_potential(x, y, t)
        assert fastclip.gaussian_potential(x, y, t).item() == pytest.approx(exact, rel=2e-6)


@pytest.mark.parametrize("t", [2.0, 100.0])
@pytest.mark.parametrize(
    "shape",
    [
        pytest.param((9000, 6), marks=pytest.mark.large),
        pytest.param((700, 513), marks=pytest.mark.large),
        (2, 1),
        (13, 0),
        (20, 4100),
    ],
)
def test_blocks_and_threads(isa: str, threads: None, shape: tuple[int, int], t: float) -> None:
    x = unit_rows(*shape)
    results = []
    for num_threads in (1, 2, 3):
        torch.set_num_threads(num_threads)
        results.append((fastclip.gaussian_potential(x, t=t), fastclip.gaussian_potential(x, x, t)))
    assert all(result == results[0] for result in results)
    pairs = torch.pdist(x.double()).square_().mul_(-t)
    exact = (pairs.logsumexp(0) - np.log(len(pairs))).item()
    assert results[0][0].item() == pytest.approx(exact, rel=2e-6, abs=2e-6)
    n = len(x)
    both = np.log((n * (n - 1) * np.exp(exact) + n) / n**2)
    assert results[0][1].item() == pytest.approx(both, rel=2e-6, abs=2e-6)


@pytest.mark.parametrize("offset", [0.0, 300.0])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pairs", ["x", "x and y"])
def test_gradient(pairs: str, dtype: torch.dtype, offset: float) -> None:
    x = (unit_rows(30, 20) + offset).to(dtype).requires_grad_()
    y = (unit_rows(4100, 20, seed=1) + offset).to(dtype).requires_grad_()
    inputs = (x,) if pairs == "x" else (x, y)
    grads = torch.autograd.grad(3 * fastclip.gaussian_potential(*inputs), inputs)
    if pairs == "x":
        squares = torch.nn.functional.pdist(x.double()).square()
    else:
        squares = torch.cdist(x.double(), y.double()).square()
    expected = torch.autograd.grad(3 * (-2 * squares).exp().mean().log(), inputs)
    for grad, want in zip(grads, expected, strict=True):
        assert grad.dtype == dtype
        atol = max(1e-5 * want.abs().max().item(), 2.0**-23)  # float16 has steps of 2^-24
        torch.testing.assert_close(grad, want, atol=atol, rtol=1e-2)


def test_gradient_between_tight_clusters() -> None:
    x = unit_rows(30, 20) * 1e-2
    x = torch.cat([x, x + 1e3]).requires_grad_()
    (grad,) = torch.autograd.grad(fastclip.gaussian_potential(x), x)
    (want,) = torch.autograd.grad(
        (-2 * torch.nn.functional.pdist(x.double()).square()).exp().mean().log(), x
    )
    torch.testing.assert_close(grad, want, atol=1e-5 * want.abs().max().item(), rtol=1e-4)


@pytest.mark.parametrize(
    ("t", "error", "message"),
    [
        (0.0, ValueError, r"t: must be positive, got 0\.0"),
        (-1, ValueError, r"t: must be positive, got -1\.0"),
        (float("inf"), ValueError, "t: a finite float32 number is needed, got inf"),
        ("2", TypeError, "t: a number is needed, got str"),
    ],
)
def test_wrong_t(t: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fastclip.gaussian_potential(torch.randn(5, 8), t=t)


@pytest.mark.parametrize("argument", ["x", "y"])
def test_wrong_arrays(argument: str) -> None:
    good = torch.randn(5, 8)
    for bad, error, message in [
        ([[1.0]], TypeError, "got list"),
        (good[0], ValueError, r"got shape \(8,\)"),
        (good.double(), TypeError, "got float64"),
        (torch.full((5, 8), float("nan")), ValueError, "row 0 holds NaN or infinity"),
    ]:
        with pytest.raises(error, match=f"^{argument}: .*{message}"):
            fastclip.gaussian_potential(**{"x": good, "y": good, argument: bad})


def test_wrong_shapes() -> None:
    x = torch.randn(5, 8)
    with pytest.raises(ValueError, match=r"x: at least two rows .* got shape \(1, 8\)"):
        fastclip.gaussian_potential(x[:1])
    with pytest.raises(ValueError, match=r"x: at least one row is needed, got shape \(0, 8\)"):
        fastclip.gaussian_potential(x[:0], x)
    with pytest.raises(ValueError, match=r"y: at least one row is needed, got shape \(0, 8\)"):
        fastclip.gaussian_potential(x, x[:0])
    with pytest.raises(ValueError, match="y: rows must be as long as those of x, got 7 and 8"):
        fastclip.gaussian_potential(x, x[:, :7])
