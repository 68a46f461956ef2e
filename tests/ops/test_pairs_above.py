from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from inputs import Problem, hard_cases, many_ties, problems

import fastclip


def assert_pairs(problem: Problem, threshold: float, packed: bool) -> None:
    queries, keys = problem.queries, problem.keys
    result = fastclip.pairs_above(queries, fastclip.pack(keys) if packed else keys, threshold)
    rows, columns, scores = reference.pairs_above(queries, keys, threshold)
    starts = np.concatenate([[0], np.bincount(rows, minlength=len(queries)).cumsum()])
    assert result.shape == (len(queries), len(keys))
    assert np.array_equal(result.crow_indices().numpy(), starts)
    assert np.array_equal(result.col_indices().numpy(), columns)
    assert reference.same_bits(result.values(), scores)


@given(problem=problems(), data=st.data())
def test_equals_the_reference(isa: str, problem: Problem, data: st.DataObject) -> None:
    scores = np.append(reference.similarity(problem.queries, problem.keys).ravel(), np.float32(0))
    threshold = float(data.draw(st.sampled_from([*scores[:50].tolist(), 0.5, -1.0])))
    assert_pairs(problem, threshold, data.draw(st.booleans()))


@pytest.mark.parametrize("packed", [False, True], ids=["", "packed"])
@pytest.mark.parametrize("problem", hard_cases().values(), ids=hard_cases().keys())
def test_hard_cases(isa: str, problem: Problem, packed: bool) -> None:
    scores = reference.similarity(problem.queries, problem.keys)
    for threshold in (float(np.sort(scores.ravel())[-20]), 0.0, float("inf"), float("-inf")):
        assert_pairs(problem, threshold, packed)


@pytest.mark.parametrize("packed", [False, True], ids=["", "packed"])
@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_blocks_and_threads(isa: str, threads: None, num_threads: int, packed: bool) -> None:
    torch.set_num_threads(num_threads)
    for queries, keys, width in [(1, 5000, 40), (7, 900, 4100), (600, 900, 20)]:
        assert_pairs(many_ties(queries, keys, width), 2.0 * width**0.5, packed)


@pytest.mark.parametrize("packed", [False, True], ids=["", "packed"])
def test_pairs_of_one_set_come_once(isa: str, packed: bool) -> None:
    rows = fastclip.data.load_sample("openimages").normalized().features
    given_rows = fastclip.pack(rows) if packed else rows
    once = fastclip.pairs_above(given_rows, given_rows, 0.95)
    both = fastclip.pairs_above(rows, rows.clone(), 0.95)
    assert torch.equal(once.to_dense(), both.to_dense().triu(1))
    assert 2 * once.values().numel() + len(rows) == both.values().numel()


def test_refuses_nan() -> None:
    with pytest.raises(ValueError, match="threshold: must be a number, got nan"):
        fastclip.pairs_above(torch.randn(2, 3), torch.randn(2, 3), float("nan"))
