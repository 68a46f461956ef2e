from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from inputs import DTYPES, Problem, hard_cases, problems

import fastclip


@given(problem=problems())
def test_equals_the_reference(isa: str, problem: Problem) -> None:
    result = fastclip.similarity(problem.queries, problem.keys)
    assert reference.same_bits(result, reference.similarity(problem.queries, problem.keys))


@pytest.mark.parametrize("problem", hard_cases().values(), ids=hard_cases().keys())
def test_hard_cases(isa: str, problem: Problem) -> None:
    result = fastclip.similarity(problem.queries, problem.keys)
    assert reference.same_bits(result, reference.similarity(problem.queries, problem.keys))


@pytest.mark.parametrize("shape", [(300, 600, 33), (1, 2000, 512), (700, 2, 1280), (3, 40, 4100)])
@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_blocks_and_threads(
    isa: str, threads: None, num_threads: int, shape: tuple[int, int, int]
) -> None:
    queries, keys, width = shape
    generator = torch.Generator().manual_seed(queries)
    q = torch.randn(queries, width, generator=generator)
    k = torch.randn(keys, width, generator=generator)
    torch.set_num_threads(num_threads)
    assert reference.same_bits(fastclip.similarity(q, k), reference.similarity(q, k))


@pytest.mark.parametrize("dtype", DTYPES)
def test_short_results_are_the_rounded_score(isa: str, dtype: torch.dtype) -> None:
    # Exponents over the whole range of float16, its denormals and overflow included.
    q = torch.randn(1, 1).sign()
    k = torch.randn(20_000, 1) * 2.0 ** torch.randint(-30, 20, (20_000, 1))
    k = torch.cat([k, torch.tensor([[65519.0], [65520.0], [2.0**-25], [2.0**-24 * 1.5], [0.0]])])
    exact = torch.from_numpy(reference.similarity(q, k))
    result = fastclip.similarity(q, k, dtype=dtype)
    assert result.dtype == dtype
    assert torch.equal(result, exact.to(dtype))


@pytest.mark.host
def test_writes_into_a_memory_map(tmp_path) -> None:
    q, k = torch.randn(5, 8), torch.randn(7, 8)
    out = np.lib.format.open_memmap(tmp_path / "s.npy", mode="w+", dtype=np.float32, shape=(5, 7))
    result = fastclip.similarity(q, k, out=out)
    out.flush()
    assert reference.same_bits(np.load(tmp_path / "s.npy"), reference.similarity(q, k))
    assert result.data_ptr() == out.ctypes.data


@pytest.mark.parametrize("dtype", DTYPES)
def test_writes_only_its_own_elements(dtype: torch.dtype) -> None:
    q, k = torch.randn(5, 8), torch.randn(7, 8)
    around = torch.full((7, 11), -7.0, dtype=dtype)
    fastclip.similarity(q, k, out=around[1:6, 2:9])
    expected = torch.full((7, 11), -7.0, dtype=dtype)
    expected[1:6, 2:9] = torch.from_numpy(reference.similarity(q, k)).to(dtype)
    assert torch.equal(around, expected)


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (torch.empty(5, 6), ValueError, r"out: shape \(5, 7\) is needed, got \(5, 6\)"),
        (torch.empty(5, 7, dtype=torch.float64), TypeError, "out: .* got float64"),
        (torch.empty(7, 5).T, ValueError, "out: elements of a row must be adjacent"),
        (torch.empty(1, 7).expand(5, 7), ValueError, "out: .* rows apart"),
        (torch.empty(5, 7, requires_grad=True), ValueError, "out: must not require a gradient"),
        (np.empty((5, 7), np.float32)[:, ::-1], ValueError, "out: its strides"),
        (np.broadcast_to(np.float32(0), (5, 7)), ValueError, "out: the array is read-only"),
    ],
    ids=["shape", "dtype", "columns apart", "rows overlap", "gradient", "negative", "read-only"],
)
@pytest.mark.host
def test_refuses_out(out: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fastclip.similarity(torch.randn(5, 8), torch.randn(7, 8), out=out)


def test_refuses_a_gradient_through_out() -> None:
    q = torch.randn(5, 8, requires_grad=True)
    with pytest.raises(ValueError, match=r"out: .* no gradient"):
        fastclip.similarity(q, torch.randn(7, 8), out=torch.empty(5, 7))
    with torch.no_grad():
        fastclip.similarity(q, torch.randn(7, 8), out=torch.empty(5, 7))


def test_refuses_dtypes() -> None:
    with pytest.raises(TypeError, match=r"dtype: float32, .* got torch\.int8"):
        fastclip.similarity(torch.randn(5, 8), torch.randn(7, 8), dtype=torch.int8)
    with pytest.raises(TypeError, match=r"out: dtype torch\.float16 was asked for"):
        fastclip.similarity(
            torch.randn(5, 8), torch.randn(7, 8), out=torch.empty(5, 7), dtype=torch.float16
        )


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient(dtype: torch.dtype) -> None:
    q = torch.randn(6, 20).to(dtype).requires_grad_()
    k = torch.randn(30, 20).to(dtype).requires_grad_()
    weight = torch.randn(6, 30)
    grads = torch.autograd.grad((fastclip.similarity(q, k) * weight).sum(), (q, k))
    expected = torch.autograd.grad((q.double() @ k.double().T * weight).sum(), (q, k))
    for grad, exact in zip(grads, expected, strict=True):
        assert grad.dtype == dtype
        torch.testing.assert_close(grad, exact)
