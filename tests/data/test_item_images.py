from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image
from tiny_encoder import TinyEncoder

from fastclip.data import HardPositiveItem, embed_images, find_item_images, read_features
from fastclip.data.image_decoding import decode_image
from fastclip.data.item_images import cut


def item(image: str, box=None) -> HardPositiveItem:
    return HardPositiveItem(image, "a", ("b",), ("c",), box=box)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("VG_100K/1.jpg", "VG_100K_2/2.jpg", "COCO_val2014_000000000033.jpg", "a/x.png",
                 "b/x.png"):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (40, 30), "red").save(path)
    return tmp_path


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("VG_100K/1.jpg", "VG_100K/1.jpg"),
        ("data/VG_100K_2/2.jpg", "VG_100K_2/2.jpg"),
        ("elsewhere\\1.jpg", "VG_100K/1.jpg"),
        ("2", "VG_100K_2/2.jpg"),
        ("33", "COCO_val2014_000000000033.jpg"),
        ("000000000033.jpg", "COCO_val2014_000000000033.jpg"),
        ("b/x.png", "b/x.png"),
    ],
)
def test_finds_by_path_name_and_number(folder: Path, image: str, name: str) -> None:
    found = find_item_images([item(image)], folder)
    assert (found.source.names, found.image_of_item, found.missing) == ((name,), (0,), {})


def test_missing_images(folder: Path) -> None:
    items = [item("4"), item("1"), item("x.png"), item("1"), item(""), item("3.jpg")]
    found = find_item_images(items, folder)
    assert found.image_of_item == (-1, 0, -1, 0, -1, -1)
    assert found.missing == {
        "4": "no such file",
        "x.png": "several files have this name",
        "": "the item names no image",
        "3.jpg": "no such file",
    }
    with pytest.raises(
        FileNotFoundError, match=r"4 images are missing: 4: no such file; x.png: sev"
    ):
        found.require_all(folder)
    with pytest.raises(FileNotFoundError, match=r"15 images .* and 5 more"):
        find_item_images([item("1"), *map(item, map(str, range(50, 65)))], folder).require_all("d")
    with pytest.raises(ValueError, match="holds none of the 1 images; 4: no such file"):
        find_item_images([item("4")], folder)
    with pytest.raises(FileNotFoundError):
        find_item_images([item("4")], folder / "absent")


def test_a_number_in_a_longer_name_finds_no_other_name(tmp_path: Path) -> None:
    for name in ("cat_1.jpg", "cat_2.jpg", "v1.jpg", "9.5.jpg", "7"):
        Image.new("RGB", (4, 4)).save(tmp_path / name, "JPEG")
    images = ["dog_1.jpg", "v2.jpg", "v1.2", "9", "9.jpg", "x/dog_2.png", "cat.1", "cat_2.png", "2"]
    found = find_item_images([item(image) for image in images], tmp_path)
    assert found.image_of_item == (-1, -1, -1, -1, -1, -1, -1, 0, 0)
    assert found.source.names == ("cat_2.jpg",)
    assert set(found.missing.values()) == {"no such file"}


def test_cuts_to_the_box(tmp_path: Path) -> None:
    picture = Image.linear_gradient("L").convert("RGB")  # 256 x 256, row y has the value y
    picture.save(tmp_path / "1.png")
    items = [item("1", (10.0, 100.0, 20.0, 50.0)), item("1"), item("1", (10.0, 100.0, 20.0, 50.0))]
    found = find_item_images(items, tmp_path)
    assert found.source.names == ("1.png@10,100,20,50", "1.png")
    assert found.image_of_item == (0, 1, 0)
    part = decode_image(found.source.read(0))
    assert part.size == (20, 50)
    assert [part.getpixel((0, y))[0] for y in (0, 49)] == [100, 149]
    assert found.source.read(1) == (tmp_path / "1.png").read_bytes()
    over = cut(picture, (250.0, 0.0, 10.0, 10.0))
    assert over.getpixel((9, 9)) == (0, 0, 0)
    assert cut(picture, (1.5, 2.5, 1.0, 1.2)).size == (1, 2)
    for box in ((0.0, 0.0, 200_000.0, 10.0), (-300.0, 0.0, 400.0, 9.0), (0.0, 0.0, 9.0, 600.0)):
        with pytest.raises(ValueError, match="reaches too far over an image of 256 x 256, allowed"):
            cut(picture, box)
    with pytest.raises(ValueError, match="has no part in an image of 256 x 256"):
        cut(picture, (300.0, 0.0, 10.0, 10.0))


def test_a_job_skips_what_cannot_be_cut_or_read(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (40, 30), "red").save(tmp_path / "images" / "1.png")
    packed = io.BytesIO()
    Image.effect_noise((40, 30), 50).save(packed, "PNG")
    (tmp_path / "images" / "2.png").write_bytes(packed.getvalue()[:200])
    items = [item("1", (50.0, 0.0, 5.0, 5.0)), item("1"), item("2", (0.0, 0.0, 5.0, 5.0))]
    found = find_item_images(items, tmp_path / "images")
    summary = embed_images(found.source, TinyEncoder(), tmp_path / "out")
    assert [entry.index for entry in summary.unreadable] == [0, 2]
    assert "has no part" in summary.unreadable[0].reason
    assert read_features(tmp_path / "out").names == ("1.png",)
