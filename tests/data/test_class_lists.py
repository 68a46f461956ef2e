from __future__ import annotations

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from fastclip.data import openness_sets
from fastclip.data.openness_sets import openness_set, part_of
from fastclip.data.vocabularies import (
    class_list,
    imagenet_names,
    read_class_list,
)


@pytest.mark.parametrize(
    ("name", "groups", "each"), [("cifar100", 20, 5), ("entity13", 13, 20), ("living17", 17, 4)]
)
def test_shipped_lists(name, groups, each) -> None:
    found = class_list(name)
    assert len(found.group_names) == len(set(found.group_names)) == groups
    assert np.bincount(found.groups).tolist() == [each] * groups
    assert len(set(found.names)) == len(set(found.folders)) == groups * each
    assert set(found.templates) == {("a photo of a {}.",)}
    several = class_list(name, ensemble=True).templates[0]
    assert len(several) == (18 if name == "cifar100" else 7)
    assert all(template.count("{}") == 1 for template in several)
    assert found.labels([f"a/b/{found.folders[3]}/1.png", f"{found.folders[0]}/x"]) == [3, 0]
    with pytest.raises(ValueError, match=r"x/1\.png: is in the folder 'x', which no class has"):
        found.labels(["x/1.png"])


def test_lists_are_those_of_their_sources(real_data) -> None:
    vocabularies = real_data / "vocab"
    imagenet = json.loads((vocabularies / "imagenet1k.json").read_text())
    assert imagenet_names() == {c["wnid"]: c["clip_name"] for c in imagenet}
    for name in ("entity13", "living17"):
        found = class_list(name)
        breeds = json.loads((vocabularies / "breeds.json").read_text())[name]
        expected = [
            (group["name"], c["wnid"], c["clip_name"])
            for group in breeds
            for c in group["subclasses"]
        ]
        groups = [found.group_names[group] for group in found.groups]
        assert list(zip(groups, found.folders, found.names, strict=True)) == expected


def test_no_such_list() -> None:
    with pytest.raises(ValueError, match="name is 'x', allowed: cifar100, entity13, living17"):
        class_list("x")


def test_own_table(tmp_path) -> None:
    table = tmp_path / "classes.tsv"
    table.write_text("group\tname\tfolder\npets\tred cat\tcat\nwild\twolf\tw\npets\tdog\td\n")
    found = read_class_list(table, templates=["a {}"])
    assert (found.names, found.groups) == (("red cat", "wolf", "dog"), (0, 1, 0))
    assert (found.group_names, found.folders) == (("pets", "wild"), ("cat", "w", "d"))
    assert found.templates == (("a {}",), ("a {}",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name\ncat\n", "has the columns name; needs name and group"),
        ("name,group\ncat,\n", "class 1 has no group"),
        ("name,group\ncat,a\ncat,b\n", "several classes have the folder 'cat'"),
        ("name,group\ncat,a\ndog,a\n", "has 1 groups, needs two or more"),
        ('name,group\n"cat,a\n', "unexpected end of data"),
    ],
)
def test_bad_tables(tmp_path, text, message) -> None:
    table = tmp_path / "classes.csv"
    table.write_text(text)
    with pytest.raises(ValueError, match=f"{table}: {message}"):
        read_class_list(table)


def test_no_table(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"not a list of classes, allowed: \.csv or \.tsv"):
        read_class_list(tmp_path / "classes.txt")
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_class_list(tmp_path / "classes.csv")


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
    with pytest.raises(ValueError, match="name is 'mnist', allowed: cifar100, entity13"):
        openness_set("mnist", tmp_path)
