from __future__ import annotations

import pytest

from fastclip.data import load_sample
from fastclip.data.vocabularies import imagenet_names, vocabulary, wordnet_nouns
from fastclip.data.vocabularies.names import VOCABULARIES


def test_each_name_is_listed_once():
    for name in VOCABULARIES:
        found = vocabulary(name)
        assert len(set(found)) == len(found) > 50, name
        assert f"``{name}``" in vocabulary.__doc__
        assert not any("_" in one for one in found)
    assert vocabulary("wordnet") == wordnet_nouns()
    assert set(vocabulary("imagenet")) == set(imagenet_names().values())
    assert vocabulary("coco") == load_sample("coco").names


def test_files_and_names_with_commas(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.txt").write_text("größe\ntraffic light\ngröße\n", "utf-8")
    (tmp_path / "table.csv").write_text("id,name\n1,cat\n2,dog\n")
    assert vocabulary("names.txt") == ("größe", "traffic light")
    assert vocabulary("table.csv", column="name") == ("cat", "dog")
    assert vocabulary("hot dog, cat ,hot dog,") == ("hot dog", "cat")
    (tmp_path / "coco").write_text("a file of this name comes first")
    with pytest.raises(ValueError, match=r"^coco: not a file of texts"):
        vocabulary("coco")


@pytest.mark.parametrize(
    ("given", "meant"),
    [("wordnt", "'wordnet'"), ("LVIS", "'lvis'"), ("open-images", "'openimages'"),
     ("name.txt", "'names.txt'")],
)  # fmt: skip
def test_a_mistyped_name_gets_a_suggestion(given, meant, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.txt").write_text("cat\n")
    with pytest.raises(FileNotFoundError) as caught:
        vocabulary(given)
    assert str(caught.value).startswith(f"{given}: no such file, allowed: ")
    assert str(caught.value).endswith(f"; did you mean {meant}?")


def test_errors(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"cifar100$"):
        vocabulary("zzz")
    with pytest.raises(ValueError, match="holds no name"):
        vocabulary(", ,")
