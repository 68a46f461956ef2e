"""The searches on CUDA devices, with little room for all that they keep: every way round."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
import torch
from inputs import Problem, hard_cases

import fastclip
from fastclip import _C
from fastclip.engine.devices import EMULATED


@pytest.fixture(autouse=True)
def little_room(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not EMULATED and not request.config.getoption("--device"):
        pytest.skip("needs a CUDA device or emulated kernels")
    monkeypatch.setattr(_C.cuda.tuning, "topk_queries", 5)
    monkeypatch.setattr(_C.cuda.tuning, "topk_candidates", 256)
    monkeypatch.setattr(_C.cuda.tuning, "search_queries", 5)
    monkeypatch.setattr(_C.cuda.tuning, "search_pairs", 1)
    monkeypatch.setattr(_C.cuda.tuning, "search_open", 40)


def problems() -> dict[str, Problem]:
    rng = np.random.default_rng(1)
    queries = rng.standard_normal((9, 70)).astype(np.float32)
    keys = rng.standard_normal((3000, 70)).astype(np.float32)
    one = queries[:1] + 1e-3 * keys
    rising = np.linspace(-1, 1, 3000, dtype=np.float32)[:, None] * queries[:1]
    more = {
        "normal": (queries, keys),
        "few values": (queries.round(), keys.round()),
        "ever better keys": (queries[:1], rising),
        "keys close to one query": (queries, one),
        "good keys at the end": (queries, np.concatenate([keys[:2500], one[:500]])),
    }
    made = {name: Problem(*map(torch.from_numpy, problem)) for name, problem in more.items()}
    return made | hard_cases()


every_problem = pytest.mark.parametrize("problem", problems().values(), ids=problems().keys())


@every_problem
@pytest.mark.parametrize("k", [1, 10, 200])
def test_topk(problem: Problem, k: int) -> None:
    result = fastclip.topk(problem.queries, fastclip.pack(problem.keys), k)
    values, indices = reference.topk(problem.queries, problem.keys, k)
    assert np.array_equal(result.indices.numpy(), indices)
    assert reference.same_bits(result.values, values)


@every_problem
def test_counts(problem: Problem) -> None:
    queries, keys = problem.queries, problem.keys
    packed = fastclip.pack(keys)
    targets = np.linspace(0, len(keys) - 1, len(queries)).astype(np.int64)
    ranks = fastclip.rank(queries, packed, torch.from_numpy(targets))
    assert np.array_equal(ranks.numpy(), reference.rank(queries, keys, targets))
    thresholds = reference.similarity(queries, keys)[np.arange(len(queries)), targets]
    for per in ("key", "query"):
        counts = fastclip.count_above(queries, packed, thresholds, per=per)
        assert np.array_equal(counts.numpy(), reference.count_above(queries, keys, thresholds, per))


@every_problem
@pytest.mark.parametrize("arrangement", ["scattered", "sorted"])
def test_groups(problem: Problem, arrangement: str) -> None:
    queries, keys = problem.queries, problem.keys
    packed = fastclip.pack(keys)
    number = np.arange(len(keys))
    groups = {
        "scattered": number * 7 % 65,
        "sorted": np.sort(number * 7 % 65),
        "eights": number // 8,
        "fives": number // 5,
    }[arrangement]
    best = fastclip.group_max(queries, packed, groups)
    values, indices = reference.group_max(queries, keys, groups)
    assert np.array_equal(best.indices.numpy(), indices)
    assert reference.same_bits(best.values, values)
    targets = np.linspace(0, len(keys) - 1, len(queries)).astype(np.int64)
    bits = fastclip.group_beats(queries, packed, groups, torch.from_numpy(targets))
    beaten = reference.group_beats(queries, keys, groups, targets)
    assert np.array_equal(_as_bools(bits, beaten.shape[1]), beaten)


def _as_bools(bits: torch.Tensor, count: int) -> np.ndarray[Any, Any]:
    group = torch.arange(count)
    return (bits[:, group // 64] >> (group % 64) & 1).bool().numpy()


@every_problem
def test_pairs_above(problem: Problem) -> None:
    queries, keys = problem.queries, problem.keys
    scores = np.sort(reference.similarity(queries, keys), axis=None)
    threshold = float(scores[len(scores) * 98 // 100])
    pairs = fastclip.pairs_above(queries, fastclip.pack(keys), threshold)
    rows, columns, scores = reference.pairs_above(queries, keys, threshold)
    assert np.array_equal(
        pairs.crow_indices().numpy(), np.searchsorted(rows, range(len(queries) + 1))
    )
    assert np.array_equal(pairs.col_indices().numpy(), columns)
    assert reference.same_bits(pairs.values(), scores)


@pytest.mark.parametrize("arrangement", ["eights", "fives"])
def test_small_groups(arrangement: str) -> None:
    test_groups(problems()["normal"], arrangement)


# Tiles of keys have 256 rows of up to 768 codes, 192 of up to 1,024, 128 of up to 1,536.
@pytest.mark.parametrize("width", [512, 768, 832, 1024, 1030, 1536, 1600])
def test_many_tiles_of_wide_rows(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_C.cuda.tuning, "topk_queries", 200)
    monkeypatch.setattr(_C.cuda.tuning, "search_queries", 200)
    generator = torch.Generator().manual_seed(width)
    rows = torch.randn(750 if width < 1024 else 590, width, generator=generator)
    problem = Problem(rows[:150], rows[150:])
    test_topk(problem, 10)
    if width > 768:
        test_counts(problem)
        test_groups(problem, "eights")


def test_pairs_of_one_set_come_once() -> None:
    keys = torch.randn(700, 20).round()
    packed = fastclip.pack(keys)
    pairs = fastclip.pairs_above(packed, packed, 9.0).to_sparse_coo().indices()
    rows, columns, _ = reference.pairs_above(keys, keys, 9.0)
    assert np.array_equal(pairs.numpy(), np.stack([rows, columns])[:, columns > rows])
