"""Keys in files: the answers of keys in memory, by the same functions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastclip
from fastclip.data import open_rows
from fastclip.engine import answer, stream
from fastclip.engine.tuning import TUNING
from fastclip.ops import OPERATIONS

pytestmark = pytest.mark.host

N, V, D, G = 90, 3000, 24, 40
RNG = np.random.default_rng(0)
QUERIES = torch.from_numpy(RNG.standard_normal((N, D), np.float32))
KEYS = torch.from_numpy(RNG.standard_normal((V, D), np.float32))
KEYS[-300:] = KEYS[:300]  # ties across chunks
GROUPS = torch.from_numpy(RNG.permutation(np.arange(V) % G))
ARGUMENTS: dict[str, dict[str, Any]] = {
    "topk": {"k": 10},
    "rank": {"targets": torch.from_numpy(RNG.integers(0, V, N))},
    "count_above": {"thresholds": torch.linspace(-3, 9, N)},
    "pairs_above": {"threshold": 9.0},
    "group_max": {"groups": GROUPS},
    "group_beats": {"groups": GROUPS, "targets": torch.arange(N)},
    "group_mean": {"groups": GROUPS},
    "logsumexp": {"scale": 2.5},
    "softmax_topk": {"k": 4, "scale": 2.5},
    "cache_logits": {
        "values": torch.from_numpy(RNG.standard_normal((V, 5), np.float32)),
        "beta": 1,
    },
}

FILTERED = [name for name, kind in OPERATIONS.items() if "allowed" in kind.argument_names()]


@pytest.fixture
def keys(tmp_path: Path) -> fastclip.data.Rows:
    np.save(tmp_path / "keys.npy", KEYS.numpy())
    return open_rows(tmp_path / "keys.npy")


@pytest.fixture(params=["all at once", "in chunks and blocks"])
def sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let chunks and blocks be small, though memory allows more."""
    if request.param == "all at once":
        return
    real = stream.make_plan

    def plan(question: stream.Question, *arguments: Any) -> stream.Plan:
        align = question.operation.alignment()
        chunk = max(700 // align, 1) * align
        return stream.Plan(40, chunk, False, real(question, *arguments).device)

    monkeypatch.setattr(answer, "make_plan", plan)


def same(found: Any, expected: Any) -> None:
    assert type(found) is type(expected)
    parts = [(found, expected)]
    if isinstance(expected, tuple):
        parts = list(zip(found, expected, strict=True))
    elif expected.layout == torch.sparse_csr:
        matrices = found, expected
        parts = [
            tuple(getattr(x, part)() for x in matrices)
            for part in ("crow_indices", "col_indices", "values")
        ]
        assert found.shape == expected.shape
    for one, other in parts:
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize("name", fastclip.ops.OPERATIONS)
def test_keys_in_files(name: str, keys: fastclip.data.Rows) -> None:
    function = getattr(fastclip, name)
    arguments = ARGUMENTS[name]
    same(function(QUERIES, keys, **arguments), function(QUERIES, KEYS, **arguments))
    if "values" in arguments:
        return
    none = {key: x[:0] if key in ("targets", "thresholds") else x for key, x in arguments.items()}
    same(function(QUERIES[:0], keys, **none), function(QUERIES[:0], KEYS, **none))


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize("name", fastclip.ops.OPERATIONS)
def test_queries_in_files_too(name: str, keys: fastclip.data.Rows, tmp_path: Path) -> None:
    np.save(tmp_path / "queries.npy", QUERIES.numpy())
    function = getattr(fastclip, name)
    found = function(open_rows(tmp_path / "queries.npy"), keys, **ARGUMENTS[name])
    same(found, function(QUERIES, KEYS, **ARGUMENTS[name]))


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize("density", [0.02, 0.5, 0.9])
@pytest.mark.parametrize("name", FILTERED)
def test_keys_that_do_not_count(name: str, density: float, keys: fastclip.data.Rows) -> None:
    function = getattr(fastclip, name)
    best = fastclip.topk(QUERIES, KEYS, 3).indices
    filters = {"allowed": torch.from_numpy(RNG.random(V) < density), "exclude": best}
    for name in filters:
        given = ARGUMENTS[function.__name__] | {name: filters[name]}
        same(function(QUERIES, keys, **given), function(QUERIES, KEYS, **given))
    given = ARGUMENTS[function.__name__] | filters
    same(function(QUERIES, keys, **given), function(QUERIES, KEYS, **given))
    if "threshold" in given:
        given = {"threshold": 15.0, "exclude": torch.arange(V)[:, None] + torch.tensor([-1, 0])}
        same(function(keys, keys, **given), function(KEYS, KEYS, **given))


@pytest.mark.usefixtures("sizes")
def test_counts_per_query_and_pairs_of_one_set(keys: fastclip.data.Rows) -> None:
    found = fastclip.count_above(QUERIES, keys, 3.0, per="query")
    same(found, fastclip.count_above(QUERIES, KEYS, 3.0, per="query"))
    same(fastclip.pairs_above(keys, keys, 20.0), fastclip.pairs_above(KEYS, KEYS, 20.0))


@pytest.mark.usefixtures("sizes")
def test_queries_that_are_the_keys(keys: fastclip.data.Rows) -> None:
    """Only pairs_above leaves out what earlier rows have met."""
    same(fastclip.topk(keys, keys, 3), fastclip.topk(KEYS, KEYS, 3))
    same(fastclip.logsumexp(keys, keys, 0.5), fastclip.logsumexp(KEYS, KEYS, 0.5))


@pytest.mark.parametrize("queries", [QUERIES.half(), QUERIES.bfloat16(), QUERIES.T.contiguous().T])
def test_kinds_of_queries(queries: torch.Tensor, keys: fastclip.data.Rows) -> None:
    same(fastclip.topk(queries, keys, 3), fastclip.topk(queries, KEYS, 3))
    same(fastclip.topk(queries.float().numpy(), keys, 3), fastclip.topk(queries.float(), KEYS, 3))


def test_scale_as_a_tensor(keys: fastclip.data.Rows) -> None:
    scale = torch.tensor(2.5)
    same(fastclip.logsumexp(QUERIES, keys, scale), fastclip.logsumexp(QUERIES, KEYS, scale))


def test_memory_is_bounded(keys: fastclip.data.Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks are as small as what is allowed asks for."""
    monkeypatch.setattr(TUNING, "stream_bytes", 70 << 20)
    read: list[int] = []
    real = fastclip.data.Rows.read

    def noted(self: fastclip.data.Rows, begin: int, out: torch.Tensor) -> None:
        read.append(out.numel())
        real(self, begin, out)

    monkeypatch.setattr(fastclip.data.Rows, "read", noted)
    wide = torch.zeros(V, D)
    same(fastclip.topk(QUERIES, keys, 3), fastclip.topk(QUERIES, KEYS, 3))
    assert sum(read) == wide.numel()


def refused(call: Callable[[], object], other: Callable[[], object]) -> None:
    with pytest.raises((TypeError, ValueError)) as in_memory:
        call()
    with pytest.raises(in_memory.type) as elsewhere:
        other()
    assert str(elsewhere.value) == str(in_memory.value)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("topk", {"k": 0}),
        ("topk", {"k": V + 1}),
        ("topk", {"k": "3"}),
        ("rank", {"targets": torch.full((N,), V)}),
        ("rank", {"targets": torch.zeros(N + 1, dtype=torch.int64)}),
        ("count_above", {"thresholds": torch.full((N,), torch.nan)}),
        ("count_above", {"thresholds": 1.0, "per": "both"}),
        ("pairs_above", {"threshold": torch.nan}),
        ("group_max", {"groups": torch.full((V,), -1)}),
        ("group_max", {"groups": torch.arange(V) * 2}),
        ("group_beats", {"groups": torch.zeros(V + 1, dtype=torch.int64), "targets": GROUPS[:N]}),
        ("logsumexp", {"scale": torch.inf}),
        ("cache_logits", {"values": torch.zeros(V + 1, 2), "beta": 1.0}),
        ("cache_logits", {"values": torch.full((V, 2), torch.nan), "beta": 1.0}),
    ],
)
def test_refused_in_the_same_words(
    name: str, arguments: dict[str, Any], keys: fastclip.data.Rows
) -> None:
    function = getattr(fastclip, name)
    refused(
        lambda: function(QUERIES, KEYS, **arguments), lambda: function(QUERIES, keys, **arguments)
    )


def test_refused(keys: fastclip.data.Rows, tmp_path: Path) -> None:
    refused(
        lambda: fastclip.topk(QUERIES[:, 1:], KEYS, 1),
        lambda: fastclip.topk(QUERIES[:, 1:], keys, 1),
    )
    nan = torch.full((2, D), torch.nan)
    refused(
        lambda: fastclip.rank(nan, KEYS, GROUPS[:2]), lambda: fastclip.rank(nan, keys, GROUPS[:2])
    )
    np.save(tmp_path / "nan.npy", nan)
    with pytest.raises(fastclip.data.FeatureFileError, match=r"nan\.npy: row 0 holds NaN"):
        fastclip.topk(QUERIES, open_rows(tmp_path / "nan.npy"), 1)
    with pytest.raises(ValueError, match="return_survivors: is allowed only with keys in memory"):
        fastclip.topk(QUERIES, keys, 1, return_survivors=True)
    with pytest.raises(
        ValueError, match="num_groups: is allowed only with keys in memory, got Row"
    ):
        fastclip.group_mean(QUERIES, keys, GROUPS, num_groups=G)
    with pytest.raises(ValueError, match="num_groups: is allowed only with keys in memory"):
        fastclip.group_mean(QUERIES, keys, GROUPS, num_groups=0)
    with pytest.raises(TypeError, match=r"keys: .* in memory .* got Rows"):
        fastclip.similarity(QUERIES, keys)
    with pytest.raises(TypeError, match=r"queries: .* got Rows"):
        fastclip.topk(keys, KEYS, 1)
