from __future__ import annotations

import contextlib
import json
import os
import pickle
import stat
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from feature_errors import fails
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from fastclip.data import (
    FeatureFileError,
    FeatureMetadata,
    Features,
    read_features,
    write_features,
)

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)
OWN = {"format": "fastclip.features", "version": "1"}

# A hypothesis test may use a function-scoped fixture where each example overwrites the file.
same_folder = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


class SideEffect:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


# ---- Features


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.ones((2, 3)),), TypeError, "features is a ndarray"),
        ((torch.ones(3),), ValueError, r"shape \(3,\), allowed: \[V, d\]"),
        ((torch.ones(1, 2, 3),), ValueError, r"shape \(1, 2, 3\)"),
        ((torch.ones(2, 0),), ValueError, "d >= 1"),
        ((torch.ones(2, 3, dtype=torch.float64),), TypeError, "torch.float64, allowed: torch.flo"),
        ((torch.ones(2, 3, dtype=torch.int32),), TypeError, "torch.int32"),
        ((torch.ones(2, 3), ["a"]), ValueError, "names has 1 entries, allowed: 2"),
        ((torch.ones(2, 3), "ab"), TypeError, "names is a str"),
        ((torch.ones(2, 3), ["a", 7]), TypeError, r"names\[1\] is a int"),
        ((torch.ones(2, 3), None, {}), TypeError, "metadata is a dict"),
    ],
)
def test_constructor_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        Features(*arguments)


def test_length_dim_and_frozen():
    features = Features(torch.ones(4, 3), [*"abcd"])
    assert (len(features), features.dim, features.names) == (4, 3, ("a", "b", "c", "d"))
    with pytest.raises(AttributeError):
        features.names = None


@pytest.mark.parametrize("dtype", DTYPES)
def test_normalized_is_rounded_once_from_float64(dtype, monkeypatch):
    monkeypatch.setattr("fastclip.data.features._NORMALIZE_ROWS", 3)
    rows = torch.randn(10, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    metadata = FeatureMetadata("m", "p", "a {}", normalized=False)
    unit = Features(rows, [str(i) for i in range(10)], metadata).normalized()
    wide = rows.double().numpy()
    expected = (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)
    np.testing.assert_array_max_ulp(unit.features.numpy(), expected, maxulp=1)
    assert unit.names == tuple(str(i) for i in range(10))
    assert unit.metadata == FeatureMetadata("m", "p", "a {}", normalized=True)
    assert unit.normalized() is unit


def test_normalized_survives_float32_overflow_of_squares():
    unit = Features(torch.tensor([[3e30, 4e30], [3e-30, 4e-30]])).normalized()
    torch.testing.assert_close(unit.features, torch.tensor([[0.6, 0.8], [0.6, 0.8]]))


def test_normalized_of_no_rows():
    assert Features(torch.ones(0, 5)).normalized().features.shape == (0, 5)


@pytest.mark.parametrize(
    ("value", "what"), [(0.0, "is zero"), (np.nan, "NaN"), (np.inf, "infinity")]
)
def test_normalized_names_the_bad_row(value, what, monkeypatch):
    monkeypatch.setattr("fastclip.data.features._NORMALIZE_ROWS", 2)
    rows = torch.ones(7, 3)
    rows[5] = value
    with pytest.raises(ValueError, match=f"row 5 .*{what}"):
        Features(rows).normalized()


# ---- fastclip's own format

names_of_any_kind = st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from(
    ["", "🐕‍🦺", "two\nlines", "nul\0", "é", "e\u0301"]
)


@given(
    names=st.lists(names_of_any_kind, max_size=8),
    named=st.booleans(),
    dim=st.integers(1, 5),
    dtype=st.sampled_from(DTYPES),
    metadata=st.builds(
        FeatureMetadata,
        *[st.none() | names_of_any_kind] * 3,
        normalized=st.none() | st.booleans(),
    ),
    data=st.data(),
)
@same_folder
def test_round_trip(tmp_path, names, named, dim, dtype, metadata, data):
    size = len(names) * dim * torch.empty((), dtype=dtype).element_size()
    raw = data.draw(st.binary(min_size=size, max_size=size))  # any bits: NaN, denormals, -0
    rows = torch.empty(len(names), dim, dtype=dtype)
    rows.reshape(-1).view(torch.uint8).numpy()[:] = np.frombuffer(raw, np.uint8)
    path = tmp_path / "a.safetensors"
    Features(rows, names if named else None, metadata).save(path)
    back = read_features(path)
    assert back.features.shape == rows.shape
    assert back.features.dtype == dtype
    assert bits(back.features) == raw
    assert back.names == (tuple(names) if named else None)
    assert back.metadata == metadata


def test_layout_is_safetensors(tmp_path):
    metadata = FeatureMetadata("ViT-B-32-quickgelu", "openai", "a {}", normalized=False)
    write_features(tmp_path / "a.safetensors", Features(torch.ones(3, 2), ["é", "", "b"], metadata))
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        assert file.metadata() == {
            **OWN,
            "model": "ViT-B-32-quickgelu",
            "pretrained": "openai",
            "template": "a {}",
            "normalized": "false",
        }
        assert bytes(file.get_tensor("names.utf8").tolist()) == "éb".encode()
        assert file.get_tensor("names.offsets").tolist() == [0, 2, 2, 3]
        assert file.get_tensor("names.offsets").dtype == torch.int64


def test_write_takes_strided_rows_that_need_grad(tmp_path):
    rows = torch.arange(24.0).reshape(4, 6)[::2, 1:4].requires_grad_()
    write_features(tmp_path / "a.safetensors", Features(rows))
    assert torch.equal(read_features(tmp_path / "a.safetensors").features, rows.detach())


def test_write_takes_one_element_of_any_stride(tmp_path):
    for rows in (torch.ones(3, 5).T[:1, :1], torch.ones(1).expand(1, 1), torch.ones(1, 4)[:, ::4]):
        write_features(tmp_path / "a.safetensors", Features(rows))
        assert read_features(tmp_path / "a.safetensors").features.tolist() == [[1.0]]


def test_write_is_readable_by_others_as_umask_says(tmp_path):
    write_features(tmp_path / "a.safetensors", Features(torch.ones(1, 1)))
    (tmp_path / "b").touch()
    modes = {stat.S_IMODE((tmp_path / n).stat().st_mode) for n in ("a.safetensors", "b")}
    assert len(modes) == 1


def test_write_over_the_file_that_is_mapped(tmp_path):
    path = tmp_path / "a.safetensors"
    write_features(path, Features(torch.ones(2, 2)))
    mapped = read_features(path)
    write_features(path, Features(mapped.features * 2))
    assert torch.equal(mapped.features, torch.ones(2, 2))
    assert torch.equal(read_features(path).features, torch.full((2, 2), 2.0))


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failed_write_leaves_the_old_file_alone(tmp_path, monkeypatch, error, step):
    path = tmp_path / "a.safetensors"
    write_features(path, Features(torch.ones(2, 2)))
    before = path.read_bytes()

    def fail(*_):
        assert len(list(tmp_path.iterdir())) == 2  # the temporary file was there
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(error)):
        write_features(path, Features(torch.zeros(2, 2)))
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_bytes() == before


def test_write_errors(tmp_path):
    with pytest.raises(ValueError, match=r"ends in \.safetensors"):
        write_features(tmp_path / "a.npy", Features(torch.ones(1, 1)))
    with pytest.raises(ValueError, match=r"names\[1\] is '\\ud800'"):
        write_features(tmp_path / "a.safetensors", Features(torch.ones(2, 1), ["a", "\ud800"]))
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("tensors", "metadata", "reason"),
    [
        ({}, {"version": "2"}, "version is '2'"),
        ({"features": None}, {}, "no tensor 'features'"),
        ({"names.utf8": None}, {}, "only one of"),
        ({"names.offsets": None}, {}, "only one of"),
        ({"names.offsets": torch.tensor([0, 2, 1, 3])}, {}, "non-decreasing"),
        ({"names.offsets": torch.tensor([1, 1, 2, 3])}, {}, "non-decreasing"),
        ({"names.offsets": torch.tensor([0, 1, 2, 4])}, {}, "from 0 to 3"),
        ({"names.offsets": torch.tensor([], dtype=torch.int64)}, {}, "from 0 to 3"),
        ({"names.offsets": torch.tensor([0, 1, 3])}, {}, "2 entries, allowed: 3"),
        ({"names.offsets": torch.tensor([0, 1, 2, 3], dtype=torch.int32)}, {}, "torch.int32"),
        ({"names.offsets": torch.tensor([[0, 1, 2, 3]])}, {}, "shape (1, 4)"),
        ({"names.utf8": torch.tensor([97, 255, 97], dtype=torch.uint8)}, {}, "name 1 is not UTF-8"),
        ({"features": torch.ones(3, 2, dtype=torch.float64)}, {}, "torch.float64"),
        ({"features": torch.ones(3)}, {}, "shape (3,)"),
        ({}, {"normalized": "yes"}, "normalized is 'yes'"),
    ],
)
def test_broken_own_file(tmp_path, tensors, metadata, reason):
    whole = {
        "features": torch.ones(3, 2),
        "names.utf8": torch.tensor([97, 98, 99], dtype=torch.uint8),
        "names.offsets": torch.tensor([0, 1, 2, 3]),
    }
    kept = {key: value for key, value in {**whole, **tensors}.items() if value is not None}
    save_file(kept, tmp_path / "a.safetensors", {**OWN, **metadata})
    fails(tmp_path / "a.safetensors", reason)


def test_a_character_may_not_be_split_between_names(tmp_path):
    tensors = {
        "features": torch.ones(2, 2),
        "names.utf8": torch.tensor([*"é".encode()], dtype=torch.uint8),
        "names.offsets": torch.tensor([0, 1, 2]),
    }
    save_file(tensors, tmp_path / "a.safetensors", OWN)
    error = fails(tmp_path / "a.safetensors", "name 0 is not UTF-8")
    assert error.__cause__ is not None


def test_own_file_has_one_array(tmp_path):
    path = tmp_path / "a.safetensors"
    write_features(path, Features(torch.ones(1, 1), ["a"]))
    assert len(read_features(path, array="features")) == 1
    fails(path, "array is 'names.utf8'", array="names.utf8")


def test_safetensors_of_others(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file(
        {"image": torch.ones(2, 3), "scale": torch.ones(1), "ids": torch.ones(2, 2).int()}, path
    )
    assert read_features(path).features.shape == (2, 3)
    assert read_features(path).names is None
    assert read_features(path).metadata == FeatureMetadata()
    save_file({"image": torch.ones(2, 3), "text": torch.ones(4, 3).bfloat16()}, path)
    fails(path, "several", "image", "text", "a.safetensors:image")
    assert read_features(path, array="text").features.dtype == torch.bfloat16
    fails(path, "no array 'x'", "image, text", array="x")
    save_file({"scale": torch.ones(3)}, path)
    fails(path, "no 2-D floating array", "scale [3]")
    fails(path, "shape (3,)", array="scale")


# ---- npy and npz


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("rows", [0, 4])
def test_npy(tmp_path, dtype, order, rows):
    array = np.asarray(ROWS[:rows], dtype, order=order)
    np.save(tmp_path / "a.npy", array)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        features = read_features(tmp_path / "a.npy")
    np.testing.assert_array_equal(features.features.numpy(), array, strict=True)
    assert features.names is None
    assert features.metadata == FeatureMetadata()


def overwrite_last_float(path: Path) -> None:
    raw = np.memmap(path, mode="r+")
    raw[-4:] = np.frombuffer(np.float32(99).tobytes(), np.uint8)
    raw.flush()


def test_mapped_files_are_mappings(tmp_path):
    """A change of the file shows in the tensor, which a copy would not notice."""
    np.save(tmp_path / "a.npy", ROWS)
    write_features(tmp_path / "a.safetensors", Features(torch.from_numpy(ROWS)))
    folder = tmp_path / "one"
    folder.mkdir()
    np.save(folder / "x_0.npy", ROWS)
    for path, source in [
        (tmp_path / "a.npy", tmp_path / "a.npy"),
        (tmp_path / "a.safetensors", tmp_path / "a.safetensors"),
        (folder, folder / "x_0.npy"),
    ]:
        features = read_features(path)
        overwrite_last_float(source)
        assert features.features[-1, -1] == 99


BAD_ARRAYS = [
    (ROWS.astype(np.float64), "float64, allowed: float32, float16"),
    (ROWS.astype(">f4"), ">f4, allowed"),
    (ROWS.astype(np.int64), "int64"),
    (ROWS[0], "shape (3,)"),
    (ROWS[None], "shape (1, 4, 3)"),
    (ROWS[:, :0], "d >= 1"),
]


@pytest.mark.parametrize(("array", "reason"), BAD_ARRAYS)
def test_bad_npy(tmp_path, array, reason):
    np.save(tmp_path / "a.npy", array)
    fails(tmp_path / "a.npy", reason)


@pytest.mark.parametrize(("array", "reason"), BAD_ARRAYS)
def test_bad_npz_array(tmp_path, array, reason):
    np.savez(tmp_path / "a.npz", x=array)
    fails(tmp_path / "a.npz", reason, array="x")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_with_one_array(tmp_path, save):
    save(tmp_path / "a.npz", x=ROWS, scale=np.float64(100), flat=ROWS[0], ids=np.ones((4, 2), int))
    features = read_features(tmp_path / "a.npz")
    np.testing.assert_array_equal(features.features.numpy(), ROWS, strict=True)
    assert features.names is None


def test_npz_with_several_arrays(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, image_features=ROWS, text_features=ROWS[:2], names=["a", "b"])
    fails(path, "image_features, text_features", "array=", "a.npz:image_features")
    fails(path, "no array 'x'", array="x")
    # The names are those of the array that has as many rows.
    assert read_features(path, array="text_features").names == ("a", "b")
    assert read_features(path, array="image_features").names is None


def test_npz_without_features(tmp_path):
    np.savez(tmp_path / "a.npz", flat=ROWS[0])
    fails(tmp_path / "a.npz", "no 2-D floating array", "flat [3]")


@pytest.mark.parametrize(
    ("arrays", "names"),
    [
        ({"names": [*"abcd"], "caption": [*"efgh"]}, ("a", "b", "c", "d")),
        ({"caption": [*"efgh"], "prompts": [*"ijkl"]}, ("e", "f", "g", "h")),
        ({"caption": ["too few"], "prompts": [*"ijkl"]}, ("i", "j", "k", "l")),
        ({"image_id": [7, 8, 9, 10]}, ("7", "8", "9", "10")),
        ({"image_id": [*"mnop"]}, ("m", "n", "o", "p")),
        ({"caption": [1, 2, 3, 4]}, None),
    ],
)
def test_npz_names(tmp_path, arrays, names):
    np.savez(tmp_path / "a.npz", x=ROWS, **arrays)
    assert read_features(tmp_path / "a.npz").names == names


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["a", "b", "c"], "3 entries, allowed: 4"),
        ([["a"], ["b"], ["c"], ["d"]], "shape [4, 1]"),
        ([1, 2, 3, 4], "int64"),
        ([b"a", b"b", b"c", b"d"], "saved as a str array"),
    ],
)
def test_npz_with_wrong_names(tmp_path, names, reason):
    np.savez(tmp_path / "a.npz", x=ROWS, names=names)
    fails(tmp_path / "a.npz", reason)


def test_nothing_is_unpickled(tmp_path):
    trap = np.empty((2, 2), dtype=object)
    trap[:] = SideEffect(tmp_path / "unpickled")
    np.save(tmp_path / "a.npy", trap, allow_pickle=True)
    fails(tmp_path / "a.npy", "pickled objects, which are never loaded")
    np.savez(tmp_path / "a.npz", x=trap)
    fails(tmp_path / "a.npz", "pickled objects", array="x")
    np.savez(tmp_path / "names.npz", x=ROWS, names=trap[0])
    fails(tmp_path / "names.npz", "saved as a str array")
    np.savez(tmp_path / "beside.npz", x=ROWS, other=trap)
    assert len(read_features(tmp_path / "beside.npz")) == 4
    plain = pickle.dumps(SideEffect(tmp_path / "unpickled"))
    for name in ("p.npy", "p.npz", "p.safetensors", "p.pkl", "p.pt"):
        (tmp_path / name).write_bytes(plain)
        fails(tmp_path / name)
    assert not (tmp_path / "unpickled").exists()
    pickle.loads(plain)  # the trap works
    assert (tmp_path / "unpickled").exists()


# ---- broken bytes


def write_kind(path: Path) -> None:
    if path.suffix == ".safetensors":
        write_features(path, Features(torch.from_numpy(ROWS), [*"abcd"]))
    elif path.suffix == ".npy":
        np.save(path, ROWS)
    else:
        np.savez_compressed(path, x=ROWS, names=[*"abcd"])


@pytest.mark.parametrize("suffix", [".safetensors", ".npy", ".npz"])
def test_every_truncation_is_an_error(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_kind(path)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert fails(path).__cause__ is not None


@pytest.mark.parametrize("suffix", [".safetensors", ".npy", ".npz"])
@given(data=st.data())
@settings(same_folder, max_examples=300)
def test_damage_is_read_or_reported(tmp_path, suffix, data):
    path = tmp_path / f"a{suffix}"
    write_kind(path)
    damaged = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        # Most bytes that matter are at the start or, in a zip, at the end.
        at = data.draw(st.integers(-150, 149))
        damaged[max(-len(damaged), min(at, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    # Any other error fails the test; damage in the values goes unnoticed.
    with contextlib.suppress(FeatureFileError):
        assert read_features(path).dim > 0


def test_npz_that_is_no_zip(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"not a zip")
    assert isinstance(fails(tmp_path / "a.npz", "not a zip file").__cause__, zipfile.BadZipFile)


def test_other_paths(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npy"):
        read_features(tmp_path / "nowhere.npy")
    (tmp_path / "a.json").write_text(json.dumps([1]))
    fails(tmp_path / "a.json", ".safetensors, .npy, .npz, .pt, .parquet, or a folder")
    np.save(tmp_path / "a.npy", ROWS)
    fails(tmp_path / "a.npy", "allowed for .npz, .safetensors, .parquet, .pt, .pth only", array="x")
    assert len(read_features(str(tmp_path / "a.npy"))) == 4
