from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from fastclip.data import HardPositiveItem, SkippedItem, read_hard_positives
from fastclip.data.hard_positives import edit, texts_in_table

SWAP = {
    "image_id": "1",
    "image_path": "VG_100K/1.jpg",
    "true_caption": "the red car and the old man",
    "false_caption": "the old car and the red man",
    "attributes": ["red", "old"],
    **{"bbox_x": 3, "bbox_y": 4, "bbox_w": 20, "bbox_h": 10},
}
REPLACE = {
    "image_id": "2",
    "image_path": "data/VG_100K_2/2.jpg",
    "true_caption": "cat in box",
    "false_caption": "cat out of box",
}


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for folder, swap, replace in (
        ("data", SWAP["true_caption"], REPLACE["true_caption"]),
        ("swapped_data", "the old man and the red car", "cat within box"),
    ):
        write(tmp_path / folder / "swap.json", [SWAP | {"true_caption": swap}])
        write(tmp_path / folder / "relations.json", [REPLACE | {"true_caption": replace}] * 2)
    return tmp_path


def test_the_authors_files(repository: Path) -> None:
    relation = HardPositiveItem(
        "data/VG_100K_2/2.jpg", "cat in box", ("cat within box",), ("cat out of box",), "relations"
    )
    swap = HardPositiveItem(
        "VG_100K/1.jpg",
        "the red car and the old man",
        ("the old man and the red car",),
        ("the old car and the red man",),
        "swap",
        (3.0, 4.0, 20.0, 10.0),
    )
    found = read_hard_positives(repository)
    assert found.items == (relation, relation, swap)
    assert found.texts[:3] == ("cat in box", "cat within box", "cat out of box")
    assert read_hard_positives(repository / "data" / "swap.json").items == (swap,)
    own, positives, negatives = texts_in_table(found.items, found.texts)
    assert (own[2], positives[2], negatives[2]) == (3, [4], [5])


def test_misaligned_files(repository: Path) -> None:
    file = repository / "swapped_data" / "relations.json"
    write(file, [REPLACE, REPLACE | {"false_caption": "cat by box"}])
    with pytest.raises(ValueError, match=r"relations.json: entry 1: hard_negative is 'cat out of"):
        read_hard_positives(repository)
    found = read_hard_positives(repository, invalid="skip")
    assert len(found.items) == 2
    assert [entry.place.rpartition("/")[2] for entry in found.skipped] == [
        "relations.json: entry 1"
    ]
    write(file, [REPLACE])
    with pytest.raises(ValueError, match="has 1 entries, allowed: 2"):
        read_hard_positives(repository, invalid="skip")
    file.unlink()
    with pytest.raises(ValueError, match=r"relations.json is in only one of data and swapped_data"):
        read_hard_positives(repository)


def test_aro_and_sugarcrepe(tmp_path: Path) -> None:
    aro = read_hard_positives(write(tmp_path / "aro.json", [SWAP]))
    assert (aro.items[0].hard_positives, aro.items[0].box) == ((), (3.0, 4.0, 20.0, 10.0))
    entry = {"filename": "7.jpg", "caption": "a cat", "negative_caption": "a dog"}
    write(tmp_path / "crepe" / "swap_att.json", {"0": entry, "1": entry})
    write(tmp_path / "crepe" / "add_obj.json", {"0": entry})
    item = HardPositiveItem("7.jpg", "a cat", (), ("a dog",), "add_obj")
    found = read_hard_positives(tmp_path / "crepe")
    assert found.items[0] == item
    assert [i.category for i in found.items] == ["add_obj", "swap_att", "swap_att"]


def test_aro_order_sets(tmp_path: Path) -> None:
    case = {"image": "val2014/1.jpg", "caption_options": ["a b c", "b a c", "c b a"]}
    (item,) = read_hard_positives(write(tmp_path / "coco_order.json", [case])).items
    assert item == HardPositiveItem("val2014/1.jpg", "a b c", (), ("b a c", "c b a"), "coco_order")
    case["caption_options"] = ["a b c"]
    with pytest.raises(ValueError, match="entry 0: hard_negative is missing"):
        read_hard_positives(write(tmp_path / "coco_order.json", [case]))


def test_own_files(tmp_path: Path) -> None:
    lines = [
        {
            "id": 1,
            "image_id": 5,
            "caption": "a",
            "hard_positives": ["b", "c"],
            "hard_negative": "d",
        },
        {"id": 2, "kind": "k", "caption": "a", "hard_negatives": ["d", "e"]},
    ]
    path = tmp_path / "own.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    assert read_hard_positives(path).items == (
        HardPositiveItem("5", "a", ("b", "c"), ("d",)),
        HardPositiveItem("", "a", (), ("d", "e"), "k"),
    )
    table = "image;caption;hard_positive;hard_negative;category\nx.jpg;a;;d;k\n".replace(";", "\t")
    assert read_hard_positives(write(tmp_path / "own.tsv", table)).items == (
        HardPositiveItem("x.jpg", "a", (), ("d",), "k"),
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"caption": " ", "hard_negative": "d"}, "line 2: caption is blank"),
        ({"hard_negative": "d"}, "line 2: caption is missing"),
        ({"caption": 3, "hard_negative": "d"}, "line 2: caption is a int"),
        ({"caption": "a"}, "line 2: hard_negative is missing"),
        ({"caption": "a", "hard_negatives": ["d", ""]}, "line 2: hard_negative is blank"),
        ({"caption": "a", "hard_negative": "d", "id": 1}, "line 2: id 1 occurred before, in 1"),
        ({"caption": "a", "hard_negative": "d", "bbox_x": 1}, "line 2: the box needs four numbers"),
        ([1], "line 2: a list, allowed: an object"),
        (
            {"caption": "a", "hard_negative": "d", "hard_negatives": ["e"]},
            "line 2: hard_negative and hard_negatives are both given",
        ),
        ({"caption": "a", "hard_negative": "d", "image": ["x"]}, r"line 2: image is \['x'\], all"),
        ({"caption": "\ud800", "hard_negative": "d"}, "line 2: caption: .* not text that UTF-8"),
        (
            {"caption": "a", "hard_negative": "d", "bbox_x": 1, "bbox_y": 1, "bbox_w": 0,
             "bbox_h": 5},
            "line 2: the box is 0 x 5 pixels",
        ),
        (
            {"caption": "a", "hard_negative": "d", "bbox_x": 1, "bbox_y": 1, "bbox_w": "Infinity",
             "bbox_h": 5},
            "line 2: the box is inf x 5 pixels from",
        ),
        (
            {"caption": "a", "hard_negative": "d", "bbox_x": "nan", "bbox_y": 1, "bbox_w": 5,
             "bbox_h": 5},
            "line 2: the box is 5 x 5 pixels from",
        ),
    ],
)  # fmt: skip
def test_invalid_entries(tmp_path: Path, line: Any, message: str) -> None:
    good = {"id": 1, "caption": "a", "hard_negative": "d"}
    path = write(tmp_path / "own.jsonl", f"{json.dumps(good)}\n{json.dumps(line)}\n")
    with pytest.raises(ValueError, match=message) as error:
        read_hard_positives(path)
    assert str(error.value).startswith(f"{path}: ")
    found = read_hard_positives(path, invalid="skip")
    assert len(found.items) == 1
    assert found.skipped == (SkippedItem(f"{path}: line 2", str(error.value).split(": ", 2)[2]),)


def test_sugarcrepe_pp_and_blank_lines_at_the_end(tmp_path: Path) -> None:
    entry = {"filename": "1.jpg", "caption": "a", "caption2": "b", "negative_caption": "c"}
    for content in ([entry], {"0": entry}):
        found = read_hard_positives(write(tmp_path / "swap_obj.json", content))
        assert found.items == (HardPositiveItem("1.jpg", "a", ("b",), ("c",), "swap_obj"),)
    line = json.dumps({"caption": "a", "hard_negative": None, "hard_negatives": ["c"]})
    found = read_hard_positives(write(tmp_path / "own.jsonl", f"{line}\n\n \n"))
    assert len(found.items) == 1


def test_unusable_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        read_hard_positives(tmp_path / "absent")
    for name, content, message in (
        ("a.json", "{", "not JSON"),
        ("a.json", "3", "a int, allowed: a list or an object"),
        ("a.jsonl", '{"caption": \n', "line 1: not JSON"),
        ("a.jsonl", "", "no item in it"),
        ("a.txt", "a", "not a file of captions"),
        ("a.csv", "caption,hard_negative\na,b,c\n", "line 2: more fields than columns"),
    ):
        with pytest.raises(ValueError, match=message):
            read_hard_positives(write(tmp_path / name, content))
    (tmp_path / "a.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(ValueError, match="gzip"):
        read_hard_positives(tmp_path / "a.jsonl.gz")
    with pytest.raises(ValueError, match="invalid: is 'ignore', allowed: raise, skip"):
        read_hard_positives(tmp_path, invalid="ignore")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ("a black dog in box", "none"),
        ("a BLACK dog within box", "in -> within"),
        ("a white dog in box", "black -> white"),
        ("a dog black in box", "order"),
    ],
)
def test_edit(changed: str, expected: str) -> None:
    assert edit("a black dog in box", changed) == expected


def test_published_sets(real_data: Path) -> None:
    counts = {}
    for name in ("replace_relations", "replace_attributes", "swap_constructed", "sugarcrepe"):
        found = read_hard_positives(real_data / "hard_positives" / f"{name}.jsonl.gz")
        counts[name] = len(found.items)
        assert all(len(item.hard_negatives) == 1 for item in found.items)
        assert all(len(i.hard_positives) == (name != "sugarcrepe") for i in found.items)
    assert counts == {
        **{"replace_relations": 14296, "replace_attributes": 8985},
        **{"swap_constructed": 798, "sugarcrepe": 6439},
    }
    path = real_data / "hard_positives" / "coco_swap_negatives.jsonl.gz"
    found = read_hard_positives(path)
    assert max(len(item.hard_negatives) for item in found.items) > 1
