from __future__ import annotations

import json
import sys
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


def run(*arguments: object):
    return CliRunner().invoke(app, ["tag", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    noise.resize((70, 50)).save(tmp_path / "photo.png")
    (tmp_path / "names.txt").write_text("\n".join([*NAMES, "cat"]) + "\n")
    small.save(tmp_path / "model", small.VIT)
    return tmp_path


def read(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(path)))


MODEL = ("--model", "model", "--size", 32)


@pytest.mark.parametrize("refine", [False, True])
def test_caption(folder, refine):
    caption = "a cat and two dogs in a boat"
    result = run("photo.png", "--text", caption, *MODEL, "-o", "out", *["--refine"] * refine)
    assert result.exit_code == 0, result.stderr
    model = fastclip.models.load("model")
    names = ["cat", "dog", "boat"]
    pixels = ttd.dense_features(model, "photo.png", size=32)
    tags = ttd.encode_tags(model, names)
    selection = ttd.select_tags(pixels, tags)
    written = json.loads((folder / "out" / "tags.json").read_text())
    order = selection.scores.argsort(descending=True).tolist()
    assert [entry["tag"] for entry in written["tags"]] == [names[i] for i in order]
    image = model.prepare(["photo.png"], size=(50, 70)) if refine else None
    maps = ttd.image_maps(pixels, tags, (50, 70), refine_by=image)
    masks = ttd.tag_masks(maps, selection.selected)
    for i, entry in zip(order, written["tags"], strict=True):
        assert entry["score"] == selection.scores[i].item()
        assert entry["selected"] == selection.selected[i].item()
        assert ("mask" in entry) == entry["selected"]
        if entry["selected"]:
            mask = read(folder / "out" / entry["mask"])
            assert torch.equal(mask, (masks[i] * 255).round().byte())
            assert torch.equal(decode_rle(entry["segmentation"]), masks[i] > 0.5)
        line = next(line for line in result.stdout.splitlines() if line.startswith(entry["tag"]))
        assert f"{entry['score']:.4f}" in line
        assert line.rstrip().endswith("selected") == entry["selected"]
    union = ttd.text_mask(masks)[0]
    assert torch.equal(decode_rle(written["text"]), union > 0.5)
    assert torch.equal(read(folder / "out" / "text.png"), (union * 255).round().byte())
    for drawn in ("tags.png", "overlay.png"):
        assert read(folder / "out" / drawn).float().std() > 10


def test_best_of_a_vocabulary(folder):
    result = run(
        "photo.png", "--vocabulary", "names.txt", *MODEL, "--top", 2, "--templates", "none"
    )
    assert result.exit_code == 0, result.stderr
    model = fastclip.models.load("model")
    pixels = ttd.dense_features(model, "photo.png", size=32)
    scores = fastclip.pixel_scores(pixels, model.encode_text(NAMES)).values[0]
    best = [NAMES[i] for i in scores.topk(2).indices]
    assert [line.split()[0] for line in result.stdout.splitlines()[1:]] == best
    assert not (folder / "out").exists()


def test_errors_are_one_line(folder, monkeypatch):
    Image.new("RGB", (5, 5)).save("dot.png")
    monkeypatch.setitem(sys.modules, "HanTa.HanoverTagger", None)
    ttd.tags._hanta.cache_clear()
    for arguments, message in (
        (("photo.png", "--text", "so it is"), "--text: nouns are needed, there are none in 'so it"),
        (("none.png", "--text", "a dog"), "none.png: no such file"),
        (("names.txt", "--text", "a dog"), "names.txt: not an image"),
        (("dot.png", "--text", "a dog"), "image: must be at least a patch of 8 x 8 pixels, got 5"),
        (("photo.png", "--text", "a dog", "--tagger", "hanta"), "--tagger: 'hanta' needs the pack"),
        (("photo.png", "--vocabulary", "names.csv"), "names.csv: no such file"),
    ):
        result = run(*arguments, *MODEL)
        assert result.exit_code == 1
        assert len(result.stderr.splitlines()) == 1
        assert message in result.stderr
    for arguments in ((), ("--text", "a dog", "--vocabulary", "names.txt")):
        assert run("photo.png", *arguments, *MODEL).exit_code == 2
