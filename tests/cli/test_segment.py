from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import small
import torch
from PIL import Image
from typer.testing import CliRunner

import fastclip
from fastclip import ttd
from fastclip.cli import app
from fastclip.data import decode_rle

pytestmark = pytest.mark.host
NAMES = ["cat", "dog", "boat", "tree", "sky"]
MODEL = ("--model", "model", "--size", 32, "-o", "out")


def run(*arguments: object):
    return CliRunner().invoke(app, ["segment", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, size in (("a", (70, 50)), ("b", (40, 60))):
        noise = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))
        noise.resize(size).save(tmp_path / f"{name}.png")
    (tmp_path / "names.txt").write_text("\n".join(NAMES * 60 + [f"n{i}" for i in range(300)]))
    small.save(tmp_path / "model", small.VIT)
    return tmp_path


def test_label_maps(folder):
    model = fastclip.models.load("model")
    options = ("--scale", 1, "--scale", 2, "--flip")
    tags = ttd.encode_tags(model, NAMES)
    views = {"size": 32, "scales": (1, 2), "flip": True}
    background = ttd.segment(model, "a.png", tags, **views).scores.median().item()
    names = "cat, dog,boat ,tree,sky,"
    result = run("a.png", "b.png", "--tags", names, *MODEL, *options, "--background", background)
    assert result.exit_code == 0, result.stderr
    for name in "ab":
        found = ttd.segment(model, f"{name}.png", tags, **views, background=background).labels
        labels = torch.from_numpy(np.array(Image.open(folder / f"out/{name}-labels.png")))
        assert labels.dtype == torch.uint8
        assert torch.equal(labels.long() - 1, found)
        written = json.loads((folder / f"out/{name}.json").read_text())["tags"]
        assert sorted(area["label"] - 1 for area in written) == found[found >= 0].unique().tolist()
        shares = [area["share"] for area in written]
        assert shares == sorted(shares, reverse=True)
        for area in written:
            mask = found == area["label"] - 1
            assert NAMES[area["label"] - 1] == area["tag"]
            assert torch.equal(decode_rle(area["segmentation"]), mask)
            assert area["share"] == mask.sum().item() / mask.numel()
        assert np.array(Image.open(folder / f"out/{name}-overlay.png")).std() > 10
        assert f"{name}.png: {written[0]['tag']} {shares[0]:.0%}" in result.stdout


def test_more_tags_than_eight_bits_hold(folder):
    result = run("a.png", "--vocabulary", "names.txt", *MODEL)
    assert result.exit_code == 0, result.stderr
    model = fastclip.models.load("model")
    tags = ttd.encode_tags(model, [*NAMES, *(f"n{i}" for i in range(300))])
    labels = np.array(Image.open(folder / "out/a-labels.png")).astype(np.int64)
    assert labels.max() > 255
    assert np.array_equal(labels - 1, ttd.segment(model, "a.png", tags, size=32).labels.numpy())


def test_images_that_cannot_be_read_are_skipped_and_listed(folder):
    Image.new("RGB", (5, 5)).save("dot.png")
    result = run("dot.png", "names.txt", "a.png", "--tags", "cat", *MODEL)
    assert result.exit_code == 0
    assert sorted(p.name for p in (folder / "out").iterdir()) == [
        "a-labels.png", "a-overlay.png", "a.json"]  # fmt: skip
    dot, names = result.stderr.splitlines()
    assert "skipped dot.png: image: must be at least a patch of 8 x 8" in dot
    assert "skipped names.txt: names.txt: not an image" in names
    assert run("dot.png", "a.png", "--tags", "cat", *MODEL, "--strict").exit_code == 1
    assert run("dot.png", "--tags", "cat", *MODEL).exit_code == 1


def test_errors(folder):
    (folder / "more").mkdir()
    (folder / "more/a.jpg").write_bytes((folder / "a.png").read_bytes())
    for arguments, message in (
        (("none.png", "--tags", "cat"), "none.png: no such file"),
        (("a.png", "more/a.jpg", "--tags", "cat"), "both would be written as a"),
        (("a.png", "--tags", "very " * 30), "tags[0]: longer than the model's context of 16"),
    ):
        result = run(*arguments, *MODEL)
        assert result.exit_code == 1
        assert message in result.stderr
        assert not (folder / "out").exists()
    for arguments in ((), ("--tags", " , ")):
        assert run("a.png", *arguments, *MODEL).exit_code == 2
