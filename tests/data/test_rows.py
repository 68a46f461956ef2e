from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastclip.data import FeatureFileError, FeatureMetadata, Features, open_rows, write_features

pytestmark = pytest.mark.host

V, D = 500, 6


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((V, D)).astype(np.float16)


def lists(rows, kind):
    flat = pa.array(rows.reshape(-1))
    if kind == "fixed":
        return pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])
    offsets = np.arange(len(rows) + 1) * rows.shape[1]
    if kind == "list":
        return pa.ListArray.from_arrays(offsets.astype(np.int32), flat)
    return pa.LargeListArray.from_arrays(offsets, flat)


def write_parquet(path, column, row_group_size=70) -> None:
    table = pa.table({"name": ["x"] * len(column), "embedding": column})
    pq.write_table(table, path, row_group_size=row_group_size)


@pytest.fixture(scope="module")
def sources(rows, tmp_path_factory):
    """The same rows in every form, float16 or float32."""
    folder = tmp_path_factory.mktemp("rows")
    np.save(folder / "a.npy", rows)
    tensor = torch.from_numpy(rows)
    write_features(folder / "a.safetensors", Features(tensor, [str(i) for i in range(V)]))
    found = {"npy": folder / "a.npy", "safetensors": folder / "a.safetensors"}
    for kind in ("fixed", "list", "large list"):
        found[kind] = folder / f"{kind}.parquet"
        write_parquet(found[kind], lists(rows.astype(np.float32), kind))
    found["halffloat"] = folder / "half.parquet"
    write_parquet(found["halffloat"], lists(rows, "fixed"))
    for name, suffix in (("shards", "npy"), ("tables", "parquet")):
        found[name] = folder / name
        found[name].mkdir()
        for number, shard in enumerate(np.array_split(rows, [0, 130, 131, 400])):
            path = found[name] / f"part_{number}.{suffix}"
            if suffix == "npy":
                np.save(path, shard)
            else:
                write_parquet(path, lists(shard, "fixed"))
    return found


KINDS = "npy", "safetensors", "fixed", "list", "large list", "halffloat", "shards", "tables"


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_ranges_in_any_order(kind, sources, rows, data):
    opened = open_rows(sources[kind])
    assert (len(opened), opened.dim) == (V, D)
    expected = torch.from_numpy(rows).to(opened.dtype)
    for _ in range(data.draw(st.integers(1, 6))):
        begin = data.draw(st.integers(0, V))
        part = torch.empty(data.draw(st.integers(0, V - begin)), D, dtype=opened.dtype)
        opened.read(begin, part)
        assert torch.equal(part, expected[begin : begin + len(part)])
    indices = torch.tensor(
        data.draw(st.lists(st.integers(0, V - 1), max_size=9)), dtype=torch.int64
    )
    assert torch.equal(opened.take(indices), expected[indices])


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_unit_length(kind, sources, rows):
    opened = open_rows(sources[kind], normalize=True)
    assert opened.dtype == torch.float32
    part = torch.empty(333, D)
    opened.read(100, part)
    unit = Features(torch.from_numpy(rows)).normalized().features
    assert torch.equal(part, unit[100:433])


def test_rows_known_to_have_unit_length_stay_as_they_are(rows, tmp_path):
    path = tmp_path / "a.safetensors"
    known = FeatureMetadata(normalized=True)
    write_features(path, Features(torch.from_numpy(rows), metadata=known))
    opened = open_rows(path, normalize=True)
    assert opened.dtype == torch.float16
    assert torch.equal(opened.take(torch.arange(V)), torch.from_numpy(rows))


def test_far_rows_are_not_read_along(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.arange(40_000, dtype=np.float32).reshape(10_000, 4))
    opened = open_rows(tmp_path / "a.npy")
    monkeypatch.setattr("fastclip.data.rows._GAP", 1600)  # a hundred rows
    read, ranges = opened.read, []
    monkeypatch.setattr(
        opened, "read", lambda begin, out: (ranges.append((begin, len(out))), read(begin, out))
    )
    found = opened.take(torch.tensor([9000, 5, 50, 9001, 5]))
    assert ranges == [(5, 46), (9000, 2)]
    assert found[:, 0].tolist() == [36000, 20, 200, 36004, 20]


def broken(folder, what):
    """Make a source that cannot be used."""
    path = folder / "x.npy"
    if what == "columns":
        np.save(path, np.asfortranarray(np.ones((3, 2), np.float32)))
    elif what == "1-D":
        np.save(path, np.ones(3, np.float32))
    elif what == "float64":
        np.save(path, np.ones((3, 2)))
    elif what == "pickle":
        np.save(path, np.array([{}, {}]), allow_pickle=True)
    elif what == "zip":
        path = folder / "x.zip"
        path.write_bytes(b"PK")
    elif what == "short":
        np.save(path, np.ones((3, 2), np.float32))
        path.write_bytes(path.read_bytes()[:-1])
    elif what == "header":
        path = folder / "x.safetensors"
        path.write_bytes((2**40).to_bytes(8, "little"))
    elif what == "two widths":
        for number, width in enumerate((2, 3)):
            np.save(folder / f"x_{number}.npy", np.ones((3, width), np.float32))
        path = folder
    elif what == "empty":
        path = folder / "empty"
        path.mkdir()
    else:
        path = folder / "x.parquet"
        column = {
            "no parquet": None,
            "ints": pa.array([[1, 2]]),
            "doubles": pa.array([[1.0, 2.0]]),
            "ragged": pa.array([[1.0, 2.0], [1.0]], pa.list_(pa.float32())),
            "null": pa.array([[1.0, None]], pa.list_(pa.float32(), 2)),
            "null list": pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2)),
        }[what]
        path.write_bytes(b"PAR") if column is None else write_parquet(path, column)
    return path


def read_all(path):
    opened = open_rows(path)
    opened.read(0, torch.empty(len(opened), opened.dim, dtype=opened.dtype))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("columns", "stored column by column, allowed: row by row"),
        ("1-D", r"shape \(3,\), allowed: \[V, d\]"),
        ("float64", "dtype float64, allowed: float32, float16"),
        ("pickle", "pickled objects, which are never loaded"),
        ("zip", "cannot be streamed, allowed: .npy, .safetensors, .parquet, .npz and .pt"),
        ("short", r"ends after \d+ bytes, \d+ are needed: it is damaged"),
        ("header", "its header is longer than the file"),
        ("two widths", "d = 3, torch.float32, but the first shard has d = 2"),
        ("empty", "an empty folder, allowed: one with .npy or .parquet files"),
        ("no parquet", "x.parquet: "),
        ("ints", "no 2-D floating array; it holds embedding"),
        ("doubles", "holds lists of double, allowed: float, halffloat"),
        ("ragged", r"lists of \[1, 2\] numbers, allowed: one length"),
        ("null", "has a null, allowed: numbers"),
        # The latter says pyarrow 25.
        ("null list", "has a null, allowed: numbers|Expected all lists to be of size=2"),
    ],
)
def test_errors(what, message, tmp_path):
    path = broken(tmp_path, what)
    with pytest.raises(FeatureFileError, match=message) as error:
        read_all(path)
    assert str(tmp_path) in str(error.value)


def test_a_row_without_unit_length(tmp_path):
    rows = np.ones((700, 2), np.float32)
    rows[600] = 0
    np.save(tmp_path / "a.npy", rows)
    opened = open_rows(tmp_path / "a.npy", normalize=True)
    with pytest.raises(FeatureFileError, match=r"a\.npy: features: row 600 is zero"):
        opened.read(500, torch.empty(200, 2))
