"""``allowed`` and ``exclude``: the answers about the keys that are left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st
from inputs import Problem, problems

import fastclip
from fastclip.engine import filters
from fastclip.engine.arguments import Sides
from fastclip.engine.tuning import TUNING


class Case:
    """A problem, with some of its keys left out, and what is left of its scores."""

    def __init__(self, problem: Problem, seed: int, packed: bool = False) -> None:
        rng = np.random.default_rng(seed)
        self.queries, self.rows = problem.queries, problem.keys
        self.keys = fastclip.pack(self.rows) if packed else self.rows
        self.scores = reference.similarity(self.queries, self.rows)
        count, keys = self.scores.shape
        self.left = np.ones((count, keys), bool)
        self.given: dict[str, Any] = {}
        if rng.random() < 0.7:
            mask = rng.random(keys) < rng.choice([0, 0.05, 0.5, 0.95])
            self.left &= mask
            self.given["allowed"] = mask if rng.random() < 0.5 else torch.from_numpy(mask)
        if rng.random() < 0.7:
            self.given["exclude"] = self._lists(rng)

    def _lists(self, rng: np.random.Generator) -> Any:
        count, keys = self.scores.shape
        lists = rng.integers(-1, keys, (count, rng.choice([0, 1, 3, 40])))
        if lists.size and rng.random() < 0.7:  # what would be found
            best = np.argsort(-self.scores.astype(np.float64), 1, kind="stable")
            some = best[:, : lists.shape[1] // 2 + 1]
            lists[:, : some.shape[1]] = some
        for row, numbers in enumerate(lists):
            self.left[row, numbers[numbers >= 0]] = False
        kind = rng.integers(5)
        if kind == 0:
            return torch.from_numpy(lists)
        if kind == 1:
            return lists.astype(np.int32)
        if kind == 2 and lists.shape[1] == 1:
            return torch.from_numpy(lists[:, 0].astype(np.int16))
        excluded = np.zeros(self.scores.shape, np.float32)
        row, column = (lists >= 0).nonzero()
        excluded[row, lists[row, column]] = 1
        matrix = scipy.sparse.csr_matrix(excluded)
        if kind == 3:
            return matrix.tocoo() if rng.random() < 0.5 else torch.from_numpy(excluded).to_sparse()
        return torch.from_numpy(excluded).to_sparse_csr() if excluded.size else lists

    def targets(self, seed: int) -> np.ndarray:
        count, keys = self.scores.shape
        return np.random.default_rng(seed).integers(0, keys, count)

    def ahead(self, targets: np.ndarray) -> np.ndarray:
        """Whether each key that is left is ahead of the target."""
        score = self.scores[np.arange(len(targets)), targets][:, None]
        earlier = np.arange(self.scores.shape[1]) < targets[:, None]
        return self.left & ((self.scores > score) | ((self.scores == score) & earlier))


def assert_topk(case: Case, k: int) -> None:
    best = fastclip.topk(case.queries, case.keys, k, **case.given)
    assert best.values.shape == best.indices.shape == (len(case.queries), k)
    for row, (scores, left) in enumerate(zip(case.scores, case.left, strict=True)):
        places = np.flatnonzero(left)
        order = places[np.argsort(-scores[places].astype(np.float64), kind="stable")][:k]
        assert best.indices[row].tolist() == [*order, *[-1] * (k - len(order))]
        values = np.append(scores[order], np.full(k - len(order), -np.inf, np.float32))
        assert reference.same_bits(best.values[row], values)


@pytest.fixture(params=["gathered", "left out by the kernels"])
def ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the keys that are allowed are searched alone, and lists are taken in parts."""
    gathered = request.param == "gathered"
    monkeypatch.setattr(TUNING, "gather_from_pairs", 0 if gathered else 1 << 40)
    monkeypatch.setattr(filters, "_PADDED", 8 if gathered else 1 << 40)
    monkeypatch.setattr(filters, "_STRIP", 3 if gathered else 64)


@pytest.mark.usefixtures("ways")
@given(problem=problems(), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_best_keys_of_those_left(
    isa: str, problem: Problem, seed: int, data: st.DataObject
) -> None:
    count = len(problem.keys)
    if count == 0:
        return
    case = Case(problem, seed, data.draw(st.booleans()))
    assert_topk(case, data.draw(st.integers(1, count)))


@pytest.mark.usefixtures("ways")
@given(problem=problems(), seed=st.integers(0, 2**32 - 1), packed=st.booleans())
def test_counts_and_pairs_of_those_left(
    isa: str, problem: Problem, seed: int, packed: bool
) -> None:
    if len(problem.keys) == 0:
        return
    case = Case(problem, seed, packed)
    rows, targets = (case.queries, case.keys), case.targets(seed)
    found = fastclip.rank(*rows, targets, **case.given)
    assert np.array_equal(found, case.ahead(targets).sum(1))
    limits = case.scores[np.arange(len(targets)), targets]
    above = case.left & (case.scores > limits[:, None])
    for per, axis in (("key", 0), ("query", 1)):
        counts = fastclip.count_above(*rows, limits, per=per, **case.given)  # type: ignore[call-overload]
        assert np.array_equal(counts, above.sum(axis))
    threshold = float(np.median(limits)) if len(limits) else 0.0
    pairs = fastclip.pairs_above(*rows, threshold, **case.given).to_sparse_coo()
    expected = np.argwhere(case.left & (case.scores > threshold))
    assert np.array_equal(pairs.indices().T, expected)
    assert reference.same_bits(pairs.values(), case.scores[tuple(expected.T)])


@pytest.mark.host
@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize("shape", [(3, 9000), (300, 9000), (40, 2500)])
@pytest.mark.parametrize("density", [0.001, 0.3, 0.9])
@pytest.mark.parametrize("packed", [False, True], ids=["", "packed"])
def test_many_keys(
    isa: str, packed: bool, density: float, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as are searched in parts and through the screen, with small steps to many ties."""
    monkeypatch.setattr(TUNING, "always_screen", shape[0] == 40)
    queries = torch.randint(-3, 4, (shape[0], 40)).float()
    rows = torch.randint(-3, 4, (shape[1], 40)).float()
    mask = torch.rand(shape[1]) < density
    keys = fastclip.pack(rows) if packed else rows
    scores = (queries @ rows.T).masked_fill(~mask, -torch.inf)
    for k in (1, 10, 300):
        values, places = scores.sort(dim=1, descending=True, stable=True)
        best = fastclip.topk(queries, keys, k, allowed=mask)
        missing = values[:, :k] == -torch.inf
        assert torch.equal(best.values, values[:, :k])
        assert torch.equal(best.indices, places[:, :k].masked_fill(missing, -1))
    for per, axis in (("query", 1), ("key", 0)):
        found = fastclip.count_above(queries, keys, 25.0, per=per, allowed=mask)  # type: ignore[call-overload]
        assert torch.equal(found, (scores > 25).sum(axis))


@given(problem=problems(), seed=st.integers(0, 2**32 - 1), packed=st.booleans())
def test_groups_of_those_left(problem: Problem, seed: int, packed: bool) -> None:
    count = len(problem.keys)
    if count == 0:
        return
    case = Case(problem, seed, packed)
    groups = np.random.default_rng(seed).permutation(np.arange(count) % min(count, 1 + seed % 9))
    best = fastclip.group_max(case.queries, case.keys, groups, **case.given)
    targets = case.targets(seed)
    words = fastclip.group_beats(case.queries, case.keys, groups, targets, **case.given)
    ahead = case.ahead(targets)
    for group in range(groups.max() + 1):
        members = np.flatnonzero(groups == group)
        assert np.array_equal(words[:, 0] >> group & 1, ahead[:, members].any(1))
        for row in range(len(case.queries)):
            places = members[case.left[row, members]]
            value, index = np.float32(-np.inf), -1
            if len(places):
                index = places[case.scores[row, places].argmax()]
                value = case.scores[row, index]
            assert best.indices[row, group] == index
            assert reference.same_bits(best.values[row, group], value)


def test_bits_of_the_last_place_of_a_word() -> None:
    keys = torch.arange(130.0)[:, None]
    beats = fastclip.group_beats(
        torch.ones(2, 1),
        keys,
        torch.arange(130),
        torch.zeros(2, dtype=torch.int64),
        exclude=torch.tensor([[63, 129], [-1, 127]]),
    )
    bits = [[int(word) >> bit & 1 for word in row for bit in range(64)] for row in beats]
    assert [i for i, bit in enumerate(bits[0]) if bit] == [*range(1, 63), *range(64, 129)]
    assert [i for i, bit in enumerate(bits[1]) if bit] == [*range(1, 127), 128, 129]


@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 12))
def test_tags_of_those_left(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = torch.from_numpy(rng.integers(-2, 3, (3, 5, 2, 3)).astype(np.float32))
    tags = torch.from_numpy(rng.integers(-2, 3, (12, 5)).astype(np.float32))
    left = np.ones((3, 12), bool)
    given: dict[str, Any] = {}
    if rng.random() < 0.6:
        given["allowed"] = rng.random(12) < 0.5
        left &= given["allowed"]
    if rng.random() < 0.6:
        given["exclude"] = rng.integers(-1, 12, (3, rng.integers(0, 10)))
        for row, numbers in zip(left, given["exclude"], strict=True):
            row[numbers[numbers >= 0]] = False
    background = rng.choice([None, -1.0, 0.0, 3.0])
    labels = fastclip.pixel_labels(pixels, tags, (4, 6), k, background=background, **given)
    for image in range(3):
        places = np.flatnonzero(left[image])
        values = np.full((k, 4, 6), -np.inf, np.float32)
        indices = np.full((k, 4, 6), -1)
        if len(places):
            found = reference.pixel_labels(
                pixels[image : image + 1], tags[places], (4, 6), k, background
            )
            count = found[1].shape[1]
            values[:count] = found[0][0]
            indices[:count] = np.where(found[1][0] < 0, -1, places[found[1][0]])
        elif background is not None:
            values[0] = background
        assert np.array_equal(labels.indices[image], indices)
        assert np.array_equal(labels.values[image], values)


@pytest.mark.usefixtures("ways")
def test_what_is_not_allowed_is_better() -> None:
    keys = torch.linspace(1, 0, 500)[:, None]
    mask = torch.arange(500) >= 250
    best = fastclip.topk(torch.ones(2, 1), keys, 3, allowed=mask, exclude=torch.tensor([250, -1]))
    assert best.indices.tolist() == [[251, 252, 253], [250, 251, 252]]


def test_many_are_excluded_and_all_of_them_are_found() -> None:
    keys = torch.linspace(1, 0, 500)[:, None]
    seen = torch.arange(300).expand(2, -1).clone()
    seen[1, 5:] = -1
    best = fastclip.topk(torch.ones(2, 1), keys, 2, exclude=seen)
    assert best.indices.tolist() == [[300, 301], [5, 6]]


@pytest.mark.usefixtures("ways")
def test_excluded_keys_that_are_not_allowed_either() -> None:
    """They are not among those found, however many they are."""
    keys = torch.linspace(1, 0, 40)[:, None]
    given = {"allowed": torch.arange(40) >= 20, "exclude": torch.arange(35).expand(2, -1)}
    best = fastclip.topk(torch.ones(2, 1), keys, 6, **given)
    assert best.indices.tolist() == [[*range(35, 40), -1]] * 2
    assert fastclip.rank(torch.ones(2, 1), keys, torch.tensor([36, 0]), **given).tolist() == [1, 0]


def test_equal_scores_beside_an_excluded_key() -> None:
    """A group with an equal key is ahead if that is before the target, and counts itself."""
    keys = torch.tensor([1.0, 2, 2, 1, 1, 2, 1])[:, None]
    groups = torch.tensor([0, 0, 1, 2, 1, 3, 3])
    exclude = torch.tensor([[1, 2, 5, -1], [0, 1, 2, 5]])
    target = torch.full((2,), 3)
    beats = fastclip.group_beats(torch.ones(2, 1), keys, groups, target, exclude=exclude)
    assert beats.tolist() == [[1], [0]]


def test_long_lists_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """One query with many does not make a table as wide for all; all operations take the parts."""
    monkeypatch.setattr(filters, "_PADDED", 100)
    rows = torch.randn(40, 16)
    seen = torch.zeros(40, 40, dtype=torch.bool)
    seen[17], seen[5, 3] = True, True
    lists = scipy.sparse.csr_array(seen.numpy())
    column = filters.Exclude().check(lists, Sides(40, 40, 40, 16, rows.device))
    assert isinstance(column, filters._Lists)
    blocks = column.blocks()
    assert [i for rows in blocks for i in rows] == list(range(40))
    assert max(len(rows) for rows in blocks if 17 in rows) <= 3
    scores = fastclip.similarity(rows, rows).masked_fill(seen, -torch.inf)
    pairs = fastclip.pairs_above(rows, rows, 0.5, exclude=lists)
    assert torch.equal(pairs.to_dense(), scores.where(scores > 0.5, 0).triu(1))
    groups, targets = torch.arange(40) // 8, torch.arange(40) % 7
    best = fastclip.group_max(rows, rows, groups, exclude=lists)
    assert torch.equal(best.values, scores.view(40, 5, 8).amax(2))
    limits = fastclip.similarity(rows, rows).gather(1, targets[:, None])
    ahead = (scores > limits).view(40, 5, 8).any(2)
    beats = fastclip.group_beats(rows, rows, groups, targets, exclude=lists)
    assert torch.equal(beats[:, 0], (ahead.long() << torch.arange(5)).sum(1))


def test_large_groups_are_scored_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "_TABLE", 8)
    scores = torch.randn(6, 30)
    groups = torch.arange(30) % 7
    best = scores.argmax(1)
    found = fastclip.group_max(scores, torch.eye(30), groups, exclude=best)
    scores[torch.arange(6), best] = -torch.inf
    expected = torch.stack([scores[:, groups == g].max(1).values for g in range(7)], 1)
    assert torch.equal(found.values, expected)


@pytest.mark.parametrize("exclude", [None, torch.arange(9) * 3])
@pytest.mark.parametrize("allowed", [None, torch.arange(40) % 3 > 0])
def test_gradients(allowed: torch.Tensor | None, exclude: torch.Tensor | None) -> None:
    """Those of the same picked out of the matrix; nothing flows from what is missing."""
    if allowed is None and exclude is None:
        return
    rows = torch.randn(9, 16), torch.randn(40, 16)
    groups = torch.arange(40) // 5
    calls: list[Callable[..., Any]] = [
        lambda q, k, **f: fastclip.topk(q, k, 30, **f),
        lambda q, k, **f: fastclip.group_max(q, k, groups, **f),
    ]
    for call in calls:
        queries, keys = (x.clone().requires_grad_() for x in rows)
        best = call(queries, keys, allowed=allowed, exclude=exclude)
        there = best.indices >= 0
        weights = torch.randn(best.values.shape)
        (best.values[there] * weights[there]).sum().backward()
        found = queries.grad, keys.grad
        queries, keys = (x.clone().requires_grad_() for x in rows)
        picked = (queries @ keys.T).gather(1, best.indices.clamp(min=0))
        (picked * weights)[there].sum().backward()
        for one, other in zip(found, (queries.grad, keys.grad), strict=True):
            assert torch.allclose(one, other, atol=1e-5)


def test_forward_mode() -> None:
    """Scores are linear in the queries, so that their tangents along these are scores, too."""
    queries, keys = torch.randn(6, 16), torch.randn(30, 16)
    given = {"allowed": torch.arange(30) % 10 < 9, "exclude": (queries @ keys.T).topk(3).indices}
    calls: list[Callable[..., Any]] = [
        lambda x: fastclip.topk(x, keys, 5, **given).values,
        lambda x: fastclip.group_max(x, keys, torch.arange(30) // 3, **given).values,
    ]
    for call in calls:
        values, tangents = torch.func.jvp(call, (queries,), (queries,))
        assert torch.equal(values, call(queries))
        assert torch.allclose(values, tangents, atol=1e-5)


@pytest.mark.parametrize("gradient", [False, True])
def test_best_of_a_group_beyond_float32(gradient: bool) -> None:
    """Scores that are infinite, or -0, are those of a call without gradients."""
    queries = torch.tensor([[1e30], [2.0**-149]]).requires_grad_(gradient)
    keys = torch.tensor([[2e20], [-3e20], [-(2.0**-149)], [1e20]])
    groups = torch.tensor([0, 0, 1, 1])
    best = fastclip.group_max(queries, keys, groups, exclude=torch.tensor([[0, -1], [0, 3]]))
    assert best.indices.tolist() == [[1, 3], [1, 2]]
    expected = fastclip.similarity(queries, keys).gather(1, best.indices)
    assert reference.same_bits(best.values.detach(), expected.detach())
    if gradient:
        best.values.masked_fill(best.values.isinf(), 0).sum().backward()
        assert queries.grad is not None
        assert queries.grad.flatten().tolist() == [0, float(keys[1] + keys[2])]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"allowed": torch.ones(3)}, r"allowed: bool is needed, got float32; pass allowed\.to"),
        ({"allowed": np.ones(4, np.int64)}, r"allowed: bool .* got int64; pass allowed\.astype"),
        ({"allowed": np.ones(4, bool)}, r"allowed: shape \(3,\), a bool per key, .* got \(4,\)"),
        ({"exclude": torch.ones(2)}, r"exclude: integers or a sparse matrix .* got float32"),
        ({"exclude": torch.tensor([1])}, r"exclude: shape \(2,\) or \(2, m\).* got \(1,\)"),
        ({"exclude": torch.tensor([1, 3])}, r"exclude: must be from 0 to 2, .* -1 .* got 3"),
        ({"exclude": torch.tensor([1, -2])}, r"exclude: must be from 0 to 2, .* got -2"),
        ({"exclude": torch.eye(3).to_sparse()}, r"exclude: .* queries x keys, \(2, 3\), got \(3,"),
        ({"exclude": scipy.sparse.eye(2)}, r"exclude: .* queries x keys, \(2, 3\), got \(2, 2\)"),
        ({"allowed": [True] * 3}, "allowed: .* got list"),
        (
            {"allowed": np.ma.array([True] * 3, mask=[True] * 3)},
            r"allowed: a masked array .*filled",
        ),
        (
            {"exclude": torch.ones(2, 3) > 0},
            r"exclude: integers .* got bool; pass .*\.to_sparse\(\)",
        ),
        (
            {"exclude": np.ones((2, 3), bool)},
            r"got bool; pass torch\.from_numpy\(exclude\)\.to_spar",
        ),
        (
            {"exclude": np.array([2**64 - 1, 0], np.uint64)},
            r"exclude: .* to 2, .* got 18446744073709",
        ),
        ({"exclude": torch.eye(2).to_sparse(1)}, r"exclude: .* 2 dimensions, .* got .* 1 dense"),
        ({"exclude": torch.ones(2, 2, 3).to_sparse()}, r"exclude: .* must have 2 dimensions"),
        ({"exclude": scipy.sparse.bsr_array(np.ones((2, 3)))}, r"exclude: .* blocks .*toarray\(\)"),
    ],
)
def test_wrong_filters(given: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        fastclip.topk(torch.ones(2, 4), torch.ones(3, 4), 1, **given)


@pytest.mark.filterwarnings("ignore:Sparse")
def test_entries_of_blocks_are_not_taken_for_keys() -> None:
    matrix = torch.ones(2, 4).to_sparse_bsr((1, 2))
    with pytest.raises(
        TypeError, match=r"exclude: .* blocks .*exclude\.to_dense\(\)\.to_sparse\(\)"
    ):
        fastclip.topk(torch.ones(2, 4), torch.ones(4, 4), 1, exclude=matrix)


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "numbers.npy"
    np.save(path, np.ones(3, np.float32))
    for name, dtype in (("allowed", "bool"), ("exclude", "int64")):
        given: dict[str, Any] = {name: path}
        with pytest.raises(TypeError, match=rf"got float32; pass {name}\.astype\(np\.{dtype}\)"):
            fastclip.topk(torch.ones(3, 4), torch.ones(3, 4), 1, **given)


@pytest.mark.filterwarnings("error")
def test_memory_of_any_order() -> None:
    """Read-only, backwards, apart, and one number with the stride of the array it is from."""
    queries, keys = torch.ones(3, 1), torch.linspace(1, 0, 6)[:, None]
    mask = np.array([True, False, False, True, True, True])
    read_only = mask.copy()
    read_only.flags.writeable = False
    lists = np.array([[3, -1], [0, 4], [-1, 5]])
    for same in (read_only, mask[::-1].copy()[::-1], torch.from_numpy(mask.repeat(3))[::3]):
        for table in (lists, lists.T.copy().T, lists[::-1].copy()[::-1]):
            best = fastclip.topk(queries, keys, 2, allowed=same, exclude=table)
            assert best.indices.tolist() == [[0, 4], [3, 5], [0, 3]]
    one = mask[::-1][:1]
    assert fastclip.topk(queries, keys[:1], 1, allowed=one).indices.tolist() == [[0]] * 3


def test_lists_are_told_apart_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a job is known by: the keys of each query, not in which order or form they came."""
    sides = Sides(3, 9, 9, 4, torch.device("cpu"))

    def described(lists: Any) -> object:
        column = filters.Exclude().check(lists, sides)
        assert column is not None
        return column.described()

    first = described(np.array([[1, 2], [-1, 3], [4, 4]]))
    matrix = scipy.sparse.coo_array((np.ones(4), ([2, 1, 0, 0], [4, 3, 2, 1])), (3, 9))
    assert described(np.array([[2, 1, 2], [3, -1, 3], [-1, 4, -1]])) == first == described(matrix)
    monkeypatch.setattr(TUNING, "column_numbers", 4)
    assert described(np.array([[1, 2], [-1, 3], [4, 4]])) == first
    assert described(np.array([[1, -1], [2, 3], [4, 4]])) != first
    with pytest.raises(ValueError, match=r"exclude: .* got 9"):
        described(np.array([[1, 2], [-1, 3], [4, 9]]))


def test_no_filters_in_batches() -> None:
    queries, keys, groups = torch.randn(2, 3, 4), torch.randn(6, 4), torch.arange(6) // 2
    calls: list[Callable[..., Any]] = [
        lambda x: fastclip.topk(x, keys, 1, allowed=groups > 0).values,
        lambda x: fastclip.group_max(x, keys, groups, exclude=torch.arange(3)).values,
        torch.func.grad(lambda x: fastclip.topk(x, keys, 1, exclude=groups[:3]).values.sum()),
    ]
    for call in calls:
        with pytest.raises(NotImplementedError, match=r"allowed, exclude: .* torch\.func\.vmap"):
            torch.func.vmap(call)(queries)


def test_what_is_refused_with_filters() -> None:
    rows, mask = (torch.ones(2, 4), torch.ones(3, 4)), torch.ones(3, dtype=torch.bool)
    with pytest.raises(ValueError, match="return_survivors: is allowed only without allowed="):
        fastclip.topk(*rows, 1, allowed=mask, return_survivors=True)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="k: must be from 1 to the number of keys 3, got 4"):
        fastclip.topk(*rows, 4, allowed=mask)
    with pytest.raises(ValueError, match="keys: at least one row is needed"):
        fastclip.topk(rows[0], rows[1][:0], 1, allowed=mask[:0])


def test_rows_that_are_not_finite_have_their_own_numbers() -> None:
    queries, keys = torch.ones(2, 4), torch.ones(9, 4)
    keys[7, 1] = torch.nan
    mask = torch.arange(9) > 4
    with pytest.raises(ValueError, match="keys: row 7 holds NaN"):
        fastclip.topk(queries, keys, 1, allowed=mask)
