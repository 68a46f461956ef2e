from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from feature_errors import fails

from fastclip.data import (
    FeatureFileError,
    FeatureMetadata,
    open_rows,
    read_features,
)


def clip_retrieval(out: Path, kinds: dict[str, list[np.ndarray]], tables: list[dict]) -> None:
    width = len(str(len(tables)))  # int(log10(count)) + 1, as clip-retrieval pads
    for kind, shards in kinds.items():
        (out / kind).mkdir(parents=True)
        for i, shard in enumerate(shards):
            np.save(out / kind / f"{kind}_{i:0{width}}.npy", shard)
    (out / "metadata").mkdir()
    for i, table in enumerate(tables):
        pq.write_table(pa.table(table), out / "metadata" / f"metadata_{i:0{width}}.parquet")


def shard(i: int, rows: int) -> np.ndarray:
    return np.full((rows, 3), i, dtype=np.float16)


@pytest.fixture
def both(tmp_path):
    sizes = [i % 3 + 1 for i in range(12)]
    tables = [
        {
            "image_path": [f"{i}-{j}.jpg" for j in range(n)],
            "caption": [f"{i} {j}" for j in range(n)],
            "url": [None] * n,
        }
        for i, n in enumerate(sizes)
    ]
    kinds = {
        "img_emb": [shard(i, n) for i, n in enumerate(sizes)],
        "text_emb": [shard(-i, n) for i, n in enumerate(sizes)],
    }
    clip_retrieval(tmp_path / "out", kinds, tables)
    return tmp_path / "out", sizes


def test_clip_retrieval(both, monkeypatch):
    out, sizes = both
    fails(out, str(out / "img_emb"), str(out / "text_emb"))
    images, texts = read_features(out / "img_emb"), read_features(out / "text_emb")
    expected = np.repeat(np.arange(12), sizes)
    np.testing.assert_array_equal(images.features[:, 0].numpy(), expected)
    np.testing.assert_array_equal(texts.features[:, 2].numpy(), -expected)
    assert images.features.dtype == torch.float16
    assert images.names == tuple(f"{i}-{j}.jpg" for i, n in enumerate(sizes) for j in range(n))
    assert texts.names == tuple(f"{i} {j}" for i, n in enumerate(sizes) for j in range(n))
    assert images.metadata == FeatureMetadata()
    monkeypatch.chdir(out / "img_emb")
    assert read_features(".").names == images.names


def test_out_with_one_kind(tmp_path):
    clip_retrieval(tmp_path / "out", {"text_emb": [shard(0, 2)]}, [{"caption": ["a", "b"]}])
    assert read_features(tmp_path / "out").names == ("a", "b")


def test_unpadded_shards_are_in_numeric_order(tmp_path):
    for i in range(11):
        np.save(tmp_path / f"part_{i}.npy", shard(i, 1))
        pq.write_table(pa.table({"caption": [str(i)]}), tmp_path / f"metadata_{i}.parquet")
    features = read_features(tmp_path)
    assert features.features[:, 0].tolist() == [*range(11)]
    assert features.names == tuple(map(str, range(11)))


@pytest.mark.parametrize(
    ("columns", "name"),
    [
        (["image_path", "caption"], "caption"),
        (["caption", "name", "image_path"], "name"),
        (["name", "names"], "names"),
        (["url"], None),
    ],
)
def test_plain_folder_names(tmp_path, columns, name):
    np.save(tmp_path / "features.npy", shard(0, 1))
    pq.write_table(pa.table({c: [c] for c in columns}), tmp_path / "metadata.parquet")
    assert read_features(tmp_path).names == (None if name is None else (name,))


def test_folder_without_metadata(tmp_path):
    np.save(tmp_path / "features.npy", shard(0, 1))
    assert read_features(tmp_path).names is None


@pytest.mark.parametrize(
    "strings", [pa.array(["a", "b"], pa.large_string()), pa.array(["a", "b"]).dictionary_encode()]
)
def test_parquet_string_types(tmp_path, strings):
    clip_retrieval(tmp_path / "out", {"text_emb": [shard(0, 2)]}, [{"caption": strings}])
    assert read_features(tmp_path / "out").names == ("a", "b")


@pytest.mark.parametrize(
    ("shards", "tables", "where", "reason"),
    [
        ([shard(0, 2), shard(0, 2)[:, :2]], None, "text_emb_1.npy", "d = 2"),
        ([shard(0, 2), shard(0, 2).astype(np.float32)], None, "text_emb_1.npy", "torch.float32"),
        ([shard(0, 2), shard(0, 2)[0]], None, "text_emb_1.npy", "shape (3,)"),
        ([shard(0, 2), shard(0, 3)], None, "metadata_1.parquet", "2 rows, but its shard has 3"),
        ([shard(0, 2)], None, "text_emb", "do not pair up"),
        ([], None, "text_emb", "an empty folder, allowed: one with .npy or"),
        ([shard(0, 2)], [{"caption": ["a", None]}], "metadata_0.parquet", "null in row 1"),
        ([shard(0, 2)], [{"caption": [0.5, 1.5]}], "metadata_0.parquet", "'caption' is double"),
        (
            [shard(0, 2)] * 2,
            [{"caption": ["a", "b"]}, {"url": ["a", "b"]}],
            "metadata_1.parquet",
            "no column 'caption'",
        ),
    ],
)
def test_bad_folders(tmp_path, shards, tables, where, reason):
    tables = tables or [{"caption": ["a", "b"]}, {"caption": ["c", "d"]}]
    clip_retrieval(tmp_path / "out", {"text_emb": shards}, tables)
    with pytest.raises(FeatureFileError) as caught:
        read_features(tmp_path / "out" / "text_emb")
    path, message = str(caught.value).split(": ", 1)
    assert Path(path).name == where
    assert reason in message


@pytest.mark.parametrize("table", ["none", "null", "string"])
@pytest.mark.parametrize("array", ["none", "flat", "doubles", "floats"])
def test_a_partition_without_rows(tmp_path, array, table):
    tables = [{"image_path": [f"{i}.jpg"] * 2, "caption": ["x"] * 2} for i in range(3)]
    clip_retrieval(tmp_path / "out", {"img_emb": [shard(i, 2) for i in range(3)]}, tables)
    path = tmp_path / "out" / "img_emb" / "img_emb_1.npy"
    nothing = {"flat": np.empty(0), "doubles": np.empty((0, 3)), "floats": shard(0, 0)}
    path.unlink()
    if array != "none":
        np.save(path, nothing[array])
    path = tmp_path / "out" / "metadata" / "metadata_1.parquet"
    path.unlink()
    if table != "none":
        kind = pa.null() if table == "null" else pa.string()
        pq.write_table(pa.table({"image_path": pa.array([], kind)}), path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = read_features(tmp_path / "out")
        rows = open_rows(tmp_path / "out")
    assert found.names == ("0.jpg", "0.jpg", "2.jpg", "2.jpg")
    assert found.features[:, 0].tolist() == [0, 0, 2, 2]
    streamed = torch.empty(len(rows), rows.dim, dtype=rows.dtype)
    rows.read(0, streamed)
    assert torch.equal(streamed, found.features)
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == (2 if array == "none" else 0)
    for message in messages:
        assert "img_emb: 2 shards from 0 to 2, without 1: if these held rows, put" in message


def test_a_partition_without_text(tmp_path):
    tables = [{"caption": pa.nulls(2)}, {"caption": ["a", "b"]}]
    clip_retrieval(tmp_path / "out", {"text_emb": [shard(0, 2), shard(1, 2)]}, tables)
    with pytest.warns(UserWarning, match=r"metadata_0\.parquet: column 'caption' holds nothing"):
        assert read_features(tmp_path / "out").names == ("", "", "a", "b")


def test_all_partitions_without_rows(tmp_path):
    clip_retrieval(tmp_path / "out", {"img_emb": [np.empty(0)] * 2}, [{"image_path": []}] * 2)
    fails(tmp_path / "out", "img_emb_0.npy", "dtype float64")
    with pytest.raises(FeatureFileError, match=r"img_emb_0\.npy: has no row that tells how long"):
        open_rows(tmp_path / "out")


def test_numbers_that_are_times(tmp_path):
    for number in (20230101000000, 20231231235959):
        np.save(tmp_path / f"x_{number}.npy", shard(1, 2))
    with pytest.warns(UserWarning, match=r"without 20230101000001, 20230101000002, .*, \.\.\.: if"):
        assert len(read_features(tmp_path)) == 4


def test_parts_that_are_missing_by_their_names(tmp_path):
    column = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(6, np.float32)), 3)
    for name in ("train-00000-of-00003", "train-00002-of-00003"):
        pq.write_table(pa.table({"x": column}), tmp_path / f"{name}.parquet")
    with pytest.warns(UserWarning, match="2 of 3 files are there, as their names say"):
        assert len(open_rows(tmp_path)) == 4
    empty = pa.table({"x": pa.nulls(0)})
    pq.write_table(empty, tmp_path / "train-00001-of-00003.parquet")
    assert len(open_rows(tmp_path)) == 4


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ((), "an empty folder, allowed: one with .npy"),
        (("a.jpg", "b.txt"), "a folder of images without .npy"),
        (("0.tar",), "fastclip embed-images makes features"),
        (("x.bin", "y"), "it holds x.bin, y"),
    ],
)
def test_folders_that_hold_something_else(tmp_path, names, reason):
    for name in names:
        (tmp_path / name).write_bytes(b"")
    fails(tmp_path, reason)
    with pytest.raises(FeatureFileError, match=re.escape(reason)):
        open_rows(tmp_path)


def test_broken_parquet(both):
    out, _ = both
    path = out / "metadata" / "metadata_03.parquet"
    whole = path.read_bytes()
    for broken in (b"", b"PAR1", whole[:-9], b"x" * len(whole)):
        path.write_bytes(broken)
        with pytest.raises(FeatureFileError, match="metadata_03") as caught:
            read_features(out / "img_emb")
        assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (["a.npy", "b.npy"], "has no number"),
        (["a_1.npy", "b_1.npy"], "same number"),
        (["a_01.npy", "a_1.npy"], "same number"),
        (["img_emb_0.npy", "text_emb_1.npy"], "several kinds"),
    ],
)
def test_shards_without_an_order(tmp_path, files, reason):
    for name in files:
        np.save(tmp_path / name, shard(0, 1))
    fails(tmp_path, reason)


# ---- what is no feature file
