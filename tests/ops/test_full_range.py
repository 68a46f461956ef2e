"""Searches over the whole range of float32: everything that can overflow or underflow does."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from full_range import describe, draw, wrong_answers, wrong_sums
from hypothesis import given
from hypothesis import strategies as st
from inputs import Problem

import fastclip

pytestmark = pytest.mark.usefixtures("always_screen")


def assert_right(problem: Problem, seed: int = 0) -> None:
    assert not wrong_answers(seed, problem), describe(seed, problem)


@given(seed=st.integers(0, 2**40))
def test_any_magnitudes(isa: str, seed: int) -> None:
    assert_right(draw(seed, most=1_000_000), seed)


@given(seed=st.integers(0, 2**40))
@pytest.mark.large
def test_any_magnitudes_packed_on_the_way(isa: str, packs_early: None, seed: int) -> None:
    assert_right(draw(seed, most=1_000_000), seed)


@given(seed=st.integers(0, 2**40))
def test_sums_of_any_magnitudes(isa: str, seed: int) -> None:
    problem = draw(seed, most=300_000)
    assert not wrong_sums(seed, problem), describe(seed, problem)


# The lengths of queries and of keys. No score overflows but in the last two, and the products of
# codes with the keys' scales do in most.
LENGTHS = [
    (1e-45, 3e38),
    (1e-30, 1e37),
    (1e-28, 1e38),
    (1e-8, 3e38),
    (1.0, 3e38),
    (3e38, 1e-45),
    (1e38, 1e-30),
    (1e-22, 1e-22),
    (1e-45, 1e-45),
    (1e19, 1e19),
    (3e38, 3e38),
]


@pytest.mark.parametrize(("of_queries", "of_keys"), LENGTHS)
@pytest.mark.parametrize("width", [1, 64, 700])
def test_lengths_far_apart(isa: str, width: int, of_queries: float, of_keys: float) -> None:
    rng = np.random.default_rng(width)
    q, k = (
        np.clip(rng.standard_normal((n, width)) / 4, -1, 1) * length
        for n, length in ((9, of_queries), (700, of_keys))
    )
    assert_right(Problem(*(torch.from_numpy(rows.astype(np.float32)) for rows in (q, k))))


def unrotated(rows: np.ndarray) -> np.ndarray:
    """Return the rows that the rotation of encode.h turns into these, up to rounding."""
    width = rows.shape[1]
    block = width & -width  # the largest power of two that divides it
    x = rows.reshape(len(rows), -1, block).copy()
    x -= 2 * x.mean(axis=1, keepdims=True)
    half = 1
    while half < block:
        pairs = x.reshape(len(rows), -1, block // (2 * half), 2, half)
        a, b = pairs[:, :, :, 0].copy(), pairs[:, :, :, 1].copy()
        pairs[:, :, :, 0], pairs[:, :, :, 1] = a + b, a - b
        half *= 2
    i = np.arange(width, dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    i = (i ^ (i >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    i = (i ^ (i >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    signs = np.where((i ^ (i >> np.uint64(31))) & np.uint64(1), 1, -1)
    return x.reshape(len(rows), width) * signs / np.sqrt(block)


@pytest.mark.host
@pytest.mark.parametrize("width", [65_536, 65_600, 200_000])
def test_sums_of_products_of_codes_that_are_as_large_as_can_be(isa: str, width: int) -> None:
    """Rotated rows whose numbers are all equal; the sum of 200,000 products needs 33 bits."""
    flat = torch.from_numpy(unrotated(np.ones((1, width))).astype(np.float32))
    codes = fastclip.pack(torch.cat([flat, -flat])).to("cpu").codes[0, :, :2].flatten()
    if width == 65_536:
        assert (codes == 255).sum() > 0.45 * 2 * width  # so the rotation here is that of encode.h
    noise = torch.randn(40, width, generator=torch.Generator().manual_seed(0))
    assert_right(Problem(torch.cat([flat, -flat]), torch.cat([0.1 * noise, flat, -flat])))


@pytest.mark.parametrize("width", [24_576, 60_000, 65_600])
def test_rows_too_wide_for_codes(isa: str, width: int) -> None:
    """On devices, those whose numbers do not fit into shared memory."""
    generator = torch.Generator().manual_seed(width)
    q, k = (torch.randn(n, width, generator=generator, device="cpu") for n in (3, 40))
    found, expected = fastclip.topk(q, fastclip.pack(k), 5), reference.topk(q, k, 5)
    assert np.array_equal(found.indices.numpy(), expected[1])
    assert reference.same_bits(found.values, expected[0])
