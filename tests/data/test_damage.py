"""Damaged feature files give the same numbers or a FeatureFileError, and all readers agree."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeAlias

import damage
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import fastclip
from fastclip.data import (
    FeatureFileError,
    FeatureMetadata,
    Features,
    open_rows,
    read_features,
    write_features,
)
from fastclip.data.job import Job, Unreadable, open_job

pytestmark = pytest.mark.host

ROWS = np.arange(1, 13, dtype=np.float32).reshape(4, 3)
NAMES = ("cat", "dog", "zébra", "")

Found: TypeAlias = "tuple[bytes, tuple[int, ...], torch.dtype] | None"
"""Bits, shape and dtype; None for a FeatureFileError that names the file."""


def write(path: Path, named: bool = False) -> bytes:
    if path.suffix == ".safetensors":
        metadata = FeatureMetadata("model", "weights", "a {}", normalized=True)
        names = NAMES if named else None
        write_features(path, Features(torch.from_numpy(ROWS), names, metadata))
    elif path.suffix == ".npy":
        np.save(path, ROWS)
    elif path.suffix == ".npz":
        np.savez_compressed(path, x=ROWS, names=NAMES)
    return path.read_bytes()


def found_by(read: Callable[[Path], torch.Tensor], path: Path) -> Found:
    try:
        rows = read(path)
    except FeatureFileError as error:
        if not str(error).startswith(f"{path}: "):
            raise
        return None
    return rows.contiguous().view(torch.uint8).numpy().tobytes(), tuple(rows.shape), rows.dtype


def in_memory(path: Path) -> Found:
    return found_by(lambda path: read_features(path).features, path)


def streamed(path: Path) -> Found:
    def read(path: Path) -> torch.Tensor:
        opened = open_rows(path)
        rows = torch.empty(len(opened), opened.dim, dtype=opened.dtype)
        opened.read(0, rows)
        return rows

    return found_by(read, path)


@pytest.mark.filterwarnings("ignore")  # of Python's parser, about what is no number
@pytest.mark.parametrize(
    ("suffix", "damaged"), [(".safetensors", damage.of_safetensors), (".npy", damage.of_npy)]
)
def test_headers_that_lie(
    tmp_path: Path, suffix: str, damaged: Callable[[bytes], Iterator[bytes]]
) -> None:
    path = tmp_path / f"a{suffix}"
    whole = write(path)
    right = in_memory(path)
    assert right == streamed(path) is not None
    refused = 0
    for content in damaged(whole):
        path.write_bytes(content)
        found = streamed(path)
        refused += found is None
        assert found in (None, right), content[:500]
        if b"'fortran_order': True" not in content:  # which may be true
            assert in_memory(path) == found, content[:500]
    assert refused > 50


@pytest.mark.parametrize("shape", [["9" * 4300] * 4000, ["1" + "0" * 30, "0"], ["1"] * 65])
def test_shapes_beyond_all_bounds(tmp_path: Path, shape: list[str]) -> None:
    """At once: the product of the first one would take minutes."""
    tensor = f'{{"dtype":"F32","shape":[{",".join(shape)}],"data_offsets":[0,0]}}'
    header = f'{{"features":{tensor}}}'.encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    for read in (fastclip.data.open_rows, fastclip.data.read_features):
        with pytest.raises(FeatureFileError):
            read(path)


def test_headers_that_lie_about_names(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    whole = write(path, named=True)
    right = in_memory(path)
    for content in damage.of_safetensors(whole):
        path.write_bytes(content)
        if in_memory(path) is not None:
            assert in_memory(path) == streamed(path) == right
            assert read_features(path).names in (NAMES, None)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", [".safetensors", ".npy"])
def test_damaged_bytes(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    whole = write(path)
    right = in_memory(path)
    for content in damage.of_bytes(whole, 700):
        path.write_bytes(content)
        found = streamed(path)
        if found is not None or suffix != ".npy":  # which may go column by column
            assert in_memory(path) == found
        if found is not None and content.endswith(ROWS.tobytes()):
            assert found == right


@pytest.mark.parametrize(
    "compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_npz_has_checksums(tmp_path: Path, compression: int) -> None:
    path = tmp_path / "a.npz"
    np.savez(tmp_path / "plain.npz", x=ROWS, names=NAMES)
    with zipfile.ZipFile(tmp_path / "plain.npz") as plain, zipfile.ZipFile(path, "w") as archive:
        for name in plain.namelist():
            archive.writestr(name, plain.read(name), compression)
    right = in_memory(path)
    assert right is not None
    whole = path.read_bytes()
    for content in (*damage.of_bytes(whole, 300), *damage.every_flip(whole, 2)):
        path.write_bytes(content)
        assert in_memory(path) in (None, right)


@pytest.mark.parametrize("checksums", [False, True])
def test_damaged_parquet(tmp_path: Path, checksums: bool) -> None:
    path = tmp_path / "a.parquet"
    rows = np.tile(ROWS, (20, 1))
    column = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), 3)
    pq.write_table(
        pa.table({"x": column}), path, use_dictionary=False, write_page_checksum=checksums
    )
    whole = path.read_bytes()
    right = streamed(path)
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for content in damage.of_bytes(whole, 700):
        path.write_bytes(content)
        found = streamed(path)
        if checksums and content.endswith(whole[footer:]):  # which has none
            assert found in (None, right)


def test_damaged_packed_keys(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    fastclip.pack(torch.from_numpy(ROWS)).save(path)
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    right = torch.from_numpy(ROWS)
    refused = 0
    for content in (*damage.of_safetensors(whole), *damage.of_bytes(whole, 500)):
        path.write_bytes(content)
        try:
            rows = fastclip.PackedKeys.load(path).rows
        except FeatureFileError:
            refused += 1
        else:  # nothing but the header is read
            assert torch.equal(rows, right) or not content.endswith(whole[start:])
    assert refused > 1000


def test_damaged_folder_of_an_embedding_job(tmp_path: Path) -> None:
    skipped = Unreadable(1, "b.jpg", "not an image")

    def job() -> AbstractContextManager[Job]:
        return open_job(tmp_path / "out", "img_emb", 3, 2, {"model": "m"})

    with job() as first:
        first.write(0, ROWS[:1], {"image_path": ["a.jpg"]}, [skipped])
        first.write(1, ROWS[1:2], {"image_path": ["c.jpg"]})
        first.list_unreadable()
    right = in_memory(tmp_path / "out" / "img_emb")
    assert right is not None
    for name in ("job.json", "shards/shard_00000.json"):
        path = tmp_path / "out" / name
        content = path.read_bytes()
        remade = 0
        damaged = (*[*damage.of_json(content)][::3], *damage.of_bytes(content, 30), content)
        files = {file: file.read_bytes() for file in path.parent.parent.rglob("*_00000.*")}
        for text in damaged:
            path.write_bytes(text)
            assert in_memory(tmp_path / "out" / "img_emb") in (None, right)
            try:
                with job() as again:
                    if again.pending:
                        assert again.damaged == again.pending == [0]
                        remade += 1
                    else:
                        assert (again.rows, again.unreadable) == (2, [skipped])
            except ValueError as error:
                if name != "job.json" or str(tmp_path / "out") not in str(error):
                    raise
            for file, whole in files.items():
                file.write_bytes(whole)
        assert remade > 20 or name == "job.json"
        path.write_bytes(content)
