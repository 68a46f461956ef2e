"""PackedKeys.save and PackedKeys.load."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from inputs import DTYPES, LAYOUTS
from reference import same_bits
from safetensors import safe_open
from safetensors.torch import save_file

import fastclip
from fastclip.data import FeatureFileError, read_features

PackedKeys = fastclip.PackedKeys


def keys_of(count: int, width: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(count)).to(dtype)


def assert_same_answers(loaded: PackedKeys, packed: PackedKeys) -> None:
    queries = keys_of(9, packed.shape[1])
    for name in ("codes", "bounds", "center", "rows"):
        assert torch.equal(getattr(loaded, name), getattr(packed, name))
    assert loaded.shape == packed.shape
    if len(packed) == 0:
        return
    k = min(len(packed), 5)
    best, survivors = fastclip.topk(queries, loaded, k, return_survivors=True)
    expected, as_many = fastclip.topk(queries, packed, k, return_survivors=True)
    assert same_bits(best.values, expected.values)
    assert torch.equal(best.indices, expected.indices)
    assert survivors == as_many
    targets = torch.arange(9) % len(packed)
    assert torch.equal(
        fastclip.rank(queries, loaded, targets), fastclip.rank(queries, packed, targets)
    )


@pytest.mark.parametrize("rows", [True, False], ids=["with rows", "without rows"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("count", "width"), [(3000, 65), (1, 3), (33, 64), (0, 7), (5, 0), (0, 0)])
def test_round_trip(tmp_path: Path, count: int, width: int, dtype: torch.dtype, rows: bool) -> None:
    keys = keys_of(count, width, dtype)
    packed = fastclip.pack(keys)
    path = tmp_path / "keys.safetensors"
    packed.save(path, rows=rows)
    loaded = PackedKeys.load(str(path), rows=None if rows else keys)
    assert loaded.rows.dtype == dtype
    assert_same_answers(loaded, packed)


def test_round_trip_on_every_instruction_set(isa: str, tmp_path: Path) -> None:
    packed = fastclip.pack(keys_of(500, 70))
    packed.save(tmp_path / "keys.safetensors")
    assert_same_answers(PackedKeys.load(tmp_path / "keys.safetensors"), packed)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_rows_of_any_layout(tmp_path: Path, layout: Callable[[torch.Tensor], torch.Tensor]) -> None:
    keys = layout(keys_of(200, 20))
    packed = fastclip.pack(keys, copy=False)
    path = tmp_path / "keys.safetensors"
    packed.save(path)
    assert_same_answers(PackedKeys.load(path), packed)
    packed.save(path, rows=False)
    assert_same_answers(PackedKeys.load(path, rows=keys), packed)


def test_equal_keys_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        fastclip.pack(keys_of(100, 20)).save(tmp_path / f"{name}.safetensors")
    a, b = sorted(tmp_path.iterdir())
    assert a.read_bytes() == b.read_bytes()


def test_rows_are_features_to_other_readers(tmp_path: Path) -> None:
    packed = fastclip.pack(keys_of(40, 20))
    path = tmp_path / "keys.safetensors"
    packed.save(path)
    assert torch.equal(read_features(path).features, packed.rows)
    packed.save(path, rows=False)
    with pytest.raises(FeatureFileError, match="no 2-D floating array"):
        read_features(path)


def mapping(path: Path, address: int) -> dict[str, str]:
    """Return what the kernel says on the mapping of ``path`` that holds ``address``."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    for i, line in enumerate(lines):
        begin, _, end = line.split(" ")[0].partition("-")
        if line.endswith(str(path)) and int(begin, 16) <= address < int(end, 16):
            facts = (fact.partition(":") for fact in lines[i + 1 : i + 20])
            return {name: value.strip() for name, _, value in facts}
    raise AssertionError(f"{address:#x} is not in a mapping of {path}")


@pytest.mark.host
def test_nothing_but_the_header_is_read(tmp_path: Path) -> None:
    path = tmp_path / "keys.safetensors"
    fastclip.pack(keys_of(20_000, 256)).save(path)
    loaded = PackedKeys.load(path)
    for tensor in (loaded.rows, loaded.codes, loaded.bounds, loaded.center):
        facts = mapping(path, tensor.data_ptr())
        resident = int(facts["Rss"].removesuffix(" kB"))
        assert resident * 1024 < path.stat().st_size / 20
        assert tensor.data_ptr() % 4 == 0
    assert loaded.codes.data_ptr() % 64 == 0
    given = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.float32, (20_000, 256))
    given[:] = loaded.rows
    fastclip.pack(given).save(path, rows=False)
    assert PackedKeys.load(path, rows=given).rows.data_ptr() == given.ctypes.data


def test_saving_over_the_file_in_use(tmp_path: Path) -> None:
    path = tmp_path / "keys.safetensors"
    packed = fastclip.pack(keys_of(300, 20))
    packed.save(path)
    loaded = PackedKeys.load(path)
    loaded.save(path)
    fastclip.pack(keys_of(5, 5)).save(path)
    assert_same_answers(loaded, packed)


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=repr)
def test_interrupted_save_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    path = tmp_path / "keys.safetensors"
    fastclip.pack(keys_of(30, 20)).save(path)
    before = path.read_bytes()

    def fail(_: int) -> None:
        raise error

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(type(error)):
        fastclip.pack(keys_of(31, 20)).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_refuses_another_suffix(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"keys.npy', allowed: .* \.safetensors"):
        fastclip.pack(keys_of(3, 2)).save(tmp_path / "keys.npy")


@pytest.mark.host
def test_encoding_1_is_what_it_was(isa: str) -> None:
    """The rotation is exact for these keys: other codes mean another encoding, and a new number."""
    keys = torch.cat([torch.eye(64), -torch.eye(64)])
    codes = fastclip.pack(keys).codes
    assert import_module("fastclip.engine.packed").ENCODING == 1
    assert set(codes.unique().tolist()) == {1, 255}
    assert hashlib.sha256(codes.numpy().data).hexdigest()[:16] == "182bc4d516ee3abc"


# ---- damaged files


def changed(path: Path, change: Callable[..., object], **packed: bool) -> None:
    """Save packed keys of shape (100, 20), and again with contents that ``change`` has changed."""
    fastclip.pack(keys_of(100, 20, torch.float16)).save(path, **packed)
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata())
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    change(tensors, metadata)
    save_file(tensors, path, metadata)


DAMAGES = {
    "format": (lambda t, m: m.update(format="fastclip.features"), "format is 'fastclip.features'"),
    "no format": (lambda t, m: m.clear(), "format is None"),
    "version": (lambda t, m: m.update(version="2"), "version is '2', this version .* reads '1'"),
    "encoding": (lambda t, m: m.update(encoding="0"), "encoding is '0', this version .* reads '1'"),
    "no encoding": (lambda t, m: m.pop("encoding"), "encoding is None"),
    "keys no number": (lambda t, m: m.update(keys="-3"), "keys is '-3', allowed: a whole number"),
    "no keys": (lambda t, m: m.pop("keys"), "keys is None"),
    "no width": (lambda t, m: m.pop("width"), "width is None"),
    "dtype": (lambda t, m: m.update(dtype="float64"), "dtype is 'float64', allowed: float32"),
    "no checksum": (lambda t, m: m.pop("sha256_of_some_rows"), "sha256_of_some_rows is missing"),
    "keys": (
        lambda t, m: m.update(keys="99"),
        r"rows is float16 of shape \(100, 20\), needed: .*9",
    ),
    "more keys": (lambda t, m: m.update(keys="129"), r"codes is .* needed: uint8 of shape \(5, "),
    "no end of keys": (lambda t, m: m.update(keys="9" * 30), "codes is uint8 of shape"),
    "width": (lambda t, m: m.update(width="21"), r"center is .* needed: float32 of shape \(21,\)"),
    "no end of width": (lambda t, m: m.update(width="9" * 30), "center is float32 of shape"),
    "rows' dtype": (lambda t, m: m.update(dtype="float32"), "rows is float16 .* needed: float32"),
    "no codes": (lambda t, m: t.pop("codes"), "no tensor 'codes'; it holds .'bounds', 'center'"),
    "no bounds": (lambda t, m: t.pop("bounds"), "no tensor 'bounds'"),
    "no center": (lambda t, m: t.pop("center"), "no tensor 'center'"),
    "codes' dtype": (lambda t, m: t.update(codes=t["codes"].char()), "codes is int8"),
    "bounds' dtype": (lambda t, m: t.update(bounds=t["bounds"].half()), "bounds is float16"),
    "center's dtype": (lambda t, m: t.update(center=t["center"].double()), "center is float64"),
    "codes' shape": (lambda t, m: t.update(codes=t["codes"][:3].clone()), r"codes is .*\(3, 16"),
    "bounds' shape": (lambda t, m: t.update(bounds=t["bounds"].flatten()), r"bounds is .*\(384,\)"),
    "rows' shape": (lambda t, m: t.update(rows=t["rows"].flatten()), r"rows is .*\(2000,\)"),
}


@pytest.mark.parametrize(("change", "reason"), DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_contents(tmp_path: Path, change: Callable[..., object], reason: str) -> None:
    path = tmp_path / "keys.safetensors"
    changed(path, change)
    with pytest.raises(FeatureFileError, match=f"^{path}: {reason}"):
        PackedKeys.load(path)


@pytest.mark.parametrize("length", [0, 4, 200, -1], ids="{} bytes".format)
def test_truncated(tmp_path: Path, length: int) -> None:
    path = tmp_path / "keys.safetensors"
    fastclip.pack(keys_of(100, 20)).save(path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(FeatureFileError, match=f"^{path}: "):
        PackedKeys.load(path)


def test_other_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing: no such file"):
        PackedKeys.load(tmp_path / "nothing")
    with pytest.raises(FeatureFileError, match=f"^{tmp_path}: "):
        PackedKeys.load(tmp_path)
    path = tmp_path / "text.safetensors"
    path.write_text(json.dumps({"format": "fastclip.packed_keys"}))
    with pytest.raises(FeatureFileError, match=f"^{path}: "):
        PackedKeys.load(path)


def test_another_encoding_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.safetensors"
    fastclip.pack(keys_of(100, 20)).save(path)
    monkeypatch.setattr(import_module("fastclip.engine.packed"), "ENCODING", 2)
    with pytest.raises(FeatureFileError, match=r"encoding is '1', this version .* reads '2'"):
        PackedKeys.load(path)


# ---- rows given to load

KEYS = keys_of(1000, 20)


def with_row(row: int) -> torch.Tensor:
    keys = KEYS.clone()
    keys[row, 3] += 1
    return keys


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (None, ValueError, "rows: needed, since .* was saved without them"),
        (KEYS[:999], ValueError, r"rows: .* of shape \(1000, 20\), got \(999, 20\)"),
        (KEYS[:, :19], ValueError, r"rows: .* got \(1000, 19\)"),
        (KEYS.half(), TypeError, "rows: .* of float32, got float16"),
        (KEYS.double(), TypeError, "rows: float32, float16 or bfloat16 is allowed, got float64"),
        (KEYS.tolist(), TypeError, "rows: .* got list"),
        (KEYS.flip(0), ValueError, "rows: are not the keys packed in"),
        (with_row(0), ValueError, "rows: are not the keys packed in"),
        (with_row(999), ValueError, "rows: are not the keys packed in"),
    ],
    ids=["none", "count", "width", "dtype", "float64", "list", "order", "first", "last"],
)
def test_refuses_rows(tmp_path: Path, rows: object, error: type[Exception], message: str) -> None:
    path = tmp_path / "keys.safetensors"
    fastclip.pack(KEYS).save(path, rows=False)
    with pytest.raises(error, match=message) as caught:
        PackedKeys.load(path, rows=rows)
    assert not isinstance(caught.value, FeatureFileError)


def test_refuses_rows_beside_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.safetensors"
    fastclip.pack(KEYS).save(path)
    with pytest.raises(ValueError, match=r"rows: must be None, .* holds the rows"):
        PackedKeys.load(path, rows=KEYS)


def test_rows_of_other_kinds(tmp_path: Path) -> None:
    path = tmp_path / "keys.safetensors"
    packed = fastclip.pack(KEYS)
    packed.save(path, rows=False)
    assert_same_answers(PackedKeys.load(path, rows=KEYS.numpy()), packed)
    wanting = PackedKeys.load(path, rows=KEYS.clone().requires_grad_())
    assert not wanting.rows.requires_grad
