from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from inputs import DTYPES, Problem, hard_cases, problems

import fastclip


def assert_close(problem: Problem, groups: torch.Tensor, keys: object = None) -> torch.Tensor:
    result = fastclip.group_mean(problem.queries, problem.keys if keys is None else keys, groups)
    ids = groups.numpy()
    exact = reference.group_mean(problem.queries, problem.keys, ids)
    sizes = reference.group_mean(problem.queries.abs(), problem.keys.abs(), ids)
    assert result.dtype == torch.float32
    assert (np.abs(result.double().numpy() - exact) <= 2.0**-23 * sizes + 1e-40).all()
    return result


@given(problem=problems(), data=st.data())
def test_equals_the_reference(isa: str, problem: Problem, data: st.DataObject) -> None:
    count = len(problem.keys)
    if count == 0:
        with pytest.raises(ValueError, match="keys: at least one row is needed"):
            fastclip.group_mean(problem.queries, problem.keys, torch.empty(0, dtype=torch.int64))
        return
    num_groups = data.draw(st.integers(1, count))
    groups = torch.arange(count) % num_groups
    groups = groups[torch.randperm(count)]
    packed = data.draw(st.booleans())
    assert_close(problem, groups, fastclip.pack(problem.keys) if packed else None)


@pytest.mark.parametrize("name", hard_cases().keys())
def test_hard_cases(name: str) -> None:
    if name != "scores that overflow":
        problem = hard_cases()[name]
        assert_close(problem, torch.arange(len(problem.keys)) % 9)


def test_wide_rows() -> None:
    keys = torch.ones(2, 2**21 + 5)
    keys[1, -1] = 4
    result = fastclip.group_mean(keys[1:], keys, torch.zeros(2, dtype=torch.int64))
    assert result.item() == 2**21 + 4 + 4 * 2.5


def test_same_bits_for_any_threads_and_instruction_set(isa: str, threads: None) -> None:
    generator = torch.Generator().manual_seed(0)
    problem = Problem(
        torch.randn(30, 40, generator=generator), torch.randn(9000, 40, generator=generator)
    )
    groups = torch.randint(0, 50, (9000,), generator=generator)
    means = [problem.keys[groups == g].double().mean(0).float() for g in range(50)]
    for num_threads in (1, 2, 3):
        torch.set_num_threads(num_threads)
        result = assert_close(problem, groups)
        torch.testing.assert_close(result, problem.queries @ torch.stack(means).T)
        if num_threads == 1:
            first = result
        assert torch.equal(result, first)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient(dtype: torch.dtype) -> None:
    q = torch.randn(6, 20).to(dtype).requires_grad_()
    k = torch.randn(30, 20).to(dtype).requires_grad_()
    groups, weight = torch.arange(30) % 4, torch.randn(6, 4)
    grads = torch.autograd.grad((fastclip.group_mean(q, k, groups) * weight).sum(), (q, k))
    scores = q.double() @ k.double().T
    exact = torch.stack([scores[:, groups == g].mean(1) for g in range(4)], 1)
    expected = torch.autograd.grad((exact * weight).sum(), (q, k))
    for grad, want in zip(grads, expected, strict=True):
        assert grad.dtype == dtype
        torch.testing.assert_close(grad, want)


def test_numpy_groups() -> None:
    q, k, groups = torch.randn(3, 8), torch.randn(5, 8), torch.tensor([1, 0, 1, 0, 1])
    expected = fastclip.group_mean(q, k, groups)
    assert torch.equal(fastclip.group_mean(q, k, groups.numpy()), expected)
