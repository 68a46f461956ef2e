from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from fastclip.data import find_captioned_images

pytestmark = pytest.mark.host


def picture(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(file, "PNG")
    return file.getvalue()


def test_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name, text in (("a", "a cat\n"), ("sub/b", "  "), ("c", None), ("sub/d", "ein Käse")):
        (tmp_path / f"{name}.png").write_bytes(picture("red"))
        if text is not None:
            (tmp_path / f"{name}.txt").write_text(text, "utf-8")
    found = find_captioned_images(tmp_path)
    assert found.captions == ("a cat", "ein Käse")
    assert [found.source.names[i] for i in found.image_of_caption] == ["a.png", "sub/d.png"]
    assert found.without_caption == ("c.png", "sub/b.png")
    assert found.source.read(found.image_of_caption[1]) == picture("red")
    (tmp_path / "a.txt").unlink()
    (tmp_path / "sub" / "d.txt").unlink()
    with pytest.raises(ValueError, match="no image in it has a caption"):
        find_captioned_images(tmp_path)


def test_captions_in_other_encodings(tmp_path: Path) -> None:
    """A byte-order mark is no part of a caption; what is no UTF-8 is not guessed."""
    texts = {"a": "Käse".encode("utf-8-sig"), "b": "Käse".encode("latin-1")}
    texts["c"] = "Käse".encode("utf-16")
    for name, text in texts.items():
        (tmp_path / f"{name}.png").write_bytes(picture("red"))
        (tmp_path / f"{name}.txt").write_bytes(text)
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for name in sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".tar"):
            archive.add(tmp_path / name, name)
    for source, suffix in ((tmp_path, ".png"), (tmp_path / "0.tar", "")):
        found = find_captioned_images(source)
        assert (found.captions, found.image_of_caption) == (("Käse",), (0,))
        assert found.without_caption == (f"b{suffix}", f"c{suffix}")


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_table(tmp_path: Path, kind: str) -> None:
    rows = [("x/a.png", "a cat"), ("b.png", "a dog"), ("x/a.png", "one cat, asleep")]
    if kind == "jsonl":
        lines = [f'{{"path": "{name}", "text": "{text}", "id": 1}}' for name, text in rows]
    else:
        mark = {"csv": ",", "tsv": "\t"}[kind]
        lines = [mark.join(["path", "id", "text"])]
        lines += [mark.join([name, "1", f'"{text}"']) for name, text in rows]
    (tmp_path / f"pairs.{kind}").write_text("\n".join(lines) + "\n")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.png").write_bytes(picture("blue"))
    columns = {"image_column": "path", "caption_column": "text"}
    found = find_captioned_images(tmp_path / f"pairs.{kind}", **columns)
    assert found.captions == ("a cat", "a dog", "one cat, asleep")
    assert found.source.names == ("x/a.png", "b.png")
    assert found.image_of_caption == (0, 1, 0)
    assert found.source.read(0) == picture("blue")
    with pytest.raises(OSError, match=r"b\.png"):
        found.source.read(1)
    with pytest.raises(ValueError, match="column is 'image', allowed: path, "):
        find_captioned_images(tmp_path / f"pairs.{kind}")


def test_tars(tmp_path: Path) -> None:
    for number in range(2):
        with tarfile.open(tmp_path / f"{number}.tar", "w") as archive:
            for key, text in (("1", f"shard {number}"), ("2", None)):
                files = {"png": picture("red")} | ({"txt": text.encode()} if text else {})
                for suffix, content in files.items():
                    member = tarfile.TarInfo(f"{key}.{suffix}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    found = find_captioned_images(tmp_path / "*.tar")
    assert found.captions == ("shard 0", "shard 1")
    assert found.image_of_caption == (0, 2)
    assert found.without_caption == ("0/2", "1/2")


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.csv: no such file"):
        find_captioned_images(tmp_path / "absent.csv")
    (tmp_path / "notes.md").write_text("a cat")
    with pytest.raises(ValueError, match="not a source of images"):
        find_captioned_images(tmp_path / "notes.md")


def test_images_of_a_table_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    for i in range(3):
        (tmp_path / "photos" / "deep" / f"{i}.jpg").write_bytes(bytes([i]))
    table = tmp_path / "pairs.csv"
    table.write_text("image,caption\n2.jpg,two\n0.jpg,none\n2.jpg,a pair\n")
    found = find_captioned_images(table, images=tmp_path / "photos")
    assert found.captions == ("two", "none", "a pair")
    assert [found.source.read(row) for row in found.image_of_caption] == [b"\2", b"\0", b"\2"]
    with pytest.raises(ValueError, match="images are given, which only tables of captions need"):
        find_captioned_images(tmp_path / "photos", images=tmp_path)
    table.write_text("image,caption\n2.jpg,two\n7.jpg,seven\n")
    with pytest.raises(FileNotFoundError, match=r"1 images are missing: 7\.jpg: no such file"):
        find_captioned_images(table, images=tmp_path / "photos")
