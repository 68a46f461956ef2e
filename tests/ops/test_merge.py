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
from fastclip.ops._merge import (
    BestKeys,
    BestOfGroups,
    Chunk,
    CountPerKey,
    GroupsAhead,
    KeysAhead,
    PairsAbove,
    TargetScores,
)
from fastclip.ops._merge_sums import GroupMeans, ScaledSums, WeightedValues

pytestmark = pytest.mark.host  # sums in float32 have other orders on CUDA devices


def same(answer, expected) -> None:
    if isinstance(expected, torch.Tensor):
        answer, expected = [answer], [expected]
    for one, other in zip(answer, expected, strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert one.numpy().tobytes() == other.numpy().tobytes()


def answer(reducer, queries, keys, chunks, of_keys=None, merges=()):
    """The answer from chunks in the order given; with ``merges``, several states that are joined.

    ``merges`` says to which state each chunk goes.
    """
    states = {}
    for number, (begin, end) in enumerate(chunks):
        place = merges[number] if merges else 0
        state = states.get(place, reducer.start(len(queries)))
        part = None if of_keys is None else of_keys[begin:end]
        states[place] = reducer.add(state, queries, Chunk(keys[begin:end], begin, part))
    state = reducer.start(len(queries))
    for other in states.values():
        state = reducer.merge(state, other)
    return reducer.finish(state)


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
    k = data.draw(st.integers(1, v))
    best = answer(BestKeys(k), queries, keys, chunks, merges=merges)
    same(best, fastclip.topk(queries, keys, k))

    targets = torch.from_numpy(rng.integers(0, v, n))
    scores = answer(TargetScores(targets), queries, keys, chunks, merges=merges)
    ranks = answer(KeysAhead(scores, targets), queries, keys, chunks, merges=merges)
    same(ranks, fastclip.rank(queries, keys, targets))

    num_groups = data.draw(st.integers(1, min(v, 70)))
    groups = torch.from_numpy(rng.permutation(np.arange(v) % num_groups))
    best_of = answer(BestOfGroups(num_groups), queries, keys, chunks, groups, merges)
    same(best_of, fastclip.group_max(queries, keys, groups))
    ahead = GroupsAhead(scores, targets, num_groups)
    bits = answer(ahead, queries, keys, chunks, groups, merges)
    same(bits, fastclip.group_beats(queries, keys, groups, targets))

    thresholds = scores + torch.from_numpy(rng.integers(-1, 2, n).astype(np.float32))
    zeros = torch.zeros_like(targets)
    counts = answer(KeysAhead(thresholds, zeros), queries, keys, chunks, merges=merges)
    same(counts, fastclip.count_above(queries, keys, thresholds, per="query"))
    key_thresholds = torch.zeros(v)  # here the keys ask
    per_key = answer(CountPerKey(), queries, keys, chunks, key_thresholds, merges)
    same(per_key, fastclip.count_above(keys, queries, key_thresholds))


@given(st.data())
def test_pairs_in_any_chunks_order_and_merges(data):
    problem = data.draw(problems())
    queries, keys = problem.queries, problem.keys
    chunks, merges = data.draw(chunked(len(keys)))
    found = answer(PairsAbove(0.5), queries, keys, chunks, merges=merges)
    expected = fastclip.pairs_above(queries, keys, 0.5)
    same(found, (expected.crow_indices(), expected.col_indices(), expected.values()))

    expected = fastclip.pairs_above(keys, keys, 0.5)
    half = len(keys) // 2
    blocks = [
        answer(PairsAbove(0.5, first), keys[first:last], keys, chunks, merges=merges)
        for first, last in ((0, half), (half, len(keys)))
    ]
    same(torch.cat([blocks[0][1], blocks[1][1]]), expected.col_indices())
    same(torch.cat([blocks[0][2], blocks[1][2]]), expected.values())


@pytest.fixture(scope="module")
def many() -> tuple[torch.Tensor, torch.Tensor]:
    """Queries, and keys enough for several parts of the sums."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(9, 24, generator=generator), torch.randn(20_000, 24, generator=generator)


@pytest.mark.parametrize("scale", [20.0, -3.0, 0.0])
@pytest.mark.parametrize("blocks", [1, 3, 31, 1000])
def test_logsumexp_in_chunks(many, isa, scale, blocks):
    queries, keys = many
    reducer = ScaledSums(scale, len(keys), 24)
    size = reducer.alignment(24) * blocks
    chunks = [(begin, min(begin + size, len(keys))) for begin in range(0, len(keys), size)]
    same(answer(reducer, queries, keys, chunks), fastclip.logsumexp(queries, keys, scale))


def test_logsumexp_of_parts_in_any_order(many):
    queries, keys = many
    reducer = ScaledSums(20.0, len(keys), 24)
    chunks = [(begin, min(begin + reducer.part, len(keys))) for begin in (16384, 0, 8192)]
    assert reducer.part == 8192
    found = answer(reducer, queries, keys, chunks, merges=[0, 1, 0])
    same(found, fastclip.logsumexp(queries, keys, 20.0))


def test_logsumexp_of_a_part_in_two_states_is_right_but_for_rounding(many):
    queries, keys = many
    reducer = ScaledSums(20.0, len(keys), 24)
    middle = reducer.alignment(24) * 5
    chunks = [(0, middle), (middle, len(keys))]
    found = answer(reducer, queries, keys, chunks, merges=[0, 1])
    expected = (20 * queries.double() @ keys.double().T).logsumexp(1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("blocks", [1, 3, 1000])
def test_cache_logits_in_chunks(many, isa, blocks):
    queries, keys = many
    keys = torch.nn.functional.normalize(keys[:5000])
    values = torch.randn(5000, 1030, generator=torch.Generator().manual_seed(1))
    reducer = WeightedValues(5.5, 1030, 5000)
    size = reducer.alignment(24) * blocks
    chunks = [(begin, min(begin + size, 5000)) for begin in range(0, 5000, size)]
    found = answer(reducer, queries, keys, chunks, values)
    same(found, fastclip.cache_logits(queries, keys, values, 5.5))


@pytest.mark.parametrize("size", [1777, 4096, 100_000])
def test_group_means_in_chunks(many, size):
    queries, keys = many
    groups = torch.from_numpy(np.random.default_rng(0).integers(0, 50, len(keys)))
    reducer = GroupMeans(50, 24)
    state = reducer.start(0)
    for begin in range(0, len(keys), size):
        part = slice(begin, begin + size)
        state = reducer.add(state, queries, Chunk(keys[part], begin, groups[part]))
    expected = fastclip.group_mean(queries, keys, groups)
    same(fastclip.similarity(queries, reducer.finish(state)), expected)


def test_errors(many):
    queries, keys = many
    reducer = ScaledSums(20.0, len(keys), 24)
    with pytest.raises(ValueError, match=r"begin: a multiple of \d+ is needed, got 5"):
        reducer.add(reducer.start(9), queries, Chunk(keys[5:], 5))
    broken = keys.clone()
    broken[7, 3] = torch.nan
    with pytest.raises(ValueError, match="keys: row 7 holds NaN or infinity"):
        reducer.add(reducer.start(9), queries, Chunk(broken, 0))
    groups = torch.full((len(keys),), 4)
    for grouped in (BestOfGroups(4), GroupMeans(4, 24)):
        with pytest.raises(ValueError, match="groups: must be from 0 to 3"):
            grouped.add(grouped.start(9), queries, Chunk(keys, 0, groups))


def test_blocks_do_not_depend_on_the_number_of_keys():
    assert _C.value_blocks(10_000, 512)[0] == _C.value_blocks(10_000_000, 512)[0]
