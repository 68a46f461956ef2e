"""Zero-shot classification from images and names to answers."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from named_pictures import NAMES, write_pictures

import fastclip
from fastclip.models import Model
from fastclip.zero_shot import Classification

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def shipped() -> Model:
    return fastclip.models.load("tiny")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder)
    return folder


@pytest.mark.parametrize("templates", [("a photo of a {}.",), ("{}", "a drawing of {}.", "my {}.")])
def test_names_are_those_of_open_clips_zero_shot_classifier(pictures, shipped, templates):
    names = (*fastclip.data.vocabularies.vocabulary("coco"), *NAMES)
    found = fastclip.classify(pictures, names, shipped, k=7, templates=templates)
    weights = open_clip.build_zero_shot_classifier(
        shipped.module, shipped.tokenizer, found.names, [t.format for t in templates], None
    )
    images = shipped.encode_image([pictures / name for name in found.image_names])
    logits = (shipped.logit_scale * images @ weights).double()
    best = logits.softmax(1).topk(7)
    assert torch.equal(found.indices, best.indices)
    torch.testing.assert_close(found.probabilities.double(), best.values, rtol=2e-3, atol=1e-6)
    torch.testing.assert_close(
        found.cosines.double() * shipped.logit_scale, logits.gather(1, best.indices), **NEAR
    )


NEAR = {"rtol": 1e-4, "atol": 1e-4}


def test_folders_are_labels(pictures, shipped):
    names = ["Birthday Cake", *NAMES[2:], "banana", "banana"]
    found = fastclip.classify(pictures, names, shipped, templates=("{}",))
    assert found.names == ("Birthday Cake", *NAMES[2:], "banana")
    assert [found.names[i].lower() for i in found.labels] == list(NAMES)
    assert (found.accuracy(), found.labelled, found.k) == (1.0, 6, 5)
    assert found.confusions() == []
    some = fastclip.classify(pictures, ["horse", "tree"], shipped)
    assert some.labels.tolist() == [-1, -1, -1, -1, 0, -1]
    assert (some.labelled, some.k) == (1, 2)
    for unknown in (
        fastclip.classify(pictures, ["tree", "house"], shipped),
        fastclip.classify(pictures, NAMES, shipped, labels=None),
        fastclip.classify([pictures / "horse" / "horse.png"], NAMES, shipped),
    ):
        assert unknown.labels is None
        assert math.isnan(unknown.accuracy())
        assert unknown.confusions() == []


def test_accuracy_and_confusions():
    def of(labels):
        indices = torch.tensor([[0, 1], [1, 0], [2, 0], [1, 2], [1, 2], [0, 2]])
        return Classification(
            names=("cat", "dog", "owl"), image_names=tuple("abcdef"), indices=indices,
            cosines=indices.float(), probabilities=indices.float(), labels=labels, unreadable=(),
            source=None, places=tuple(range(6)), model="m", templates=("{}",),
        )  # fmt: skip

    found = of(torch.tensor([0, 0, 0, 2, 0, -1]))
    assert (found.accuracy(), found.accuracy(2), found.labelled) == (0.2, 0.8, 5)
    assert found.confusions() == [
        ("cat", "dog", (1, 4)), ("cat", "owl", (2,)), ("owl", "dog", (3,))
    ]  # fmt: skip
    assert found.confusions(1) == [("cat", "dog", (1, 4))]


def test_unreadable_images_are_skipped_and_labels_stay_with_their_images(
    pictures, shipped, tmp_path
):
    shutil.copytree(pictures, tmp_path / "p")
    (tmp_path / "p" / "cactus" / "0 broken.jpg").write_bytes(b"no image")
    listed = fastclip.data.find_images(tmp_path / "p")
    labels = [Path(name).parent.name for name in listed.names]
    labels[labels.index("star")] = ""
    found = fastclip.classify(listed, NAMES, shipped, templates=("{}",), labels=labels)
    assert [one.name for one in found.unreadable] == ["cactus/0 broken.jpg"]
    assert len(found) == 6
    assert [listed.names[place] for place in found.places] == list(found.image_names)
    assert (found.accuracy(), found.labelled) == (1.0, 5)


def test_a_cache_saves_the_work(pictures, shipped, tmp_path, monkeypatch):
    options = {"cache": tmp_path / "new" / "cache", "model_name": "tiny"}
    first = fastclip.classify(pictures, NAMES, shipped, **options)
    other = fastclip.classify(pictures, ["tree", "house"], shipped, **options)
    assert other.names == ("tree", "house")
    for name in ("encode_image", "encode_text"):
        monkeypatch.setattr(Model, name, None)
    again = fastclip.classify(pictures, NAMES, shipped, **options)
    assert torch.equal(first.probabilities, again.probabilities)


def test_errors(pictures, shipped):
    def fails(error, message, *arguments, **options):
        with pytest.raises(error) as caught:
            fastclip.classify(*arguments, **options)
        assert message in str(caught.value)

    fails(FileNotFoundError, "gone: no such file", "gone", NAMES, shipped)
    fails(TypeError, "names: a sequence of str is needed, got str", pictures, "cat", shipped)
    fails(ValueError, "names: is empty", pictures, [], shipped)
    fails(ValueError, "k: is 7, allowed: 1 to 6, the number of", pictures, NAMES, shipped, k=7)
    fails(TypeError, "k: an integer is needed, got float", pictures, NAMES, shipped, k=5.0)
    fails(ValueError, "labels: 1, allowed: one for each of 6", pictures, NAMES, labels=["x"])
    fails(
        ValueError, "labels[1]: 'hrose' is no name of the vocabulary; did you mean 'horse'?",
        pictures, NAMES, labels=["horse", "hrose", *NAMES[:4]],
    )  # fmt: skip
    fails(ValueError, "name: is 'tinny'", pictures, NAMES, "tinny")
