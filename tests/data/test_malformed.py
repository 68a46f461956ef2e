"""Files as users have them: each gives the right answer, or an error that names it and says why."""

from __future__ import annotations

import gzip
import io
import json
import struct
import sys
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from tiny_encoder import TinyEncoder

from fastclip.data import (
    embed_images,
    find_images,
    read_coco,
    read_hard_positives,
    read_mask_folder,
    read_texts,
)
from fastclip.data.vocabularies import read_class_list

pytestmark = pytest.mark.host


def short(value: object) -> str:
    """Bytes and the like do not name a test."""
    return value[:40] if isinstance(value, str) else ""


def packed(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int = 8, colour: int = 0, data: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    rows = chunk(b"IDAT", zlib.compress(data))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + rows + chunk(b"IEND", b"")


def png_with_a_text_that_grows() -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("x", "a" * (1 << 21), zip=True)
    return packed(Image.new("RGB", (4, 4)), pnginfo=text)


def tiff_whose_directory_is_itself() -> bytes:
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 0) + struct.pack("<I", 8)


GREY = Image.new("L", (4, 3), 1)
IMAGES = {
    "bomb": (png(60_000, 60_000), "decompression bomb"),
    "no width": (png(0, 5), "not an image"),
    "flat": (png(9000, 2), "9000 x 2 pixels, allowed"),
    "no rows": (png(4, 4), "truncated|broken|not enough"),
    "unknown colour": (png(4, 4, colour=5), "not an image"),
    "wrong checksum": (packed(GREY)[:20] + b"\xff" + packed(GREY)[21:], "not an image"),
    "half a jpeg": (packed(Image.effect_noise((64, 64), 50), "JPEG")[:700], "truncated"),
    "a page": ("<html>404</html>".encode("utf-16"), "not an image, allowed: JPEG"),
    "a directory that is itself": (tiff_whose_directory_is_itself(), "not an image"),
    "a text that grows": (png_with_a_text_that_grows(), "text|large|Large|not an image"),
    "numbers": (packed(Image.new("F", (4, 4)), "TIFF"), "no defined white"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "not an image"),
}


def test_images(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name, (content, _) in IMAGES.items():
        (tmp_path / "images" / f"{name}.png").write_bytes(content)
    (tmp_path / "images" / "good.png").write_bytes(packed(GREY))
    summary = embed_images(tmp_path / "images", TinyEncoder(), tmp_path / "out")
    reasons = {entry.name.removesuffix(".png"): entry.reason for entry in summary.unreadable}
    assert reasons.keys() == IMAGES.keys()
    for name, (_, reason) in IMAGES.items():
        assert any(part in reasons[name] for part in reason.split("|")), (name, reasons[name])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (packed(GREY)[:-28], "truncated|broken"),
        (packed(GREY)[:30], "not a label map"),
        (packed(GREY.convert("RGBA")), "its mode is RGBA, allowed: grey or palette"),
        (packed(GREY, "WEBP"), "WEBP does not keep numbers, allowed: PNG"),
        (packed(GREY, "PPM"), "PPM does not keep numbers, allowed: PNG"),
        (packed(Image.new("F", (4, 3)), "TIFF"), "its mode is F"),
        (packed(Image.new("L", (4, 3), 2)), "holds the number 2, allowed: 0 to 1"),
        (packed(GREY.transpose(Image.Transpose.ROTATE_90)), "is of (4, 3) pixels (H, W), its"),
        (png(30_000, 30_000), "decompression bomb"),
    ],
    ids=short,
)
def test_masks(tmp_path: Path, content: bytes, reason: str) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    (tmp_path / "images" / "1.png").write_bytes(packed(GREY))
    path = tmp_path / "masks" / "1.png"
    path.write_bytes(content)
    found = read_mask_folder(tmp_path / "images", tmp_path / "masks", ["a", "b"])
    with pytest.raises(ValueError, match=r".") as caught:
        found.labels(0)
    assert str(caught.value).startswith(f"{path}: ")
    assert any(part in str(caught.value) for part in reason.split("|")), caught.value


TABLE = "caption,hard_negative,name,group\na cat,a dog,cat,animals\nan oak,a fir,oak,trees\n"
LINE = json.dumps({"caption": "a cat", "hard_negative": "a dog"})
NUL = "line contains NUL" if sys.version_info < (3, 11) else None  # csv reads it from then on


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", TABLE.encode("utf-16"), "not UTF-8|codec"),
        ("a.csv", TABLE.replace("oak", "chêne").encode("latin-1"), "not UTF-8|codec"),
        ("a.csv", TABLE.replace("oak", "o\0k").encode(), NUL),
        ("a.csv", TABLE.replace("oak", "o" * 200_000).encode(), "field larger than field limit"),
        ("a.csv", TABLE.replace(",", ";").encode(), "several with semicolons between them"),
        ("a.csv", TABLE.replace(",trees", ',"trees').encode(), "unexpected end of data"),
        ("a.csv", b"\xef\xbb\xbf" + TABLE.encode(), None),
        ("a.csv", b"", "no line in it, allowed: a first one that names"),
        (
            "a.csv",
            b"PAR1" + bytes(99),
            "needs name and group|column|caption is missing|no item|NUL",
        ),
        ("a.csv.gz", gzip.compress(TABLE.encode())[:-6] + b"123456", "CRC|not a list of classes"),
        ("a.jsonl", b"\xef\xbb\xbf" + LINE.encode() + b"\n\n", None),
        ("a.jsonl", LINE.encode("utf-16"), "not UTF-8"),
        ("a.jsonl", LINE.encode() + b"\n" + b"[" * 99_999, "line 2: not JSON"),
        ("a.jsonl", b'{"caption": ' + b"9" * 9999 + b"}", "line 1: not JSON|is a int"),
        ("a.jsonl", LINE.replace('"a cat"', "NaN").encode(), "caption is a float|a float, allowed"),
        ("a.jsonl", LINE.encode()[:-3], "line 1: not JSON"),
        ("a.jsonl", LINE.encode() + b" " + LINE.encode(), "line 1: not JSON"),
        ("a.jsonl", LINE.replace("cat", "\\ud800").encode(), "not text that UTF-8 can hold"),
    ],
    ids=short,
)
def test_tables(tmp_path: Path, name: str, content: bytes, reason: str | None) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    readers: list[Any] = [
        lambda: read_texts(path, column="caption"),
        lambda: read_hard_positives(path),
    ]
    if name.endswith(".csv"):
        readers.append(lambda: read_class_list(path))
    for read in readers:
        if reason is None:
            assert read()
            continue
        with pytest.raises(ValueError, match=r".") as caught:
            read()
        assert str(caught.value).startswith(f"{path}: ")
        assert any(part in str(caught.value) for part in reason.split("|")), caught.value


def tar(*members: tuple[tarfile.TarInfo, bytes], kind: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind) as archive:
        for member, data in members:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def linked(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


ONE = (tarfile.TarInfo("1.png"), packed(GREY))


@pytest.mark.parametrize(
    ("content", "names", "reasons"),
    [
        (b"", ("0.tar",), ["empty file"]),
        (bytes(10_240), (), []),
        (gzip.compress(tar(ONE)), ("0.tar",), ["not compressed"]),
        (b"PK\3\4" + bytes(600), ("0.tar",), ["allowed: a whole tar file"]),
        (tar(ONE)[:550], ("0.tar",), ["unexpected end of data"]),
        (tar(ONE)[:1024] + b"\xff" * 512, ("0/1", "0.tar"), ["no member begins at byte 1024"]),
        (tar(ONE)[:1024], ("0/1",), []),
        (tar(ONE, (linked("2.png", "2.png", tarfile.SYMTYPE), b"")), ("0/1", "0/2"), ["a link"]),
        (tar((linked("2.png", "1.png", tarfile.LNKTYPE), b""), ONE), ("0/2", "0/1"), ["a link"]),
        (tar((linked("2.png", "", tarfile.CHRTYPE), b""), ONE), ("0/2", "0/1"), ["special file"]),
        (tar((tarfile.TarInfo("../../1.png"), ONE[1])), ("0/../../1",), []),
        (tar((tarfile.TarInfo("\udcff.png"), ONE[1])), ("0/\udcff",), ["the name is not UTF-8"]),
        (tar((tarfile.TarInfo("1.png"), b"")), ("0/1",), ["the file is empty"]),
    ],
    ids=short,
)
def test_tars(tmp_path: Path, content: bytes, names: tuple[str, ...], reasons: list[str]) -> None:
    """The other tar of the pattern is read, whatever this one is."""
    (tmp_path / "0.tar").write_bytes(content)
    (tmp_path / "9.tar").write_bytes(tar(ONE))
    found = find_images(tmp_path / "?.tar")
    assert found.names == (*names, "9/1")
    summary = embed_images(found, TinyEncoder(), tmp_path / "out")
    assert summary.rows == len(found) - len(reasons)
    for entry, reason in zip(summary.unreadable, reasons, strict=True):
        assert reason in entry.reason


SQUARE = [0, 0, 2, 0, 2, 2, 0, 2]


def coco(**changes: Any) -> dict[str, Any]:
    """One image of 4 x 3 pixels with one square, and what is changed, such as ``images_id``."""
    content: dict[str, Any] = {
        "images": [{"id": 1, "file_name": "1.png", "width": 4, "height": 3}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"id": 9, "image_id": 1, "category_id": 1, "segmentation": [SQUARE]}],
    }
    for place, value in changes.items():
        kind, _, field = place.partition("_")
        if field:
            content[kind][0][field] = value
        else:
            content[kind] = value
    return content


def rle(counts: Any, size: Any = (3, 4)) -> dict[str, Any]:
    return {"size": list(size), "counts": counts}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"images": {}}, "'images' is {}, allowed: a list of objects"),
        ({"images": [7]}, "'images' is [7], allowed: a list of objects"),
        ({"annotations": None}, "'annotations' is missing"),
        ({"images": coco()["images"] * 2}, "images: an id occurs twice"),
        ({"categories": coco()["categories"] * 2}, "categories: an id occurs twice"),
        ({"images_id": "1"}, "images: id is '1', allowed: a whole number"),
        ({"images_id": [1]}, "images: id is [1]"),
        ({"images_width": 0}, "height and width are (3, 0), allowed: whole numbers from 1"),
        ({"images_width": 1e9}, "height and width are (3, 1000000000.0)"),
        ({"images_width": 10**9}, "pixels at most"),
        ({"images_height": None}, "height and width are (None, 4)"),
        ({"images_file_name": None}, "images: file_name is None, allowed: a name"),
        ({"images_file_name": "a\0b"}, "images: file_name is "),
        ({"categories_name": 5}, "categories: name is 5, allowed: a name"),
        ({"annotations_category_id": -1}, "category_id -1 is none of the categories"),
        ({"annotations_image_id": 2}, "image_id 2 is none of the images"),
        ({"annotations_image_id": True}, "image_id is True, allowed: a whole number"),
        ({"annotations_area": "12"}, "area is '12', allowed: a number from 0 on, or null"),
        ({"annotations_area": float("nan")}, "area is nan"),
        ({"annotations_area": -1}, "area is -1"),
        ({"annotations_iscrowd": 2}, "iscrowd is 2, allowed: 0 or 1"),
        ({"annotations_segmentation": [SQUARE[:7]]}, "a polygon has 7 numbers"),
        ({"annotations_segmentation": [[0, 0, 2, 2]]}, "a polygon has 4 numbers"),
        ({"annotations_segmentation": SQUARE}, "a polygon has 0, allowed: pairs of numbers"),
        ({"annotations_segmentation": [[SQUARE] * 6]}, "a polygon has the coordinate [0, 0, 2"),
        ({"annotations_segmentation": [[*SQUARE[:7], float("nan")]]}, "has the coordinate nan"),
        ({"annotations_segmentation": [[*SQUARE[:7], 1e300]]}, "has the coordinate 1e+300"),
        ({"annotations_segmentation": [[*SQUARE[:7], "2"]]}, "has the coordinate '2'"),
        ({"annotations_segmentation": [[0, 0, 9e5, 0] * 5]}, "has an outline of 9e+06 pixels"),
        ({"annotations_segmentation": rle([12], (4, 3))}, "is of [4, 3] pixels (H, W), its image"),
        ({"annotations_segmentation": rle([12], (10**9, 10**9))}, "is of [1000000000, 1000"),
        ({"annotations_segmentation": rle([13, -1])}, "its runs [13, -1] do not fill size [3, 4]"),
        ({"annotations_segmentation": rle([10**30])}, "do not fill size"),
        ({"annotations_segmentation": rle(["12"])}, "do not fill size"),
        ({"annotations_segmentation": rle([6.5, 5.5])}, "do not fill size"),
        ({"annotations_segmentation": rle("")}, "its runs [] do not fill size"),
        ({"annotations_segmentation": rle("ÿ")}, "allowed: what pycocotools writes"),
        ({"annotations_segmentation": rle("o" * 99_999)}, "allowed: what pycocotools writes"),
        ({"annotations_segmentation": rle("<o")}, "which ends within a number"),
        ({"annotations_segmentation": {"counts": [12]}}, "'size'"),
        ({"annotations_segmentation": "<0"}, "is '<0', allowed: a list of polygons"),
    ],
)
def test_coco(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    (tmp_path / "1.png").write_bytes(packed(GREY))
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(coco(**changes)))
    with pytest.raises(ValueError, match=r".") as caught:
        read_coco(path, tmp_path).labels(0)
    assert str(caught.value).startswith(f"{path}: ")
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "inside"),
    [
        ({}, SQUARE),
        ({"annotations_area": None, "annotations_iscrowd": None}, SQUARE),
        ({"annotations_area": 0.0}, SQUARE),
        ({"annotations_segmentation": []}, None),
        ({"annotations_segmentation": rle([12])}, None),
        ({"annotations_segmentation": [[-9, -9, 2, -9, 2, 2, -9, 2]]}, SQUARE),
        ({"annotations_segmentation": [[x + 1e5 for x in SQUARE]]}, None),
        ({"annotations": []}, None),
        ({"categories_name": "größe"}, SQUARE),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_coco_that_is_right(
    tmp_path: Path, changes: dict[str, Any], inside: Any, encoding: str
) -> None:
    (tmp_path / "1.png").write_bytes(packed(GREY))
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(coco(**changes), ensure_ascii=False), encoding)
    labels = np.zeros((3, 4), int)
    if inside:
        labels[:2, :2] = 1
    assert read_coco(path, tmp_path).labels(0).tolist() == labels.tolist()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Expecting value"),
        (b"[]", "a list, allowed: an object"),
        (b"null", "a NoneType, allowed: an object"),
        (json.dumps(coco()).encode()[:-9], "not COCO's instances: "),
        (b'{"images": ' + b"[" * 99_999, "recursion"),
        (json.dumps(coco(categories_name="größe"), ensure_ascii=False).encode("latin-1"), "utf-8"),
        (b'{"images": [{"id": ' + b"9" * 9999 + b"}]}", "not COCO's instances: "),
        (gzip.compress(b"{}"), "not COCO's instances: "),
    ],
    ids=short,
)
def test_coco_that_is_no_json(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "instances.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r".") as caught:
        read_coco(path, tmp_path)
    assert str(caught.value).startswith(f"{path}: not COCO's instances: ")
    assert reason in str(caught.value)
