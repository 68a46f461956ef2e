from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fastclip.data import (
    encode_rle,
    read_ade20k,
    read_coco,
    read_mask_folder,
    read_tag_masks,
    read_voc,
)
from fastclip.data._coco_masks import paint

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
    with pytest.raises(ValueError, match=r"1\.png: holds the number 7, allowed: 0 to 1\. Give ig"):
        found().labels(0)
    with pytest.raises(ValueError, match="ignored: holds 1, which is also the number of a class"):
        found(ignored=(1,))
    with pytest.raises(ValueError, match="numbers: 2 are needed, one per class, got 3"):
        found(numbers=(1, 2, 3))
    with pytest.raises(ValueError, match="numbers: two classes have the same number"):
        found(numbers=(1, 1))
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
    Image.new("L", (2, 2)).save(tmp_path / "masks" / "a" / "1.png", "JPEG")
    with pytest.raises(ValueError, match=r"1\.png: not a label map: JPEG does not keep numbers"):
        found().labels(0)
    write_image(tmp_path / "images" / "a" / "1.png", 2, 2)
    with pytest.raises(ValueError, match=r"a/1\.jpg and a/1\.png have the same name but for"):
        found()
    (tmp_path / "images" / "a" / "1.png").unlink()
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
        "annotations": [
            {"id": 5, "image_id": 7, "iscrowd": 0, "area": 1.0, **a} for a in annotations
        ],
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
        (
            {"size": [6, 4], "counts": [24]},
            r"is of \[6, 4\] pixels \(H, W\), its image of \[4, 6\]",
        ),
        ({"size": [4, 6], "counts": [20]}, r"its runs \[20\] do not fill size \[4, 6\]"),
        ({"size": [4, 6], "counts": None}, "counts is None, allowed: text, or"),
        (None, "is None, allowed: a list of polygons, or run lengths"),
    ],
)
def test_coco_errors(tmp_path: Path, segmentation: Any, message: str) -> None:
    path = coco(tmp_path, [{"category_id": 1, "segmentation": segmentation}])
    with pytest.raises(ValueError, match=message) as caught:
        read_coco(path, tmp_path).labels(0)
    assert str(caught.value).startswith(f"{path}: annotation 5 of 7.jpg: segmentation: ")


def test_coco_files_that_are_none(tmp_path: Path) -> None:
    path = coco(tmp_path, [{"category_id": 2, "segmentation": []}])
    with pytest.raises(ValueError, match="not COCO's instances: category_id 2 is none"):
        read_coco(path, tmp_path)
    path.write_text('{"images": []}')
    with pytest.raises(ValueError, match="not COCO's instances: 'categories' is missing"):
        read_coco(path, tmp_path)


def test_numbers_of_classes(tmp_path: Path) -> None:
    """16-bit masks with a class 255, masks of 0 and 255, and grey pixels of few bits."""
    write_image(tmp_path / "images" / "1.png", 4, 1)
    (tmp_path / "masks").mkdir()
    file = tmp_path / "masks" / "1.png"

    def labels(classes: int, **options: Any) -> list[int]:
        names = [f"class {i}" for i in range(classes)]
        folders = tmp_path / "images", tmp_path / "masks"
        found = read_mask_folder(*folders, names, **options).labels(0)
        assert found.dtype == torch.int64
        return found[0].tolist()

    Image.fromarray(np.array([[0, 255, 300, 65535]], np.uint16)).save(file)
    assert labels(301, ignored=(65535,)) == [0, 255, 300, -1]
    with pytest.raises(ValueError, match="holds the number 65535, allowed: 0 to 300"):
        labels(301)
    Image.fromarray(np.array([[0, 255, 255, 0]], np.uint8)).save(file)
    with pytest.raises(ValueError, match=r"holds the number 255.* numbers=.* such as \(0, 255\)"):
        labels(2)
    assert labels(2, numbers=(0, 255)) == [0, 1, 1, 0]
    assert labels(1, numbers=(255,), ignored=(0,)) == [-1, 0, 0, -1]
    Image.fromarray(np.array([[False, True, True, False]])).save(file)
    assert labels(2) == [0, 1, 1, 0]
    for bits, values in ((2, [0, 1, 2, 3]), (4, [0, 5, 9, 15])):
        packed = sum(value << bits * (3 - i) for i, value in enumerate(values))
        file.write_bytes(grey_png(bits, packed.to_bytes(bits // 2, "big")))
        assert labels(16) == values
    Image.fromarray(np.array([[0, -1, 1, 0]], np.int32)).save(file, "TIFF")
    with pytest.raises(ValueError, match="holds the number -1, allowed: 0 to 1"):
        labels(2)


def grey_png(bits: int, row: bytes) -> bytes:
    """4 x 1 pixels; Pillow does not write fewer than 8 bits."""
    header = struct.pack(">IIBBBBB", 4, 1, bits, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b""))
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # of pycocotools, with NumPy 2
@given(st.data())
def test_polygons_cover_what_pycocotools_gives_them(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 30))
    number = st.floats(-10, 40, width=32) | st.integers(-5, 35)
    outline = st.lists(number, min_size=6, max_size=14).filter(lambda x: len(x) % 2 == 0)
    polygons = data.draw(st.lists(outline, min_size=1, max_size=3))
    outlines = pycocotools.mask.frPyObjects([list(map(float, p)) for p in polygons], height, width)
    expected = pycocotools.mask.decode(pycocotools.mask.merge(outlines))
    np.testing.assert_array_equal(paint(polygons, (height, width)), expected)


@pytest.mark.parametrize(("diameter", "pixels"), [(2, 4), (5, 16), (10, 80), (20, 317)])
def test_areas_of_polygons(diameter: int, pixels: int) -> None:
    """As pycocotools says: the outline is no part of them."""
    corners: list[float] = [3, 3, 5, 3, 5, 5, 3, 5]
    if diameter > 2:
        angles = np.arange(64) / 64 * 2 * np.pi
        circle = np.stack([np.cos(angles), np.sin(angles)], 1) * diameter / 2 + 15
        corners = circle.flatten().tolist()
    assert paint([corners], (30, 30)).sum() == pixels


TURNS = {  # by the EXIF standard's picture of each orientation
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: a.T[:, ::-1],
    7: lambda a: a.T[::-1, ::-1],
    8: lambda a: a.T[::-1],
}


@pytest.mark.parametrize("suffix", ["jpg", "tiff"])
@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("size", [(20, 30), (30, 30)])
def test_labels_lie_where_the_image_shows_them(
    tmp_path: Path, orientation: int, size: tuple[int, int], suffix: str
) -> None:
    """A bright spot, and a label drawn over it in the file's pixels or in the picture's."""
    height, width = size
    spot = np.zeros(size, dtype=np.uint8)
    spot[2:9, 3:14] = 1
    exif = Image.Exif()
    exif[0x0112] = orientation
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    picture = Image.fromarray(np.repeat(spot[..., None] * 255, 3, 2))
    picture.save(tmp_path / "images" / f"1.{suffix}", exif=exif, quality=100)
    seen = TURNS[orientation](spot)
    x, y = 3, 2
    polygon = [x, y, x + 11, y, x + 11, y + 7, x, y + 7]
    content = {
        "images": [{"id": 1, "file_name": f"1.{suffix}", "width": width, "height": height}],
        "categories": [{"id": 1, "name": "spot"}],
        "annotations": [{"image_id": 1, "category_id": 1, "segmentation": [polygon]}],
    }
    (tmp_path / "stored.json").write_text(json.dumps(content))
    rows, columns = np.nonzero(seen)
    x, y = int(columns.min()), int(rows.min())
    right, bottom = int(columns.max()) + 1, int(rows.max()) + 1
    content["annotations"][0]["segmentation"] = [[x, y, right, y, right, bottom, x, bottom]]
    content["images"][0] |= {"height": seen.shape[0], "width": seen.shape[1]}
    (tmp_path / "upright.json").write_text(json.dumps(content))
    del content["images"][0]["height"], content["images"][0]["width"]
    (tmp_path / "unknown.json").write_text(json.dumps(content))

    def coco(kind: str, drawn_on: Any) -> Any:
        return read_coco(tmp_path / f"{kind}.json", tmp_path / "images", drawn_on=drawn_on)

    def masks(kind: str, drawn_on: Any) -> Any:
        mask = spot if kind == "stored" else seen
        write(tmp_path / "masks" / "1.png", mask)
        folders = tmp_path / "images", tmp_path / "masks"
        return read_mask_folder(*folders, ["rest", "spot"], drawn_on=drawn_on)

    told = orientation == 1 or (orientation >= 5 and height != width)
    for kind in ("stored", "upright"):
        for read in (coco, masks):
            for drawn_on in (kind, *([None] if told else [])):
                labels = read(kind, drawn_on).labels(0).numpy()
                np.testing.assert_array_equal(labels, seen)
            if not told:
                with pytest.raises(ValueError, match=r"EXIF orientation . turns .* give drawn_on="):
                    read(kind, None).labels(0)
    shown = np.asarray(masks("upright", "upright").image(0).convert("L")) > 127
    np.testing.assert_array_equal(shown, seen == 1)
    np.testing.assert_array_equal(coco("unknown", "upright").labels(0).numpy(), seen)
    if orientation > 1:
        with pytest.raises(ValueError, match="give drawn_on="):
            coco("unknown", None).labels(0)


def test_images_that_were_scaled(tmp_path: Path) -> None:
    path = coco(tmp_path, [{"category_id": 1, "segmentation": [[0, 0, 300, 0, 300, 200, 0, 200]]}])
    content = json.loads(path.read_text())
    content["images"][0] |= {"width": 600, "height": 401}
    path.write_text(json.dumps(content))
    assert read_coco(path, tmp_path).labels(0).tolist() == [[1, 1, 1, 0, 0, 0]] * 2 + [[0] * 6] * 2
    content["images"][0] |= {"width": 400, "height": 400}
    path.write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match=rf"7\.jpg: according to {path}, its label map is of \(400"
    ):
        read_coco(path, tmp_path).labels(0)
    with pytest.raises(ValueError, match="drawn_on: is 'both', allowed: upright, stored"):
        read_coco(path, tmp_path, drawn_on="both")


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
    with pytest.raises(ValueError, match=r"a\.json: caption is 'a dog by a', allowed: a list"):
        read_tag_masks(tmp_path, tags_field="caption")
    with pytest.raises(FileNotFoundError):
        read_tag_masks(tmp_path / "absent")
    write(tmp_path / "mask_using_HQ-SAM" / "a.png", [[0, 255, 0]])
    with pytest.raises(ValueError, match=r"a\.png: its label map is of \(1, 3\) pixels"):
        first.mask()
