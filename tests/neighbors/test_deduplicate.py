from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fastclip
from fastclip.neighbors import deduplicate, to_scipy


def step_by_step(rows: np.ndarray, threshold: float) -> list[int]:
    unit = torch.nn.functional.normalize(torch.from_numpy(rows).double(), dim=1).float()
    scores = fastclip.similarity(unit, unit)
    kept: list[int] = []
    stands_for = []
    for row in range(len(rows)):
        alike = [other for other in kept if scores[other, row] > threshold]
        stands_for.append(alike[0] if alike else row)
        if not alike:
            kept.append(row)
    return stands_for


@given(
    count=st.integers(0, 40),
    width=st.integers(2, 5),
    threshold=st.floats(-1, 0.999),
    seed=st.integers(0, 2**31),
)
def test_goes_through_the_rows_in_order(
    count: int, width: int, threshold: float, seed: int
) -> None:
    rows = np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)
    found = deduplicate(rows, threshold)
    expected = step_by_step(rows, threshold)
    assert found.stands_for.tolist() == expected
    assert found.kept.tolist() == sorted(set(expected))
    in_groups = [row for group in found.groups for row in group.tolist()]
    assert all(group.tolist() == sorted(group.tolist()) for group in found.groups)
    assert [int(group[0]) for group in found.groups] == [
        row for row in found.kept.tolist() if expected.count(row) > 1
    ]
    assert sorted(in_groups) == [row for row in range(count) if expected.count(expected[row]) > 1]


def test_chains_do_not_reach_beyond_a_row_that_is_kept() -> None:
    """Each is like the one before, and no other: the first stands for the second alone."""
    angles = torch.arange(5) * 0.2
    rows = torch.stack([angles.cos(), angles.sin()], 1)
    found = fastclip.data.deduplicate(rows, float(torch.tensor(0.3).cos()))
    assert found.kept.tolist() == [0, 2, 4]
    assert [group.tolist() for group in found.groups] == [[0, 1], [2, 3]]
    # the middle first: it stands for both ends, though these are not alike
    found = fastclip.data.deduplicate(rows[[1, 0, 2]], float(torch.tensor(0.3).cos()))
    assert found.stands_for.tolist() == [0, 0, 0]
    # of two that could stand for a row, the earlier does
    found = fastclip.data.deduplicate(rows[[0, 2, 1]], float(torch.tensor(0.3).cos()))
    assert found.stands_for.tolist() == [0, 1, 0]


def test_lengths_do_not_count() -> None:
    rows = torch.tensor([[1.0, 2.0], [3.0, 6.0], [2.0, 1.0]], dtype=torch.float16)
    assert deduplicate(rows, 0.999).stands_for.tolist() == [0, 0, 2]


def test_real_names(real_data: Path) -> None:
    """Names that two vocabularies share, in any case, have nearly equal features."""
    files = [
        np.load(real_data / "clip_features" / f"text_vitb32_{name}.npz")
        for name in ("lvis", "objects365", "openimages")
    ]
    names = np.char.lower(np.concatenate([file["names"] for file in files]))
    rows = np.concatenate([file["text_features"] for file in files])
    found = deduplicate(rows, 0.9999)
    again = {name: row for row, name in reversed(list(enumerate(names.tolist())))}
    repeats = [row for row, name in enumerate(names.tolist()) if again[name] != row]
    assert len(repeats) > 100
    assert all(int(found.stands_for[row]) == again[names[row]] for row in repeats)
    assert all(len({*names[group].tolist()}) == 1 for group in found.groups)
    assert len(deduplicate(rows[found.kept.numpy()], 0.9999).kept) == len(found.kept)


@pytest.mark.parametrize(
    ("rows", "threshold", "error", "message"),
    [
        (torch.zeros(2, 3), 0.9, ValueError, "features: row 0 is zero"),
        (torch.eye(2) * torch.nan, 0.9, ValueError, "features: row 0 holds a NaN"),
        (torch.eye(2), 1, ValueError, "threshold: from -1 to below 1 is allowed, got 1"),
        (torch.eye(2), "much", TypeError, "threshold: a number is needed"),
        ([[1.0]], 0.9, TypeError, "features: a torch tensor, NumPy array"),
        (np.eye(2), 0.9, TypeError, "features: float32, .* pass features.astype"),
    ],
)
def test_names_the_wrong_argument(
    rows: object, threshold: float, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        deduplicate(rows, threshold)


def test_pairs_as_scipy() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    queries, keys = torch.randn(9, 4), torch.randn(12, 4)
    pairs = fastclip.pairs_above(queries, keys, 0.5)
    found = to_scipy(pairs)
    assert isinstance(found, sparse.csr_array)
    assert np.array_equal(found.toarray(), pairs.to_dense().numpy())
    of_one = fastclip.pairs_above(keys, keys, 0.5)
    assert np.array_equal(to_scipy(of_one).toarray(), of_one.to_dense().numpy())
    both = to_scipy(of_one, symmetric=True)
    dense = of_one.to_dense()
    assert np.array_equal(both.toarray(), (dense + dense.T).numpy())
    assert both.has_sorted_indices
    assert to_scipy(fastclip.pairs_above(queries[:0], keys, 0.5)).shape == (0, 12)
    with pytest.raises(ValueError, match="symmetric: pairs of one set are needed"):
        to_scipy(fastclip.pairs_above(keys, keys.clone(), 0.5), symmetric=True)
    with pytest.raises(ValueError, match="symmetric: pairs of one set are needed"):
        to_scipy(fastclip.pairs_above(queries, keys, 1e9), symmetric=True)
    for wrong in (keys, keys.numpy()):
        with pytest.raises(TypeError, match="pairs: the sparse CSR tensor of pairs_above"):
            to_scipy(wrong)
