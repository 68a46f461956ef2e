"""Answers from chunks of keys have the bits of the function on all keys at once."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from inputs import problems

import fastclip
from fastclip import _C
from fastclip.engine.arguments import Sides
from fastclip.engine.operation import Operation, Part
from fastclip.ops import OPERATIONS

pytestmark = pytest.mark.host  # sums in float32 have other orders on CUDA devices


def same(answer, expected) -> None:
    if isinstance(expected, torch.Tensor):
        answer, expected = [answer], [expected]
    for one, other in zip(answer, expected, strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert one.numpy().tobytes() == other.numpy().tobytes()


def operation(name: str, queries, keys, one_set: bool = False, **arguments) -> Operation:
    n, v, width = len(queries), len(keys), queries.shape[1]
    sides = Sides(n, v, v, width, torch.device("cpu"), one_set=one_set)
    return OPERATIONS[name](sides, **arguments)


def answer(asked, queries, keys, chunks, merges=(), begin=0):
    """The answer from chunks in the order given; with ``merges``, several states that are joined.

    ``merges`` says to which state each chunk goes. The queries are those from ``begin`` on.
    """
    columns = asked.columns("query", begin, begin + len(queries))
    if asked.has_targets:
        own = torch.arange(len(queries))
        targets = keys[columns["targets"]]
        columns["target_scores"] = torch.ops.fastclip.pair_scores(queries, targets, own)
    block = Part(queries, begin, columns)
    states = {}
    for number, (first, last) in enumerate(chunks):
        place = merges[number] if merges else 0
        state = states.get(place, asked.start(len(queries)))
        chunk = Part(keys[first:last], first, asked.columns("key", first, last))
        states[place] = asked.add(state, block, chunk)
    state = asked.start(len(queries))
    for other in states.values():
        state = asked.merge(state, other)
    return asked.finish(state, queries)


@st.composite
def chunked(draw, count: int):
    """Chunks of keys in any order, empty ones too, and which of three states takes each."""
    cuts = sorted(draw(st.lists(st.integers(0, count), max_size=5)))
    borders = [0, *cuts, count]
    chunks = draw(st.permutations(list(itertools.pairwise(borders))))
    return chunks, [draw(st.integers(0, 2)) for _ in chunks]


@given(st.data())
def test_searches_in_any_chunks_order_and_merges(data):
    problem = data.draw(problems())
    queries, keys = problem.queries, problem.keys
    n, v = len(queries), len(keys)
    if v == 0:
        return
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    chunks, merges = data.draw(chunked(v))

    def same_as_in_memory(name: str, **arguments) -> None:
        asked = operation(name, queries, keys, **arguments)
        expected = getattr(fastclip, name)(queries, keys, **arguments)
        same(answer(asked, queries, keys, chunks, merges), expected)

    same_as_in_memory("topk", k=data.draw(st.integers(1, v)))
    targets = torch.from_numpy(rng.integers(0, v, n))
    same_as_in_memory("rank", targets=targets)

    num_groups = data.draw(st.integers(1, min(v, 70)))
    groups = torch.from_numpy(rng.permutation(np.arange(v) % num_groups))
    same_as_in_memory("group_max", groups=groups)
    same_as_in_memory("group_beats", groups=groups, targets=targets)

    scores = torch.ops.fastclip.pair_scores(queries, keys, targets)
    thresholds = scores + torch.from_numpy(rng.integers(-1, 2, n).astype(np.float32))
    same_as_in_memory("count_above", thresholds=thresholds, per="query")

    # Per key, the keys are the block that queries pass.
    asked = operation("count_above", queries, keys, thresholds=thresholds)
    state = asked.start(v)
    for first in range(0, n, 3):
        part = Part(queries[first : first + 3], first, asked.columns("query", first, first + 3))
        state = asked.add(state, Part(keys), part)
    same(asked.finish(state, keys), fastclip.count_above(queries, keys, thresholds))


@given(st.data())
def test_pairs_in_any_chunks_order_and_merges(data):
    problem = data.draw(problems())
    queries, keys = problem.queries, problem.keys
    chunks, merges = data.draw(chunked(len(keys)))
    asked = operation("pairs_above", queries, keys, threshold=0.5)
    found = answer(asked, queries, keys, chunks, merges)
    expected = fastclip.pairs_above(queries, keys, 0.5)
    for part in ("crow_indices", "col_indices", "values"):
        same(getattr(found, part)(), getattr(expected, part)())

    expected = fastclip.pairs_above(keys, keys, 0.5)
    half = len(keys) // 2
    asked = operation("pairs_above", keys, keys, one_set=True, threshold=0.5)
    blocks = [
        answer(asked, keys[first:last], keys, chunks, merges, begin=first)
        for first, last in ((0, half), (half, len(keys)))
    ]
    same(torch.cat([block.col_indices() for block in blocks]), expected.col_indices())
    same(torch.cat([block.values() for block in blocks]), expected.values())


@given(st.data())
def test_states_are_split_and_joined(data):
    """Of queries, as ranks send them: each part of the state gives the answers for its queries."""
    problem = data.draw(problems())
    queries, keys = problem.queries, problem.keys
    n = len(queries)
    if len(keys) == 0:
        return
    cut = data.draw(st.integers(0, n))
    for name, arguments in (("topk", {"k": 1}), ("pairs_above", {"threshold": 0.5})):
        asked = operation(name, queries, keys, **arguments)
        state = asked.add(asked.start(n), Part(queries), Part(keys))
        parts = asked.split(state, [cut, n - cut])
        for part, rows in zip(parts, (queries[:cut], queries[cut:]), strict=True):
            found = asked.to_fields(asked.finish(part, rows))
            expected = asked.to_fields(getattr(fastclip, name)(rows, keys, **arguments))
            same(list(found.values()), list(expected.values()))
        joined = asked.to_fields(asked.finish(asked.join(parts), queries))
        expected = asked.to_fields(getattr(fastclip, name)(queries, keys, **arguments))
        same(list(joined.values()), list(expected.values()))


@pytest.fixture(scope="module")
def many() -> tuple[torch.Tensor, torch.Tensor]:
    """Queries, and keys enough for several parts of the sums."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(9, 24, generator=generator), torch.randn(20_000, 24, generator=generator)


@pytest.mark.parametrize("scale", [20.0, -3.0, 0.0])
@pytest.mark.parametrize("blocks", [1, 3, 31, 1000])
def test_logsumexp_in_chunks(many, isa, scale, blocks):
    queries, keys = many
    asked = operation("logsumexp", queries, keys, scale=scale)
    size = asked.alignment() * blocks
    chunks = [(begin, min(begin + size, len(keys))) for begin in range(0, len(keys), size)]
    same(answer(asked, queries, keys, chunks), fastclip.logsumexp(queries, keys, scale))


def test_logsumexp_of_parts_in_any_order(many):
    queries, keys = many
    asked = operation("logsumexp", queries, keys, scale=20.0)
    chunks = [(begin, min(begin + asked.part, len(keys))) for begin in (16384, 0, 8192)]
    assert asked.part == 8192
    found = answer(asked, queries, keys, chunks, merges=[0, 1, 0])
    same(found, fastclip.logsumexp(queries, keys, 20.0))


def test_logsumexp_of_a_part_in_two_states_is_right_but_for_rounding(many):
    queries, keys = many
    asked = operation("logsumexp", queries, keys, scale=20.0)
    middle = asked.alignment() * 5
    chunks = [(0, middle), (middle, len(keys))]
    found = answer(asked, queries, keys, chunks, merges=[0, 1])
    expected = (20 * queries.double() @ keys.double().T).logsumexp(1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("blocks", [1, 3, 1000])
def test_cache_logits_in_chunks(many, isa, blocks):
    queries, keys = many
    keys = torch.nn.functional.normalize(keys[:5000])
    values = torch.randn(5000, 1030, generator=torch.Generator().manual_seed(1))
    asked = operation("cache_logits", queries, keys, values=values, beta=5.5)
    size = asked.alignment() * blocks
    chunks = [(begin, min(begin + size, 5000)) for begin in range(0, 5000, size)]
    found = answer(asked, queries, keys, chunks)
    same(found, fastclip.cache_logits(queries, keys, values, 5.5))


@pytest.mark.parametrize("size", [1777, 4096, 100_000])
def test_group_means_in_chunks(many, size):
    queries, keys = many
    groups = torch.from_numpy(np.random.default_rng(0).integers(0, 50, len(keys)))
    asked = operation("group_mean", queries, keys, groups=groups)
    chunks = [(begin, min(begin + size, len(keys))) for begin in range(0, len(keys), size)]
    found = answer(asked, queries, keys, chunks)
    same(found, fastclip.group_mean(queries, keys, groups))


def test_errors(many):
    queries, keys = many
    asked = operation("logsumexp", queries, keys, scale=20.0)
    with pytest.raises(ValueError, match=r"begin: a multiple of \d+ is needed, got 5"):
        asked.add(asked.start(9), Part(queries), Part(keys[5:], 5))
    broken = keys.clone()
    broken[7, 3] = torch.nan
    with pytest.raises(ValueError, match="keys: row 7 holds NaN or infinity"):
        asked.add(asked.start(9), Part(queries), Part(broken))


def test_blocks_do_not_depend_on_the_number_of_keys():
    assert _C.value_blocks(10_000, 512)[0] == _C.value_blocks(10_000_000, 512)[0]
