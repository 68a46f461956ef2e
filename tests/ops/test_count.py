"""rank and count_above: everything that counts scores against a threshold."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from inputs import Problem, hard_cases, many_ties, problems

import fastclip


def assert_counts(problem: Problem, targets: np.ndarray, packed: bool) -> None:
    """Compare rank and both counts, with the targets' own scores as thresholds."""
    queries, keys = problem.queries, problem.keys
    given_keys = fastclip.pack(keys) if packed else keys
    ranks = fastclip.rank(queries, given_keys, torch.from_numpy(targets))
    assert ranks.dtype == torch.int64
    assert np.array_equal(ranks.numpy(), reference.rank(queries, keys, targets))
    scores = reference.similarity(queries, keys)
    on_a_score = scores[np.arange(len(scores)), targets]
    for thresholds in (on_a_score, np.full(len(scores), 0.25, np.float32)):
        for per in ("key", "query"):
            counts = fastclip.count_above(queries, given_keys, thresholds, per=per)
            expected = reference.count_above(queries, keys, thresholds, per)
            assert counts.dtype == torch.int64
            assert np.array_equal(counts.numpy(), expected)


@given(problem=problems(), data=st.data())
def test_equals_the_reference(isa: str, problem: Problem, data: st.DataObject) -> None:
    count = len(problem.keys)
    if count == 0:
        assert fastclip.count_above(problem.queries, problem.keys, 0.0).shape == (0,)
        assert not fastclip.count_above(problem.queries, problem.keys, 0.0, per="query").any()
        return
    seed = data.draw(st.integers(0, 2**32 - 1))
    targets = np.random.default_rng(seed).integers(0, count, len(problem.queries))
    assert_counts(problem, targets, data.draw(st.booleans()))


@pytest.mark.parametrize("packed", [False, True], ids=["", "packed"])
@pytest.mark.parametrize("problem", hard_cases().values(), ids=hard_cases().keys())
def test_hard_cases(isa: str, problem: Problem, packed: bool) -> None:
    targets = np.linspace(0, len(problem.keys) - 1, len(problem.queries)).astype(np.int64)
    assert_counts(problem, targets, packed)


@pytest.mark.parametrize(
    ("queries", "keys", "width"),
    [
        (1, 5000, 40),
        (7, 900, 4100),
        pytest.param(600, 900, 20, marks=pytest.mark.large),
        (40, 1, 65),
    ],
)
@pytest.mark.parametrize("packed", [False, True], ids=["", "packed"])
@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_blocks_and_threads(
    isa: str, threads: None, num_threads: int, packed: bool, queries: int, keys: int, width: int
) -> None:
    problem = many_ties(queries, keys, width)
    torch.set_num_threads(num_threads)
    assert_counts(problem, np.arange(queries) * 7 % keys, packed)


@pytest.mark.large
def test_packs_many_keys_on_the_way(isa: str, packs_early: None) -> None:
    for problem in hard_cases().values():
        targets = np.linspace(0, len(problem.keys) - 1, len(problem.queries)).astype(np.int64)
        assert_counts(problem, targets, packed=False)


@pytest.mark.parametrize("per_query", [0, 1, 7, 300])
def test_pair_scores(isa: str, per_query: int) -> None:
    """Any number of keys for each query, also more than are scored together."""
    for problem in hard_cases().values():
        keys = len(problem.keys)
        indices = torch.randint(keys, (len(problem.queries), per_query))
        found = torch.ops.fastclip.pair_scores(problem.queries, problem.keys, indices)
        scores = torch.from_numpy(reference.similarity(problem.queries, problem.keys))
        assert torch.equal(found, scores.gather(1, indices))


@pytest.mark.large
def test_rank_agrees_with_topk_on_real_features(isa: str) -> None:
    images = fastclip.data.load_sample("coco-images").normalized().features
    captions = fastclip.data.load_sample("coco-captions").normalized().features
    targets = torch.arange(500)
    for queries, keys in ((images, captions), (captions, images)):
        order = fastclip.topk(queries, keys, 500).indices
        places = (order == targets[:, None]).int().argmax(1)
        assert torch.equal(fastclip.rank(queries, fastclip.pack(keys), targets), places)


@pytest.mark.large
def test_survivors(isa: str) -> None:
    # The threshold is far from most scores, as that of a matching pair is.
    queries = torch.nn.functional.normalize(torch.randn(50, 512))
    keys = torch.nn.functional.normalize(torch.randn(20_000, 512))
    keys[:50] = torch.nn.functional.normalize(queries + 0.1 * torch.randn(50, 512))
    targets = torch.arange(50)
    plain, scored = fastclip.rank(queries, keys, targets, return_survivors=True)
    packed = fastclip.pack(keys)
    screened, survivors = fastclip.rank(queries, packed, targets, return_survivors=True)
    assert scored < 50 * 20_000 / 20  # in float32, which drops no fewer
    assert survivors < 50 * 20_000 / 20
    assert torch.equal(plain, screened)
    _, survivors = fastclip.count_above(queries, packed, 0.3, return_survivors=True)
    assert survivors < 50 * 20_000 / 20


@pytest.mark.parametrize("threshold", [float("inf"), float("-inf"), 1e38, -1e38, 0])
@pytest.mark.parametrize("packed", [False, True], ids=["", "packed"])
def test_thresholds_beyond_all_scores(isa: str, packed: bool, threshold: float) -> None:
    queries, keys = torch.randn(9, 20), torch.randn(100, 20)
    counts = fastclip.count_above(queries, fastclip.pack(keys) if packed else keys, threshold)
    expected = reference.count_above(queries, keys, np.full(9, threshold, np.float32), "key")
    assert np.array_equal(counts.numpy(), expected)


QUERIES, KEYS = torch.randn(3, 8), torch.randn(5, 8)


@pytest.mark.parametrize(
    ("targets", "error", "message"),
    [
        (torch.tensor([0, 5, 1]), ValueError, r"targets: must be from 0 to 4, .* got 5 at 1"),
        (torch.tensor([0, -1, 1]), ValueError, r"targets: .* got -1 at 1"),
        (torch.tensor([0, 1]), ValueError, r"targets: shape \(3,\) is needed, got \(2,\)"),
        (torch.tensor([0.0, 1, 2]), TypeError, "targets: integers are needed, got float32"),
        ([0, 1, 2], TypeError, "targets: .* got list"),
    ],
    ids=["large", "negative", "shape", "float", "list"],
)
def test_refuses_targets(targets: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fastclip.rank(QUERIES, KEYS, targets)


@pytest.mark.parametrize(
    ("thresholds", "error", "message"),
    [
        (float("nan"), ValueError, "thresholds: must be a number, got nan"),
        (torch.tensor([0.0, 1.0, float("nan")]), ValueError, "thresholds: NaN at 2"),
        (torch.zeros(4), ValueError, r"thresholds: shape \(3,\) or a number is needed"),
        (torch.zeros(3).double(), TypeError, "thresholds: float32 is needed, got float64"),
    ],
    ids=["nan", "nan in tensor", "shape", "dtype"],
)
def test_refuses_thresholds(thresholds: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fastclip.count_above(QUERIES, KEYS, thresholds)


def test_refuses_per() -> None:
    with pytest.raises(ValueError, match="per: must be 'key' or 'query', got 'image'"):
        fastclip.count_above(QUERIES, KEYS, 0.0, per="image")


def test_targets_of_other_kinds() -> None:
    expected = fastclip.rank(QUERIES, KEYS, torch.tensor([0, 4, 2]))
    for targets in (
        np.array([0, 4, 2]),
        np.array([0, 4, 2], np.uint16),
        torch.tensor([0, 4, 2]).int(),
    ):
        assert torch.equal(fastclip.rank(QUERIES, KEYS, targets), expected)
