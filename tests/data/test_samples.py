from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch

import fastclip.data
from fastclip.data import load_sample, samples

SOURCE = os.environ.get("FASTCLIP_TEST_DATA")

# name -> rows, dtype, model, template, names at the ends
EXPECTED = {
    "coco-images": (500, torch.float32, "ViT-B-16-quickgelu", None, "179765"),
    "coco-captions": (
        500,
        torch.float32,
        "ViT-B-16-quickgelu",
        None,
        "A motorcycle with its brake extended standing outside",
    ),
    "lvis": (1203, torch.float16, "ViT-B-32-quickgelu", "a {}", "aerosol_can"),
    "objects365": (365, torch.float16, "ViT-B-32-quickgelu", "a {}", "Person"),
    "openimages": (500, torch.float16, "ViT-B-32-quickgelu", "a {}", "Infant bed"),
    "coco": (80, torch.float16, "ViT-B-32-quickgelu", "a {}", "person"),
}

# name -> npz file, features, names
SOURCES = {
    "coco-images": ("paired_coco500_vitb16", "image_features", "image_id"),
    "coco-captions": ("paired_coco500_vitb16", "text_features", "caption"),
    **{
        name: (f"text_vitb32_{name}", "text_features", "names")
        for name in ("lvis", "objects365", "openimages", "coco")
    },
}


def unit(name: str) -> np.ndarray:
    return load_sample(name).normalized().features.double().numpy()


def test_names_and_descriptions():
    assert samples().keys() == EXPECTED.keys()
    assert all(text and "\n" not in text for text in samples().values())
    samples().clear()
    assert samples()


def test_the_folder_holds_the_samples_and_their_licences():
    folder = files("fastclip.data") / "sample_files"
    found = {file.name for file in folder.iterdir()}
    assert found == {"README.md", *(f"{name}.safetensors" for name in EXPECTED)}
    readme = (folder / "README.md").read_text()
    assert all(f"`{name}.safetensors`" in readme for name in EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_sample(name):
    rows, dtype, model, template, first = EXPECTED[name]
    sample = load_sample(name)
    assert sample.features.shape == (rows, 512)
    assert sample.features.dtype == dtype
    assert sample.names is not None
    assert sample.names[0] == first
    assert sample.metadata.model == model
    assert sample.metadata.pretrained == "openai"
    assert sample.metadata.template == template
    assert sample.metadata.normalized is False


def test_unknown_name():
    with pytest.raises(ValueError, match=r"name: is 'imagenet', allowed: coco-images, .*coco"):
        load_sample("imagenet")


def test_pairs_are_pairs():
    """Retrieval on the pairs: known to fall to 0.002 if rows are shuffled."""
    scores = unit("coco-images") @ unit("coco-captions").T
    ahead = [(s > s.diagonal()[:, None]).sum(axis=1) for s in (scores, scores.T)]
    assert [[float((a < k).mean()) for k in (1, 5, 10)] for a in ahead] == [
        [0.552, 0.808, 0.892],
        [0.506, 0.766, 0.862],
    ]
    assert scores.diagonal().mean() == pytest.approx(0.3099, abs=1e-4)


def test_shared_class_names_have_equal_features():
    """Names, rows and template belong together, in all four files."""
    rows = {n: dict(zip(load_sample(n).names or (), unit(n), strict=True)) for n in [*EXPECTED][2:]}
    for a in rows:
        for b in rows:
            shared = rows[a].keys() & rows[b].keys()
            assert all(rows[a][n] @ rows[b][n] >= 0.999999 for n in shared), (a, b)
    assert len(rows["coco"].keys() & rows["lvis"].keys()) >= 50
    cosine = rows["lvis"]["traffic_light"] @ rows["coco"]["traffic light"]
    assert cosine == pytest.approx(0.94, abs=0.005)


def test_names_that_occur_twice():
    for name in EXPECTED:
        counts = Counter(load_sample(name).names)
        twice = {n for n, count in counts.items() if count > 1}
        assert twice == ({"Bench", "Mouse"} if name == "openimages" else set())


@pytest.mark.skipif(SOURCE is None, reason="FASTCLIP_TEST_DATA names no folder of source data")
@pytest.mark.parametrize("name", EXPECTED)
def test_sample_has_the_bits_of_its_source(name):
    file, features, names = SOURCES[name]
    with np.load(
        Path(SOURCE or "") / "clip_features" / f"{file}.npz", allow_pickle=False
    ) as source:
        sample = load_sample(name)
        assert sample.features.numpy().dtype == source[features].dtype
        assert sample.features.numpy().tobytes() == source[features].tobytes()
        assert sample.names == tuple(map(str, source[names].tolist()))


@pytest.mark.skipif(SOURCE is None, reason="FASTCLIP_TEST_DATA names no folder of source data")
def test_make_samples_makes_these_files(tmp_path):
    script = Path(__file__).with_name("make_samples.py")
    source = Path(SOURCE or "") / "clip_features"
    package = Path(fastclip.data.__file__).parents[2]
    subprocess.run(
        [sys.executable, str(script), str(source), str(tmp_path)],
        check=True,
        env={**os.environ, "PYTHONPATH": str(package)},
    )
    for name in EXPECTED:
        shipped = files("fastclip.data") / "sample_files" / f"{name}.safetensors"
        same = (tmp_path / f"{name}.safetensors").read_bytes() == shipped.read_bytes()
        assert same, name  # not the bytes themselves: a report of them is unreadable
