from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fastclip.data import find_images, patterns
from fastclip.data.image_sources import holds_images
from fastclip.data.patterns import expand


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def add(archive: tarfile.TarFile, name: str, data: bytes, **fields: object) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for key, value in fields.items():
        setattr(member, key, value)
    archive.addfile(member, io.BytesIO(data))


def fails(source: object, *reasons: str, **arguments: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        find_images(source, **arguments)
    assert str(caught.value).startswith(f"{source}: ")
    for reason in reasons:
        assert reason in str(caught.value)


def test_folder(tmp_path):
    names = ["Z.JPG", "a b/ü é.png", "a/b/c.webp", "a/b.jpeg", "ä.tiff"]
    touch(tmp_path, *names, "notes.md", "a/.hidden.jpg", ".git/x.jpg", "jpg", "c.jpg.txt")
    found = find_images(tmp_path)
    assert list(found.names) == sorted(names)
    assert [found.read(i).decode() for i in range(len(found))] == sorted(names)
    assert list(found.sizes) == [len(name.encode()) for name in sorted(names)]
    assert not found.has_captions
    assert found.caption(0) is None


def test_folder_named_like_a_pattern_or_a_tar(tmp_path):
    for folder in ("photos [2020]", "a.tar"):
        touch(tmp_path / folder, "a.jpg")
        assert find_images(tmp_path / folder).names == ("a.jpg",)


def test_what_a_folder_holds_besides_files(tmp_path):
    touch(tmp_path / "outside", "deep/x.jpg", "y.jpg")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "linked").symlink_to(tmp_path / "outside")
    (inside / "link.jpg").symlink_to(tmp_path / "outside" / "y.jpg")
    (inside / "dangling.jpg").symlink_to(tmp_path / "absent")
    os.mkfifo(inside / "pipe.jpg")
    (inside / "folder.jpg").mkdir()
    found = find_images(inside)
    assert found.names == ("dangling.jpg", "link.jpg", "pipe.jpg")
    assert found.sizes == (-1, 5, -1)
    assert found.read(1) == b"y.jpg"
    with pytest.raises(FileNotFoundError):
        found.read(0)
    with pytest.raises(OSError, match="not a regular file"):
        found.read(2)


def test_pattern(tmp_path, monkeypatch):
    touch(tmp_path, "p/a.jpg", "p/b.png", "p/q/c.jpg", "p/q/odd.dat", "r/d.jpg")
    assert find_images(f"{tmp_path}/p/*.jpg").names == ("a.jpg",)
    assert find_images(f"{tmp_path}/p/**/*.jpg").names == ("a.jpg", "q/c.jpg")
    assert find_images(f"{tmp_path}/*/[ad].jpg").names == ("p/a.jpg", "r/d.jpg")
    assert find_images(f"{tmp_path}/p/q/*").names == ("c.jpg", "odd.dat")
    monkeypatch.chdir(tmp_path)
    assert find_images("**/*.jpg").names == ("p/a.jpg", "p/q/c.jpg", "r/d.jpg")
    found = find_images("p/../r/*.jpg")
    assert (found.names, found.read(0)) == (("d.jpg",), b"r/d.jpg")
    fails("p/*.gif", "no images in it")


@pytest.mark.parametrize("name", ["list.txt", "list.csv", "list.tsv"])
def test_lists_and_tables(tmp_path, name):
    touch(tmp_path, "sets/a b.jpg", "c.jpg")
    paths = ["a b.jpg", "../c.jpg", str(tmp_path / "c.jpg"), "absent.jpg", "a b.jpg"]
    table = tmp_path / "sets" / name
    if name == "list.txt":
        table.write_text("\n".join(paths))
        found = find_images(table)
    else:
        by = "," if name == "list.csv" else "\t"
        rows = zip("n12345", ["path", *paths], strict=True)
        table.write_text("".join(f"{a}{by}{b}\n" for a, b in rows))
        fails(table, "several columns (n, path)")
        found = find_images(table, column="path")
    assert list(found.names) == paths
    assert list(found.sizes) == [12, 5, 5, -1, 12]
    assert found.read(1) == b"c.jpg"
    with pytest.raises(FileNotFoundError):
        found.read(3)


@pytest.fixture
def webdataset(tmp_path):
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        add(archive, "./b/002.jpg", b"two")
        add(archive, "./b/002.json", json.dumps({"caption": "json", "other": 1}).encode())
        add(archive, "001.txt", " först \n".encode())
        add(archive, "001.json", b'{"caption": "not this"}')
        add(archive, "001.png", b"one")
        add(archive, "003.webp", b"three")
        add(archive, "004.jpg", b"four")
        add(archive, "004.json", b"{broken")
        add(archive, "005.jpg", b"five")
        add(archive, "005.json", b'{"caption": 5}')
        add(archive, "._006.jpg", b"hidden")
        add(archive, "007.cls", b"7")
        add(archive, "folder.jpg", b"", type=tarfile.DIRTYPE)
        add(archive, "008.jpg", b"", type=tarfile.SYMTYPE, linkname="001.png")
        add(archive, "x" * 150 + ".jpg", b"long")
    return tmp_path / "0.tar"


def test_tar(webdataset):
    found = find_images(webdataset)
    keys = ("b/002", "001", "003", "004", "005", "008", "x" * 150)
    assert found.names == keys
    assert [found.read(i) for i in (0, 1, 2, 3, 4, 6)] == [
        *(b"two", b"one", b"three", b"four", b"five", b"long")
    ]
    with pytest.raises(OSError, match="a link or special file"):
        found.read(5)
    assert found.has_captions
    assert [found.caption(i) for i in range(6)] == ["json", "först", None, None, None, None]


def test_tars(webdataset, tmp_path):
    with tarfile.open(tmp_path / "1.tar", "w") as archive:
        add(archive, "001.jpg", b"eleven")
        add(archive, "001.txt", b"other")
    found = find_images(f"{tmp_path}/*.tar")
    assert found.names[:2] == ("0/b/002", "0/001")
    assert found.names[-1] == "1/001"
    assert (found.read(1), found.read(len(found) - 1)) == (b"one", b"eleven")
    assert (found.caption(1), found.caption(len(found) - 1)) == ("först", "other")
    touch(tmp_path, "z.jpg")
    fails(
        f"{tmp_path}/*", "0.tar and z.jpg, allowed: only tar files, only parquet files, or neither"
    )


def test_braces(webdataset, tmp_path, monkeypatch):
    for name in ("02", "10", "11"):
        with tarfile.open(tmp_path / f"{name}.tar", "w") as archive:
            add(archive, "001.jpg", name.encode())
    found = find_images(f"{tmp_path}/{{11,02..02,0}}.tar".replace("02..02", "02"))
    assert [found.names[0], found.names[1], found.names[-1]] == [
        "11/001",
        "02/001",
        f"0/{'x' * 150}",
    ]
    assert find_images(f"{tmp_path}/{{10..11}}.tar").names == ("10/001", "11/001")
    with pytest.raises(FileNotFoundError, match=r"12\.tar: no such file, one of .*\{10\.\.12\}"):
        find_images(f"{tmp_path}/{{10..12}}.tar")
    touch(tmp_path, "p/b.png", "p/a.jpg", "p/c.gif", "p/{1..2}.jpg")
    assert find_images(f"{tmp_path}/p/[abc].{{jpg,png,bmp}}").names == ("a.jpg", "b.png")
    assert find_images(f"{tmp_path}/p").names[-1] == "{1..2}.jpg"  # braces that are a name
    touch(tmp_path, "q/r/d.jpg")
    found = find_images(f"{tmp_path}/{{q/r,p}}/?.jpg")
    assert found.names == ("q/r/d.jpg", "p/a.jpg")
    assert found.read(0) == (tmp_path / "q" / "r" / "d.jpg").read_bytes()
    monkeypatch.chdir(tmp_path)
    assert find_images("{10,11}.tar").names == ("10/001", "11/001")
    fails("{1..1000000000}.tar", "stands for 1,000,000,000 names, allowed: up to 1,000,000")
    monkeypatch.setattr(patterns, "_MOST", 99)
    fails("{0..9}{0..9}.tar", "stands for 100 names, allowed: up to 99")


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("{0..2}", ["0", "1", "2"]),
        ("x{008..010}y", ["x008y", "x009y", "x010y"]),
        ("{2..0}", ["2", "1", "0"]),
        ("{0..9..4}", ["0", "4", "8"]),
        ("{a,b{1..2}}", ["a", "b1", "a", "b2"]),
        ("{,a}", ["", "a"]),
        ("{a}", ["{a}"]),
        ("{1..}", ["{1..}"]),
        ("a", ["a"]),
    ],
)
def test_expansion_of_braces(pattern, names):
    assert expand(pattern) == names


def test_one_damaged_tar_of_several(webdataset, tmp_path):
    """It is one more image that cannot be read; what is whole before the damage can be."""
    whole = webdataset.read_bytes()
    (tmp_path / "1.tar").write_bytes(b"")
    (tmp_path / "2.tar").write_bytes(whole[: 512 * 5 + 100])
    (tmp_path / "3.tar").write_bytes(b"no tar at all" * 100)
    (tmp_path / "4.tar").write_bytes(whole)
    found = find_images(f"{tmp_path}/?.tar")
    assert found.names[7:10] == ("1.tar", "2/b/002", "2.tar")
    assert found.names[10:12] == ("3.tar", "4/b/002")
    for index, reason in ((7, "empty file"), (9, "unexpected end of data"), (10, "invalid header")):
        with pytest.raises(OSError, match=f"{reason}, allowed: a whole tar file, not compressed"):
            found.read(index)
        assert found.sizes[index] == -1
    assert found.read(8) == b"two"
    (tmp_path / "1.tar").write_bytes(whole[: 512 * 4 + 100])  # within a header
    (tmp_path / "3.tar").write_bytes(whole[: 512 * 4] + b"x" * 512 + whole[512 * 5 :])
    found = find_images(f"{tmp_path}/[13].tar")
    assert found.names == ("1/b/002", "1.tar", "3/b/002", "3.tar")
    for number in (1, 3):
        fails(tmp_path / f"{number}.tar", "no member begins at byte 2048")
        fails(tmp_path / f"{number}.tar", "allowed: a whole tar file, not compressed")


def test_members_that_lie_about_their_size(tmp_path):
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        add(archive, "0.jpg", b"zero")
        add(archive, "1.jpg", b"one")
    whole = bytearray((tmp_path / "0.tar").read_bytes())
    for size in (b"\xff" * 11 + b"\0", b"\x80" + b"\x7f" * 11, b"77777777777\0"):
        header = bytearray(whole[1024:1536])
        header[124:136] = size
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        (tmp_path / "0.tar").write_bytes(whole[:1024] + header + whole[1536:])
        fails(tmp_path / "0.tar", "allowed: a whole tar file, not compressed")
        found = find_images(f"{tmp_path}/?.tar")
        assert found.names == ("0/0", "0.tar")
        assert found.read(0) == b"zero"


def test_label_maps_among_images_are_refused(tmp_path):
    def save(name, mode):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, (2, 2)).save(tmp_path / name)

    for i in range(300):
        save(f"images/{i}.jpg", "RGB")
        save(f"other/{i}.png", "RGB")
    assert len(find_images(tmp_path)) == 600
    for mode, name in (("P", "masks/7.png"), ("L", "images/7_mask.png"), ("I;16", "m/7-label.png")):
        save(name, mode)
        if name == "masks/7.png":
            for i in range(300):
                save(f"masks/{i}.png", "P")
        fails(tmp_path, "looks like a label map of", "**/*.jpg'")
        if name == "masks/7.png":
            shutil.rmtree(tmp_path / "other")
            shutil.rmtree(tmp_path / "masks")
            for i in range(8, 300):
                (tmp_path / "images" / f"{i}.jpg").unlink()
        else:
            (tmp_path / name).unlink()
    save("masks/7.png", "P")
    assert len(find_images(f"{tmp_path}/**/*.jpg")) == 8
    assert len(find_images(f"{tmp_path}/**/*.{{jpg,png}}")) == 9
    assert find_images(tmp_path / "masks").names == ("7.png",)


def test_label_maps_in_a_sample_of_a_tar(tmp_path):
    def packed(mode, kind="PNG"):
        file = io.BytesIO()
        Image.new(mode, (2, 2)).save(file, kind)
        return file.getvalue()

    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for name, data in (
            ("a/1.jpg", packed("RGB", "JPEG")),
            ("a/1.seg.png", packed("P")),
            ("a/1.other.png", packed("RGB")),
            ("b/1.png", packed("L")),  # alone in its sample
            ("2.left.png", packed("L")),
            ("2.right.png", packed("L")),
        ):
            add(archive, name, data)
    found = find_images(tmp_path / "0.tar")
    assert found.names == ("a/1", "a/1.seg", "a/1.other", "b/1", "2.left", "2.right")
    assert [size < 0 for size in found.sizes] == [False, True, False, False, False, False]
    with pytest.raises(OSError, match="looks like the label map of another image of its sample"):
        found.read(1)


def test_damaged_tars(webdataset, tmp_path):
    whole = webdataset.read_bytes()
    webdataset.write_bytes(whole[: 512 * 5 + 100])
    fails(webdataset, "allowed: a whole tar file, not compressed")
    webdataset.write_bytes(b"no tar at all" * 100)
    fails(webdataset, "allowed: a whole tar file, not compressed")
    with tarfile.open(webdataset, "w:gz") as archive:
        add(archive, "a.jpg", b"a")
    fails(webdataset, "not compressed")
    with tarfile.open(webdataset, "w") as archive:
        add(archive, "a.txt", b"a")
    fails(webdataset, "no images in it")


def test_changed_since_it_was_listed(webdataset):
    found = find_images(webdataset)
    os.truncate(webdataset, 100)
    with pytest.raises(OSError, match=r"0\.tar: has changed since it was listed"):
        found.read(1)
    touch(webdataset.parent, "a.jpg")
    found = find_images(f"{webdataset.parent}/*.jpg")
    (webdataset.parent / "a.jpg").write_bytes(b"another length")
    with pytest.raises(OSError, match=r"a\.jpg: has changed since it was listed"):
        found.read(0)


def test_what_holds_images(tmp_path):
    """As commands ask that take images or features."""
    column = pa.FixedSizeListArray.from_arrays(pa.array([0.0] * 4, pa.float32()), 2)
    for name, values in (("images", pa.array([b"x"])), ("features", column)):
        (tmp_path / name).mkdir()
        pq.write_table(pa.table({"x": values}), tmp_path / name / "0.parquet")
    touch(tmp_path, "photos/a/b.jpg", "job/img_emb/0.npy", "0.tar", "list.txt", "a.npy")
    (tmp_path / "job" / "metadata").mkdir()
    pq.write_table(
        pa.table({"image_path": ["a.jpg"]}), tmp_path / "job/metadata/metadata_0.parquet"
    )
    (tmp_path / "empty").mkdir()
    for name in ("images", "images/0.parquet", "photos", "*.jpg", "0.tar", "list.txt"):
        assert holds_images(tmp_path / name), name
    for name in ("features", "features/0.parquet", "job", "empty", "a.npy", "absent"):
        assert not holds_images(tmp_path / name), name


def test_what_is_no_source(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent: no such file or folder"):
        find_images(tmp_path / "absent")
    touch(tmp_path, "a.jpg", "b.zip", "c.txt")
    fails(tmp_path / "b.zip", "not a source of images, allowed: a folder, a pattern, an image")
    fails(tmp_path / "c.txt", "column is 'x', allowed for .csv, .tsv and .parquet", column="x")
    (tmp_path / "empty").mkdir()
    fails(tmp_path / "empty", "no images in it, allowed: at least one")


def test_an_image_alone_and_several_sources(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "a.JPG", "in/b.png", "in/deep/c.jpg")
    with tarfile.open("e.tar", "w") as archive:
        add(archive, "f.jpg", b"f")
    (tmp_path / "list.txt").write_text("a.JPG\nin/b.png\n")
    assert find_images("in/b.png").names == ("b.png",)
    assert holds_images("in/b.png")
    assert find_images(["in"]).names == ("b.png", "deep/c.jpg")
    found = find_images(["in/b.png", "in", "*.JPG", tmp_path / "list.txt"])
    assert found.names[:3] == ("in/b.png", "in/deep/c.jpg", "a.JPG")
    assert found.names[3:] == (str(tmp_path / "a.JPG"), str(tmp_path / "in/b.png"))
    assert found.read(2) == (tmp_path / "a.JPG").read_bytes()
    with pytest.raises(ValueError, match=r"^e\.tar: is one of several sources, allowed: files"):
        find_images(["in", "e.tar"])
    with pytest.raises(FileNotFoundError, match=r"^gone\.jpg: no such file"):
        find_images(["in", "gone.jpg"])
    with pytest.raises(ValueError, match="source: is empty"):
        find_images([])


def test_digest_tells_listings_apart(tmp_path):
    digests = set()
    for names in (["a.jpg"], ["b.jpg"], ["a.jpg", "b.jpg"]):
        folder = tmp_path / "".join(names)
        touch(folder, *names)
        digests.add(find_images(folder).digest())
        assert find_images(folder).digest() in digests
    (tmp_path / "a.jpg" / "a.jpg").write_bytes(b"longer now")
    digests.add(find_images(tmp_path / "a.jpg").digest())
    assert len(digests) == 4


def test_names_that_are_no_text(tmp_path):
    (tmp_path / os.fsdecode(b"\xff.jpg")).write_bytes(b"x")
    found = find_images(tmp_path)
    assert found.names == ("\udcff.jpg",)
    assert found.read(0) == b"x"
    assert len(found.digest()) == 64
