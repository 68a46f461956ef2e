from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from inputs import DTYPES, LAYOUTS, Problem, problems

import fastclip


def unit_rows(count: int, width: int, seed: int = 0) -> torch.Tensor:
    rows = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows)


def assert_close(
    problem: Problem, values: torch.Tensor, beta: float, keys: object = None
) -> torch.Tensor:
    """Within the error that the docstring states."""
    q, k = problem.queries, problem.keys
    result = fastclip.cache_logits(q, k if keys is None else keys, values, beta)
    exact = reference.cache_logits(q, k, values, beta)
    size = reference.cache_logits(q, k, values.abs(), beta)
    s = reference.score_sizes(q, k).max(axis=1, initial=0)[:, None]
    bound = 2.0**-24 * (70 + abs(beta) * (4 + (66 + q.shape[1] / 64) * s)) * size
    assert result.dtype == torch.float32
    lowest = 2.8e-38 * len(k) * values.abs().double().sum(0).numpy()
    assert (np.abs(result.double().numpy() - exact) <= 1.01 * bound + lowest).all()
    return result


@given(problem=problems(), data=st.data())
def test_equals_the_reference(isa: str, problem: Problem, data: st.DataObject) -> None:
    k = problem.keys
    largest = reference.score_sizes(problem.queries, k).max(initial=1)
    beta = data.draw(st.sampled_from([1.0, 5.5, -2.0, 0.0])) / float(largest)
    dtype, layout = data.draw(st.sampled_from(DTYPES)), data.draw(st.sampled_from(sorted(LAYOUTS)))
    values = LAYOUTS[layout](torch.randn(len(k), data.draw(st.integers(0, 40))).to(dtype))
    packed = data.draw(st.booleans())
    assert_close(problem, values, beta, fastclip.pack(k) if packed else None)


@pytest.mark.parametrize("beta", [1.0, 5.5, 50.0, -5.5])
def test_real_features(isa: str, beta: float) -> None:
    images = fastclip.data.load_sample("coco-images").normalized().features
    captions = fastclip.data.load_sample("coco-captions").normalized().features
    labels = torch.nn.functional.one_hot(torch.arange(500) % 7).float()
    result = assert_close(Problem(images, captions), labels, beta)
    exact = reference.cache_logits(images, captions, labels, beta)
    np.testing.assert_allclose(result.numpy(), exact, rtol=1e-5)


@pytest.mark.parametrize(
    ("queries", "keys", "width", "columns"),
    [
        (600, 900, 20, 33),
        (1, 9000, 70, 1),
        pytest.param(13, 300, 4100, 5, marks=pytest.mark.large),
        (30, 70, 5, 1100),
        (5, 0, 8, 3),
    ],
)
def test_same_bits_for_any_threads_and_other_queries(
    isa: str, threads: None, queries: int, keys: int, width: int, columns: int
) -> None:
    problem = Problem(unit_rows(queries, width), unit_rows(keys, width, seed=1))
    values = torch.randn(keys, columns)
    results = []
    for num_threads in (1, 2, 3):
        torch.set_num_threads(num_threads)
        results.append(assert_close(problem, values, 5.5))
    assert all(torch.equal(result, results[0]) for result in results)
    last = fastclip.cache_logits(problem.queries[-1:], problem.keys, values, 5.5)
    assert torch.equal(last, results[0][-1:])


@pytest.mark.parametrize("beta", [5.5, -1.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient(dtype: torch.dtype, beta: float) -> None:
    q = unit_rows(6, 20).to(dtype).requires_grad_()
    k = unit_rows(5000, 20, seed=1).to(dtype).requires_grad_()  # two blocks
    v = torch.randn(5000, 4).to(dtype).requires_grad_()
    weight = torch.randn(6, 4)
    result = fastclip.cache_logits(q, k, v, beta)
    grads = torch.autograd.grad((result * weight).sum(), (q, k, v))
    exact = (-beta * (1 - q.double() @ k.double().T)).exp() @ v.double()
    expected = torch.autograd.grad((exact * weight).sum(), (q, k, v))
    for grad, want in zip(grads, expected, strict=True):
        assert grad.dtype == dtype
        torch.testing.assert_close(grad, want, atol=1e-5 * want.abs().max().item(), rtol=1e-2)


@pytest.mark.parametrize(
    ("values", "beta", "error", "message"),
    [
        (torch.randn(6, 3), 1.0, ValueError, "values: one row per key .* got 6 rows and 7 keys"),
        (torch.randn(7), 1.0, ValueError, r"values: 2 dimensions .* got shape \(7,\)"),
        (torch.ones(7, 3).long(), 1.0, TypeError, "values: .* got int64"),
        (torch.full((7, 3), float("inf")), 1.0, ValueError, "values: row 0 holds NaN or infinity"),
        (torch.randn(7, 3), float("nan"), ValueError, "beta: a finite float32 number .* got nan"),
        (torch.randn(7, 3), "1", TypeError, "beta: a number is needed, got str"),
    ],
)
def test_wrong_values_and_beta(
    values: torch.Tensor, beta: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fastclip.cache_logits(torch.randn(5, 8), torch.randn(7, 8), values, beta)
