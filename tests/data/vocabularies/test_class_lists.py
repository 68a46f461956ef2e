from __future__ import annotations

import json

import numpy as np
import pytest

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
    with pytest.raises(ValueError, match="name: is 'x', allowed: cifar100, entity13, living17"):
        class_list("x")


def test_own_table(tmp_path) -> None:
    table = tmp_path / "classes.tsv"
    table.write_text("group\tname\tfolder\npets\tred cat\tcat\nwild\twolf\tw\npets\tdog\td\n")
    found = read_class_list(table, templates=["a {}"])
    assert (found.names, found.groups) == (("red cat", "wolf", "dog"), (0, 1, 0))
    assert (found.group_names, found.folders) == (("pets", "wild"), ("cat", "w", "d"))
    assert found.templates == (("a {}",), ("a {}",))


def test_blanks_around_fields_are_no_part_of_them(tmp_path) -> None:
    table = tmp_path / "classes.csv"
    table.write_text("name, group\ncat,a\ndog, a \n owl,b\n")
    found = read_class_list(table)
    assert (found.groups, found.group_names) == ((0, 0, 1), ("a", "b"))
    assert found.folders == ("cat", "dog", "owl")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name\ncat\n", "has the columns name; needs name and group"),
        ("name,group\ncat,\n", "class 1 has no group"),
        ("name,group\ncat,a\ncat,b\n", "several classes have the folder 'cat'"),
        ("name,group\ncat,a\ndog,a\n", "has 1 groups, needs two or more"),
        ('name,group\n"cat,a\n', "unexpected end of data"),
        ("name;group\ncat;a\n", "line 1: 'name;group' is one column, but looks like several"),
        ("name,group,group\ncat,a,b\n", "line 1: two columns are called 'group'"),
        ("name,group\ncat,a,b\n", "class 1 has more fields than there are columns"),
        ("name,group\ncat,a\n cat,b\n", "several classes have the folder 'cat'"),
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
