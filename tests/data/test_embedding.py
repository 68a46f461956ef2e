from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from tiny_encoder import TinyEncoder

from fastclip.data import (
    FeatureFileError,
    FeatureMetadata,
    HardPositiveItem,
    Unreadable,
    embed_images,
    embed_texts,
    find_images,
    find_item_images,
    read_features,
)
from fastclip.data.image_decoding import decode_image

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def model():
    return TinyEncoder()


def picture(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (40, 40 + seed, 3), dtype=np.uint8))


@pytest.fixture
def photos(tmp_path) -> Path:
    """25 images, of which number 3, 10 to 14 and 24 cannot be read."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(25):
        picture(i).save(folder / f"{i:02d}.png")
    for i in (3, *range(10, 15), 24):
        (folder / f"{i:02d}.png").write_bytes(b"" if i == 3 else b"broken")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def expected_rows(model: TinyEncoder, folder: Path, names) -> np.ndarray:
    pictures = [model.preprocess(Image.open(folder / name).convert("RGB")) for name in names]
    return model.encode_image(torch.stack(pictures), batch_size=len(names)).numpy()


READABLE = [f"{i:02d}.png" for i in range(25) if i not in (3, *range(10, 15), 24)]


@pytest.mark.parametrize(("batch_size", "shard_size"), [(1, 5), (4, 5), (7, 100), (128, 24)])
def test_images(model, photos, tmp_path, batch_size, shard_size):
    summary = embed_images(
        photos,
        model,
        tmp_path / "out",
        model_name="Tiny",
        pretrained="seed 0",
        batch_size=batch_size,
        shard_size=shard_size,
        workers=3,
    )
    found = read_features(tmp_path / "out")
    assert list(found.names) == READABLE
    assert found.metadata == FeatureMetadata("Tiny", "seed 0", None, normalized=True)
    assert found.features.dtype == torch.float32
    np.testing.assert_allclose(
        found.features.numpy(), expected_rows(model, photos, READABLE), atol=1e-6
    )
    assert (summary.rows, summary.dim, summary.kept, summary.damaged) == (18, 16, 0, ())
    assert summary.shards == -(-25 // shard_size)
    assert [entry.index for entry in summary.unreadable] == [3, 10, 11, 12, 13, 14, 24]
    assert summary.unreadable[0] == Unreadable(3, "03.png", "the file is empty")
    listed = (tmp_path / "out" / "unreadable.jsonl").read_text().splitlines()
    assert [Unreadable(**json.loads(line)) for line in listed] == list(summary.unreadable)


def test_rows_do_not_depend_on_workers(model, photos, tmp_path):
    for workers in (1, 8):
        embed_images(photos, model, tmp_path / str(workers), batch_size=4, workers=workers)
    assert content(tmp_path / "1") == content(tmp_path / "8")


def test_progress_counts_all_images_and_goes_on_where_it_was(model, photos, tmp_path):
    calls = []

    def stop_at_12(done, total):
        calls.append((done, total))
        if done >= 12:
            raise KeyboardInterrupt

    options = {"batch_size": 2, "shard_size": 5}
    with pytest.raises(KeyboardInterrupt):
        embed_images(photos, model, tmp_path / "out", **options, progress=stop_at_12)
    assert calls[0] == (0, 25)
    with pytest.raises(FeatureFileError, match="has finished 2 of 5 shards: run it again"):
        read_features(tmp_path / "out")

    calls.clear()
    model.batches.clear()
    summary = embed_images(
        photos, model, tmp_path / "out", **options, progress=lambda *call: calls.append(call)
    )
    assert (calls[0], calls[-1], summary.kept) == ((10, 25), (25, 25), 2)
    assert sum(model.batches) == 9  # 15 to 23; the shard of 10 to 14 has no image
    embed_images(photos, model, tmp_path / "undisturbed", **options)
    assert content(tmp_path / "out") == content(tmp_path / "undisturbed")

    model.batches.clear()
    assert embed_images(photos, model, tmp_path / "out", **options).kept == 5
    assert model.batches == []


@pytest.mark.parametrize(
    "file",
    ["img_emb/img_emb_00001.npy", "metadata/metadata_00001.parquet", "shards/shard_00001.json"],
)
@pytest.mark.parametrize("damage", ["truncated", "changed", "emptied", "missing"])
def test_damaged_shards_are_computed_again_and_reported(model, photos, tmp_path, file, damage):
    out = tmp_path / "out"
    options = {"batch_size": 4, "shard_size": 5}
    embed_images(photos, model, out, **options)
    before = content(out)
    data = before[file]
    if damage == "missing":
        (out / file).unlink()
    else:
        middle = len(data) // 2
        changed = data[:middle] + bytes([data[middle] ^ 128]) + data[middle + 1 :]
        damaged = {"truncated": data[:-1], "changed": changed, "emptied": b""}[damage]
        if damage == "truncated" and file.endswith("json"):
            damaged = data[:-3]  # not just the line end
        (out / file).write_bytes(damaged)
    model.batches.clear()
    summary = embed_images(photos, model, out, **options)
    assert content(out) == before
    assert sum(model.batches) == 5
    assert summary.kept == 4
    # without its record, a shard is one that was never finished
    unfinished = damage == "missing" and file.startswith("shards")
    assert summary.damaged == (() if unfinished else ("img_emb/img_emb_00001.npy",))


def test_changed_inputs_are_refused_by_name(model, photos, tmp_path):
    out = tmp_path / "out"
    embed_images(photos, model, out, shard_size=5, model_name="Tiny")
    before = content(out)

    def refused(*reasons, model=model, source=photos, shard_size=5, model_name="Tiny"):
        with pytest.raises(ValueError, match="was begun with other inputs") as caught:
            embed_images(source, model, out, shard_size=shard_size, model_name=model_name)
        assert str(caught.value).startswith(f"{out}: ")
        for reason in reasons:
            assert reason in str(caught.value)
        assert content(out) == before

    refused("shard_size was 5, is 6", shard_size=6)
    refused('model was "Tiny", is "Other"', model_name="Other")
    refused("weights_sha256 was", model=TinyEncoder(1))
    coarse = TinyEncoder()
    coarse.precision = "bf16"
    refused('precision was "fp32", is "bf16"', model=coarse)
    larger = TinyEncoder()
    larger.preprocess = lambda image: model.preprocess(image)
    refused("preprocess was", model=larger)
    with pytest.raises(ValueError, match=r'kind was "img_emb", is "text_emb"'):
        embed_texts(["a"], model, out)
    (photos / "zz.jpg").write_bytes(b"new")
    refused("items was 25, is 26", "names_and_sizes_sha256 was")
    (photos / "zz.jpg").unlink()
    (photos / "00.png").write_bytes(b"another size")
    refused("names_and_sizes_sha256 was")


@pytest.mark.parametrize("source", ["folder", "tar", "cuts"])
def test_images_replaced_by_others_of_the_same_size(model, photos, tmp_path, source):
    for path in photos.iterdir():
        path.write_bytes(path.read_bytes().ljust(9999, b"\0"))  # PNG takes what comes after its end

    def images():
        if source == "folder":
            return find_images(photos)
        if source == "cuts":
            items = [
                HardPositiveItem(f"{i:02d}.png", "a", (), ("b",), box=(1, 1, 9, 9))
                for i in range(25)
            ]
            return find_item_images(items, photos).source
        with tarfile.open(tmp_path / "a.tar", "w") as archive:
            for path in sorted(photos.iterdir()):
                archive.add(path, path.name)
        return find_images(tmp_path / "a.tar")

    out = tmp_path / "out"
    embed_images(images(), model, out, shard_size=5)
    before = content(out)
    model.batches.clear()
    for path in photos.iterdir():
        os.utime(path, ns=(0, 0))  # as a copy of the folder may have them
    assert embed_images(images(), model, out, shard_size=5).kept == 5
    changed = (photos / "07.png").read_bytes()
    (photos / "07.png").write_bytes((photos / "06.png").read_bytes())
    with pytest.raises(ValueError, match=r"has features of other images: of '05.* to '09"):
        embed_images(images(), model, out, shard_size=5)
    (photos / "07.png").write_bytes(changed)
    assert embed_images(images(), model, out, shard_size=5).kept == 5
    assert content(out) == before
    assert model.batches == []


def test_records_of_earlier_versions_are_kept(model, photos, tmp_path):
    out = tmp_path / "out"
    embed_images(photos, model, out, shard_size=25)
    record = out / "shards" / "shard_00000.json"
    kept = {k: v for k, v in json.loads(record.read_text()).items() if k in ("files", "unreadable")}
    record.write_text(json.dumps(kept))
    assert embed_images(photos, model, out, shard_size=25).kept == 1


def test_output_that_is_something_else(model, photos, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="holds other files, allowed: a new or empty folder"):
        embed_images(photos, model, tmp_path / "other")
    assert len(list((tmp_path / "other").iterdir())) == 1  # no lock in a folder of others
    embed_images(photos, model, tmp_path / "absent" / "out")  # parents are made
    with pytest.raises(FileExistsError):
        embed_images(photos, model, tmp_path / "other" / "thesis.tex")
    (tmp_path / "other" / ".a.json.tmp").write_text("")
    own = {"format": "fastclip.embedding-job", "version": "1", "items": 1, "shard_size": 1}
    for text, reason in (
        ("{", "job.json: damaged"),
        ("{}", "holds other files"),
        ("[]", "holds other files"),
        (json.dumps({**own, "version": "2"}), "job.json: version '2', allowed: '1'"),
        (json.dumps({**own, "items": "x"}), "job.json: items is 'x', allowed: 1 or more"),
        (json.dumps(own), 'kind was null, is "img_emb"'),
    ):
        (tmp_path / "other" / "job.json").write_text(text)
        before = content(tmp_path / "other")
        with pytest.raises(ValueError, match=re.escape(reason)):
            embed_images(photos, model, tmp_path / "other")
        assert content(tmp_path / "other") == before


def test_folder_of_another_program_is_read_as_before(model, tmp_path):
    embed_texts(["a", "b"], model, tmp_path / "out", model_name="Tiny")
    assert read_features(tmp_path / "out" / "text_emb").metadata.model == "Tiny"
    (tmp_path / "out" / "job.json").write_text('{"format": "slurm"}')
    assert read_features(tmp_path / "out").metadata == FeatureMetadata()
    (tmp_path / "out" / "job.json").write_text("{")
    with pytest.raises(FeatureFileError, match="damaged"):
        read_features(tmp_path / "out")


def test_a_second_process_is_kept_out(model, photos, tmp_path):
    def again(done, total):
        with pytest.raises(ValueError, match="another process is at work in it"):
            embed_images(photos, model, tmp_path / "out")

    embed_images(photos, model, tmp_path / "out", progress=again)


def test_all_kinds_of_files_in_one_folder(model, tmp_path, recwarn):
    folder = tmp_path / "a folder, größe"
    (folder / "日本").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(0).save(folder / "turned.jpg", exif=exif)
    picture(1).quantize(8).save(folder / "palette.png")
    picture(2).convert("L").save(folder / "grey.jpg")
    picture(3).convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(np.arange(1600, dtype=np.uint16).reshape(40, 40) * 40).save(folder / "16.png")
    picture(4).convert("RGBA").save(folder / "日本" / "alpha é.webp")
    picture(5).save(folder / "moving.gif", save_all=True, append_images=[picture(6)])
    picture(7).save(folder / "wrong.gif", "PNG")
    (folder / "cut.jpg").write_bytes((folder / "grey.jpg").read_bytes()[:-300])
    picture(8).save(folder / "cut.tiff", exif=exif)
    (folder / "cut.tiff").write_bytes((folder / "cut.tiff").read_bytes()[:60])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "page.jpg").write_text("<html>404</html>")
    (folder / "gone.jpg").symlink_to("nowhere")
    summary = embed_images(folder, model, tmp_path / "out")
    reasons = {entry.name: entry.reason for entry in summary.unreadable}
    assert reasons.keys() == {"cut.jpg", "cut.tiff", "empty.jpg", "page.jpg", "gone.jpg"}
    assert not recwarn.list  # Pillow's would spoil the progress bar
    assert "truncated" in reasons["cut.jpg"]
    assert reasons["gone.jpg"] == "No such file or directory"
    found = read_features(tmp_path / "out")
    assert "日本/alpha é.webp" in found.names
    for name, row in zip(found.names, found.features, strict=True):
        pixels = model.preprocess(decode_image((folder / name).read_bytes()))
        expected = model.encode_image(pixels[None], batch_size=1)
        torch.testing.assert_close(row, expected[0], atol=1e-6, rtol=0)


def test_names_that_are_no_text_are_skipped(model, tmp_path):
    (tmp_path / "in").mkdir()
    picture(0).save(tmp_path / "in" / "good.png")
    picture(0).save(str(tmp_path / "in" / "\udcff.png"))
    summary = embed_images(tmp_path / "in", model, tmp_path / "out")
    assert [entry.reason for entry in summary.unreadable] == ["the name is not UTF-8"]
    assert read_features(tmp_path / "out").names == ("good.png",)
    (line,) = (tmp_path / "out" / "unreadable.jsonl").read_text().splitlines()
    assert json.loads(line)["name"] == "\udcff.png"
    os.utime(tmp_path / "in" / "good.png", ns=(0, 0))
    assert embed_images(tmp_path / "in", model, tmp_path / "out").kept == 1


def test_captions_of_a_tar_are_kept(model, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for i in range(6):
            file = io.BytesIO()
            picture(i).save(file, "PNG")
            parts = [("png", file.getvalue() if i != 2 else b"broken")]
            parts += [("txt", f"text {i}".encode())] if i != 4 else []
            for suffix, data in parts:
                member = tarfile.TarInfo(f"{i:05d}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    embed_images(tmp_path / "a.tar", model, tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "metadata" / "metadata_00000.parquet")
    assert table["image_path"].to_pylist() == ["00000", "00001", "00003", "00004", "00005"]
    assert table["caption"].to_pylist() == ["text 0", "text 1", "text 3", None, "text 5"]
    assert read_features(tmp_path / "out").names[2] == "00003"


def test_files_that_go_away_end_the_job_and_are_not_skipped(model, photos, tmp_path):
    source = find_images(photos)
    (photos / "17.png").rename(tmp_path / "17.png")
    options = {"batch_size": 2, "shard_size": 5}
    with pytest.raises(FileNotFoundError, match=r"17\.png"):
        embed_images(source, model, tmp_path / "out", **options)
    (tmp_path / "17.png").rename(photos / "17.png")
    summary = embed_images(photos, model, tmp_path / "out", **options)
    assert (summary.rows, summary.kept) == (18, 3)


def test_files_of_others_are_skipped(model, photos, tmp_path, monkeypatch):
    read_bytes = Path.read_bytes

    def refuse(path):
        if path.name == "17.png":
            raise PermissionError(13, "Permission denied", str(path))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    summary = embed_images(photos, model, tmp_path / "out")
    assert Unreadable(17, "17.png", "Permission denied") in summary.unreadable
    assert summary.rows == 17


def test_nothing_readable(model, tmp_path):
    (tmp_path / "list.txt").write_text("absent.jpg\nalso absent.jpg\n")
    assert embed_images(tmp_path / "list.txt", model, tmp_path / "out").rows == 0
    found = read_features(tmp_path / "out")
    assert (tuple(found.features.shape), found.names) == ((0, 16), ())


TEXTS = ["cat", "dog", "größe", "cat", *(f"thing number {i}" for i in range(18))]


@pytest.mark.parametrize("templates", [None, ["a {}"], ["a photo of a {}.", "{}", "one {} more"]])
def test_texts(model, tmp_path, templates):
    summary = embed_texts(
        TEXTS, model, tmp_path / "out", templates=templates, batch_size=4, shard_size=9
    )
    assert (summary.rows, summary.shards, summary.unreadable) == (22, 3, ())
    found = read_features(tmp_path / "out")
    assert list(found.names) == TEXTS
    assert found.metadata.template == (templates[0] if templates and len(templates) == 1 else None)
    expected = model.encode_text(TEXTS, batch_size=99, templates=templates)
    torch.testing.assert_close(found.features, expected, atol=1e-6, rtol=0)
    assert (
        embed_texts(
            TEXTS, model, tmp_path / "out", templates=templates, batch_size=4, shard_size=9
        ).kept
        == 3
    )
    with pytest.raises(ValueError, match="templates was"):
        embed_texts(TEXTS, model, tmp_path / "out", templates=["x {}"], shard_size=9)
    with pytest.raises(ValueError, match=r"texts_sha256 was"):
        embed_texts([*TEXTS[:-1], "x"], model, tmp_path / "out", templates=templates, shard_size=9)


@pytest.mark.parametrize(
    ("texts", "options", "error", "reason"),
    [
        ("cat", {}, TypeError, "texts: a sequence of str"),
        ([], {}, ValueError, "texts is empty"),
        (["a", " "], {}, ValueError, r"texts\[1\] is blank"),
        (["a", 1], {}, TypeError, r"texts\[1\]: a str is needed, got int"),
        (["\ud800"], {}, ValueError, r"texts\[0\] is '\\ud800'"),
        (["a"], {"templates": "a {}"}, TypeError, "templates: a sequence of str"),
        (["a"], {"templates": []}, ValueError, "templates: at least one"),
        (
            ["a"],
            {"templates": ["{}", "a"]},
            ValueError,
            r"templates\[1\]: .* got 'a'",
        ),
        (["a"], {"templates": ["{} {}"]}, ValueError, r"templates\[0\]: one \{\} is needed"),
        (["a"], {"batch_size": 0}, ValueError, "batch_size: is 0, allowed: 1 or more"),
        (["a"], {"shard_size": -1}, ValueError, "shard_size: is -1, allowed: 1 or more"),
    ],
)
def test_wrong_arguments(model, tmp_path, texts, options, error, reason):
    with pytest.raises(error, match=reason):
        embed_texts(texts, model, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_wrong_workers(model, photos, tmp_path):
    with pytest.raises(ValueError, match="workers: is 0, allowed: 1 or more"):
        embed_images(photos, model, tmp_path / "out", workers=0)


def test_model_that_gives_no_features(photos, tmp_path):
    class Broken(TinyEncoder):
        def encode_image(self, images, *, batch_size):
            rows = super().encode_image(images, batch_size=batch_size)
            rows[-1, 0] = float("nan")
            return rows

        def encode_text(self, texts, *, batch_size, templates=None):
            return torch.ones(len(texts), 3)

    with pytest.raises(ValueError, match=r"model gives NaN or infinity for '02.png'"):
        embed_images(photos, Broken(), tmp_path / "a", batch_size=3)
    with pytest.raises(ValueError, match=r"model gives shape \[1, 3\], allowed: \[1, 16\]"):
        embed_texts(["a"], Broken(), tmp_path / "b")


# Each child goes on from what was imported and made here, and so starts in no time.
KILLS = """
import concurrent.futures.thread, os, pathlib, random, signal, sys, time
import numpy, PIL.Image, pyarrow.parquet, torch
PIL.Image.init()  # with the next line: import what each child would have to, most of its time
pyarrow.table({"x": numpy.zeros(1), "y": ["a"]})
torch.set_num_threads(1)
import fastclip.data.files
from fastclip.data import embed_images
from tiny_encoder import TinyEncoder

source, folder = map(pathlib.Path, sys.argv[1:])
model = TinyEncoder()

def start(output, kill_at=0, before=False):
    child = os.fork()
    if child:
        return child
    replace, count = os.replace, 0
    def counting(*paths):
        nonlocal count
        count += 1
        if before and count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*paths)
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
    fastclip.data.files.os.replace = counting
    status = 1
    try:
        embed_images(source, model, output, batch_size=3, shard_size=9, workers=2)
        status = 0
    finally:
        os._exit(status)

def was_killed(child):
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), status
    return status != 0

began = time.monotonic()
assert not was_killed(start(folder / "undisturbed"))
seconds = time.monotonic() - began

rng, kills, job = random.Random(0), 0, 0
while kills < 15:
    child = start(folder / f"random {job}")
    time.sleep(rng.uniform(0, seconds))
    os.kill(child, signal.SIGKILL)
    if was_killed(child):
        kills += 1
    else:
        job += 1
assert not was_killed(start(folder / f"random {job}"))

for before in (True, False):
    at = 1
    while was_killed(start(folder / f"{at} {before}", at, before)):
        assert not was_killed(start(folder / f"{at} {before}"))
        at += 1
    assert at - 1 == 11, at  # job.json, three files for each of three shards, unreadable.jsonl
"""


def test_killed_at_any_moment_it_ends_in_the_same_bytes(photos, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", KILLS, str(photos), str(out)],
        env={**os.environ, "PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    expected = content(out / "undisturbed")
    assert len(expected) == 12  # the lock, too
    outputs = list(out.iterdir())
    assert len(outputs) >= 2 + 2 * 11
    for output in outputs:
        assert content(output) == expected, output


def test_real_pictures(model, tmp_path, real_data):
    with zipfile.ZipFile(real_data / "images" / "coco_mini.zip") as archive:
        archive.extractall(tmp_path / "coco")
    photos = find_images(f"{tmp_path}/coco/**/*.jpg")
    summary = embed_images(photos, model, tmp_path / "out", shard_size=20)
    assert (summary.rows, summary.shards, summary.unreadable) == (47, 3, ())
    found = read_features(tmp_path / "out")
    expected = expected_rows(model, photos.root, found.names)
    np.testing.assert_allclose(found.features.numpy(), expected, atol=1e-6)
