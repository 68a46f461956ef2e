"""Images inside parquet files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tiny_encoder import TinyEncoder

from fastclip.data import (
    HardPositiveItem,
    embed_images,
    find_captioned_images,
    find_images,
    find_item_images,
    read_features,
)

pytestmark = pytest.mark.host


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 30, 3), dtype=np.uint8)
    packed = io.BytesIO()
    Image.fromarray(pixels).save(packed, "PNG")
    return packed.getvalue()


PICTURES = [picture(i) for i in range(10)]
STRUCT = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def hugging_face(first: int, last: int, **more: object) -> pa.Table:
    """As `datasets` writes a column of images."""
    rows = [{"bytes": PICTURES[i], "path": f"{i}.png"} for i in range(first, last)]
    captions = [f"picture {i}" for i in range(first, last)]
    columns = {"image": pa.array(rows, STRUCT), "text": captions, **more}
    return pa.table({name: column for name, column in columns.items() if column is not None})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The layout of a repository of the Hub."""
    data = tmp_path / "repository" / "data"
    data.mkdir(parents=True)
    (tmp_path / "repository" / "README.md").write_text("a card")
    pq.write_table(hugging_face(0, 7), data / "train-00000-of-00002.parquet", row_group_size=3)
    pq.write_table(hugging_face(7, 10), data / "train-00001-of-00002.parquet", row_group_size=2)
    return tmp_path


def test_folder_pattern_and_file(folder: Path) -> None:
    repository = folder / "repository"
    for source in (repository, f"{repository}/data/*.parquet"):
        found = find_images(source)
        inside = "data/" if source == repository else ""
        expected = [f"{inside}train-0000{int(i > 6)}-of-00002/{i}.png" for i in range(10)]
        assert list(found.names) == expected
        for i in (0, 1, 2, 9, 3, 8, 4, 0, *range(10)):  # in any order
            assert found.read(i) == PICTURES[i]
        assert found.has_captions
        assert [found.caption(i) for i in range(10)] == [f"picture {i}" for i in range(10)]
    one = find_images(repository / "data" / "train-00001-of-00002.parquet")
    assert list(one.names) == ["7.png", "8.png", "9.png"]
    assert one.read(2) == PICTURES[9]


def test_plain_bytes_and_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    for kind in (pa.binary(), pa.large_binary()):
        other = pa.array(PICTURES[5:8], pa.binary())
        pq.write_table(pa.table({"id": [1, 2, 3], "jpg": pa.array(PICTURES[:3], kind)}), path)
        found = find_images(path)
        assert list(found.names) == ["000000", "000001", "000002"]
        assert [found.read(i) for i in range(3)] == PICTURES[:3]
        assert not found.has_captions
    pq.write_table(pa.table({"jpg": pa.array(PICTURES[:3]), "mask": other}), path)
    with pytest.raises(ValueError, match="several columns of images: jpg, mask: choose one by"):
        find_images(path)
    assert find_images(path, column="mask").read(0) == PICTURES[5]
    with pytest.raises(ValueError, match="column is 'png', allowed: jpg, mask"):
        find_images(path, column="png")


def test_they_are_embedded_like_files(folder: Path) -> None:
    files = folder / "files"
    files.mkdir()
    for i, data in enumerate(PICTURES):
        (files / f"{i}.png").write_bytes(data)
    model = TinyEncoder()
    summary = embed_images(
        folder / "repository", model, folder / "a", batch_size=4, shard_size=6, workers=3
    )
    assert (summary.rows, summary.unreadable) == (10, ())
    embed_images(files, model, folder / "b", batch_size=4, shard_size=6)
    found, expected = read_features(folder / "a"), read_features(folder / "b")
    assert found.features.tolist() == expected.features.tolist()
    captioned = find_captioned_images(folder / "repository")
    assert captioned.captions[3] == "picture 3"
    item = HardPositiveItem("8.png", "a caption", (), ("another",))
    assert find_item_images([item], folder / "repository").source.read(0) == PICTURES[8]


def test_rows_without_an_image(tmp_path: Path) -> None:
    """They are told from others one by one; a path without bytes is that of a file beside."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "beside.png").write_bytes(PICTURES[1])
    rows = [
        {"bytes": PICTURES[0], "path": None},
        {"bytes": None, "path": "beside.png"},
        {"bytes": None, "path": "absent.png"},
        None,
        {"bytes": b"no image", "path": "bad.png"},
    ]
    pq.write_table(pa.table({"image": pa.array(rows, STRUCT)}), tmp_path / "data" / "a.parquet")
    summary = embed_images(tmp_path / "data" / "a.parquet", TinyEncoder(), tmp_path / "out")
    assert read_features(tmp_path / "out").names == ("000000", "beside.png")
    reasons = {entry.name: entry.reason for entry in summary.unreadable}
    assert list(reasons) == ["absent.png", "000003", "bad.png"]
    assert reasons["absent.png"].startswith(
        "row 2 of a.parquet holds no image, nor is there a file"
    )
    assert reasons["000003"] == "row 3 of a.parquet holds no image"


def test_errors(folder: Path) -> None:
    path = folder / "a.parquet"
    pq.write_table(pa.table({"caption": ["a"], "x": [[1.0]]}), path)
    with pytest.raises(ValueError, match=r"a\.parquet: no column of images.*it holds caption, x"):
        find_images(path)
    path.write_bytes(b"PAR1 no")
    with pytest.raises(ValueError, match=r"a\.parquet: "):
        find_images(path)
    data = folder / "repository" / "data"
    found = find_images(folder / "repository")
    pq.write_table(hugging_face(0, 6), data / "train-00000-of-00002.parquet")
    with pytest.raises(OSError, match="has changed since it was listed"):
        found.read(0)
    (data / "train-00001-of-00002.parquet").unlink()
    with pytest.warns(UserWarning, match="1 of 2 files are there, as their names say"):
        find_images(folder / "repository")
    (data / "x.tar").write_bytes(b"")
    with pytest.raises(ValueError, match="only tar files, only parquet files, or neither"):
        find_images(f"{data}/*")
    Image.new("RGB", (3, 3)).save(data / "x.png")
    assert find_images(folder / "repository").names == ("data/x.png",)  # as it was before
