"""All kinds of feature files hold the same rows for whoever reads them, and lies are named."""

from __future__ import annotations

import json
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import damage
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

import fastclip
from fastclip.cli import app
from fastclip.data import FeatureFileError, Features, open_rows, read_features, write_features

pytestmark = pytest.mark.host
ROWS = np.random.default_rng(0).standard_normal((40, 8), np.float32)
NAMES = [f"name {i}" for i in range(40)]
TENSOR = torch.from_numpy(ROWS)


def table(rows: np.ndarray, first: int = 0, *, fixed: bool = True) -> pa.Table:
    flat = pa.array(rows.reshape(-1))
    if fixed:
        column = pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])
    else:
        column = pa.ListArray.from_arrays(np.arange(len(rows) + 1) * rows.shape[1], flat)
    return pa.table({"id": range(len(rows)), "x": column, "name": NAMES[first:][: len(rows)]})


def parquet_folder(path: Path) -> None:
    path.mkdir()
    for i, first in enumerate((0, 15)):
        rows = ROWS[first : first + 15] if i == 0 else ROWS[first:]
        pq.write_table(table(rows, first), path / f"part-{i:05}-of-00002.parquet")


def npy_folder(path: Path) -> None:
    path.mkdir()
    np.save(path / "x_0.npy", ROWS[:15])
    np.save(path / "x_1.npy", ROWS[15:])


KINDS: dict[str, tuple[Callable[[Path], object], bool]] = {
    "a.npy": (lambda path: np.save(path, ROWS), False),
    "a.npz": (lambda path: np.savez(path, x=ROWS, names=NAMES), True),
    "packed.npz": (lambda path: np.savez_compressed(path, x=ROWS), False),
    "a.safetensors": (lambda path: write_features(path, Features(TENSOR, NAMES)), True),
    "a.parquet": (lambda path: pq.write_table(table(ROWS), path, row_group_size=7), True),
    "lists.parquet": (lambda path: pq.write_table(table(ROWS, fixed=False), path), True),
    "a.pt": (lambda path: torch.save(TENSOR, path), False),
    "dict.pt": (lambda path: torch.save({"x": TENSOR, "names": NAMES, "epoch": 3}, path), True),
    "a.pth": (lambda path: torch.save(OrderedDict(x=torch.nn.Parameter(TENSOR)), path), False),
    "old.pt": (
        lambda path: torch.save(TENSOR, path, _use_new_zipfile_serialization=False),
        False,
    ),
    "columns.pt": (lambda path: torch.save(TENSOR.T.contiguous().T, path), False),
    "folder-of-npy": (npy_folder, False),
    "folder-of-parquet": (parquet_folder, True),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_reader_takes_every_kind(tmp_path: Path, name: str) -> None:
    write, named = KINDS[name]
    write(tmp_path / name)
    found = read_features(tmp_path / name)
    assert torch.equal(found.features, TENSOR)
    assert found.names == (tuple(NAMES) if named else None)
    rows = open_rows(tmp_path / name)
    for begin, end in ((0, 40), (13, 17), (39, 40)):
        part = torch.empty(end - begin, 8)
        rows.read(begin, part)
        assert torch.equal(part, TENSOR[begin:end])
    again = pickle.loads(pickle.dumps(rows))  # as workers of another process have it
    assert torch.equal(again.take(torch.tensor([3, 38])), TENSOR[[3, 38]])


@pytest.mark.parametrize("name", ["a.npz", "dict.pt", "a.parquet", "folder-of-parquet"])
def test_topk_and_sweep_answer_alike(tmp_path: Path, name: str) -> None:
    KINDS[name][0](tmp_path / name)
    queries = tmp_path / "queries.npy"
    np.save(queries, ROWS[:5])
    for source in (f"{tmp_path / name}", f"{tmp_path / name}:x"):
        best = CliRunner().invoke(
            app, ["topk", str(queries), source, "-k", "3", "--format", "json"]
        )
        assert best.exit_code == 0, best.stderr
        indices = [[m["key_index"] for m in q["matches"]] for q in json.loads(best.stdout)]
        output = tmp_path / f"out-{source[-1]}"
        arguments = ["sweep", "--op", "topk", "-k", "3", "--queries", queries, "--keys", source]
        swept = CliRunner().invoke(app, [*map(str, arguments), "-o", str(output)])
        assert swept.exit_code == 0, swept.stderr
        assert fastclip.sweep.read(output).indices.tolist() == indices
        assert [row[0] for row in indices] == list(range(5))


def test_urls_are_read_by_topk(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    url = f"file://{tmp_path}/a.npy"
    best = CliRunner().invoke(app, ["topk", url, url, "-k", "1", "--format", "csv"])
    assert best.exit_code == 0, best.stderr
    assert len(best.stdout.splitlines()) == 41


class Anything:
    """What a file must not bring into being."""


two = {"a": TENSOR, "b": TENSOR}
WRONG: dict[str, tuple[object, str]] = {
    "object.pt": (Anything(), "objects other than tensors, which are never loaded"),
    "model.pt": (torch.nn.Linear(2, 2), "objects other than tensors, which are never loaded"),
    "list.pt": ([TENSOR], "holds a list: save the tensor alone, or a dict of tensors"),
    "number.pt": (3, "holds a int: save the tensor alone"),
    "empty.pt": ({}, "no 2-D floating array; it holds no array"),
    "state.pt": ({"state_dict": {"x": TENSOR}}, "no 2-D floating array; it holds no array"),
    "two.pt": (two, "holds several 2-D floating arrays (a, b): name one by array=, or on the"),
    "flat.pt": ({"x": TENSOR[0]}, "no 2-D floating array; it holds x [8]"),
    "cube.pt": (TENSOR.view(2, 20, 8), "features has shape (2, 20, 8), allowed: [V, d]"),
    "double.pt": (TENSOR.double(), "features has dtype torch.float64, allowed: torch.float32"),
    "integer.pt": (TENSOR.long(), "features has dtype torch.int64"),
    "sparse.pt": (TENSOR.to_sparse(), "the tensor is sparse or quantised"),
    "names.pt": ({"x": TENSOR, "names": NAMES[:3]}, "'names' has 3 entries, allowed: 40"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", WRONG)
def test_torch_files_that_cannot_be_used(tmp_path: Path, name: str) -> None:
    content, message = WRONG[name]
    path = tmp_path / name
    torch.save(content, path)
    for read in (read_features, open_rows):
        with pytest.raises(FeatureFileError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert message in str(caught.value)
    result = CliRunner().invoke(app, ["topk", str(path), "coco"])
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1


def test_arrays_of_torch_files_by_name(tmp_path: Path) -> None:
    torch.save({"a": TENSOR, "b": TENSOR[:3]}, tmp_path / "two.pt")
    assert len(read_features(tmp_path / "two.pt", array="b")) == 3
    assert len(open_rows(tmp_path / "two.pt", array="b")) == 3
    with pytest.raises(FeatureFileError, match="no array 'c'; it holds a, b"):
        read_features(tmp_path / "two.pt", array="c")
    torch.save(TENSOR, tmp_path / "one.pt")
    with pytest.raises(FeatureFileError, match="no array 'a'; it holds one tensor without a name"):
        read_features(tmp_path / "one.pt", array="a")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("old", [False, True])
def test_damaged_torch_files(tmp_path: Path, old: bool) -> None:
    path = tmp_path / "a.pt"
    torch.save({"x": TENSOR, "names": NAMES}, path, _use_new_zipfile_serialization=not old)
    whole = path.read_bytes()
    refused = 0
    for content in damage.of_bytes(whole, 150):
        path.write_bytes(content)
        try:
            read_features(path)
        except FeatureFileError as error:
            refused += str(error).startswith(f"{path}: ")
    assert refused > 50


def test_tables_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    two = table(ROWS).append_column("y", table(ROWS)["x"])
    ragged = pa.table({"x": [[1.0, 2.0], [3.0]]})
    for content, message in (
        (two, "several 2-D floating arrays (x, y)"),
        (pa.table({"name": NAMES}), "no 2-D floating array"),
        (ragged, "holds lists of double, allowed: float, halffloat"),
        (ragged.cast(pa.schema({"x": pa.list_(pa.float32())})), "lists of [1, 2] numbers"),
        (pa.table({"x": table(ROWS)["x"], "name": list(range(40))}), "'name' is int64"),
    ):
        pq.write_table(content, path)
        with pytest.raises(FeatureFileError) as caught:
            read_features(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert message in str(caught.value)
    pq.write_table(two, path)
    assert torch.equal(read_features(path, array="y").features, TENSOR)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("a.csv", "of texts or paths, of which fastclip embed-texts or embed-images make features"),
        ("a.tsv.gz", "of texts or paths"),
        ("a.jpg", "of images, of which fastclip embed-images makes features"),
        ("a.tar", "of images"),
        ("a.bin", "not a feature file, allowed: .safetensors, .npy, .npz, .pt, .parquet, or a"),
    ],
)
def test_files_of_something_else_say_what_makes_features(
    tmp_path: Path, name: str, what: str
) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(FeatureFileError) as caught:
        read_features(tmp_path / name)
    assert what in str(caught.value)
