"""Gradients against float64, over norms, scales and spreads, whatever torch is set to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
import torch

import fastclip
from fastclip.training._two_way import two_way_logsumexp

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("tensors_on_device")]


@contextmanager
def _lowered_products() -> Iterator[None]:
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")


@contextmanager
def _without_denormals() -> Iterator[None]:
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


SETTINGS: dict[str, Callable[[], object]] = {
    "plain": ExitStack,
    "autocast": lambda: torch.autocast(
        torch.get_default_device().type, dtype=torch.bfloat16, cache_enabled=False
    ),
    "lowered products": _lowered_products,
    "denormals flushed": _without_denormals,
}


@pytest.fixture(params=SETTINGS)
def settings(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run the test with something switched on that changes torch's own arithmetic."""
    with SETTINGS[request.param]():
        yield


def rows_of_norm(count: int, width: int, norm: float, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, width, generator=generator, device="cpu")
    rows = torch.nn.functional.normalize(rows) * norm
    rows[count // 2] = rows[0]  # a tie
    return rows.to(torch.get_default_device())


def gradients(
    function: Callable[..., torch.Tensor], *inputs: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    leaves = [x.detach().requires_grad_() for x in inputs]
    result = function(*leaves)
    weights = torch.linspace(0.5, 1.5, result.numel(), dtype=result.dtype).view(result.shape)
    return torch.autograd.grad((result * weights).sum(), leaves)


def in_float64(
    function: Callable[..., torch.Tensor], *inputs: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    with torch.autocast(inputs[0].device.type, enabled=False):
        return gradients(function, *(x.double() for x in inputs))


def assert_within(
    found: tuple[torch.Tensor, ...], expected: tuple[torch.Tensor, ...], bounds: tuple[float, ...]
) -> None:
    for grad, want, bound in zip(found, expected, bounds, strict=True):
        rounding = 2.0**-23 * want.abs() + 2.0**-126
        assert ((grad.double() - want).abs() <= bound + rounding).all(), (grad, want, bound)


@pytest.mark.parametrize("scale", [1.0, -1.0, 100.0, 1e4, 1e6, 1e9])
@pytest.mark.parametrize("norm", [1e-3, 1.0, 10.0, 30.0, 100.0, 1e3])
def test_logsumexp(settings: None, norm: float, scale: float) -> None:
    """Within the error that the docstring states, and never off by more than a few 1e-5."""
    width = 64
    q, k = rows_of_norm(7, width, norm, 0), rows_of_norm(300, width, norm, 1)
    number = torch.tensor(scale)
    found = gradients(fastclip.logsumexp, q, k, number)
    expected = in_float64(lambda q, k, s: (s * (q @ k.T)).logsumexp(1), q, k, number)
    x = abs(scale) * norm * norm
    unit = 2.0**-24 if x <= 256 else 2.0**-52  # twice 2^-53: the reference has errors, too
    error = unit * (20 + (70 + 1.1 * width) * x)
    of_scores = error * abs(scale) * norm
    assert_within(found, expected, (1.5 * of_scores, 7 * of_scores, 7 * error * norm * norm))
    assert_within(found, expected, tuple(1e-4 * want.abs().max().item() for want in expected))


@pytest.mark.parametrize("beta", [1e-3, 1.0, 5.5, 100.0, -3.0, 1e4])
@pytest.mark.parametrize("norm", [1e-3, 1.0, 3.0, 30.0])
def test_cache_logits(settings: None, norm: float, beta: float) -> None:
    if abs(beta) * (norm * norm + 1) > 80 and norm != 1:
        beta = 80 / (norm * norm + 1)  # weights are finite
    q, k = rows_of_norm(7, 64, norm, 0), rows_of_norm(300, 64, norm, 1)
    values = torch.rand(300, 5)
    found = gradients(lambda *x: fastclip.cache_logits(*x, beta), q, k, values)
    expected = in_float64(lambda q, k, v: (-beta * (1 - q @ k.T)).exp() @ v, q, k, values)
    # Weights that float32 does not hold are no part of the sum.
    sizes = [1e-4 * want.abs().max().item() + 1e-30 for want in expected]
    assert_within(found, expected, tuple(sizes))


@pytest.mark.parametrize("t", [1e-3, 2.0, 1e6])
@pytest.mark.parametrize("spread", [1e-3, 1.0, 50.0, 200.0, 1e5, 1e12])
@pytest.mark.parametrize("pairs", ["of x", "of both"])
def test_gaussian_potential(settings: None, pairs: str, spread: float, t: float) -> None:
    x, y = torch.randn(40, 16) * spread, torch.randn(60, 16) * spread
    inputs = (x,) if pairs == "of x" else (x, y)
    found = gradients(lambda *rows: fastclip.gaussian_potential(*rows, t=t), *inputs)

    def plain(x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        squares = (x[:, None] - (x if y is None else y)[None]).square().sum(2)
        if y is None:
            squares = squares[tuple(torch.triu_indices(len(x), len(x), 1))]
        return (-t * squares).flatten().logsumexp(0)

    expected = in_float64(plain, *inputs)
    assert_within(found, expected, tuple(1e-4 * want.abs().max().item() for want in expected))


@pytest.mark.parametrize("t", [2.0, 8.0, 20.0])
@pytest.mark.parametrize("apart", [0.0, 1e-4])
def test_gaussian_potential_of_rows_that_are_nearly_equal(
    settings: None, t: float, apart: float
) -> None:
    """Their differences are small beside the rows themselves."""
    x = torch.nn.functional.normalize(torch.randn(40, 64))
    x = torch.cat([x, x + apart * torch.randn(40, 64)])
    (found,) = gradients(lambda rows: fastclip.gaussian_potential(rows, t=t), x)
    pairs = tuple(torch.triu_indices(80, 80, 1))
    (expected,) = in_float64(
        lambda x: (-t * (x[:, None] - x[None]).square().sum(2)[pairs]).logsumexp(0), x
    )
    # The rows' own rounding to the centre, where nothing but equal rows counts.
    assert_within((found,), (expected,), (1e-6 * expected.abs().max().item() + t * 2.0**-50,))


def test_gaussian_potential_of_a_cluster_and_rows_far_away(settings: None) -> None:
    """The centre of all rows is so far from the cluster that float64 loses its shape there."""
    x = torch.cat([torch.randn(20, 8), torch.randn(3, 8) * 1e16])
    (found,) = gradients(fastclip.gaussian_potential, x)
    (expected,) = in_float64(
        lambda rows: (-2 * torch.pdist(rows).square()).logsumexp(0), x[:20].contiguous()
    )
    torch.testing.assert_close(found[:20], expected.float(), rtol=1e-5, atol=1e-6)
    assert not found[20:].any()


@pytest.mark.parametrize("scale", [1.0, 100.0, 1e4, 1e9])
@pytest.mark.parametrize("norm", [1e-3, 1.0, 30.0, 1e3])
def test_both_denominators_of_the_loss(settings: None, norm: float, scale: float) -> None:
    rows, columns = rows_of_norm(30, 64, norm, 0), rows_of_norm(50, 64, norm, 1)

    def sums(r: torch.Tensor, c: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        scores = s * (r @ c.T)
        return torch.cat([scores.logsumexp(1), scores.logsumexp(0)])

    inputs = rows, columns, torch.tensor(scale)
    found = gradients(lambda *x: torch.cat(two_way_logsumexp(*x)), *inputs)
    expected = in_float64(sums, *inputs)
    assert_within(found, expected, tuple(1e-4 * want.abs().max().item() for want in expected))


PICKED: dict[str, tuple[Callable[..., torch.Tensor], Callable[..., torch.Tensor]]] = {
    "similarity": (fastclip.similarity, lambda q, k: q @ k.T),
    "topk": (lambda q, k: fastclip.topk(q, k, 5).values, lambda q, k: (q @ k.T).topk(5).values),
    "group_max": (
        lambda q, k: fastclip.group_max(q, k, torch.arange(len(k)) % 7).values,
        lambda q, k: torch.stack([(q @ k[g::7].T).amax(1) for g in range(7)], 1),
    ),
    "group_mean": (
        lambda q, k: fastclip.group_mean(q, k, torch.arange(len(k)) % 7),
        lambda q, k: torch.stack([(q @ k[g::7].T).mean(1) for g in range(7)], 1),
    ),
    "pixel_scores": (
        lambda q, k: fastclip.pixel_scores(q.view(1, 3, 3, -1).permute(0, 3, 1, 2), k).values,
        lambda q, k: (k @ q.T).amax(1)[None],
    ),
}


@pytest.mark.parametrize("name", PICKED)
@pytest.mark.parametrize("norms", [(1e-3, 1e3), (1.0, 1.0), (1e3, 1e-6), (1e-30, 1e30)])
def test_scores(settings: None, name: str, norms: tuple[float, float]) -> None:
    """What is linear in queries and in keys: within the roundings of float32 sums."""
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(n, 24, generator=generator, device="cpu") for n in (9, 50))
    q, k = (x.to(torch.get_default_device()) * norm for x, norm in zip((q, k), norms, strict=True))
    ours, plain = PICKED[name]
    is_product = name in ("similarity", "group_mean")
    lowered = is_product and torch.get_float32_matmul_precision() != "highest"
    found, expected = gradients(ours, q, k), in_float64(plain, q, k)
    # A gradient that is a plain product has the precision that the user asks of such products.
    error = 2.0**-7 if lowered else 1e-6
    assert_within(found, expected, tuple(error * want.abs().max().item() for want in expected))
