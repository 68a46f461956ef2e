from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from inputs import DTYPES, Problem, hard_cases, problems

import fastclip

SCALES = (1.0, 100.0, 0.0, -3.5, 1e4, 1e-3)


def unit_rows(count: int, width: int, seed: int = 0) -> torch.Tensor:
    rows = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows)


def assert_close(problem: Problem, scale: float, keys: object = None) -> None:
    """Within the error that the docstring states; twice it where two scores can be wrong."""
    result = fastclip.logsumexp(problem.queries, problem.keys if keys is None else keys, scale)
    exact = reference.logsumexp(problem.queries, problem.keys, scale)
    sizes = reference.score_sizes(problem.queries, problem.keys).max(axis=1, initial=0)
    bound = (64 + problem.queries.shape[1] / 64) * 2.0**-24 * abs(scale) * sizes
    # products of denormals, each rounded to a multiple of 2^-149
    bound += abs(scale) * problem.queries.shape[1] * 2.0**-149
    assert result.dtype == torch.float32
    error = np.abs(result.double().numpy() - exact)
    assert (error <= bound + 1e-6 + 2.0**-24 * np.abs(exact)).all(), (error, bound)


@given(problem=problems(), scale=st.sampled_from(SCALES), packed=st.booleans())
def test_equals_the_reference(isa: str, problem: Problem, scale: float, packed: bool) -> None:
    if len(problem.keys) == 0:
        with pytest.raises(ValueError, match=r"keys: at least one row is needed, got shape \(0,"):
            fastclip.logsumexp(problem.queries, problem.keys, scale)
        return
    assert_close(problem, scale, fastclip.pack(problem.keys) if packed else None)


@pytest.mark.parametrize("scale", [1.0, 100.0, -100.0])
@pytest.mark.parametrize("name", hard_cases().keys())
def test_hard_cases(isa: str, name: str, scale: float) -> None:
    problem = hard_cases()[name]
    if name == "scores that overflow":
        result = fastclip.logsumexp(problem.queries, problem.keys, scale)
        assert not result.isfinite().any()
        return
    assert_close(problem, scale)


@pytest.mark.parametrize("scale", [100.0, -100.0])
@pytest.mark.parametrize("width", [512, pytest.param(1280, marks=pytest.mark.large)])
def test_relative_error_on_unit_rows(isa: str, width: int, scale: float) -> None:
    q, k = unit_rows(50, width), unit_rows(9000, width, seed=1)
    exact = reference.logsumexp(q, k, scale)
    np.testing.assert_allclose(fastclip.logsumexp(q, k, scale).numpy(), exact, rtol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 100.0, -100.0, 1e4])
def test_relative_error_on_real_features(isa: str, scale: float) -> None:
    images = fastclip.data.load_sample("coco-images").normalized().features
    captions = fastclip.data.load_sample("coco-captions").normalized().features
    exact = reference.logsumexp(images, captions, scale)
    result = fastclip.logsumexp(images, captions, scale)
    # With scale -100 the largest exponent and the logarithm of the sum cancel here and there.
    np.testing.assert_allclose(result.numpy(), exact, rtol=1e-6, atol=3e-8 * abs(scale))


@pytest.mark.parametrize(
    ("queries", "keys", "width"),
    [
        pytest.param(1, 30_000, 40, marks=pytest.mark.large),
        pytest.param(600, 9000, 20, marks=pytest.mark.large),
        pytest.param(13, 900, 4100, marks=pytest.mark.large),
        (40, 1, 65),
        (5, 70, 150),
        pytest.param(3, 70_000, 0, marks=pytest.mark.large),
    ],
)
def test_same_bits_for_any_threads_and_other_queries(
    isa: str, threads: None, queries: int, keys: int, width: int
) -> None:
    q, k = unit_rows(queries, width), unit_rows(keys, width, seed=1)
    results = []
    for num_threads in (1, 2, 3):
        torch.set_num_threads(num_threads)
        results.append(fastclip.logsumexp(q, k, 30.0))
    assert all(torch.equal(result, results[0]) for result in results)
    for few in range(1, 5):  # not packed as many are
        assert torch.equal(fastclip.logsumexp(q[-few:], k, 30.0), results[0][-few:])
    exact = reference.logsumexp(q, k, 30.0)
    np.testing.assert_allclose(results[0].numpy(), exact, rtol=1e-6, atol=3e-6)


@pytest.mark.parametrize("queries", [0, 1, 4, 5])
@pytest.mark.parametrize("dtype", DTYPES)
def test_keys_that_are_not_finite(isa: str, dtype: torch.dtype, queries: int) -> None:
    q = torch.zeros(queries, 16, dtype=dtype)
    keys = torch.full((20_000, 16), torch.finfo(dtype).max, dtype=dtype)  # several tasks
    assert fastclip.logsumexp(q, keys, 1.0).isfinite().all()
    assert not fastclip.logsumexp(q + 2, keys, 3e38).isfinite().any()
    keys[[7001, 7002, 19_999], 5] = float("nan")
    with pytest.raises(ValueError, match="keys: row 7001 holds NaN or infinity"):
        fastclip.logsumexp(q, keys, 1.0)


@pytest.mark.large
def test_so_many_queries_that_parts_are_merged_in_one_task(isa: str) -> None:
    q, k = torch.randn(33_000, 2), torch.randn(8300, 2)
    result = fastclip.logsumexp(q, k, 2.0)
    rows = [0, 511, 512, 20_000, 32_999]
    assert torch.equal(result[rows], fastclip.logsumexp(q[rows], k, 2.0))
    np.testing.assert_allclose(
        result[rows].numpy(), reference.logsumexp(q[rows], k, 2.0), rtol=1e-5
    )


@pytest.mark.large
@pytest.mark.once
def test_keys_of_more_than_2_to_the_31_elements() -> None:
    row = unit_rows(1, 4096)
    result = fastclip.logsumexp(row, row.expand(2**19 + 5, 4096), 1.0)
    assert result.item() == pytest.approx(1 + np.log(2**19 + 5), rel=1e-6)


def test_gradients_vanish_on_no_queries() -> None:
    q, k = torch.empty(0, 8, requires_grad=True), torch.randn(5, 8, requires_grad=True)
    result = fastclip.logsumexp(q, k, 1.0)
    assert result.shape == (0,)
    grad_q, grad_k = torch.autograd.grad(result.sum(), (q, k))
    assert grad_q.shape == (0, 8)
    assert not grad_k.any()


@pytest.mark.parametrize("scale", [1.0, 30.0, -2.0, 0.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient(dtype: torch.dtype, scale: float) -> None:
    q = (unit_rows(6, 20) * 1.5).to(dtype).requires_grad_()
    k = unit_rows(5000, 20, seed=1).to(dtype).requires_grad_()  # two blocks
    s = torch.tensor(scale, requires_grad=True)
    weight = torch.randn(6)
    grads = torch.autograd.grad((fastclip.logsumexp(q, k, s) * weight).sum(), (q, k, s))
    exact = (s.double() * (q.double() @ k.double().T)).logsumexp(1)
    expected = torch.autograd.grad((exact * weight).sum(), (q, k, s))
    for grad, want in zip(grads, expected, strict=True):
        assert grad.dtype == want.dtype
        atol = max(1e-5 * want.abs().max().item(), 2.0**-23)  # float16 has steps of 2^-24
        torch.testing.assert_close(grad, want, atol=atol, rtol=1e-2)


def test_gradient_of_one_side_only() -> None:
    q, k = unit_rows(6, 20).requires_grad_(), unit_rows(30, 20, seed=1)
    fastclip.logsumexp(q, fastclip.pack(k), 2).sum().backward()
    (expected,) = torch.autograd.grad((2 * q.double() @ k.double().T).logsumexp(1).sum(), q)
    torch.testing.assert_close(q.grad, expected)


@pytest.mark.parametrize(
    ("scale", "error", "message"),
    [
        (float("nan"), ValueError, "scale: a finite float32 number is needed, got nan"),
        (1e39, ValueError, r"scale: a finite float32 number is needed, got 1e\+39"),
        ("1", TypeError, "scale: a number is needed, got str"),
        (None, TypeError, "scale: a number is needed, got NoneType"),
        (torch.ones(2), ValueError, r"scale: .* one element is needed, got shape \(2,\)"),
        (torch.tensor(1), ValueError, r"scale: a floating-point tensor .* torch\.int64"),
        (torch.tensor(float("inf")), ValueError, "scale: a finite float32 number .* got inf"),
    ],
    ids=str,
)
def test_wrong_scales(scale: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fastclip.logsumexp(torch.randn(5, 8), torch.randn(7, 8), scale)
