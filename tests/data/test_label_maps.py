from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fastclip.data import (
    encode_rle,
    read_ade20k,
    read_coco,
    read_mask_folder,
    read_tag_masks,
    read_voc,
)

pytestmark = pytest.mark.host


def write(path: Path, pixels: Any, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.array(pixels, dtype=np.uint8))
    if palette:
        image.putpalette([255 - i for i in range(256) for _ in range(3)])  # colours are no labels
    image.save(path)


def write_image(path: Path, width: int, height: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), "red").save(path)


def test_voc(tmp_path: Path) -> None:
    splits = tmp_path / "ImageSets" / "Segmentation"
    splits.mkdir(parents=True)
    (splits / "val.txt").write_text("2007_000033\n2007_000042\n")
    (splits / "train.txt").write_text("\n")
    for name in ("2007_000033", "2007_000042"):
        write_image(tmp_path / "JPEGImages" / f"{name}.jpg", 3, 2)
        write(tmp_path / "SegmentationClass" / f"{name}.png", [[0, 1, 255], [0, 20, 8]], True)
    found = read_voc(tmp_path)
    assert len(found) == 2
    assert found.names == ("2007_000033", "2007_000042")
    assert found.labels(1).tolist() == [[0, 1, -1], [0, 20, 8]]
    assert (found.classes[0], found.classes[8], found.classes[20]) == (
        "background", "cat", "tvmonitor",
    )  # fmt: skip
    assert found.image(0).size == (3, 2)
    with pytest.raises(ValueError, match="the split 'train' is empty"):
        read_voc(tmp_path, "train")
    (tmp_path / "SegmentationClass" / "2007_000033.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"2007_000033\.png: no such file"):
        read_voc(tmp_path)


def test_ade(tmp_path: Path) -> None:
    rows = "\n".join(f"{i}\t0.1\t5\t2\t3\tthing {i}, other name" for i in range(1, 151))
    (tmp_path / "objectInfo150.txt").write_text(f"Idx\tRatio\tTrain\tVal\tStuff\tName\n{rows}\n")
    write_image(tmp_path / "images" / "validation" / "ADE_val_1.jpg", 2, 1)
    write(tmp_path / "annotations" / "validation" / "ADE_val_1.png", [[0, 150]])
    found = read_ade20k(tmp_path)
    assert len(found.classes) == 150
    assert found.classes[149] == "thing 150"
    assert found.labels(0).tolist() == [[-1, 149]]
    (tmp_path / "objectInfo150.txt").write_text("Idx\tWord\n1\twall\n")
    with pytest.raises(ValueError, match="has no column Name, but"):
        read_ade20k(tmp_path)


def test_mask_folder_errors(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "a" / "1.jpg", 2, 2)
    write_image(tmp_path / "images" / "2.jpg", 2, 2)
    write(tmp_path / "masks" / "a" / "1.png", [[0, 1], [7, 255]])

    def found(**options: Any) -> Any:
        return read_mask_folder(tmp_path / "images", tmp_path / "masks", ["sky", "sea"], **options)

    assert found().names == ("a/1",)
    with pytest.raises(ValueError, match="stands for row 7 of the classes, allowed: 0 to 1"):
        found().labels(0)
    assert found(ignored=(7, 255)).labels(0).tolist() == [[0, 1], [-1, -1]]
    write(tmp_path / "masks" / "a" / "1.png", [[0, 1, 1]])
    with pytest.raises(ValueError, match=r"label map is of \(1, 3\) pixels .* \(2, 2\)"):
        found().labels(0)
    write_image(tmp_path / "masks" / "a" / "1.png", 2, 2)
    with pytest.raises(ValueError, match="not a label map: its mode is RGB"):
        found().labels(0)
    (tmp_path / "masks" / "a" / "1.png").write_bytes(b"text")
    with pytest.raises(ValueError, match=r"1\.png: not a label map"):
        found().labels(0)
    (tmp_path / "masks" / "a" / "1.png").rename(tmp_path / "masks" / "3.png")
    with pytest.raises(ValueError, match="holds no mask of an image in"):
        found()
    with pytest.raises(ValueError, match="classes: at least one"):
        read_mask_folder(tmp_path / "images", tmp_path / "masks", [])


def coco(folder: Path, annotations: list[dict[str, Any]]) -> Path:
    path = folder / "instances.json"
    content = {
        "images": [{"id": 7, "file_name": "7.jpg"}, {"id": 3, "file_name": "3.jpg"}],
        "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
        "annotations": [{"image_id": 7, "iscrowd": 0, "area": 1.0, **a} for a in annotations],
    }
    path.write_text(json.dumps(content))
    for name in ("7", "3"):
        write_image(folder / f"{name}.jpg", 6, 4)
    return path


def test_coco(tmp_path: Path) -> None:
    small = torch.zeros(4, 6, dtype=torch.bool)
    small[1, 1:3] = True
    crowd = torch.zeros(4, 6, dtype=torch.bool)
    crowd[1:, 2:] = True
    runs = [int(n) for n in np.diff(np.flatnonzero(np.diff(crowd.T.flatten().int(), prepend=0)))]
    first = int(crowd.T.flatten().int().argmax())
    counts = [first, *runs, 24 - first - sum(runs)]
    path = coco(
        tmp_path,
        [
            {"category_id": 18, "area": 2.0, "segmentation": encode_rle(small)},
            {"category_id": 1, "area": 8.0, "segmentation": [[0, 0, 4, 0, 4, 2, 0, 2]]},
            {
                "category_id": 1, "area": 12.0, "iscrowd": 1,
                "segmentation": {"size": [4, 6], "counts": counts},
            },
        ],
    )  # fmt: skip
    found = read_coco(path, tmp_path)
    assert found.classes == ("background", "person", "dog")
    assert found.labels(0).tolist() == [
        [1, 1, 1, 1, 0, 0],
        [1, 2, 2, 1, -1, -1],
        [0, 0, -1, -1, -1, -1],
        [0, 0, -1, -1, -1, -1],
    ]
    assert not found.labels(1).any()


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[0, 0, 1]], "a polygon has 3 numbers"),
        ({"size": [6, 4], "counts": [24]}, r"is of \(6, 4\) pixels, its image of \(4, 6\)"),
        ({"size": [4, 6], "counts": [20]}, "its runs are 20 pixels"),
        ({"size": [4, 6], "counts": None}, "its runs are"),
        (None, "segmentation: "),
    ],
)
def test_coco_errors(tmp_path: Path, segmentation: Any, message: str) -> None:
    path = coco(tmp_path, [{"category_id": 1, "segmentation": segmentation}])
    with pytest.raises(ValueError, match=rf"7\.jpg: segmentation: .*{message[:20]}|{message}"):
        read_coco(path, tmp_path).labels(0)


def test_coco_files_that_are_none(tmp_path: Path) -> None:
    path = coco(tmp_path, [{"category_id": 2, "segmentation": []}])
    with pytest.raises(ValueError, match="not COCO's instances: category_id 2 is none"):
        read_coco(path, tmp_path)
    path.write_text('{"images": []}')
    with pytest.raises(ValueError, match="not COCO's instances: 'categories'"):
        read_coco(path, tmp_path)


def test_tag_masks(tmp_path: Path) -> None:
    for name in ("b", "a", "without"):
        write_image(tmp_path / "image" / f"{name}.jpg", 2, 1)
    for name in ("a", "b"):
        write(tmp_path / "mask_using_HQ-SAM" / f"{name}.png", [[0, 255]])
        (tmp_path / "json_refined").mkdir(exist_ok=True)
        entry = {"caption": f"a dog by {name}", "tags": ["dog"]}
        (tmp_path / "json_refined" / f"{name}.json").write_text(json.dumps(entry))
    first, second = read_tag_masks(tmp_path)
    assert (first.caption, first.tags, second.image.name) == ("a dog by a", ("dog",), "b.jpg")
    assert first.mask().tolist() == [[False, True]]
    with pytest.raises(ValueError, match=r"has no field 'text', but \['caption', 'tags'\]"):
        read_tag_masks(tmp_path, caption_field="text")
    with pytest.raises(FileNotFoundError):
        read_tag_masks(tmp_path / "absent")
