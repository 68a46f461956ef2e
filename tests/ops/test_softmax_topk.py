from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from inputs import Problem, problems

import fastclip


def check(problem: Problem, k: int, scale: float) -> None:
    queries, keys = problem.queries, problem.keys
    found = fastclip.softmax_topk(queries, keys, k, scale)
    scores = reference.similarity(queries, keys).astype(np.float64)
    exact = reference.logsumexp(queries, keys, scale)
    if not (np.isfinite(scores).all() and np.abs(scale * scores).max(initial=0) < 1e6):
        return  # a denominator beyond what its error says anything of
    best = fastclip.topk(queries, keys, k)
    assert torch.equal(found.indices, best.indices)
    expected = np.exp(scale * best.values.double().numpy() - exact[:, None])
    sizes = reference.score_sizes(queries, keys).max(1, initial=0)
    wrong = (64 + queries.shape[1] / 16) * 2.0**-24 * scale * sizes + 1e-6
    wrong += 2.0**-24 * np.abs(exact) + queries.shape[1] * 2.0**-149 * scale
    relative = np.expm1(wrong)[:, None] + 2.0**-23
    assert (
        np.abs(found.probabilities.double().numpy() - expected) <= relative * expected + 1e-45
    ).all()


@given(st.data())
def test_equals_the_softmax(data: st.DataObject) -> None:
    problem = data.draw(problems())
    if len(problem.keys):
        k = data.draw(st.integers(1, len(problem.keys)))
        check(problem, k, data.draw(st.sampled_from([1e-3, 1.0, 30.0, 100.0])))


def test_sums_to_one() -> None:
    captions = fastclip.data.load_sample("coco-captions").normalized().features
    found = fastclip.softmax_topk(captions, captions, 500, 100.0)
    assert torch.allclose(found.probabilities.sum(1), torch.ones(500), atol=1e-4)
    assert (found.probabilities.diff(dim=1) <= 0).all()
    packed = fastclip.softmax_topk(captions, fastclip.pack(captions), 500, 100.0)
    assert torch.equal(packed.probabilities, found.probabilities)


def test_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, keys = (torch.randn(n, 8, generator=generator) for n in (5, 40))
    scale = torch.tensor(2.0)
    inputs = [x.requires_grad_() for x in (queries, keys, scale)]
    weights = torch.randn(5, 3, generator=generator)
    (fastclip.softmax_topk(*inputs[:2], 3, inputs[2]).probabilities * weights).sum().backward()
    found = [x.grad for x in inputs]
    doubles = [x.detach().double().requires_grad_() for x in inputs]
    probabilities = (doubles[2] * doubles[0] @ doubles[1].T).softmax(1)
    (probabilities.topk(3).values * weights).sum().backward()
    # A probability is off by the error of the denominator's logarithm: here 1e-4 at most, where
    # products and sums are rounded apart.
    for grad, exact in zip(found, doubles, strict=True):
        torch.testing.assert_close(grad.double(), exact.grad, rtol=1e-4, atol=1e-4)


def test_errors() -> None:
    rows = torch.eye(4)
    for scale in (0, -1.0, torch.tensor(-2.0)):
        with pytest.raises(ValueError, match=r"scale: must be positive, got (0|-1|-2)"):
            fastclip.softmax_topk(rows, rows, 1, scale)
    with pytest.raises(ValueError, match="k: must be from 1 to the number of keys 4, got 5"):
        fastclip.softmax_topk(rows, rows, 5, 1.0)
    with pytest.raises(TypeError, match="scale: a number is needed, got str"):
        fastclip.softmax_topk(rows, rows, 1, "1")
