from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from fastclip.adapters.fiftyone import embeddings, read_segmentations
from fastclip.cli import app
from fastclip.data import Features, embed_images, read_features
from fastclip.models import load


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two drawings, in the current folder."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "pictures"
    for name, colour in (("b.png", "red"), ("more/a.b.png", "green")):
        picture = Image.new("RGB", (64, 48), "white")
        picture.paste(colour, (0, 0, 32, 48))
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        picture.save(folder / name)
    return folder


def test_masks_of_the_command(pictures: Path) -> None:
    images = ["pictures/b.png", "pictures/more/a.b.png"]
    asked = ["--tags", "apple,grass,snow", "--model", "tiny", "--size", "64", "--output", "masks"]
    done = CliRunner().invoke(app, ["segment", *images, *asked])
    assert done.exit_code == 0, done.output
    found = read_segmentations("masks")
    assert found.masks == {
        str(pictures / "b.png"): os.path.abspath("masks/b-labels.png"),
        str(pictures / "more/a.b.png"): os.path.abspath("masks/a.b-labels.png"),
    }
    names = {1: "apple", 2: "grass", 3: "snow"}
    assert found.mask_targets.items() <= names.items()
    numbers = set()
    for image, mask in found.masks.items():
        pixels = np.asarray(Image.open(mask))
        assert pixels.shape[::-1] == Image.open(image).size
        numbers |= set(np.unique(pixels).tolist())
    assert numbers - {0} == set(found.mask_targets)


def test_folders_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"folder: .*/none is no folder"):
        read_segmentations(tmp_path / "none")
    with pytest.raises(ValueError, match=r"holds no \*-labels\.png, which fastclip segment writes"):
        read_segmentations(tmp_path)
    (tmp_path / "a-labels.png").touch()
    with pytest.raises(FileNotFoundError, match=r"a\.json: missing"):
        read_segmentations(tmp_path)
    for name, text in (("a", "apple"), ("b", "pear")):
        (tmp_path / f"{name}-labels.png").touch()
        content = {"image": f"{name}.jpg", "tags": [{"label": 1, "tag": text}]}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"b\.json: number 1 is 'pear', but 'apple' in another"):
        read_segmentations(tmp_path)
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(ValueError, match=r"a\.json: is no JSON that fastclip segment writes"):
        read_segmentations(tmp_path)


def test_features_of_a_job(pictures: Path) -> None:
    embed_images(pictures, load("tiny"), Path("features"))
    files = [str(pictures / "more/a.b.png"), str(pictures / "b.png"), str(pictures / "b.png")]
    found = embeddings("features", files, "pictures")
    own = read_features("features")
    assert own.names is not None
    order = [list(own.names).index(name) for name in ("more/a.b.png", "b.png", "b.png")]
    assert found.dtype == np.float32
    assert np.array_equal(found, own.features[order].float().numpy())


def test_features_that_do_not_fit() -> None:
    features = Features(torch.eye(2), ["a.jpg", "more/b.jpg"])
    with pytest.raises(
        ValueError, match=r"1 of 2 have no features, the first is '/x/b\.jpg'.*a\.jp"
    ):
        embeddings(features, ["/x/a.jpg", "/x/b.jpg"], "/x")
    with pytest.raises(ValueError, match="features: names are needed"):
        embeddings(Features(torch.eye(2)), ["/x/a.jpg"], "/x")
    with pytest.raises(ValueError, match="several rows have the same name"):
        embeddings(Features(torch.eye(2), ["a.jpg", "./a.jpg"]), ["/x/a.jpg"], "/x")
