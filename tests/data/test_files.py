"""Writes that are whole or nothing, and what a feature file must never hold or do."""

import io
import os
import resource
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from fastclip.data import (
    FeatureFileError,
    FeatureMetadata,
    Features,
    read_features,
    write_features,
)
from fastclip.data.files import remove_unfinished, replacing, sink

ERRORS = [OSError("disk full"), ValueError("no"), KeyboardInterrupt(), SystemExit(1)]


# ---- replacing


@pytest.mark.parametrize("before", [b"old", None], ids=["old-file", "no-file"])
def test_success_takes_the_place(tmp_path, before):
    path = tmp_path / "a"
    if before is not None:
        path.write_bytes(before)
    with replacing(path) as part:
        assert part.parent == tmp_path  # a rename is atomic inside one file system only
        part.write_bytes(b"new")
        assert (path.read_bytes() if path.exists() else None) == before
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("before", [b"old", None], ids=["old-file", "no-file"])
@pytest.mark.parametrize("written", [b"half", None], ids=["half-written", "not-begun"])
def test_failure_changes_nothing(tmp_path, error, before, written):
    path = tmp_path / "a"
    if before is not None:
        path.write_bytes(before)

    def write():
        with replacing(path) as part:
            if written is not None:
                part.write_bytes(written)
            raise error

    with pytest.raises(type(error)) as caught:
        write()
    assert caught.value is error
    assert [file.read_bytes() for file in tmp_path.iterdir()] == ([before] if before else [])


def test_failed_rename_changes_nothing(tmp_path):
    path = tmp_path / "a"
    path.mkdir()
    (path / "b").write_bytes(b"old")
    with pytest.raises(OSError, match="directory"), replacing(path) as part:
        part.write_bytes(b"new")
    assert list(tmp_path.iterdir()) == [path]
    assert (path / "b").read_bytes() == b"old"


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a"):
        pass
    assert (tmp_path / "a").read_bytes() == b"old"


@contextmanager
def limited_disk(size: int) -> Iterator[None]:
    """Let no file grow beyond a size: the error of a full disk, but for its number."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_by_torch(path: Path) -> None:
    with sink(path) as file:
        torch.save({"a": torch.ones(100_000)}, file)


def write_by_numpy(path: Path) -> None:
    with sink(path) as file:
        np.save(file, np.ones(100_000))


def write_by_hand(path: Path) -> None:
    with replacing(path) as part, open(part, "xb") as file:
        file.write(b"1" * 100_000)


@pytest.mark.parametrize("write", [write_by_torch, write_by_numpy, write_by_hand])
def test_a_full_disk_is_named_with_the_file(tmp_path: Path, write) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    for size in (0, 10, 50_000):
        with limited_disk(size), pytest.raises(OSError, match="File too large") as caught:
            write(path)
        assert caught.value.filename == str(path)
        assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]
    write(path)
    assert path.stat().st_size > 50_000


def test_what_a_sink_gets_is_what_a_file_gets(tmp_path: Path) -> None:
    with sink(tmp_path / "a.npy") as file:
        np.save(file, np.arange(12.0).reshape(3, 4).T)
    assert np.load(tmp_path / "a.npy").tolist() == np.arange(12.0).reshape(3, 4).T.tolist()
    with pytest.raises(ValueError, match="no"), sink(tmp_path / "a.npy"):
        raise ValueError("no")
    assert list(tmp_path.iterdir()) == [tmp_path / "a.npy"]


def test_files_are_on_the_disk_before_they_appear(tmp_path, monkeypatch):
    seen = []
    real = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (seen.append("fsync"), real[0](number)))
    monkeypatch.setattr(os, "replace", lambda *paths: (seen.append("replace"), real[1](*paths)))
    with replacing(tmp_path / "a") as part:
        part.write_bytes(b"new")
    assert seen == ["fsync", "replace"]


def test_leftovers_of_a_killed_process_are_removed_and_no_other_file(tmp_path):
    with replacing(tmp_path / "a.csv") as part:
        part.write_bytes(b"new")
        left = part.name
    others = {"a.csv", ".notes.tmp", ".a.csv.tmp", ".a.csv.0123456z.tmp", "a.0123abcd.tmp"}
    for name in (left, *others):
        (tmp_path / name).write_bytes(b"x")
    remove_unfinished(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == others


def test_two_writers_of_one_file(tmp_path):
    path = tmp_path / "a"
    with replacing(path) as first, replacing(path) as second:
        first.write_bytes(b"1" * 100)
        second.write_bytes(b"2")
    assert path.read_bytes() == b"1" * 100  # the last to finish, and none of the other
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=oct)
def test_mode_follows_the_umask(tmp_path, umask):
    path = tmp_path / "a.safetensors"
    before = os.umask(umask)
    try:
        write_features(path, Features(torch.ones(1, 1)))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


# ---- what is never written


@pytest.mark.parametrize("key", ["model", "pretrained", "template"])
@pytest.mark.parametrize("value", [3, b"openai", ["openai"]], ids=["int", "bytes", "list"])
def test_metadata_text_is_str(key, value):
    with pytest.raises(TypeError, match=f"{key} is a {type(value).__name__}, allowed: str or None"):
        FeatureMetadata(**{key: value})


@pytest.mark.parametrize("value", ["true", 1, 0], ids=repr)
def test_metadata_normalized_is_bool(value):
    with pytest.raises(TypeError, match="normalized is"):
        FeatureMetadata(normalized=value)


@pytest.mark.parametrize("key", ["model", "pretrained", "template"])
def test_lone_surrogate_in_the_metadata(tmp_path, key):
    features = Features(torch.ones(1, 1), None, FeatureMetadata(**{key: "a\ud800"}))
    with pytest.raises(ValueError, match=rf"{key} is 'a\\ud800'"):
        write_features(tmp_path / "a.safetensors", features)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_does_not_exist(tmp_path):
    with pytest.raises(FileNotFoundError, match="no"):
        write_features(tmp_path / "no" / "a.safetensors", Features(torch.ones(1, 1)))


# ---- what is read


def npy(shape: tuple[int, ...]) -> bytes:
    """An npy file of 64 zero bytes, whatever its header says."""
    file = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + bytes(64)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # NumPy's
@pytest.mark.parametrize(
    "shape",
    [(10**13, 4), (2**62, 4), (2**70, 4), (-1, 4), (17, 1)],
    ids=["146-TiB", "overflow", "beyond-int64", "negative", "one-row-too-many"],
)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_shape_that_the_file_cannot_hold(tmp_path, suffix, shape):
    path = tmp_path / f"a{suffix}"
    if suffix == ".npy":
        path.write_bytes(npy(shape))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", npy(shape))
    with pytest.raises(FeatureFileError) as caught:
        read_features(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors", "/img_emb"])
def test_no_warning(tmp_path, suffix):
    # In its own process: torch warns of memory that is read-only once in a process.
    x = np.ones((3, 2), np.float32)
    path = tmp_path / f"a{suffix}"
    if suffix == ".npy":
        np.save(path, x)
    elif suffix == ".npz":
        np.savez(path, x=x)
    elif suffix == ".safetensors":
        write_features(path, Features(torch.from_numpy(x), ["a", "b", "c"]))
    else:
        path.mkdir(parents=True)
        np.save(path / "img_emb_0.npy", x)
    code = (
        "import sys, warnings; from fastclip.data import read_features\n"
        "warnings.simplefilter('error'); assert read_features(sys.argv[1]).features.sum() == 6"
    )
    subprocess.run([sys.executable, "-c", code, path], check=True)
