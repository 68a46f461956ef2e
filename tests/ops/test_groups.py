"""group_max and group_beats."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from inputs import DTYPES, Problem, hard_cases, many_ties, problems

import fastclip
from fastclip import _C


def some_groups(keys: int, groups: int, seed: int) -> np.ndarray:
    """Return a group for each key, in no order, none empty."""
    rng = np.random.default_rng(seed)
    return rng.permutation(
        np.concatenate([np.arange(groups), rng.integers(0, groups, keys - groups)])
    )


def unpack_bits(words: torch.Tensor, groups: int) -> np.ndarray:
    bits = words.numpy().view(np.uint64)[:, :, None] >> np.arange(64, dtype=np.uint64) & np.uint64(
        1
    )
    assert not bits.reshape(len(words), words.shape[1] * 64)[:, groups:].any()
    return bits.reshape(len(words), words.shape[1] * 64)[:, :groups].astype(bool)


def assert_groups(problem: Problem, groups: np.ndarray, targets: np.ndarray, packed: bool) -> None:
    queries, keys = problem.queries, problem.keys
    given_keys = fastclip.pack(keys) if packed else keys
    best = fastclip.group_max(queries, given_keys, groups)
    values, indices = reference.group_max(queries, keys, groups)
    assert np.array_equal(best.indices.numpy(), indices)
    assert reference.same_bits(best.values, values)
    beats = fastclip.group_beats(queries, given_keys, groups, targets)
    assert beats.dtype == torch.int64
    expected = reference.group_beats(queries, keys, groups, targets)
    assert np.array_equal(unpack_bits(beats, groups.max() + 1), expected)


@given(problem=problems(), data=st.data())
def test_equals_the_reference(isa: str, problem: Problem, data: st.DataObject) -> None:
    count = len(problem.keys)
    if count == 0:
        with pytest.raises(ValueError, match="keys: at least one row is needed"):
            fastclip.group_max(problem.queries, problem.keys, np.zeros(0, np.int64))
        return
    seed = data.draw(st.integers(0, 2**32 - 1))
    groups = some_groups(count, data.draw(st.integers(1, count)), seed)
    if data.draw(st.booleans()):
        groups.sort()
    targets = np.random.default_rng(seed).integers(0, count, len(problem.queries))
    assert_groups(problem, groups, targets, data.draw(st.booleans()))


@pytest.mark.parametrize("packed", [False, True], ids=["", "packed"])
@pytest.mark.parametrize(
    "groups",
    [1, pytest.param(64, marks=pytest.mark.large), 65, pytest.param(700, marks=pytest.mark.large)],
)
@pytest.mark.parametrize("problem", hard_cases().values(), ids=hard_cases().keys())
def test_hard_cases(isa: str, problem: Problem, groups: int, packed: bool) -> None:
    count = len(problem.keys)
    targets = np.linspace(0, count - 1, len(problem.queries)).astype(np.int64)
    ids = some_groups(count, groups, 0)
    assert_groups(problem, ids, targets, packed)
    assert_groups(problem, np.sort(ids), targets, packed)


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
    targets = np.arange(queries) * 7 % keys
    ids = some_groups(keys, min(keys, 10), 0)  # groups larger than a chunk of keys
    assert_groups(problem, ids, targets, packed)
    assert_groups(problem, np.sort(ids), targets, packed)


@pytest.mark.large
def test_beaten_groups_of_real_class_names(isa: str) -> None:
    # A query that is a key is beaten by no group; its group's best key is itself or a twin.
    lvis = fastclip.data.load_sample("lvis").normalized().features
    groups = torch.arange(len(lvis)) // 70
    keys, targets = fastclip.pack(lvis), torch.arange(len(lvis))
    beats, survivors = fastclip.group_beats(lvis, keys, groups, targets, return_survivors=True)
    assert np.array_equal(
        unpack_bits(beats, 18), reference.group_beats(lvis, lvis, groups.numpy(), targets.numpy())
    )
    assert survivors < len(lvis) ** 2 / 20


@pytest.mark.large
@pytest.mark.host
def test_packs_many_keys_on_the_way(isa: str, packs_early: None) -> None:
    for problem in hard_cases().values():
        ids = np.sort(some_groups(len(problem.keys), 9, 0))
        best = fastclip.group_max(problem.queries, problem.keys, ids)
        values, indices = reference.group_max(problem.queries, problem.keys, ids)
        assert np.array_equal(best.indices.numpy(), indices)
        assert reference.same_bits(best.values, values)
    keys = torch.randn(50, 9)
    keys[[31, 40], 3] = float("inf")
    with pytest.raises(ValueError, match="keys: row 31 holds NaN or infinity"):
        fastclip.group_max(torch.randn(4, 9), keys, np.arange(50))


def test_survivors(isa: str) -> None:
    queries, keys = (torch.nn.functional.normalize(torch.randn(n, 512)) for n in (12, 20_000))
    groups = torch.arange(20_000) // 1000
    plain, scored = fastclip.group_max(queries, keys, groups, return_survivors=True)
    packed = fastclip.pack(keys)
    screened, survivors = fastclip.group_max(queries, packed, groups, return_survivors=True)
    if isa in _C.available_isas():  # in float32, which drops no fewer
        assert scored < 12 * 20_000 / 20
    assert survivors < 12 * 20_000 / 20
    assert torch.equal(plain.indices, screened.indices)
    assert reference.same_bits(plain.values, screened.values)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient(dtype: torch.dtype) -> None:
    q = torch.randn(6, 20).to(dtype).requires_grad_()
    k = torch.randn(30, 20).to(dtype).requires_grad_()
    weight = torch.randn(6, 4)
    best = fastclip.group_max(q, k, some_groups(30, 4, 0))
    grads = torch.autograd.grad((best.values * weight).sum(), (q, k))
    exact = (q.double() @ k.double().T).gather(1, best.indices)
    expected = torch.autograd.grad((exact * weight).sum(), (q, k))
    for grad, want in zip(grads, expected, strict=True):
        assert grad.dtype == dtype
        torch.testing.assert_close(grad, want)


QUERIES, KEYS = torch.randn(3, 8), torch.randn(5, 8)


@pytest.mark.parametrize(
    ("groups", "num_groups", "error", "message"),
    [
        ([0, 1, 0, 1, 2], 2, ValueError, "groups: must be from 0 to 1, .* got 2 at 4"),
        ([0, 1, -1, 1, 2], None, ValueError, "groups: .* got -1 at 2"),
        ([0, 0, 2, 2, 2], None, ValueError, "groups: group 1 has no key"),
        ([0, 1, 2, 3, 3], 5, ValueError, "groups: group 4 has no key"),
        ([0, 1, 2, 3, 9], None, ValueError, "groups: from 1 to 5 groups are possible, .* got 10"),
        ([0, 1, 2, 3, 3], 0, ValueError, "num_groups: from 1 to 5 groups are possible, .* got 0"),
        ([0, 1, 2], None, ValueError, r"groups: shape \(5,\) is needed, got \(3,\)"),
        ([0.0, 1, 2, 3, 4], None, TypeError, "groups: integers are needed, got float32"),
    ],
)
def test_refuses_groups(
    groups: list[float], num_groups: int | None, error: type[Exception], message: str
) -> None:
    ids = torch.tensor(groups)
    for function in (fastclip.group_max, fastclip.group_mean):
        with pytest.raises(error, match=message):
            function(QUERIES, KEYS, ids, num_groups=num_groups)
    with pytest.raises(error, match=message):
        fastclip.group_beats(
            QUERIES, KEYS, ids, torch.zeros(3, dtype=torch.int64), num_groups=num_groups
        )


def test_refuses_targets() -> None:
    with pytest.raises(ValueError, match=r"targets: must be from 0 to 4, .* got 5 at 1"):
        fastclip.group_beats(QUERIES, KEYS, torch.zeros(5).long(), torch.tensor([0, 5, 1]))
