from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from PIL import Image

from fastclip.data import openness_sets
from fastclip.data.openness_sets import UNIONS, openness_set, part_of
from fastclip.data.vocabularies import class_list
from fastclip.data.vocabularies.class_lists import ensemble_templates


def made_up(count, **attributes):
    """What a data set of torchvision looks like: pairs of an image and a label, and names."""

    class DataSet(SimpleNamespace):
        def __getitem__(self, index):
            return Image.new("RGB", (3, 2), (index, 0, 0)), 0

        def __len__(self):
            return count

    return DataSet(**attributes)


def test_names_and_labels_of_torchvision() -> None:
    sun = part_of("sun397", made_up(2, classes=["abbey", "building/outdoor"], _labels=[1, 0]))
    assert (sun.classes, sun.labels) == (["abbey", "outdoor building"], [1, 0])
    cars = part_of("cars", made_up(1, classes=["BMW 1"], _samples=[("path", 0)]))
    assert (cars.classes, cars.labels) == (["BMW 1"], [0])
    categories = ["Faces", "Faces_easy", "Leopards", "wild_cat"]
    caltech = part_of("caltech101", made_up(4, categories=categories, y=[3, 1, 0, 2]))
    assert caltech.classes == ["face", "leopard", "wild cat"]
    assert caltech.labels == [2, 0, 1]
    image = Image.open(io.BytesIO(caltech.images.read(1)))
    assert image.getpixel((0, 0)) == (2, 0, 0)  # item 1 is of the class that is left out


def test_a_union_and_imagenet(tmp_path, monkeypatch) -> None:
    class Sets:
        @staticmethod
        def CIFAR10(root, train, download):
            return made_up(3, classes=["cat", "dog"], targets=[1, 0, 1])

        @staticmethod
        def CIFAR100(root, train, download):
            assert (train, download) == (False, True)
            return made_up(2, classes=["pickup_truck", "cat"], targets=[0, 1])

    import torchvision

    monkeypatch.setattr(torchvision, "datasets", Sets)
    wnids = ["n01440764", "n01443537"]
    monkeypatch.setattr(
        openness_sets,
        "imagenet_names",
        lambda: dict(zip(wnids, ["tench", "goldfish"], strict=True)),
    )
    for wnid in reversed(wnids):
        (tmp_path / "imagenet/val" / wnid).mkdir(parents=True)
        Image.new("RGB", (4, 4), "red").save(tmp_path / "imagenet/val" / wnid / "1.png")
    found = openness_set("cifar10-cifar100-imagenet", tmp_path, download=True, ensemble=True)
    assert found.labels == (1, 0, 1, 2, 3, 4, 5)
    assert found.classes.names == ("cat", "dog", "pickup truck", "cat", "tench", "goldfish")
    assert found.classes.groups == (0, 0, 1, 1, 2, 2)
    assert [len(templates) for templates in found.classes.templates] == [18, 18, 7]
    assert len(found.images) == 7
    assert Image.open(io.BytesIO(found.images.read(4))).getpixel((0, 0)) == (1, 0, 0)
    assert Image.open(io.BytesIO(found.images.read(6))).getpixel((0, 0)) == (255, 0, 0)


def test_every_part_of_a_union_has_the_ensemble_of_the_authors() -> None:
    counts = {
        name: [len(ensemble_templates(part)) for part in UNIONS[name]] for name in sorted(UNIONS)
    }
    assert counts == {
        "cifar10-cifar100-imagenet": [18, 18, 7],
        "cifar100-caltech101-sun397": [18, 34, 2],
        "flowers-pets-cars": [1, 1, 8],
    }
    assert "i love my {}!" in ensemble_templates("cars")
    assert "a plushie {}." in ensemble_templates("caltech101")
    assert ensemble_templates("pets") == ("a photo of a {}, a type of pet.",)
    for part in (part for union in UNIONS.values() for part in union):
        assert all(template.count("{}") == 1 for template in ensemble_templates(part))
    with pytest.raises(ValueError, match="name: is 'mnist', allowed: cifar10, "):
        ensemble_templates("mnist")


def test_protocols_of_groups(tmp_path, monkeypatch) -> None:
    living = class_list("living17")
    for wnid in [*living.folders, "n99999999"]:
        (tmp_path / "imagenet/val" / wnid).mkdir(parents=True)
        (tmp_path / "imagenet/val" / wnid / "1.JPEG").write_bytes(b"...")
    found = openness_set("living17", tmp_path)
    assert sorted(found.labels) == list(range(68))
    assert [living.folders[label] for label in found.labels] == sorted(living.folders)
    with pytest.raises(FileNotFoundError, match="no images there"):
        openness_set("entity13", tmp_path)

    from torchvision import datasets

    names = sorted(name.replace(" ", "_") for name in class_list("cifar100").names)
    monkeypatch.setattr(
        datasets, "CIFAR100", lambda *_, **__: made_up(100, classes=names, targets=list(range(100)))
    )
    found = openness_set("cifar100", tmp_path)
    plain = [name.replace("_", " ") for name in names]
    assert [found.classes.names[label] for label in found.labels] == plain
    with pytest.raises(ValueError, match="name: is 'mnist', allowed: cifar100, entity13"):
        openness_set("mnist", tmp_path)
